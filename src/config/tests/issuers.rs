//! Issuers of JWTs, whiteboard tokens as a credential, and the throttle.

use std::time::Duration;

use super::*;
use crate::api::RoomId;
use crate::caller::jwt::{Algorithm, CapFrom, ClaimPath, KeySource, ProfileFrom, RoomsFrom};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A good configuration with an issuer that has these lines, and a student's profile.
fn issuer(more: &str) -> String {
    profile("limit = { rate = \"5/s\" }\nrooms = \"any\"\nallow = [\"tokens.*\"]")
        + "[profiles.student]\nproject = \"classroom\"\nrooms = { claim = \"rooms\" }\n\
           allow = [\"tokens.room\"]\nlimit = { rate = \"5/s\" }\n[issuers.school]\n"
        + more
}

/// The same with what every issuer needs.
fn proper(more: &str) -> String {
    issuer(&format!(
        "issuer = \"https://idp.example.org\"\naudience = \"whiteboard\"\n\
         jwks = \"https://idp.example.org/keys\"\nprofile = \"student\"\n{more}"
    ))
}

fn claim(path: &str) -> ClaimPath {
    ClaimPath::new(path).unwrap()
}

#[test]
fn what_an_issuer_leaves_out_has_a_safe_default() {
    let settings = load(&proper("")).settings.gateway;
    let issuer = &settings.issuers[0];
    assert_eq!(issuer.name, "school");
    assert_eq!(issuer.audience, ["whiteboard"]);
    assert_eq!(issuer.algorithms, Algorithm::ASYMMETRIC);
    assert_eq!(issuer.leeway, Duration::from_secs(30));
    assert_eq!((issuer.typ.as_deref(), issuer.id_tokens), (None, false));
    assert_eq!(issuer.mapping.profile, ProfileFrom::Named("student".to_owned()));
    assert_eq!(issuer.mapping.rooms, RoomsFrom::Any);
    assert_eq!((&issuer.mapping.role, &issuer.mapping.caller), (&CapFrom::Profile, &claim("sub")));
    assert_eq!(settings.profiles[1].rooms, Rooms::Claim("rooms".into()));
    let throttle = settings.limits.failed_credentials.unwrap();
    assert_eq!((throttle.requests.get(), throttle.period.as_secs()), (3000, 60));
}

#[test]
fn every_key_of_an_issuer_reaches_its_setting() {
    let text = issuer(
        r#"
        issuer = "https://idp.example.org/tenant"
        audience = ["whiteboard", "board"]
        discovery = true
        algorithms = ["ES256", "EdDSA"]
        leeway = "5s"
        max_lifetime = "1h"
        typ = "at+jwt"
        id_tokens = true
        max_stale = "2h"
        rooms = { claim = "wb.rooms" }
        role = { claim = "wb_role" }
        max_lifespan = "2h"
        caller = { claim = "oid" }
        profile = { claim = "realm_access.roles", map = { teacher = "backend", Pupil = "student", "a.b" = "student" } }
        "#,
    );
    let settings = load(&text).settings.gateway;
    let issuer = &settings.issuers[0];
    assert!(matches!(issuer.keys, KeySource::Discovery));
    assert_eq!(issuer.audience, ["whiteboard", "board"]);
    assert_eq!(issuer.algorithms, [Algorithm::Es256, Algorithm::EdDsa]);
    assert_eq!(issuer.leeway, Duration::from_secs(5));
    assert_eq!(issuer.max_lifetime, Duration::from_secs(3600));
    assert_eq!((issuer.typ.as_deref(), issuer.id_tokens), (Some("at+jwt"), true));
    assert_eq!(issuer.max_stale, Duration::from_secs(7200));
    let mapping = &issuer.mapping;
    assert_eq!(mapping.rooms, RoomsFrom::Claim(claim("wb.rooms")));
    assert_eq!(mapping.role, CapFrom::Claim(claim("wb_role")));
    assert_eq!(mapping.max_lifespan, CapFrom::Fixed(Lifespan::Millis(7_200_000)));
    assert_eq!(mapping.caller, claim("oid"));
    let ProfileFrom::Claim { path, map } = &mapping.profile else { panic!("a claim") };
    assert_eq!(*path, claim("realm_access.roles"));
    let map: Vec<_> = map.iter().map(|(text, name)| (text.as_str(), name.as_str())).collect();
    assert_eq!(map, [("teacher", "backend"), ("Pupil", "student"), ("a.b", "student")]);
}

#[test]
fn rooms_and_caps_may_stand_in_the_file() {
    let text =
        proper("rooms = [\"a\", \"b\"]\nrole = \"writer\"\nmax_lifespan = { claim = \"life\" }");
    let mapping = load(&text).settings.gateway.issuers[0].mapping.clone();
    let rooms = ["a", "b"].map(|room| RoomId::new(room).unwrap());
    assert_eq!(mapping.rooms, RoomsFrom::List(rooms.into()));
    assert_eq!(mapping.role, CapFrom::Fixed(Role::Writer));
    assert_eq!(mapping.max_lifespan, CapFrom::Claim(claim("life")));
}

#[test]
fn the_map_keeps_the_order_of_the_file_since_its_first_match_counts() {
    for order in [["z", "a", "m"], ["m", "z", "a"], ["a", "m", "z"]] {
        let map = order.map(|text| format!("{text} = \"student\"\n")).concat();
        let text = proper("").replace("profile = \"student\"", "profile.claim = \"role\"")
            + "[issuers.school.profile.map]\n"
            + &map;
        let settings = load(&text).settings.gateway;
        let ProfileFrom::Claim { map, .. } = &settings.issuers[0].mapping.profile else {
            panic!("a claim")
        };
        let texts: Vec<&str> = map.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, order);
    }
}

#[test]
fn keys_come_from_a_file_that_is_watched_or_a_secret() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let text =
        proper("").replace("jwks = \"https://idp.example.org/keys\"", "key_file = \"idp.pem\"");
    let project = Project::with(&text);
    project.private("idp.pem", &pair.public_key_pem());
    let loaded = project.load(&[]).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(
        matches!(&loaded.settings.gateway.issuers[0].keys, KeySource::File(path) if *path == project.path("idp.pem"))
    );
    assert!(loaded.files.contains(&project.path("idp.pem")));

    let text =
        proper("").replace("jwks = \"https://idp.example.org/keys\"", "secret = { env = \"JWT\" }");
    let project = Project::with(&text);
    let loaded = project.load(&[("JWT", SECRET)]).unwrap_or_else(|errors| panic!("{errors}"));
    let issuer = &loaded.settings.gateway.issuers[0];
    assert!(matches!(&issuer.keys, KeySource::Secret(secret) if secret.expose() == SECRET));
    assert_eq!(issuer.algorithms, [Algorithm::Hs256]);
    let short = project.load(&[("JWT", "short")]).err().unwrap();
    assert!(
        short.contains("the `secret` cannot be used: a shared secret has at least 32"),
        "{short}"
    );
}

#[test]
fn what_is_wrong_with_an_issuer_is_told_by_its_key() {
    for (text, told) in [
        ("", "`issuers.school.issuer` is missing: what its tokens say in `iss`, exactly"),
        ("", "`issuers.school.audience` is missing: what its tokens say in `aud`"),
        ("", "`issuers.school` has no keys: write jwks = \"https://…\", discovery = true"),
        ("", "`issuers.school.profile` is missing: the name of a [profiles.…], or {"),
        ("discovery = false", "`issuers.school` has no keys"),
        ("discovery = true\nkey_file = \"x\"", "has discovery and key_file: keys come from one"),
        (
            "issuer = \"\"",
            "must be what its tokens say in `iss`, such as \"https://idp.example.org\", found an empty string",
        ),
        ("issuer = \"a \"", "found a string with a space or a control character in it"),
        ("audience = []", "`issuers.school.audience` is an empty list"),
        (
            "jwks = \"http://idp.example.org/keys\"",
            "`issuers.school.jwks` must be an https URL, such as \"https://idp.example.org/keys\", or an http one on loopback: its scheme is another: over http, anybody on the way",
        ),
        ("jwks = \"https://a:b@c/\"", "it has a user, a password or a fragment"),
        ("key_file = \"none.pem\"", "`issuers.school.key_file` names a file that cannot be read"),
        (
            "profile = \"studend\"",
            "`issuers.school.profile` names no profile: did you mean \"student\"?",
        ),
        (
            "profile = { claim = \"role\", map = { teacher = \"bakend\" } }",
            "`issuers.school.profile.map.teacher` names no profile: did you mean \"backend\"?",
        ),
        ("profile = { claim = \"role\" }", "`issuers.school.profile.map` has no entry"),
        ("profile = { map = { a = \"student\" } }", "`issuers.school.profile.claim` is missing"),
        (
            "profile = { clam = \"a\" }",
            "`issuers.school.profile.clam` is not a key here: did you mean `claim`?",
        ),
        ("profile = 5", "must be the name of a profile, or a table such as { claim"),
        ("rooms = { claim = \"a..b\" }", "a name in it is empty"),
        ("role = \"writter\"", "found another string; did you mean \"writer\"?"),
        ("role = 5", "must be \"reader\", \"writer\" or \"admin\", found an integer"),
        (
            "role = []",
            "must be \"reader\", \"writer\" or \"admin\", or { claim = \"name\" }, found a list",
        ),
        ("max_lifespan = 5", "the unit is missing: found an integer"),
        (
            "caller = \"sub\"",
            "`issuers.school.caller` must be { claim = \"name\" }, found a string",
        ),
        ("typ = 5", "must be what its tokens say in `typ`, such as \"at+jwt\", found an integer"),
        ("algorithms = [\"RS265\"]", "found another string; did you mean \"RS256\"?"),
        ("algorithms = [\"none\"]", "\"EdDSA\" or \"HS256\", found another string"),
    ] {
        let said = errors(&issuer(text));
        assert!(said.contains(told), "{text}\n  said {said}\n  not  {told}");
    }
    for (text, told) in [
        (
            "leeway = \"61s\"",
            "`issuers.school.leeway` must be a duration such as \"500ms\", \"10s\" or \"24h\" (units ms, s, m, h, d), 60s at most",
        ),
        ("algorithms = []", "`issuers.school.algorithms` is an empty list"),
        (
            "algorithms = [\"RS256\", \"HS256\"]",
            "`issuers.school.algorithms[1]` does not fit: HS256 takes a secret",
        ),
        ("ca = \"gateway.toml\"", "`issuers.school.ca` names a file without a certificate in PEM"),
        (
            "[issuers.other]\nissuer = \"https://idp.example.org\"",
            "`issuers.school.issuer` is that of `issuers.other`: whose keys would count?",
        ),
        ("[issuers.School]", "`issuers.School` has a name that cannot be"),
    ] {
        let said = errors(&proper(text));
        assert!(said.contains(told), "{text}\n  said {said}\n  not  {told}");
    }
    let key = |text: &str| proper("").replace("jwks = \"https://idp.example.org/keys\"", text);
    for (text, told) in [
        (
            key("discovery = true").replace("https://idp", "http://idp"),
            "`issuers.school.issuer` must be an https URL, or an http one on loopback, without a query",
        ),
        (
            key(&format!("secret = \"{SECRET}\"\nalgorithms = [\"RS256\"]")),
            "`issuers.school.algorithms[0]` does not fit: a secret is for HS256 alone",
        ),
        (
            key("key_file = \"gateway.toml\""),
            "`issuers.school` cannot be used: the file of keys: this is neither a JWK Set nor a public key in PEM form",
        ),
    ] {
        let said = errors(&text);
        assert!(said.contains(told), "{text}\n  said {said}\n  not  {told}");
    }
}

#[test]
fn a_variable_sets_what_is_a_value_and_no_entry_of_a_map() {
    let project = Project::with(&proper(""));
    let variables = [
        ("WBG__ISSUERS__SCHOOL__AUDIENCE", "one, Two"),
        ("WBG__ISSUERS__SCHOOL__ALGORITHMS", "ES256,RS256"),
        ("WBG__ISSUERS__SCHOOL__ROLE__CLAIM", "WB_Role"),
        ("WBG__ISSUERS__SCHOOL__ID_TOKENS", "true"),
        ("WBG__LIMITS__FAILED_CREDENTIALS", "off"),
    ];
    let settings = project.load(&variables).unwrap_or_else(|errors| panic!("{errors}")).settings;
    let issuer = &settings.gateway.issuers[0];
    assert_eq!(issuer.audience, ["one", "Two"]);
    assert_eq!(issuer.algorithms, [Algorithm::Es256, Algorithm::Rs256]);
    assert_eq!(issuer.mapping.role, CapFrom::Claim(claim("WB_Role")));
    assert!(issuer.id_tokens);
    assert!(settings.gateway.limits.failed_credentials.is_none());
    let variables = [
        ("WBG__ISSUERS__SCHOOL__PROFILE__CLAIM", "role"),
        ("WBG__ISSUERS__SCHOOL__PROFILE__MAP__TEACHER", "student"),
    ];
    let said = project.load(&variables).err().unwrap();
    let told = "WBG__ISSUERS__SCHOOL__PROFILE__MAP__TEACHER: `issuers.school.profile.map.teacher` is set by a variable";
    assert!(said.contains(told), "{said}");
}

#[test]
fn what_is_doubtful_about_an_issuer_is_warned_about() {
    let warned = |text: &str, told: &str| {
        let warnings = Project::with(text).warnings();
        assert!(
            warnings.iter().any(|one| one.contains(told)),
            "{text}\n  said {warnings:#?}\n  not  {told}"
        );
    };
    let key = |text: &str| proper("").replace("jwks = \"https://idp.example.org/keys\"", text);
    warned(&proper("max_lifetime = \"25h\""), "`issuers.school.max_lifetime` is longer than 24h");
    let shared = key(&format!("secret = \"{SECRET}\""));
    warned(&shared, "`issuers.school.secret` is in the file itself");
    warned(&shared, "`issuers.school.secret` is for HS256: whoever can check its tokens can make");
    let open = proper("").replace("allow = [\"tokens.room\"]", "allow = [\"tokens.sdk\"]");
    let open = open.replace("rooms = { claim = \"rooms\" }", "rooms = \"any\"");
    warned(&open, "`issuers.school.profile` is a profile with `tokens.sdk`");
    let mapped = "profile = { claim = \"r\", map = { a = \"student\" } }";
    warned(
        &open.replace("profile = \"student\"", mapped),
        "`issuers.school.profile.map.a` is a profile with `tokens.sdk`",
    );
    let project = Project::with(&key("key_file = \"idp.pem\"\nca = \"ca.pem\""));
    project.private("idp.pem", &rcgen::KeyPair::generate().unwrap().public_key_pem());
    let certified = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    project.private("ca.pem", &certified.cert.pem());
    assert!(project.warnings().iter().any(|one| one.contains("`issuers.school.ca` is not used")));
    warned(
        &proper("[callers.tablet]\nprofile = \"student\""),
        "`callers.tablet.profile` takes its rooms from a claim, and an API key has no claims",
    );
    let mut quiet = Project::with(&proper("")).warnings();
    quiet.retain(|one| !one.contains("is a placeholder of an example"));
    assert_eq!(quiet.len(), 3, "only the secret key, the region and the audit: {quiet:#?}");
}

#[test]
fn a_whiteboard_token_is_a_credential_where_its_project_names_a_profile() {
    let student = "rooms = \"any\"\nallow = [\"tokens.room\"]\nlimit = { rate = \"5/s\" }\n";
    let with = |more: &str| {
        format!(
            "[projects.a]\nkeys = [{{ access_key = \"A\", secret_key = \"S\" }}]\n{more}\n\
             [projects.b]\nsdk_token = \"NETLESSSDK_x\"\n\
             [profiles.participant]\nproject = \"a\"\n{student}[profiles.other]\nproject = \"b\"\n{student}"
        )
    };
    let settings = load(&with("token_profile = \"participant\"")).settings.gateway;
    assert_eq!(settings.projects[0].token_profile.as_deref(), Some("participant"));
    for (text, told) in [
        (
            with("token_profile = \"participent\""),
            "`projects.a.token_profile` names no profile: did you mean \"participant\"?",
        ),
        (
            with("token_profile = \"other\""),
            "`projects.a.token_profile` is a profile of another project",
        ),
        (
            with("").replace("NETLESSSDK_x\"", "NETLESSSDK_x\"\ntoken_profile = \"other\""),
            "`projects.b.token_profile` takes keys",
        ),
    ] {
        let said = errors(&text);
        assert!(said.contains(told), "{text}\n  said {said}\n  not  {told}");
        assert!(!said.contains("\n\n"), "{said}");
    }
    let claimed = with("token_profile = \"participant\"").replace("\"any\"", "{ claim = \"r\" }");
    let warnings = Project::with(&claimed).warnings();
    let told = "`projects.a.token_profile` takes its rooms from a claim, and a whiteboard token";
    assert!(warnings.iter().any(|one| one.contains(told)), "{warnings:#?}");
    assert!(warnings.iter().all(|one| !one.contains("has nobody in it")), "{warnings:#?}");
}

#[test]
fn the_throttle_is_a_rate_or_off() {
    let throttle = |text: &str| {
        load(&format!("limits.failed_credentials = {text}"))
            .settings
            .gateway
            .limits
            .failed_credentials
            .map(|rate| (rate.requests.get(), rate.period.as_secs(), rate.burst.get()))
    };
    assert_eq!(throttle("{ rate = \"5/s\", burst = 9 }"), Some((5, 1, 9)));
    assert_eq!(throttle("\"off\""), None);
    assert_eq!(throttle("false"), None);
    for (text, told) in [
        (
            "\"of\"",
            "must be a table such as { rate = \"3000/m\", burst = 3000 }, or \"off\", found another string",
        ),
        ("true", "or \"off\", found true"),
        ("5", "or \"off\", found an integer"),
        ("{ burst = 5 }", "`limits.failed_credentials.rate` is missing"),
        ("{ rat = \"5/s\" }", "did you mean `rate`?"),
    ] {
        let said = errors(&format!("limits.failed_credentials = {text}"));
        assert!(said.contains(told), "{text}\n  said {said}\n  not  {told}");
    }
}
