//! `[cors]`: the pages of other origins that may call.

use super::{Build, copied, plain};
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::edge::CorsSettings;

impl Build<'_> {
    pub(super) fn cors(&mut self, raw: Option<raw::Cors>) -> Option<CorsSettings> {
        let raw = raw?;
        let path = KeyPath::of(&["cors", "origins"]);
        let Some(origins) = raw.origins else {
            self.report.missing(&path, "a list of origins such as [\"https://app.example.org\"]");
            return None;
        };
        let origins = plain(origins);
        if origins.is_empty() {
            self.report.wrong(&path, "is an empty list: leave [cors] out when no page may call");
        }
        for (index, origin) in origins.iter().enumerate() {
            let path = path.index(index);
            if origins[..index].contains(origin) {
                self.report.wrong(&path, "is in the list already");
            }
            if !origin.is_trustworthy() {
                let why = "is http: whoever is between a browser and these pages can change them, \
                           and take what the pages hold";
                self.report.warn(&path, why);
            }
        }
        Some(CorsSettings { origins, max_age: copied(&raw.max_age, CorsSettings::MAX_AGE) })
    }
}
