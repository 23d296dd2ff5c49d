//! What is wrong, and how it is told.

use super::*;

#[test]
fn what_is_wrong_is_told_with_its_line_what_is_allowed_and_what_was_meant() {
    for (text, told) in [
        (
            "[listen]\nadress = 1",
            "gateway.toml:2: `listen.adress` is not a key here: did you mean `address`?",
        ),
        ("[audit]", "`audit.file` is missing: \"stdout\", or the path of a file"),
        (
            "audit.file = \"tokens\"",
            "`audit.file` must be \"stdout\", or the path of a file, with a `/` in it",
        ),
        (
            "[audit]\nfile = \"./a\"\nsync = true",
            "gateway.toml:3: `audit.sync` is only for a file with mode = \"required\"",
        ),
        (
            "audit = { file = \"stdout\", mode = \"required\", sync = true }",
            "`audit.sync` is only for a file",
        ),
        (
            "store.url = \"http://localhost\"",
            "`store.url` must be a URL such as \"redis://host:6379/0\" or \"rediss://host\": its scheme is neither redis nor rediss",
        ),
        ("store.url = [\"redis://a\", \"redis://b\"]", "`store.url` has more than one URL"),
        (
            "store = { url = [\"redis://a\", \"rediss://b\"], mode = \"cluster\" }",
            "`store.url` has URLs with different schemes",
        ),
        ("store = { url = \"redis://a/1\", mode = \"cluster\" }", "`store.url` names a database"),
        ("store = { url = \"redis://a\", mode = \"sentinel\" }", "`store.master` is missing"),
        (
            "store = { url = \"redis://a\", master = \"m\" }",
            "`store.master` is only for mode = \"sentinel\"",
        ),
        ("store.url = []", "`store.url` is an empty list"),
        ("store.mode = \"cluster\"", "`store.url` is missing"),
        (
            "store = { url = \"redis://a\", timeout = \"6s\" }",
            "(units ms, s, m, h, d), 5s at most: it is longer",
        ),
        (
            "store = { url = \"redis://a\", prefix = \"{x}\" }",
            "`store.prefix` must be 1 to 32 letters, digits",
        ),
        ("store = { url = \"redis://:a@b\", password = \"c\" }", "`store.password` is given twice"),
        (
            "profiles.a.on_store_error = \"close\"",
            "`profiles.a.on_store_error` must be \"local\", \"open\" or \"closed\", found another string; did you mean \"closed\"?",
        ),
        (
            &profile("budgets = [{ of = \"tokens\", most = 5, per = \"day\" }]"),
            "`profiles.backend.budgets` need a place in which they are kept: set budgets.file, a file of this gateway alone such as \"./budgets.db\", or store.url, which several share",
        ),
        (
            "store.url = \"redis://a\"\nbudgets.ahead = 5",
            "`budgets.ahead` is only for budgets.file: in a store nothing is taken ahead",
        ),
        (
            &profile("budgets = [{ of = \"token\", most = 5, per = \"day\" }]"),
            "`profiles.backend.budgets[0].of` must be \"requests\", \"tokens\" or \"conversions\", found another string; did you mean \"tokens\"?",
        ),
        (
            &profile("budgets = [{ of = \"tokens\", most = 5, per = \"week\" }]"),
            "`profiles.backend.budgets[0].per` must be \"hour\", \"day\" or \"month\", found another string",
        ),
        (
            &profile("budgets = [{ of = \"tokens\", most = 0, per = \"day\" }]"),
            "`profiles.backend.budgets[0].most` must be a whole number from 1 to 4294967295, found another one",
        ),
        (
            &profile("budgets = [{ of = \"tokens\", per = \"day\", for = \"all\" }]"),
            "`profiles.backend.budgets[0].most` is missing: a whole number from 1",
        ),
        (
            &profile("budgets = [{ of = \"tokens\", most = 5, per = \"day\", for = \"all\" }]"),
            "`profiles.backend.budgets[0].for` must be \"caller\" or \"profile\", found another string",
        ),
        (
            &profile(
                "budgets = [{ of = \"tokens\", most = 5, per = \"day\" }, { of = \"tokens\", most = 6, per = \"day\", for = \"caller\" }]",
            ),
            "`profiles.backend.budgets[1]` is of the same, in the same time and for the same as one before it",
        ),
        (
            "budgets.time_zone = \"Europe/Berlim\"",
            "`budgets.time_zone` must be a time zone of the IANA database, such as \"Europe/Berlin\", found another string; did you mean \"Europe/Berlin\"?",
        ),
        ("[lisen]", "gateway.toml:1: `lisen` is not a key here: did you mean `listen`?"),
        (
            "[redis]",
            "gateway.toml:1: `redis` is not a key here: the keys are listen, listeners, admin,",
        ),
        ("listen = 5", "gateway.toml:1: `listen` must be a table, found an integer"),
        ("projects = []", "gateway.toml:1: `projects` must be a table, found a list"),
        (
            "\"a[999999999999999]\" = 1",
            "gateway.toml:1: `\"a[999999999999999]\"` is not a key here",
        ),
        ("\"listen.address\" = \"127.0.0.1:1\"", "`\"listen.address\"` is not a key here"),
        (
            "[body]\n\ntimeout = 10",
            "gateway.toml:3: `body.timeout` must be a duration such as \"500ms\", \"10s\" or \"24h\" (units ms, s, m, h, d): the unit is missing: found an integer",
        ),
        ("body.timeout = \"10\"", "(units ms, s, m, h, d): the unit is missing"),
        (
            "limits.gateway = 5",
            "`limits.gateway` must be a table such as { rate = \"200/s\", burst = 400 }, where burst may be left out, found an integer",
        ),
        (
            "limits.gateway = { rate = 5 }",
            "`limits.gateway.rate` must be a rate such as \"200/s\" (per s, m, h or d): the period is missing, as in \"5/s\": found an integer",
        ),
        (
            "limits.gateway = { burst = 5 }",
            "`limits.gateway.rate` is missing: a rate such as \"200/s\"",
        ),
        (
            "limits.gateway = { rate = \"5/s\", burst = 0 }",
            "`limits.gateway.burst` must be a whole number from 1 to 4294967295, found another one",
        ),
        (
            "errors.profile = \"documentd\"",
            "`errors.profile` must be \"documented\" or \"extended\", found another string; did you mean \"documented\"?",
        ),
        (
            "errors.rate_limit_status = 500",
            "`errors.rate_limit_status` must be 403 or 429, found another integer",
        ),
        ("listen.share = \"yes\"", "`listen.share` must be true or false, found a string"),
        (
            "listen.workers = \"4\"",
            "`listen.workers` must be a whole number from 1 to 1024, found a string",
        ),
        (
            "listen.workers = 5000",
            "`listen.workers` must be a whole number from 1 to 1024, found another one",
        ),
        (
            "listen.workers = 99999999999999999999",
            "gateway.toml:1: `listen.workers` is a number that is too large",
        ),
        (
            "listen.max_overhead_frames = 9",
            "`listen.max_overhead_frames` must be a whole number of 100 or more, found another one",
        ),
        ("listen.head_bytes = \"4KiB\"", "a number of bytes: it is not from 8KiB to 1MiB"),
        ("listen.address = []", "`listen.address` is an empty list"),
        (
            "listen.address = [\"127.0.0.1:1\",\n \"127.0.0.1:1\"]",
            "gateway.toml:2: `listen.address[1]` is in the list already",
        ),
        ("listen.address = \"gateway.example:1\"", "another name is not taken"),
        (
            "listen.address = \"127.0.0.1:9090\"",
            "`admin.address` is an address of listen.address as well",
        ),
        (
            "[listen.tls]\ncertificate = \"none.pem\"",
            "gateway.toml:2: `listen.tls.certificate` names a file that cannot be read: No such file",
        ),
        (
            "[listen.tls]\ncertificate = \"none.pem\"",
            "gateway.toml:1: `listen.tls.key` is missing: the path of a PEM file",
        ),
        (
            "upstream.ca = \"gateway.toml\"",
            "`upstream.ca` names a file without a certificate in PEM form",
        ),
        (
            "upstream.url = \"https://user:pw@host\"",
            "\"unix:/run/service.sock\": it has a user or password",
        ),
        (
            "upstream.region = \"us-sw\"",
            "`upstream.region` is no known region: the regions are us-sv, sg, in-mum, eu, cn-hz, gb-lon; did you mean us-sv?",
        ),
        (
            "upstream.region = \"eu2\"\nupstream.regions = [\"eu1\"]",
            "gateway.toml:1: `upstream.region` is no known region: the regions are us-sv, sg, in-mum, eu, cn-hz, gb-lon; did you mean eu?",
        ),
        ("[cors]\norigin = []", "`cors.origin` is not a key here: did you mean `origins`?"),
        (
            "[cors]\nmax_age = \"1m\"",
            "gateway.toml:1: `cors.origins` is missing: a list of origins such as",
        ),
        ("cors.origins = []", "`cors.origins` is an empty list"),
        ("cors.origins = \"https://a.org\"", "`cors.origins` must be a list, found a string"),
        (
            "cors.origins = [\"https://a.org\",\n \"*\"]",
            "gateway.toml:2: `cors.origins[1]` must be an origin such as \"https://app.example.org\" or \"https://*.example.org\": `*` alone would let every page in",
        ),
        ("cors.origins = [\"a.org\"]", "the scheme is missing"),
        ("cors.origins = [\"https://a.org/\"]", "leave the path, and the slash, out"),
        (
            "cors.origins = [\"https://a.org\", \"https://A.org:443\"]",
            "`cors.origins[1]` is in the list already",
        ),
        (
            "[cors]\norigins = [\"https://a.org\"]\nmax_age = 600",
            "gateway.toml:3: `cors.max_age` must be a duration such as",
        ),
        ("[projects.a]", "gateway.toml:1: `projects.a` has no credential"),
        ("[projects.A]\nkeys = []", "`projects.A` has a name that cannot be"),
        ("[projects.a]\nkeys = []", "gateway.toml:2: `projects.a.keys` has no active key"),
        (
            "[projects.a]\nkeys = [{ access_key = \"A\" }]",
            "`projects.a.keys[0].secret_key` is missing: the secret key (SK)",
        ),
        (
            "[projects.a]\nkeys = [{ access_key = \"A\", secret_key = \"S\", state = \"retired\" }]",
            "has no active key",
        ),
        ("[projects.a]\nsdk_token = \"NETLESSROOM_x\"", "`projects.a.sdk_token` is no SDK token"),
        (
            "[projects.a]\nsdk_token = { env = \"UNSET\" }",
            "`projects.a.sdk_token.env` names a variable that is not set",
        ),
        (
            "[projects.a]\nsdk_token = { file = \"none\" }",
            "`projects.a.sdk_token.file` names a file that cannot be read",
        ),
        ("[projects.a]\nsdk_token = { file = \".\" }", "it is a directory"),
        (
            "[projects.a]\nsdk_token = { file = \"a\", env = \"b\" }",
            "exactly one of env, file and exec",
        ),
        (
            "[projects.a]\nsdk_token = { evn = \"b\" }",
            "`projects.a.sdk_token.evn` is not a key here: did you mean `env`?",
        ),
        (
            "[projects.a]\nsdk_token = 5",
            "must be { env = \"NAME\" }, { file = \"path\" }, { exec = [\"command\"] } or a string, found an \
             integer",
        ),
        (
            "[projects.a]\nsdk_token = \"NETLESSSDK_\"\nkeys = []",
            "`projects.a.sdk_token` stands beside keys",
        ),
        (
            "[profiles.a]\nallow = []",
            "gateway.toml:1: `profiles.a.project` is missing: the name of a [projects.…]",
        ),
        (
            "[profiles.a]\nproject = \"x\"",
            "`profiles.a.project` names no project: there is no [projects.…]",
        ),
        ("[callers.a]\nprofile = \"x\"", "`callers.a.profile` names no profile"),
        ("[callers.\"a b\"]\nprofile = \"x\"", "`callers.\"a b\"` has a name that cannot be"),
        (
            "[callers.a]\nkeys = [{ id = \"4fJ2\" }]",
            "`callers.a.keys[0].id` must be the id of a key: a key id has 12 letters and digits",
        ),
        ("[callers.a]\nkeys = [{}]", "`callers.a.keys[0].digest` is missing"),
        (
            "[callers.a]\nkeys = [{ until = \"tomorrow\" }]",
            "must be a time with its offset, such as \"2026-12-31T00:00:00Z\", found another string",
        ),
        ("[[operations]]\nname = \"export\"", "`operations[0].name` must be a family and a verb"),
        ("[[operations]]\ntoken = \"room\"", "`operations[0].role` is missing"),
        (
            "[[operations]]\ntoken = \"none\"\nrole = \"reader\"",
            "`operations[0].role` cannot be: without a token there is none",
        ),
        ("[[operations]]\nmethod = \"HEAD\"", "`operations[0].method` must be \"GET\", \"POST\""),
        (
            "[[operations]]\nname = \"a.b\"\nmethod = \"GET\"\npath = \"/v5/rooms\"\ntoken = \"none\"",
            "`operations[0].path` cannot be: `rooms.list` answers to that method and path already",
        ),
        (
            "[[operations]]\nname = \"a.b\"\nmethod = \"GET\"\npath = \"/v5/x/{uuid}\"\ntoken = \"none\"",
            "`operations[0].target` cannot be",
        ),
        (
            "[[operations]]\nname = \"a.b\"\nmethod = \"GET\"\npath = \"/v5/x\"\ntoken = \"none\"\nbody = \"json\"",
            "must be \"none\" for a GET or DELETE",
        ),
        (
            "[[operations]]\nname = \"a.b\"\nmethod = \"PUT\"\npath = \"/v5/x\"\ntoken = \"task\"\nrole = \"reader\"",
            "`operations[0].token` is \"task\", so target must be \"task\" as well",
        ),
    ] {
        let said = errors(text);
        assert!(said.contains(told), "{text}\n  said {said}\n  not  {told}");
    }
}

#[test]
fn a_profile_names_operations_that_exist() {
    for (more, told) in [
        (
            r#"allow = ["rooms.crate"]"#,
            "`profiles.backend.allow[0]` names no operation: did you mean \"rooms.create\"?",
        ),
        (r#"allow = ["room.*"]"#, "did you mean \"rooms.*\"?"),
        (r#"allow = ["zebras.*"]"#, "the families are conversions, legacy_conversions, rooms,"),
        (r#"allow = ["*"]"#, "is no wildcard: name each family"),
        (r#"allow = "rooms.*""#, "`profiles.backend.allow` must be a list, found a string"),
        (
            r#"allow = ["rooms.get", 5]"#,
            "`profiles.backend.allow[1]` must be a string, found an integer",
        ),
        (r#"allow = ["rooms.list"]"#, "needs rooms = \"any\""),
        (
            r#"rooms = "all""#,
            "must be \"any\", a list of the uuids of rooms, or { claim = \"name\" }, found another string",
        ),
        (
            r#"rooms = { clame = "rooms" }"#,
            "`profiles.backend.rooms.clame` is not a key here: did you mean `claim`?",
        ),
        (r#"rooms = {}"#, "`profiles.backend.rooms` is a table without a claim: write"),
        (r#"rooms = ["any"]"#, "write rooms = \"any\" alone"),
        (
            r#"rooms = ["a/b"]"#,
            "`profiles.backend.rooms[0]` must be the uuid of a room: an id holds",
        ),
        (r#"role = "writter""#, "did you mean \"writer\"?"),
        (r#"max_lifespan = 0"#, "or \"permanent\": the unit is missing: found an integer"),
        (
            r#"over_cap = "clamp""#,
            "must be a table such as { lifespan = \"clamp\", role = \"refuse\" }",
        ),
        (r#"alow = []"#, "`profiles.backend.alow` is not a key here: did you mean `allow`?"),
    ] {
        let said = errors(&profile(more));
        assert!(said.contains(told), "{more}\n  said {said}\n  not  {told}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_in_order() {
    let said = errors(
        "[listen]\nadress = 1\nworkers = \"x\"\n[projects.p]\nkeys = [{ access_key = 1, secret_key = \"s\" }]\n\
         [profiles.a]\nproject = \"q\"\nallow = [\"rooms.gett\"]\n[profiles.b]\nproject = 5\n[callers.c]\nprofile = \"a\"\n",
    );
    let lines: Vec<&str> = said.split("\n\n").collect();
    let places: Vec<&str> = lines.iter().map(|line| line.split('`').nth(1).unwrap()).collect();
    assert_eq!(
        places,
        [
            "listen.adress",
            "listen.workers",
            "projects.p.keys[0].access_key",
            "profiles.a.project",
            "profiles.a.allow[0]",
            "profiles.b.project",
        ],
        "{said}"
    );
}

#[test]
fn a_wrong_thing_is_told_once() {
    // The project and the profile are there, though what they hold is wrong.
    let said = errors(
        "[projects.p]\nkeys = 5\n[profiles.a]\nproject = \"p\"\nallow = 5\n[callers.c]\nprofile = \"a\"\n",
    );
    assert_eq!(said.matches("\n\n").count(), 1, "{said}");
    let said = errors(
        "operations = 5\n[profiles.a]\nproject = \"p\"\nallow = [\"rooms.export\"]\n[projects]\np = 5\n",
    );
    assert_eq!(said.matches("\n\n").count(), 1, "{said}");
}

#[test]
fn a_file_that_is_no_toml_is_told_by_line_and_column() {
    let said = errors("[listen]\naddress = \"127.0.0.1:1\nshare = true\n");
    assert!(said.starts_with("gateway.toml:2: this is no TOML, at column "), "{said}");
    let said = errors("[listen]\nshare = true\nshare = true\n");
    assert!(said.starts_with("gateway.toml:3: "), "{said}");
    let missing = load_at(&Source::File("no/such/file.toml".into()), &[], now()).err().unwrap();
    assert!(
        missing.to_string().starts_with("no/such/file.toml: this file cannot be read: No such")
    );
}

#[test]
fn a_shadow_is_another_profile_of_the_same_project_without_one() {
    let other = "[profiles.b]\nproject = \"q\"\n[projects.q]\nkeys = [{ access_key = \"BK\", secret_key = \"S\" }]\n";
    for (own, rest, told) in [
        ("backend", "", "`profiles.backend.shadow` names this profile itself: name another one"),
        ("bakend", "", "`profiles.backend.shadow` names no profile: did you mean \"backend\"?"),
        (
            "b",
            other,
            "`profiles.backend.shadow` names a profile of the project `q`, and this one is of \
             `classroom`: name one of the same project",
        ),
        (
            "b",
            "[profiles.b]\nproject = \"classroom\"\nshadow = \"c\"\n\
             [profiles.c]\nproject = \"classroom\"\n",
            "`profiles.backend.shadow` names a profile that has a shadow itself, `c`: name one",
        ),
    ] {
        let text = format!("{}{rest}", profile(&format!("shadow = \"{own}\"\n")));
        let errors = errors(&text);
        assert!(errors.contains(told), "{text}\n{errors}");
    }
}
