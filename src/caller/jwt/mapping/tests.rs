//! Claims of all shapes, and what they may grant.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn path(text: &str) -> ClaimPath {
    ClaimPath::new(text).unwrap()
}

/// Everything from a claim.
fn mapping() -> Mapping {
    let map = [("teacher", "backend"), ("pupil", "student")]
        .map(|(text, profile)| (text.to_owned(), profile.to_owned()));
    Mapping {
        profile: ProfileFrom::Claim { path: path("realm.roles"), map: map.to_vec() },
        rooms: RoomsFrom::Claim(path("rooms")),
        role: CapFrom::Claim(path("role")),
        max_lifespan: CapFrom::Claim(path("life")),
        caller: ClaimPath::default(),
    }
}

fn read(claims: Value) -> Result<ClaimGrant, String> {
    let mut claims = claims.as_object().unwrap().clone();
    claims.entry("sub").or_insert_with(|| json!("ada"));
    mapping().read(&Object::from(&claims)).map_err(|why| why.to_string())
}

fn listed(rooms: &[&str]) -> Rooms {
    Rooms::List(rooms.iter().map(|room| RoomId::new(room).unwrap()).collect())
}

#[test]
fn claims_grant_what_they_say() {
    let granted = read(json!({
        "realm": {"roles": ["other", "pupil"]}, "rooms": ["a", "b"], "role": "writer", "life": 60,
    }));
    assert_eq!(
        granted.unwrap(),
        ClaimGrant {
            profile: Ok("student".to_owned()),
            rooms: listed(&["a", "b"]),
            role: Cap::At(Role::Writer),
            max_lifespan: Cap::At(Lifespan::Millis(60_000)),
            caller: "ada".to_owned(),
        }
    );
    assert_eq!(read(json!({"rooms": "a"})).unwrap().rooms, listed(&["a"]));
}

#[test]
fn a_missing_claim_grants_nothing() {
    for claims in [
        json!({}),
        json!({"realm": null, "rooms": null, "role": null, "life": null}),
        json!({"realm": {}, "rooms": [], "role": [], "life": []}),
        json!({"realm": {"roles": ["stranger", "Teacher"]}}),
    ] {
        let granted = read(claims.clone()).unwrap();
        assert_eq!((granted.profile.ok(), granted.rooms), (None, Rooms::None), "{claims}");
        assert_eq!((granted.role, granted.max_lifespan), (Cap::Nothing, Cap::Nothing), "{claims}");
    }
    assert_eq!(Cap::<Role>::Nothing.within(Role::Admin), None);
    assert!(read(json!({"sub": null})).is_err(), "a caller has an id");
}

#[test]
fn a_claim_of_the_wrong_type_is_refused_with_its_name() {
    for (claims, told) in [
        (json!({"realm": "teacher"}), "`realm.roles` holds a string, and an object on the way"),
        (json!({"realm": {"roles": {"teacher": true}}}), "`realm.roles` holds an object"),
        (json!({"realm": {"roles": ["teacher", 1]}}), "`realm.roles` holds a number"),
        (json!({"rooms": 7}), "`rooms` holds a number"),
        (json!({"rooms": true}), "`rooms` holds a boolean"),
        (json!({"rooms": [["a"]]}), "`rooms` holds an array"),
        (json!({"rooms": ["a", null]}), "`rooms` holds null"),
        (json!({"rooms": ["../a"]}), "`rooms` holds a text that is no id"),
        (json!({"rooms": ""}), "`rooms` holds a text that is no id"),
        (json!({"role": "Admin"}), "`role` holds another text"),
        (json!({"role": 0}), "`role` holds a number"),
        (json!({"role": ["reader", "admin"]}), "`role` holds more than one value"),
        (json!({"life": "60"}), "`life` holds a string"),
        (json!({"life": 0}), "`life` holds another number"),
        (json!({"life": -1}), "`life` holds another number"),
        (json!({"life": 1.5}), "`life` holds another number"),
        (json!({"sub": 5}), "`sub` holds a number"),
        (json!({"sub": ""}), "`sub` holds another text"),
    ] {
        let why = read(claims.clone()).unwrap_err();
        assert!(why.contains(told), "{claims}: {why}");
    }
}

#[test]
fn a_path_walks_through_arrays_and_takes_names_with_dots_as_they_are() {
    let claims = json!({
        "groups": [{"name": "a"}, {"name": ["b", "c"]}, {}],
        "https://example.org/roles": ["teacher"],
    });
    let claims = &Object::from(claims.as_object().unwrap());
    assert_eq!(path("groups.name").texts(claims).unwrap(), ["a", "b", "c"]);
    assert_eq!(path("https://example.org/roles").texts(claims).unwrap(), ["teacher"]);
    assert!(path("groups.name.first").texts(claims).is_err());
    for text in ["", ".", "a..b", ".a", "a."] {
        assert_eq!(ClaimPath::new(text), Err(ClaimPathError), "{text:?}");
    }
}

#[test]
fn a_path_has_one_reading() {
    let same = json!({"a.b": "x", "a": {"b": ["x"]}});
    for (claims, expected) in [
        (json!({"a.b": "x"}), Some(vec!["x"])),
        (json!({"a": {"b": "x"}}), Some(vec!["x"])),
        (json!({"a.b": null, "a": {"b": "x"}}), Some(vec!["x"])),
        (json!({"a.b": "x", "a": {"b": null}}), Some(vec!["x"])),
        (json!({"a.b": "x", "a": {}}), Some(vec!["x"])),
        // Where `a` is no object there is no `b` in it.
        (json!({"a.b": "x", "a": "y"}), Some(vec!["x"])),
        (same, Some(vec!["x"])),
        (json!({"a.b": "x", "a": {"b": "y"}}), None),
        (json!({"a.b": ["x", "y"], "a": {"b": "x"}}), None),
        (json!({"a.b": [], "a": {"b": "x"}}), None),
        (json!({"a.b": "x", "a": {"b": []}}), None),
        (json!({"a.b": "x", "a": [{"b": "x"}, {"b": "y"}]}), None),
    ] {
        let object = &Object::from(claims.as_object().unwrap());
        match (path("a.b").texts(object), expected) {
            (Ok(texts), Some(expected)) => assert_eq!(texts, expected, "{claims}"),
            (Err(why), None) => {
                let told = "the claim `a.b` holds one thing under this whole name and another";
                assert!(why.to_string().starts_with(told), "{claims}: {why}");
            }
            (read, expected) => panic!("{claims}: {read:?}, not {expected:?}"),
        }
    }
}

#[test]
fn a_list_of_names_is_one_path_whatever_is_in_them() {
    let names =
        |names: &[&str]| ClaimPath::of_names(names.iter().map(ToString::to_string).collect());
    let claims = json!({
        "resource_access": {"app.example.com": {"roles": ["teacher"]}},
        "resource_access.app.example.com.roles": ["pupil"],
    });
    let claims = &Object::from(claims.as_object().unwrap());
    let nested = names(&["resource_access", "app.example.com", "roles"]).unwrap();
    assert_eq!(nested.texts(claims).unwrap(), ["teacher"]);
    let whole = names(&["resource_access.app.example.com.roles"]).unwrap();
    assert_eq!(whole.texts(claims).unwrap(), ["pupil"]);
    for wrong in [&[][..], &[""], &["a", ""]] {
        assert_eq!(names(wrong), Err(ClaimPathError));
    }
}

#[test]
fn a_number_is_the_index_of_an_item_and_keys_can_be_what_a_claim_holds() {
    let names = |names: &[&str]| {
        ClaimPath::of_names(names.iter().map(ToString::to_string).collect()).unwrap()
    };
    let claims = json!({
        "groups": [{"name": "a"}, {"name": "b"}, ["c", "d"]],
        "numbered": {"0": "e"},
        "urn:zitadel:iam:org:project:roles": {"teacher": {"1": "x"}, "pupil": {}},
        "none": {},
    });
    let claims = &Object::from(claims.as_object().unwrap());
    for (path, expected) in [
        (names(&["groups", "1", "name"]), &["b"][..]),
        (path("groups.0.name"), &["a"]),
        (names(&["groups", "2", "1"]), &["d"]),
        (names(&["groups", "9", "name"]), &[]),
        (names(&["groups", "99999999999999999999"]), &[]),
        (path("numbered.0"), &["e"]),
    ] {
        assert_eq!(path.texts(claims).unwrap(), expected, "{path}");
    }
    let keys = |path: ClaimPath| ClaimPath::KeysOf(Box::new(path));
    let roles = keys(names(&["urn:zitadel:iam:org:project:roles"]));
    assert_eq!(roles.texts(claims).unwrap(), ["teacher", "pupil"]);
    assert_eq!(keys(path("none")).texts(claims).unwrap(), [""; 0]);
    assert_eq!(keys(path("absent")).texts(claims).unwrap(), [""; 0]);
    let why = keys(path("numbered.0")).texts(claims).unwrap_err().to_string();
    assert!(why.contains("holds a string, and an object"), "{why}");
}

#[test]
fn the_first_profile_of_the_map_is_taken() {
    let granted = read(json!({"realm": {"roles": ["pupil", "teacher"]}})).unwrap();
    assert_eq!(granted.profile.as_deref(), Ok("backend"));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(any|admin|writer|reader|teacher|pupil|a|b|\\*|\\.\\.|)".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("(roles|a)", inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_claims() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::hash_map("(realm|rooms|role|life|sub|realm\\.roles)", any_value(), 0..6)
        .prop_map(|claims| claims.into_iter().collect())
}

fn any_role() -> impl Strategy<Value = Role> {
    prop::sample::select(Role::ALL.to_vec())
}

proptest! {
    #[test]
    fn no_claims_widen_a_profile(
        claims in any_claims(), role in any_role(), life in 0_u64..5000,
    ) {
        let Ok(granted) = mapping().read(&Object::from(&claims)) else { return Ok(()) };
        let life = Lifespan::from_wire(life);
        prop_assert!(granted.role.within(role).is_none_or(|cap| cap <= role));
        prop_assert!(granted.max_lifespan.within(life).is_none_or(|cap| cap <= life));
        prop_assert!(granted.rooms != Rooms::Any);
        if let Rooms::List(rooms) = &granted.rooms {
            for room in rooms {
                let said = claims["rooms"].to_string();
                prop_assert!(said.contains(&format!("\"{room}\"")), "{said}");
            }
        }
        let profile = granted.profile.as_deref().ok();
        prop_assert!([None, Some("backend"), Some("student")].contains(&profile));
    }

    #[test]
    fn a_claim_taken_away_never_grants_more(claims in any_claims(), name in "(realm|rooms|role|life)") {
        let mut claims = claims;
        claims.insert("sub".to_owned(), json!("ada"));
        claims.shift_remove("realm.roles");
        claims.shift_remove(&name);
        if let Ok(granted) = mapping().read(&Object::from(&claims)) {
            match name.as_str() {
                "realm" => prop_assert!(granted.profile.is_err()),
                "rooms" => prop_assert_eq!(granted.rooms, Rooms::None),
                "role" => prop_assert_eq!(granted.role, Cap::Nothing),
                _ => prop_assert_eq!(granted.max_lifespan, Cap::Nothing),
            }
        }
    }
}
