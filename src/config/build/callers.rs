//! `[callers.<name>]`: who may call, by digests of their keys and names in their certificates.

use std::collections::{BTreeMap, HashMap};

use super::client_auth::Certified;
use super::{Build, Names};
use crate::caller::{CallerSettings, KeyId, KeySettings};
use crate::config::place::KeyPath;
use crate::config::placeholder::{is_example_digest, is_example_id};
use crate::config::raw;
use crate::policy::{ProfileSettings, Rooms};

/// One key, and one that is being rotated out.
const SLOTS: usize = 2;

impl Build<'_> {
    pub(super) fn callers(
        &mut self,
        raw: BTreeMap<String, raw::Caller>,
        names: &Names,
        profiles: &[ProfileSettings],
        certified: &Certified,
    ) -> Vec<CallerSettings> {
        let section = KeyPath::of(&["callers"]);
        let mut seen = HashMap::new();
        let mut seen_names = BTreeMap::new();
        let callers = raw.into_iter().map(|(name, raw)| {
            let path = section.key(&name);
            self.check_name(&path, &name);
            let credentials = raw.keys.len() + raw.certificates.len();
            let keys = self.caller_keys(&path.key("keys"), raw.keys, &mut seen);
            let place = path.key("certificates");
            let certificates =
                self.caller_names(&place, &raw.certificates, certified, &mut seen_names);
            if !certificates.is_empty() {
                self.check_seen(&place, certified);
            }
            let broken =
                ["keys", "certificates"].map(|key| self.report.was_removed(&path.key(key)));
            if credentials == 0 && broken == [false, false] {
                self.report.warn(&path, "has no key, so it cannot call: `key new` makes one");
            }
            // An empty name is reported and never used.
            let profile =
                self.refer(&path.key("profile"), raw.profile, &names.profiles).unwrap_or_default();
            self.check_rooms(&path.key("profile"), &profile, profiles, "an API key");
            CallerSettings { name, profile, keys, certificates }
        });
        callers.collect()
    }

    /// Warns where a profile takes its rooms from a claim and the credential has none.
    pub(super) fn check_rooms(
        &mut self,
        path: &KeyPath,
        name: &str,
        profiles: &[ProfileSettings],
        credential: &str,
    ) {
        let profile = profiles.iter().find(|profile| profile.name == name);
        if profile.is_some_and(|profile| matches!(profile.rooms, Rooms::Claim(_))) {
            let why = format_args!(
                "takes its rooms from a claim, and {credential} has no claims: without a room, \
                 what is about one is refused"
            );
            self.report.warn(path, why);
        }
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
            let why = "no key has it, so nobody can call with it; `key new` makes a key and \
                       prints what to write here";
            let (no_id, no_digest) =
                (is_example_id(&id.0.to_string()), is_example_digest(&digest.0.to_string()));
            self.check_placeholder(&path.key("digest"), no_digest, why);
            self.check_placeholder(&path.key("id"), no_id && !no_digest, why);
            let until = raw.until.map(|until| until.0);
            if until.is_some_and(|until| until <= self.now) {
                let why = "is over: this key is refused, and can be deleted here";
                self.report.warn(&path.key("until"), why);
            }
            keys.push(KeySettings { id: id.0, digest: digest.0, until });
        }
        if keys.len() == SLOTS && keys.iter().all(|key| key.until.is_none()) {
            let why = "has two keys for ever: give the one that is being replaced an `until`";
            self.report.warn(path, why);
        }
        keys
    }
}
