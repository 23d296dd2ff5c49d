//! The decision by example, and by every combination of what bounds it.

use super::*;
use crate::api::{Feature, Operation, RoomId, TargetKind, TokenKind};
use crate::policy::OverCap;
use http::Method;
use proptest::prelude::*;

fn profile(allow: &[&str], rooms: Rooms, role: Role) -> ProfileSettings {
    ProfileSettings {
        name: "student".to_owned(),
        project: "classroom".to_owned(),
        sdk_token: false,
        allow: allow.iter().map(|text| (*text).to_owned()).collect(),
        rooms,
        role,
        max_lifespan: Lifespan::Millis(1000),
        over_cap: OverCap::default(),
        priority: Priority::default(),
        trust_traceparent: false,
        shadow: None,
    }
}

fn decide(profile: ProfileSettings, method: &Method, path: &str) -> Result<(), String> {
    let operations = Operations::documented();
    let policy = Policy::new(&[profile], &operations, |_| Some(0)).unwrap();
    let matched = operations.find(method, path).unwrap();
    policy
        .authorize(&Rights::of_profile(0), &matched)
        .map(|_| ())
        .map_err(|failure| format!("{} {}", failure.code().name(), failure.rule().unwrap_or("-")))
}

fn listed(rooms: &[&str]) -> Rooms {
    Rooms::List(rooms.iter().map(|room| RoomId::new(room).unwrap()).collect())
}

const GET: &Method = &Method::GET;
const POST: &Method = &Method::POST;

#[test]
fn what_is_not_named_is_denied() {
    let nothing = profile(&[], Rooms::Any, Role::Admin);
    let refused = Err("forbidden profiles.student.allow".to_owned());
    assert_eq!(decide(nothing, GET, "/v5/rooms/a"), refused);
    let named = profile(&["rooms.get"], Rooms::Any, Role::Admin);
    assert_eq!(decide(named.clone(), GET, "/v5/rooms/a"), Ok(()));
    assert_eq!(decide(named, POST, "/v5/rooms"), refused);
}

#[test]
fn a_wildcard_never_grants_an_sdk_token() {
    let all = profile(&["tokens.*"], Rooms::Any, Role::Admin);
    assert_eq!(decide(all.clone(), POST, "/v5/tokens/rooms/a"), Ok(()));
    assert!(decide(all, POST, "/v5/tokens/teams").is_err());
    let named = profile(&["tokens.sdk"], Rooms::Any, Role::Admin);
    assert_eq!(decide(named.clone(), POST, "/v5/tokens/teams"), Ok(()));
    let console = ProfileSettings { sdk_token: true, ..named };
    assert!(decide(console, POST, "/v5/tokens/teams").is_err(), "it has no key to sign one");
}

#[test]
fn whatever_narrows_a_caller_nobody_narrow_gets_an_sdk_token() {
    let operations = Operations::documented();
    let asked = operations.find(POST, "/v5/tokens/teams").unwrap();
    let whole = Rights::of_profile(0);
    let claim = || Rooms::Claim("wb_rooms".into());
    let only = Some(Target::Room(RoomId::new("a").unwrap()));
    for (of_profile, rights) in [
        (Rooms::None, whole.clone()),
        (listed(&["a"]), whole.clone()),
        (claim(), whole.clone()),
        (claim(), Rights { claimed: listed(&["a"]), ..whole.clone() }),
        (Rooms::Any, Rights { rooms: listed(&["a"]), ..whole.clone() }),
        (Rooms::Any, Rights { rooms: Rooms::None, ..whole.clone() }),
        (Rooms::Any, Rights { only, ..whole }),
    ] {
        let named = profile(&["tokens.sdk"], of_profile, Role::Admin);
        let policy = Policy::new(&[named], &operations, |_| Some(0)).unwrap();
        let failure = policy.authorize(&rights, &asked).err().unwrap();
        assert_eq!(failure.code(), Code::Forbidden, "{rights:?}");
        assert_eq!(failure.rule(), Some("profiles.student.allow"));
    }
}

/// The documented operations, and one that is added.
fn with(name: &'static str, path: &'static str, access: Access, target: TargetKind) -> Operations {
    let mut operations = Operations::documented();
    let row = Operation {
        name: name.into(),
        feature: Feature::Added,
        path: path.into(),
        access,
        target,
        ..crate::api::TABLE[3].clone()
    };
    operations.add(row).unwrap();
    operations
}

#[test]
fn an_added_operation_that_opens_more_than_its_room_is_granted_to_the_narrow_by_name_alone() {
    use {Access::Needs, TargetKind::Project, TokenKind::*};
    let room = Target::Room(RoomId::new("a").unwrap());
    let own = Rights { only: Some(room), ..Rights::of_profile(0) };
    let narrow = Rights { rooms: listed(&["a"]), ..Rights::of_profile(0) };
    let whole = Rights::of_profile(0);
    let export = |access, target| {
        let path = if target == Project { "/v5/rooms/x/export" } else { "/v5/rooms/{uuid}/export" };
        with("rooms.export", path, access, target)
    };
    let renew = with(
        "rooms.renew",
        "/v5/Tokens/rooms/{uuid}/export",
        Needs(Room, Role::Writer),
        TargetKind::Room,
    );
    let tokens = with(
        "tokens.renew",
        "/v5/rooms/{uuid}/export",
        Needs(Room, Role::Writer),
        TargetKind::Room,
    );
    // The operation, whether its project has an SDK token alone, and who gets it from a
    // family, and by its name: callers of every room, of some, and of their own token.
    let by_room = || export(Needs(Room, Role::Writer), TargetKind::Room);
    for (operations, sdk_token, by_family, by_name) in [
        (by_room(), false, [true, true, true], [true, true, true]),
        (by_room(), true, [true, false, false], [true, true, true]),
        (
            export(Needs(Sdk, Role::Writer), TargetKind::Room),
            false,
            [true, false, false],
            [true, true, true],
        ),
        (
            export(Needs(Task, Role::Writer), TargetKind::Task),
            false,
            [true, false, false],
            [true, true, false],
        ),
        (
            export(Needs(Sdk, Role::Writer), Project),
            false,
            [true, false, false],
            [true, true, false],
        ),
        (export(Access::Open, Project), false, [true, false, false], [true, true, false]),
        (export(Access::Open, TargetKind::Room), false, [true, true, true], [true, true, true]),
        (renew, false, [false, false, false], [true, true, false]),
        (tokens, false, [false, false, false], [true, true, false]),
    ] {
        let added = operations.iter().last().unwrap().1.clone();
        let path = added.path.replace("{uuid}", "a");
        let asked = operations.find(&added.method, &path).unwrap();
        for (allow, expected) in [("rooms.*", by_family), (&*added.name, by_name)] {
            let allow = [allow, if added.name.starts_with("tokens") { "tokens.*" } else { allow }];
            let settings =
                ProfileSettings { sdk_token, ..profile(&allow, Rooms::Any, Role::Admin) };
            let policy = Policy::new(&[settings], &operations, |_| Some(0)).unwrap();
            let decided = [&whole, &narrow, &own].map(|one| policy.authorize(one, &asked).is_ok());
            assert_eq!(decided, expected, "{allow:?}: {added:?}, {sdk_token}");
        }
    }
}

#[test]
fn an_sdk_token_may_take_the_place_of_a_room_token_where_it_opens_no_more_or_is_named() {
    let added = with(
        "rooms.export",
        "/v5/rooms/{uuid}/export",
        Access::Needs(TokenKind::Room, Role::Writer),
        TargetKind::Room,
    );
    for (allow, rooms, path, expected) in [
        ("rooms.*", listed(&["a"]), "/v5/rooms/a", true),
        ("rooms.*", Rooms::Any, "/v5/rooms/a/export", true),
        ("rooms.*", listed(&["a"]), "/v5/rooms/a/export", false),
        ("rooms.export", listed(&["a"]), "/v5/rooms/a/export", true),
    ] {
        let settings = profile(&[allow], rooms, Role::Admin);
        let policy = Policy::new(&[settings], &added, |_| Some(0)).unwrap();
        let method = if path.ends_with("export") { POST } else { GET };
        let asked = added.find(method, path).unwrap();
        let permit = policy.authorize(&Rights::of_profile(0), &asked).unwrap();
        assert_eq!(permit.sdk_token, expected, "{allow} {path}");
    }
}

#[test]
fn a_refusal_says_why_no_entry_grants_it() {
    let operations = Operations::documented();
    let says = |rights: &Rights, path: &str, sdk_token| {
        let allow = ["tokens.room", "tokens.sdk"];
        let settings = ProfileSettings { sdk_token, ..profile(&allow, Rooms::Any, Role::Admin) };
        let policy = Policy::new(&[settings], &operations, |_| Some(0)).unwrap();
        let asked = operations.find(POST, path).unwrap();
        policy.authorize(rights, &asked).err().unwrap().message().to_owned()
    };
    let whole = Rights::of_profile(0);
    let own = Rights { only: Some(Target::Room(RoomId::new("a").unwrap())), ..whole.clone() };
    let said = says(&own, "/v5/tokens/rooms/a", false);
    assert!(said.contains("a whiteboard token mints no others"), "{said}");
    let said = says(&whole, "/v5/tokens/teams", true);
    assert!(said.contains("a fixed SDK token and no keys"), "{said}");
    let said = says(&whole, "/v5/tokens/tasks/a", false);
    assert_eq!(said, "`tokens.task` is not among the operations of this caller");
}

#[test]
fn with_a_list_of_rooms_a_wildcard_grants_only_what_is_about_one_room() {
    let some = profile(&["rooms.*", "conversions.*", "tokens.*"], listed(&["a"]), Role::Admin);
    assert_eq!(decide(some.clone(), GET, "/v5/rooms/a"), Ok(()));
    assert_eq!(decide(some.clone(), POST, "/v5/tokens/rooms/a"), Ok(()));
    for (method, path) in [
        (GET, "/v5/rooms"),
        (POST, "/v5/rooms"),
        (POST, "/v5/tokens/tasks/t"),
        (POST, "/v5/projector/tasks"),
    ] {
        assert!(decide(some.clone(), method, path).is_err(), "{method} {path}");
    }
}

#[test]
fn a_task_token_takes_every_room_since_its_prefix_is_not_signed() {
    let some = profile(&["tokens.task"], listed(&["a"]), Role::Admin);
    assert!(decide(some, POST, "/v5/tokens/tasks/b").is_err());
    let any = profile(&["tokens.task"], Rooms::Any, Role::Admin);
    assert_eq!(decide(any, POST, "/v5/tokens/tasks/b"), Ok(()));
}

#[test]
fn a_room_that_is_not_theirs_is_not_there() {
    let some = profile(&["rooms.get"], listed(&["a"]), Role::Admin);
    assert_eq!(decide(some, GET, "/v5/rooms/b"), Err("not_found -".to_owned()));
    let none = profile(&["rooms.get"], Rooms::None, Role::Admin);
    assert_eq!(decide(none, GET, "/v5/rooms/a"), Err("not_found -".to_owned()));
}

#[test]
fn a_reader_cannot_disable_a_room() {
    let reader = profile(&["rooms.*"], Rooms::Any, Role::Reader);
    assert_eq!(
        decide(reader, &Method::PATCH, "/v5/rooms/a"),
        Err("forbidden profiles.student.role".to_owned())
    );
}

fn grant(settings: ProfileSettings, asked: &TokenRequest) -> Result<Grant, Failure> {
    let operations = Operations::documented();
    let policy = Policy::new(&[settings], &operations, |_| Some(0)).unwrap();
    let matched = operations.find(POST, "/v5/tokens/rooms/a").unwrap();
    policy.authorize(&Rights::of_profile(0), &matched).unwrap().grant(asked)
}

fn asked(role: Role, lifespan: u64) -> TokenRequest {
    TokenRequest {
        kind: TokenKind::Room,
        role,
        lifespan: Lifespan::from_wire(lifespan),
        access_key: None,
    }
}

#[test]
fn a_permanent_token_is_clamped_and_a_higher_role_refused() {
    let writer = profile(&["tokens.room"], Rooms::Any, Role::Writer);
    let granted = grant(writer.clone(), &asked(Role::Reader, 0)).unwrap();
    assert!(granted.clamped);
    assert_eq!(granted.request, asked(Role::Reader, 1000));
    let failure = grant(writer, &asked(Role::Admin, 10)).unwrap_err();
    assert_eq!(failure.rule(), Some("profiles.student.role"));
    assert!(failure.message().contains("highest role of this caller is writer"));
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Admin), Just(Role::Writer), Just(Role::Reader)]
}

fn any_rooms() -> impl Strategy<Value = Rooms> {
    prop_oneof![
        Just(Rooms::None),
        Just(Rooms::Any),
        Just(listed(&["a"])),
        Just(listed(&["a", "b"])),
        Just(listed(&["c"])),
        Just(Rooms::Claim("rooms".into())),
    ]
}

fn any_only() -> impl Strategy<Value = Option<Target>> {
    prop_oneof![
        Just(None),
        Just(Some(Target::Room(RoomId::new("a").unwrap()))),
        Just(Some(Target::Task(crate::api::TaskId::new("a").unwrap()))),
    ]
}

fn contains(rooms: &Rooms, room: &RoomId) -> bool {
    match rooms {
        Rooms::Any => true,
        Rooms::List(list) => list.contains(room),
        Rooms::None | Rooms::Claim(_) => false,
    }
}

fn any_excess() -> impl Strategy<Value = Excess> {
    prop_oneof![Just(Excess::Clamp), Just(Excess::Refuse)]
}

proptest! {
    #[test]
    fn no_combination_of_profile_and_rights_gives_more_than_both(
        cap in any_role(), own in prop::option::of(any_role()), role in any_role(),
        longest in 0_u64..5000, own_longest in prop::option::of(0_u64..5000),
        lifespan in 0_u64..5000,
        rooms in any_rooms(), own_rooms in any_rooms(), claimed in any_rooms(),
        only in any_only(), room in prop_oneof![Just("a"), Just("b"), Just("c")],
        on_role in any_excess(), on_lifespan in any_excess(),
    ) {
        let mut settings = profile(&["tokens.room"], rooms.clone(), cap);
        settings.max_lifespan = Lifespan::from_wire(longest);
        settings.over_cap = OverCap { lifespan: on_lifespan, role: on_role };
        let rights = Rights {
            unmapped: None,
            profile: Some(0),
            rooms: own_rooms.clone(),
            claimed: claimed.clone(),
            only: only.clone(),
            role: own,
            max_lifespan: own_longest.map(Lifespan::from_wire),
        };
        let operations = Operations::documented();
        let policy = Policy::new(&[settings], &operations, |_| Some(0)).unwrap();
        let path = format!("/v5/tokens/rooms/{room}");
        let matched = operations.find(POST, &path).unwrap();
        let asked = asked(role, lifespan);
        let permit = policy.authorize(&rights, &matched);
        if let Ok(grant) = permit.and_then(|permit| permit.grant(&asked)) {
            let room = RoomId::new(room).unwrap();
            prop_assert!(grant.request.role <= cap.min(own.unwrap()).min(role));
            prop_assert!(grant.request.lifespan <= Lifespan::from_wire(longest));
            prop_assert!(grant.request.lifespan <= Lifespan::from_wire(own_longest.unwrap()));
            prop_assert!(contains(&own_rooms, &room));
            let of_profile = if matches!(rooms, Rooms::Claim(_)) { &claimed } else { &rooms };
            prop_assert!(contains(of_profile, &room));
            prop_assert!(only.is_none_or(|only| only == Target::Room(room)));
            prop_assert_eq!(grant.clamped, grant.request != asked);
        }
    }
}

#[test]
fn a_credential_that_is_good_for_some_rooms_gets_from_a_wildcard_what_is_about_one_room() {
    let operations = Operations::documented();
    let all = ["rooms.*", "conversions.*"];
    let policy = Policy::new(&[profile(&all, Rooms::Any, Role::Admin)], &operations, |_| Some(0));
    let policy = policy.unwrap();
    let narrow = Rights { rooms: listed(&["a"]), ..Rights::of_profile(0) };
    for (method, path, granted) in [
        (GET, "/v5/rooms/a", true),
        (GET, "/v5/rooms/b", false),
        (GET, "/v5/rooms", false),
        (POST, "/v5/rooms", false),
        (POST, "/v5/projector/tasks", false),
    ] {
        let matched = operations.find(method, path).unwrap();
        assert_eq!(policy.authorize(&narrow, &matched).is_ok(), granted, "{method} {path}");
        let whole = policy.authorize(&Rights::of_profile(0), &matched);
        assert!(whole.is_ok(), "{method} {path}");
    }
}
