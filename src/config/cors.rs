//! `[cors]`: the pages of other origins that may call.

use std::time::Duration;

use super::build::Build;
use super::file::section;
use crate::edge::{CorsSettings, OriginPattern};

section! {
    pub(super) struct CorsSection {
        /// A list of origins: scheme, host and port of pages, such as `"https://app.example.org"`
        /// or `"http://localhost:5173"`; or all below a domain, `"https://*.example.org"`, by whole
        /// labels and without the domain itself. `"*"`, `"null"` and paths are refused; `check`
        /// warns of `http` beyond this machine.
        origins: Option<Vec<OriginPattern>> | "a list of origins such as [\"https://app.example.org\"]";
        /// How long a browser may cache the response to a preflight.
        max_age: Duration = "10m";
    }
}

impl Build<'_> {
    pub(super) fn cors(&mut self, section: Option<CorsSection>) -> Option<CorsSettings> {
        let CorsSection { path, origins, max_age } = section?;
        let (path, origins) = (path.key("origins"), origins?);
        let why = "is an empty list: leave [cors] out when no page may call";
        self.wrong_if(origins.is_empty(), &path, why);
        for (index, origin) in origins.iter().enumerate() {
            let path = path.index(index);
            self.wrong_if(origins[..index].contains(origin), &path, "is in the list already");
            let why = "is http: whoever is between a browser and these pages can change them, \
                       and take what the pages hold";
            self.warn_if(!origin.trustworthy, &path, why);
        }
        Some(CorsSettings { origins, max_age })
    }
}
