//! `[issuers.<name>]`: whose JWTs are taken, and what they grant.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{Build, Names, copied};
use crate::api::Operations;
use crate::caller::jwt::{
    Algorithm, CapFrom, HttpsUrl, IssuerSettings, Issuers, KeySource, MAX_LEEWAY, Mapping,
    ProfileFrom, RoomsFrom,
};
use crate::config::claim::{self, ClaimOr, Looked, Rooms};
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::{OneOrMore, Written};
use crate::config::word::{Audience, FilePath, IssuerName};
use crate::policy::{ProfileSettings, Reach};

/// A token that is good for longer is as good as a key, and cannot be taken back.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// What callers are called by whose names no issuer has: by whiteboard tokens, and by keys that are
/// made at run time.
const RESERVED: [&str; 3] = ["room", "task", "runtime"];

/// Where keys may come from.
const KEYS: &str = "write jwks = \"https://…\", discovery = true, key_file = \"path\", or \
                    secret = { env = \"NAME\" }";

impl Build<'_> {
    pub(super) fn issuers(
        &mut self,
        raw: BTreeMap<String, raw::Issuer>,
        names: &Names,
        profiles: &[ProfileSettings],
        operations: &Operations,
    ) -> Vec<IssuerSettings> {
        let section = KeyPath::of(&["issuers"]);
        let mut seen = HashMap::new();
        let issuers = raw.into_iter().filter_map(|(name, raw)| {
            let path = section.key(&name);
            self.check_name(&path, &name);
            self.check_reserved(&path, &name);
            if let Some(issuer) = &raw.issuer
                && let Some(other) = seen.insert(issuer.0.0.clone(), path.clone())
            {
                let why = format_args!("is that of `{other}`: whose keys would count?");
                self.report.wrong(&path.key("issuer"), why);
                return None;
            }
            let settings = self.issuer(&path, name, raw, names)?;
            self.check_granted(&path.key("profile"), &settings.mapping, profiles, operations);
            // The verifier's own checks are the last word.
            if let Err(why) = Issuers::new(vec![settings.clone()]) {
                self.report.wrong(&path, format_args!("cannot be used: {}", why.problem));
            }
            Some(settings)
        });
        issuers.collect()
    }

    /// An issuer; `None` when something is wrong with it that the verifier would find as well.
    fn issuer(
        &mut self,
        path: &KeyPath,
        name: String,
        raw: raw::Issuer,
        names: &Names,
    ) -> Option<IssuerSettings> {
        let mapping = Mapping {
            profile: self.profile_from(&path.key("profile"), raw.profile, names),
            rooms: rooms_from(raw.rooms),
            role: cap_from(raw.role),
            max_lifespan: cap_from(raw.max_lifespan),
            caller: raw.caller.map(|claim| claim.0).unwrap_or_default(),
        };
        let ca = self.certificates(&path.key("ca"), &raw.ca);
        let certified = raw.ca.is_none() || ca.is_some();
        let issuer = self.issuer_name(&path.key("issuer"), raw.issuer);
        let audience = self.audience(&path.key("audience"), raw.audience);
        let source = Source {
            jwks: raw.jwks,
            discovery: copied(&raw.discovery, false),
            key_file: raw.key_file,
            secret: raw.secret,
        };
        let keys = self.key_source(path, source);
        let usual = IssuerSettings::new(name, issuer?, audience?, keys?);
        let algorithms = self.algorithms(&path.key("algorithms"), raw.algorithms, &usual);
        let settings = IssuerSettings {
            algorithms: algorithms?,
            leeway: copied(&raw.leeway, usual.leeway),
            max_lifetime: copied(&raw.max_lifetime, usual.max_lifetime),
            typ: raw.typ.map(|typ| typ.0.0),
            id_tokens: copied(&raw.id_tokens, false),
            max_stale: copied(&raw.max_stale, usual.max_stale),
            ca,
            mapping,
            ..usual
        };
        let sound = self.check_issuer(path, &settings);
        (sound && certified).then_some(settings)
    }

    fn issuer_name(&mut self, path: &KeyPath, raw: Option<Written<IssuerName>>) -> Option<String> {
        if raw.is_none() {
            self.report.missing(path, "what its tokens say in `iss`, exactly");
        }
        raw.map(|name| name.0.0)
    }

    /// Without an audience, a token for anybody else would do (RFC 8725 §3.9).
    fn audience(
        &mut self,
        path: &KeyPath,
        raw: Option<OneOrMore<Audience>>,
    ) -> Option<Vec<String>> {
        let Some(raw) = raw else {
            let why = "what its tokens say in `aud`: a token for anybody else is refused";
            self.report.missing(path, why);
            return None;
        };
        if raw.0.is_empty() {
            self.report.wrong(path, "is an empty list: every token would be refused");
            return None;
        }
        Some(raw.0.into_iter().map(|audience| audience.0.0).collect())
    }

    /// Where the keys come from: exactly one place.
    fn key_source(&mut self, path: &KeyPath, raw: Source) -> Option<KeySource> {
        let written = raw.written();
        match written.as_slice() {
            [] => {
                let removed = ["jwks", "discovery", "key_file", "secret"].map(|key| path.key(key));
                if !removed.iter().any(|key| self.report.was_removed(key)) {
                    self.report.wrong(path, format_args!("has no keys: {KEYS}"));
                }
                return None;
            }
            [_] => {}
            [one, other, ..] => {
                let why = format_args!("has {one} and {other}: keys come from one place; {KEYS}");
                self.report.wrong(path, why);
                return None;
            }
        }
        if let Some(Written(url)) = raw.jwks {
            return Some(KeySource::Jwks(url));
        }
        if let Some(Written(file)) = raw.key_file {
            let file = self.files.path(&file.0);
            // Read by the verifier as well; here, so that it is watched.
            self.readable(&path.key("key_file"), &file)?;
            return Some(KeySource::File(file));
        }
        if let Some(secret) = raw.secret {
            return self.secret(&path.key("secret"), secret).map(KeySource::Secret);
        }
        Some(KeySource::Discovery)
    }

    /// The algorithms: HS256 with a secret, and nothing else with it.
    fn algorithms(
        &mut self,
        path: &KeyPath,
        raw: Option<Vec<Written<Algorithm>>>,
        usual: &IssuerSettings,
    ) -> Option<Vec<Algorithm>> {
        let Some(raw) = raw else { return Some(usual.algorithms.clone()) };
        if raw.is_empty() {
            self.report.wrong(path, "is an empty list: every token would be refused");
            return None;
        }
        let shared = matches!(usual.keys, KeySource::Secret(_));
        let unfit = |one: &Written<Algorithm>| (one.0 == Algorithm::Hs256) != shared;
        if let Some(index) = raw.iter().position(unfit) {
            let why = if shared {
                "does not fit: a secret is for HS256 alone"
            } else {
                "does not fit: HS256 takes a secret, or a public key would be one"
            };
            self.report.wrong(&path.index(index), why);
            return None;
        }
        Some(raw.into_iter().map(|one| one.0).collect())
    }

    /// Whether nothing is wrong that only several keys together show; what is doubtful is warned
    /// about.
    fn check_issuer(&mut self, path: &KeyPath, settings: &IssuerSettings) -> bool {
        let leeway = settings.leeway <= MAX_LEEWAY;
        if !leeway {
            let why = format_args!("must be at most {}s", MAX_LEEWAY.as_secs());
            self.report.wrong(&path.key("leeway"), why);
        }
        // Its document is at a path after the issuer, which a query would swallow.
        let located = !matches!(settings.keys, KeySource::Discovery)
            || (settings.issuer.parse::<HttpsUrl>().is_ok() && !settings.issuer.contains('?'));
        if !located {
            let why = "must be an https URL, or an http one on loopback, without a query, since \
                       discovery = true looks for the keys there";
            self.report.wrong(&path.key("issuer"), why);
        }
        if settings.max_lifetime > LONG {
            let why = "is longer than 24h: a token that leaks is good for so long, and cannot be \
                       taken back";
            self.report.warn(&path.key("max_lifetime"), why);
        }
        match &settings.keys {
            KeySource::Secret(_) => {
                let why = "is for HS256: whoever can check its tokens can make them; public keys \
                           (jwks, discovery or key_file) are better where the issuer has them";
                self.report.warn(&path.key("secret"), why);
            }
            KeySource::File(_) => {}
            KeySource::Jwks(url) => {
                self.check_transport(&path.key("jwks"), url);
                return leeway && located;
            }
            KeySource::Discovery => {
                if let Ok(url) = settings.issuer.parse() {
                    self.check_transport(&path.key("issuer"), &url);
                }
                return leeway && located;
            }
        }
        if settings.ca.is_some() {
            let why = "is not used: these keys are not fetched";
            self.report.warn(&path.key("ca"), why);
        }
        leeway && located
    }

    /// Warns about keys that come from nobody, or without TLS. Elsewhere than on loopback none are
    /// taken so.
    fn check_transport(&mut self, path: &KeyPath, url: &HttpsUrl) {
        self.check_host(path, url.host());
        if !url.is_over_tls() {
            let why = "is an http URL, which is taken on loopback alone: for a provider that is \
                       tried out on this machine, and every process of it can be that provider";
            self.report.warn(path, why);
        }
    }

    /// The profile of its callers. One that is wrong is reported and never used.
    fn profile_from(
        &mut self,
        path: &KeyPath,
        raw: Option<claim::Profile>,
        names: &Names,
    ) -> ProfileFrom {
        match raw {
            None => {
                let why = "the name of a [profiles.…], or { claim = \"role\", map = { teacher = \
                           \"backend\" } }";
                self.report.missing(path, why);
                ProfileFrom::default()
            }
            Some(claim::Profile::Named(name)) => {
                let name = self.refer(path, Some(Written(name)), &names.profiles);
                name.map_or_else(ProfileFrom::default, ProfileFrom::Named)
            }
            Some(claim::Profile::Claim(looked)) => self.looked_up(path, looked, names),
        }
    }

    /// The texts of a claim and their profiles, in the order of the file: the first that a token
    /// holds is taken.
    fn looked_up(&mut self, path: &KeyPath, raw: Looked, names: &Names) -> ProfileFrom {
        let (claim, map) = (path.key("claim"), path.key("map"));
        if raw.claim.is_none() {
            self.report.missing(&claim, "the claim whose texts `map` looks up");
        }
        let entries = raw.map.unwrap_or_default();
        if entries.is_empty() && !self.report.was_removed(&map) {
            let why =
                "has no entry, so nobody has a profile: write map = { teacher = \"backend\" }";
            self.report.wrong(&map, why);
        }
        let mut ordered = Vec::with_capacity(entries.len());
        for (text, profile) in entries {
            let path = map.key(&text);
            let Some(order) = self.report.places.order(&path) else {
                let why = "is set by a variable, whose name knows no case and no order: entries \
                           of a map stand in the file";
                self.report.wrong(&path, why);
                continue;
            };
            let profile = self.refer(&path, Some(profile), &names.profiles);
            ordered.extend(profile.map(|profile| (order, (text, profile))));
        }
        ordered.sort_unstable_by_key(|(order, _)| *order);
        match raw.claim {
            None => ProfileFrom::default(),
            Some(claim::Path(path)) => {
                let map = ordered.into_iter().map(|(_, entry)| entry).collect();
                ProfileFrom::Claim { path, map }
            }
        }
    }

    /// Callers of an issuer are `NAME/subject` in logs and audit, and these are others' names.
    fn check_reserved(&mut self, path: &KeyPath, name: &str) {
        if RESERVED.contains(&name) {
            let why = format_args!(
                "has a name that is kept for callers of another kind, who are called `{name}/…` in \
                 logs and audit: give it another"
            );
            self.report.wrong(path, why);
        }
    }

    /// Warns where what somebody else says gives away the whole project.
    fn check_granted(
        &mut self,
        path: &KeyPath,
        mapping: &Mapping,
        profiles: &[ProfileSettings],
        operations: &Operations,
    ) {
        let entries: Vec<(KeyPath, &str)> = match &mapping.profile {
            ProfileFrom::Named(name) => vec![(path.clone(), name)],
            ProfileFrom::Claim { map, .. } => {
                let map = map.iter().map(|(text, name)| (path.key("map").key(text), &**name));
                map.collect()
            }
        };
        for (path, name) in entries {
            let Some(profile) = profiles.iter().find(|one| one.name == name) else { continue };
            if mapping.rooms != RoomsFrom::Any {
                self.check_wide(&path, profile, Reach::Rooms, operations);
            } else if profile.allow.iter().any(|one| one == "tokens.sdk") {
                let why = "is a profile with `tokens.sdk`: whoever the issuer says so of gets \
                           tokens that open the whole project";
                self.report.warn(&path, why);
            }
        }
    }
}

/// What the file says of keys.
struct Source {
    jwks: Option<Written<HttpsUrl>>,
    discovery: bool,
    key_file: Option<Written<FilePath>>,
    secret: Option<raw::Secret>,
}

impl Source {
    /// The keys of the configuration that name a place.
    fn written(&self) -> Vec<&'static str> {
        let all = [
            ("jwks", self.jwks.is_some()),
            ("discovery", self.discovery),
            ("key_file", self.key_file.is_some()),
            ("secret", self.secret.is_some()),
        ];
        all.into_iter().filter(|(_, written)| *written).map(|(name, _)| name).collect()
    }
}

fn rooms_from(raw: Option<Rooms>) -> RoomsFrom {
    match raw {
        // Those of the profile, all of them.
        None | Some(Rooms::Any) => RoomsFrom::Any,
        Some(Rooms::List(rooms)) => RoomsFrom::List(rooms),
        Some(Rooms::Claim(path)) => RoomsFrom::Claim(path),
    }
}

fn cap_from<T>(raw: Option<ClaimOr<T>>) -> CapFrom<T> {
    match raw {
        None => CapFrom::Profile,
        Some(ClaimOr::Value(cap)) => CapFrom::Fixed(cap),
        Some(ClaimOr::Claim(path)) => CapFrom::Claim(path),
    }
}
