//! `[callers.<name>]`: who may call, by digests of their keys.

use std::collections::{BTreeMap, HashMap};

use super::{Build, Names};
use crate::caller::{CallerSettings, KeyId, KeySettings};
use crate::config::place::KeyPath;
use crate::config::raw;

/// One key, and one that is being rotated out.
const SLOTS: usize = 2;

impl Build<'_> {
    pub(super) fn callers(
        &mut self,
        raw: BTreeMap<String, raw::Caller>,
        names: &Names,
    ) -> Vec<CallerSettings> {
        let section = KeyPath::of(&["callers"]);
        let mut seen = HashMap::new();
        let callers = raw.into_iter().map(|(name, raw)| {
            let path = section.key(&name);
            self.check_name(&path, &name);
            let keys = self.caller_keys(&path.key("keys"), raw.keys, &mut seen);
            // An empty name is reported and never used.
            let profile =
                self.refer(&path.key("profile"), raw.profile, &names.profiles).unwrap_or_default();
            CallerSettings { name, profile, keys }
        });
        callers.collect()
    }

    fn caller_keys(
        &mut self,
        path: &KeyPath,
        raw: Vec<raw::CallerKey>,
        seen: &mut HashMap<KeyId, KeyPath>,
    ) -> Vec<KeySettings> {
        let written = raw.len();
        if written > SLOTS {
            let why = "has more than two keys: one, and one that is being replaced";
            self.report.wrong(path, why);
        }
        let mut keys = Vec::with_capacity(written);
        for (index, raw) in raw.into_iter().enumerate() {
            let path = path.index(index);
            if raw.id.is_none() {
                self.report.missing(&path.key("id"), "the id that `key new` printed");
            }
            if raw.digest.is_none() {
                self.report.missing(&path.key("digest"), "the digest that `key new` printed");
            }
            let (Some(id), Some(digest)) = (raw.id, raw.digest) else { continue };
            if let Some(other) = seen.insert(id.0, path.clone()) {
                self.report.wrong(&path.key("id"), format_args!("is that of `{other}`"));
            }
            let until = raw.until.map(|until| until.0);
            if until.is_some_and(|until| until <= self.now) {
                let why = "is over: this key is refused, and can be deleted here";
                self.report.warn(&path.key("until"), why);
            }
            keys.push(KeySettings { id: id.0, digest: digest.0, until });
        }
        if written == 0 && !self.report.was_removed(path) {
            if let Some(caller) = path.parent() {
                self.report.warn(&caller, "has no key, so it cannot call: `key new` makes one");
            }
        } else if keys.len() == SLOTS && keys.iter().all(|key| key.until.is_none()) {
            let why = "has two keys for ever: give the one that is being replaced an `until`";
            self.report.warn(path, why);
        }
        keys
    }
}
