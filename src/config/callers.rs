//! `[callers.<name>]`: who may call, by digests of their keys and names in their certificates.

use std::collections::{BTreeMap, HashMap};

use super::build::{Build, DeclaredNames};
use super::certificates::{CallerCertificate, Certified};
use super::file::{KeyPath, section};
use super::placeholder::{is_example_digest, is_example_id};
use crate::caller::{ApiKeySettings, CallerSettings, Digest, KeyId};
use crate::policy::{ProfileSettings, Rooms};

section! {
    pub(super) struct CallerSection {
        /// The name of its profile.
        profile: Option<String> | "the name of a [profiles.…]";
        keys: Vec<CallerKey>;
        certificates: Vec<CallerCertificate>;
    }
}

section! {
    pub(super) struct CallerKey ("a table such as { id = \"…\", digest = \"sha256:…\" }") {
        /// The id of a key. There is one key, or two while one is being replaced.
        id: Option<KeyId> | "the id that `key new` printed";
        /// The digest of that key, `sha256:` and 64 hex digits.
        digest: Option<Digest> | "the digest that `key new` printed";
        /// When the key stops working, such as `"2026-12-31T00:00:00Z"`.
        until: Option<jiff::Timestamp> => "no end";
    }
}

/// One key, and one that is being rotated out.
const SLOTS: usize = 2;

impl Build<'_> {
    pub(super) fn callers(
        &mut self,
        sections: BTreeMap<String, CallerSection>,
        names: &DeclaredNames,
        profiles: &[ProfileSettings],
        (certified, seen): (&Certified, &mut HashMap<KeyId, KeyPath>),
    ) -> Vec<CallerSettings> {
        let mut seen_names = BTreeMap::new();
        let callers = sections.into_iter().map(|(name, section)| {
            let path = section.path;
            self.check_name(&path, &name);
            let none = section.keys.is_empty() && section.certificates.is_empty();
            let broken = self.any_removed(&path, &["keys", "certificates"]);
            let why = "has no key, so it cannot call: `key new` makes one";
            self.warn_if(none && !broken, &path, why);
            let keys = self.keys(&path.key("keys"), section.keys, seen);
            let certificates = self.caller_names(&section.certificates, certified, &mut seen_names);
            if !certificates.is_empty() {
                self.check_seen(&path.key("certificates"), certified);
            }
            let path = path.key("profile");
            // An empty name is reported and never used.
            let profile = self.refer(&path, section.profile, &names.profiles).unwrap_or_default();
            self.check_rooms(&path, &profile, profiles, "an API key");
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
        let lost = profile.is_some_and(|profile| matches!(profile.rooms, Rooms::Claim(_)));
        let why = format_args!(
            "takes its rooms from a claim, and {credential} has no claims: without a room, \
             what is about one is refused"
        );
        self.warn_if(lost, path, why);
    }

    /// The keys of a caller or an operator. `seen` are the ids of others.
    pub(super) fn keys(
        &mut self,
        path: &KeyPath,
        written: Vec<CallerKey>,
        seen: &mut HashMap<KeyId, KeyPath>,
    ) -> Vec<ApiKeySettings> {
        let why = "has more than two keys: one, and one that is being replaced";
        self.wrong_if(written.len() > SLOTS, path, why);
        let mut keys = Vec::with_capacity(written.len());
        for CallerKey { path, id, digest, until } in written {
            let (Some(id), Some(digest)) = (id, digest) else { continue };
            if let Some(other) = seen.insert(id, path.clone()) {
                self.wrong(&path.key("id"), format_args!("is that of `{other}`"));
            }
            let why = "no key has it, so nobody can call with it; `key new` makes a key and \
                       prints what to write here";
            let (no_id, no_digest) =
                (is_example_id(&id.to_string()), is_example_digest(&digest.to_string()));
            self.check_placeholder(&path.key("digest"), no_digest, why);
            self.check_placeholder(&path.key("id"), no_id && !no_digest, why);
            let over = until.is_some_and(|until| until <= self.now);
            let why = "is over: this key is refused, and can be deleted here";
            self.warn_if(over, &path.key("until"), why);
            keys.push(ApiKeySettings { id, digest, until });
        }
        let forever = keys.len() == SLOTS && keys.iter().all(|key| key.until.is_none());
        let why = "has two keys for ever: give the one that is being replaced an `until`";
        self.warn_if(forever, path, why);
        keys
    }
}
