//! `[issuers.<name>]`: whose JWTs are taken, and what they grant.

use std::collections::HashMap;
use std::time::Duration;

use super::build::{Build, DeclaredNames};
use super::claim::{CallerClaim, Looked, ProfileSource};
use super::file::{KeyPath, OneOrMore, section, word_types};
use super::secret::SecretSource;
use super::value::{Audience, FilePath, IssuerName, TokenType, Within};
use crate::api::{Lifespan, Operations, Role};
use crate::caller::jwt::{
    Algorithm, CapFrom, HttpsUrl, IssuerSettings, Issuers, KeySource, MAX_LEEWAY, Mapping,
    ProfileFrom, RoomsFrom,
};
use crate::policy::{ProfileSettings, Reach, Rooms};

section! {
    pub(super) struct IssuerSection {
        /// The exact `iss` of its tokens, trailing slash included. No two issuers have the same.
        issuer: Option<IssuerName> | "what its tokens say in `iss`, exactly";
        /// The `aud` of its tokens, one text or a list of them, of which a token must have one.
        audience: Option<OneOrMore<Audience>> | "what its tokens say in `aud`: a token for anybody else is refused";
        /// The URL of its keys (a JWK Set). Only `https://`: over http, an attacker in the network
        /// could replace the keys.
        jwks: Option<HttpsUrl>;
        /// Whether its keys are where `ISSUER/.well-known/openid-configuration` says; `issuer` must
        /// then be an https URL, or an http one on loopback.
        discovery: bool = false;
        /// A file of keys: a JWK Set, or public keys in PEM form, all of which count. It is read
        /// again when it changes.
        key_file: Option<FilePath>;
        /// A secret of at least 32 bytes that is shared with the issuer, for HS256. Whoever can
        /// check such a token can make one, so `check` warns.
        secret: Option<SecretSource>;
        /// The accepted algorithms, of `"RS256"`, `"ES256"`, `"EdDSA"` (or `"Ed25519"`), `"PS256"`,
        /// `"ES384"`, `"RS384"`, `"RS512"`, `"PS384"` and `"PS512"`; a key without `alg` is for the
        /// first that fits.
        algorithms: Option<Vec<Algorithm>> => "all; `[\"HS256\"]` with `secret`";
        /// The permitted clock skew.
        leeway: Within<{ MAX_LEEWAY.as_secs() }> = "30s";
        /// How long a token may live, from `iat` to `exp`. `check` warns of more than a day.
        max_lifetime: Duration = "24h";
        /// The required `typ` of its tokens.
        typ: Option<TokenType> => "none, `JWT` or `at+jwt`";
        /// Whether ID tokens are accepted (those with `nonce`, `at_hash` or `c_hash`): they are
        /// meant for the client where the user signed in, and for no API.
        id_tokens: bool = false;
        /// A PEM file of the certificates to trust instead, to fetch the keys.
        ca: Option<FilePath> => "the platform's";
        /// How long keys count while they cannot be fetched again.
        max_stale: Duration = "24h";
        /// The name of a profile, or `{ claim = "role", map = { teacher = "backend", pupil =
        /// "student" } }`: the first entry, in the order of the file, whose text the claim has
        /// selects the profile. A caller with none of them may do nothing.
        profile: Option<ProfileSource> | "the name of a [profiles.…], or { claim = \"role\", map = { teacher = \"backend\" } }";
        /// Within those of the profile, `"any"`, a list of the uuids of rooms, or `{ claim =
        /// "rooms" }`.
        rooms: Rooms => "those of the profile";
        /// The highest role, within that of the profile, or `{ claim = "wb_role" }`.
        role: CapFrom<Role> => "that of the profile";
        /// The longest lifespan of tokens that its callers get, within that of the profile, or `{
        /// claim = "wb_life" }`, a claim of whole seconds.
        max_lifespan: CapFrom<Lifespan> => "that of the profile";
        /// The claim that names the caller: access lines have `NAME/` and its value, and its own
        /// limit counts by it.
        caller: Option<CallerClaim> => "`{ claim = \"sub\" }`";
    }
}

word_types!(Algorithm);

/// A token that is good for longer is as good as a key, and cannot be taken back.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// What callers are called by whose names no issuer has: by whiteboard tokens, and by keys that are
/// made at run time.
const RESERVED: [&str; 3] = ["room", "task", "runtime"];

/// Where keys may come from.
const KEYS: &str = "write jwks = \"https://…\", discovery = true, key_file = \"path\", or \
                    secret = { env = \"NAME\" }";

impl Build<'_> {
    /// An issuer; `seen` are the names of others in tokens.
    pub(super) fn issuer(
        &mut self,
        (name, section): (String, IssuerSection),
        names: &DeclaredNames,
        (profiles, operations): (&[ProfileSettings], &Operations),
        seen: &mut HashMap<String, KeyPath>,
    ) -> Option<IssuerSettings> {
        let path = section.path.clone();
        self.check_name(&path, &name);
        // Callers of an issuer are `NAME/subject` in logs and audit.
        let why = format_args!(
            "has a name that is kept for callers of another kind, who are called `{name}/…` in \
             logs and audit: give it another"
        );
        self.wrong_if(RESERVED.contains(&&*name), &path, why);
        if let Some(issuer) = &section.issuer
            && let Some(other) = seen.insert(issuer.0.clone(), path.clone())
        {
            let why = format_args!("is that of `{other}`: whose keys would count?");
            self.wrong(&path.key("issuer"), why);
            return None;
        }
        let settings = self.issuer_settings(name.clone(), section, names)?;
        self.check_granted(&path.key("profile"), &settings.mapping, profiles, operations);
        // The verifier's own checks are the last word.
        if let Err(why) = Issuers::new(vec![settings.clone()]) {
            self.wrong(&path, format_args!("cannot be used: {}", why.problem));
        }
        Some(settings)
    }

    /// Its settings; `None` when something is wrong with it that the verifier would find as well.
    fn issuer_settings(
        &mut self,
        name: String,
        mut section: IssuerSection,
        names: &DeclaredNames,
    ) -> Option<IssuerSettings> {
        let keys = self.key_source(&mut section);
        let path = &section.path;
        let mapping = Mapping {
            profile: self.profile_from(&path.key("profile"), section.profile, names),
            rooms: match section.rooms {
                // Those of the profile, all of them.
                Rooms::None | Rooms::Any => RoomsFrom::Any,
                Rooms::List(rooms) => RoomsFrom::List(rooms),
                Rooms::Claim(path) => RoomsFrom::Claim(path),
            },
            role: section.role,
            max_lifespan: section.max_lifespan,
            caller: section.caller.map(|claim| claim.0).unwrap_or_default(),
        };
        let ca = self.certificates(&path.key("ca"), section.ca.as_ref());
        let certified = section.ca.is_none() || ca.is_some();
        let audience = section.audience?.0;
        // Without an audience, a token for anyone else would do (RFC 8725 §3.9).
        let why = "is an empty list: every token would be refused";
        self.wrong_if(audience.is_empty(), &path.key("audience"), why);
        let audience = audience.into_iter().map(|audience| audience.0).collect();
        let usual = IssuerSettings::new(name, section.issuer?.0, audience, keys?);
        let algorithms = self.algorithms(&path.key("algorithms"), section.algorithms, &usual);
        let settings = IssuerSettings {
            algorithms: algorithms?,
            leeway: section.leeway.0,
            max_lifetime: section.max_lifetime,
            typ: section.typ.map(|typ| typ.0),
            id_tokens: section.id_tokens,
            max_stale: section.max_stale,
            ca,
            mapping,
            dialler: None,
            ..usual
        };
        let sound = self.check_issuer(path, &settings) && !settings.audience.is_empty();
        (sound && certified).then_some(settings)
    }

    /// Where the keys come from: exactly one place.
    fn key_source(&mut self, section: &mut IssuerSection) -> Option<KeySource> {
        let path = section.path.clone();
        let all = [
            ("jwks", section.jwks.is_some()),
            ("discovery", section.discovery),
            ("key_file", section.key_file.is_some()),
            ("secret", section.secret.is_some()),
        ];
        let written = all.iter().filter(|(_, written)| *written).map(|(name, _)| *name);
        match written.collect::<Vec<_>>().as_slice() {
            [] => {
                let removed = self.any_removed(&path, &all.map(|(name, _)| name));
                self.wrong_if(!removed, &path, format_args!("has no keys: {KEYS}"));
                return None;
            }
            [_] => {}
            [one, other, ..] => {
                let why = format_args!("has {one} and {other}: keys come from one place; {KEYS}");
                self.wrong(&path, why);
                return None;
            }
        }
        if let Some(file) = &section.key_file {
            let file = self.path(file);
            // Read by the verifier as well; here, so that it is watched.
            self.readable(&path.key("key_file"), &file)?;
            return Some(KeySource::File(file));
        }
        match (section.jwks.take(), section.secret.take()) {
            (Some(url), _) => Some(KeySource::Jwks(url)),
            (None, Some(secret)) => self.secret(&path.key("secret"), secret).map(KeySource::Secret),
            (None, None) => Some(KeySource::Discovery),
        }
    }

    /// The algorithms: HS256 with a secret, and nothing else with it.
    fn algorithms(
        &mut self,
        path: &KeyPath,
        written: Option<Vec<Algorithm>>,
        usual: &IssuerSettings,
    ) -> Option<Vec<Algorithm>> {
        let Some(written) = written else { return Some(usual.algorithms.clone()) };
        if written.is_empty() {
            self.wrong(path, "is an empty list: every token would be refused");
            return None;
        }
        let shared = matches!(usual.keys, KeySource::Secret(_));
        let why = match shared {
            true => "does not fit: a secret is for HS256 alone",
            false => "does not fit: HS256 takes a secret, or a public key would be one",
        };
        if let Some(index) = written.iter().position(|one| (*one == Algorithm::Hs256) != shared) {
            self.wrong(&path.index(index), why);
            return None;
        }
        Some(written)
    }

    /// Whether nothing is wrong that only several keys together show; what is doubtful is warned
    /// about.
    fn check_issuer(&mut self, path: &KeyPath, settings: &IssuerSettings) -> bool {
        // Its document is at a path after the issuer, which a query would swallow.
        let url = settings.issuer.parse::<HttpsUrl>();
        let located = !matches!(settings.keys, KeySource::Discovery)
            || (url.is_ok() && !settings.issuer.contains('?'));
        let why = "must be an https URL, or an http one on loopback, without a query, since \
                   discovery = true looks for the keys there";
        self.wrong_if(!located, &path.key("issuer"), why);
        let why = "is longer than 24h: a token that leaks is good for so long, and cannot be \
                   taken back";
        self.warn_if(settings.max_lifetime > LONG, &path.key("max_lifetime"), why);
        let fetched = match (&settings.keys, url) {
            (KeySource::Secret(_), _) => {
                let why = "is for HS256: whoever can check its tokens can make them; public keys \
                           (jwks, discovery or key_file) are better where the issuer has them";
                self.warn(&path.key("secret"), why);
                false
            }
            (KeySource::File(_), _) => false,
            (KeySource::Jwks(url), _) => self.check_transport(&path.key("jwks"), url),
            (KeySource::Discovery, Ok(url)) => self.check_transport(&path.key("issuer"), &url),
            (KeySource::Discovery, Err(_)) => true,
        };
        let vain = settings.ca.is_some() && !fetched;
        self.warn_if(vain, &path.key("ca"), "is not used: these keys are not fetched");
        located
    }

    /// Warns about keys that come from no one, or without TLS. Elsewhere than on loopback none are
    /// taken so.
    fn check_transport(&mut self, path: &KeyPath, url: &HttpsUrl) -> bool {
        self.check_host(path, url.host());
        let why = "is an http URL, which is taken on loopback alone: for a provider that is \
                   tried out on this machine, and every process of it can be that provider";
        self.warn_if(!url.is_over_tls(), path, why);
        true
    }

    /// The profile of its callers. One that is wrong is reported and never used.
    fn profile_from(
        &mut self,
        path: &KeyPath,
        source: Option<ProfileSource>,
        names: &DeclaredNames,
    ) -> ProfileFrom {
        match source {
            None => ProfileFrom::default(),
            Some(ProfileSource::Named(name)) => {
                let name = self.refer(path, Some(name), &names.profiles);
                name.map_or_else(ProfileFrom::default, ProfileFrom::Named)
            }
            Some(ProfileSource::Claim(looked)) => self.looked_up(looked, names),
        }
    }

    /// The texts of a claim and their profiles, in the order of the file: the first that a token
    /// holds is taken.
    fn looked_up(&mut self, looked: Looked, names: &DeclaredNames) -> ProfileFrom {
        let (map, entries) = (looked.path.key("map"), looked.map);
        let none = entries.is_empty() && !self.was_removed(&map);
        let why = "has no entry, so nobody has a profile: write map = { teacher = \"backend\" }";
        self.wrong_if(none, &map, why);
        let mut ordered = Vec::with_capacity(entries.len());
        for (text, profile) in entries {
            let path = map.key(&text);
            let Some(order) = self.report.locations.order(&path) else {
                let why = "is set by a variable, whose name knows no case and no order: entries \
                           of a map stand in the file";
                self.wrong(&path, why);
                continue;
            };
            let profile = self.refer(&path, Some(profile), &names.profiles);
            ordered.extend(profile.map(|profile| (order, (text, profile))));
        }
        ordered.sort_unstable_by_key(|(order, _)| *order);
        let Some(path) = looked.claim else { return ProfileFrom::default() };
        ProfileFrom::Claim { path, map: ordered.into_iter().map(|(_, entry)| entry).collect() }
    }

    /// Warns where what someone else says gives away the whole project.
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
                self.warn(&path, why);
            }
        }
    }
}
