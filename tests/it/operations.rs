//! Every operation through the built binary, started as a user starts it, on the sandbox: success,
//! and refusal by role, by room, by body and by limit.
//!
//! The table below was written by hand from the API's pages. Gateway, sandbox and router share the
//! table of the code; a wrong row of that one would pass unseen without this one.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use whiteboard_gateway::api::TABLE;

use crate::support::{Answer, Client, Process, Setup};

/// What the pages say of an operation, and a request that succeeds.
struct Page {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    /// The weakest token that will do, with its role; `None` where the gateway answers.
    token: Option<(&'static str, &'static str)>,
    /// About a room, a task or nothing.
    about: &'static str,
    success: u16,
    query: &'static str,
    body: &'static str,
    /// A body, or a query, that is refused, and what the refusal names.
    wrong: Option<(&'static str, &'static str)>,
    /// A member of the answer, or its whole kind.
    answer: &'static str,
}

const PAGES: [Page; 19] = [
    Page {
        name: "tokens.sdk",
        method: "POST",
        path: "/v5/tokens/teams",
        token: None,
        about: "",
        success: 201,
        query: "",
        body: r#"{"accessKey":"sandbox","secretAccessKey":"never read","lifespan":600000,"role":"writer"}"#,
        wrong: Some((r#"{"lifespan":-1,"role":"writer"}"#, "`lifespan`")),
        answer: "NETLESSSDK_",
    },
    Page {
        name: "tokens.room",
        method: "POST",
        path: "/v5/tokens/rooms/{uuid}",
        token: None,
        about: "room",
        success: 201,
        query: "",
        body: r#"{"lifespan":600000,"role":"reader"}"#,
        wrong: Some((r#"{"lifespan":1,"role":"owner"}"#, "`role`")),
        answer: "NETLESSROOM_",
    },
    Page {
        name: "tokens.task",
        method: "POST",
        path: "/v5/tokens/tasks/{uuid}",
        token: None,
        about: "task",
        success: 201,
        query: "",
        body: r#"{"lifespan":600000,"role":"reader"}"#,
        wrong: Some((r#"{"role":"reader"}"#, "`lifespan` is required")),
        answer: "NETLESSTASK_",
    },
    Page {
        name: "rooms.create",
        method: "POST",
        path: "/v5/rooms",
        token: Some(("sdk", "writer")),
        about: "",
        success: 201,
        query: "",
        body: r#"{"isRecord":true,"limit":0}"#,
        wrong: Some((r#"{"isrecord":true}"#, "`isRecord`")),
        answer: "uuid",
    },
    Page {
        name: "rooms.list",
        method: "GET",
        path: "/v5/rooms",
        token: Some(("sdk", "writer")),
        about: "",
        success: 200,
        query: "?limit=10",
        body: "",
        wrong: Some(("?limit=1001", "`limit`")),
        answer: "array",
    },
    Page {
        name: "rooms.get",
        method: "GET",
        path: "/v5/rooms/{uuid}",
        token: Some(("room", "writer")),
        about: "room",
        success: 200,
        query: "",
        body: "",
        wrong: None,
        answer: "uuid",
    },
    Page {
        name: "rooms.update",
        method: "PATCH",
        path: "/v5/rooms/{uuid}",
        token: Some(("room", "admin")),
        about: "room",
        success: 201,
        query: "",
        body: r#"{"isBan":false}"#,
        wrong: Some(("{}", "`isBan` is required")),
        answer: "uuid",
    },
    Page {
        name: "screenshots.scene",
        method: "POST",
        path: "/v5/rooms/{uuid}/screenshots",
        token: Some(("room", "writer")),
        about: "room",
        success: 201,
        query: "",
        body: r#"{"path":"/init","width":144,"height":104}"#,
        wrong: Some((r#"{"path":"/init","width":"144","height":104}"#, "`width`")),
        answer: "url",
    },
    Page {
        name: "screenshots.directory",
        method: "POST",
        path: "/v5/rooms/{uuid}/screenshot-list",
        token: Some(("room", "writer")),
        about: "room",
        success: 201,
        query: "",
        body: r#"{"path":"/","width":144,"height":104}"#,
        wrong: Some((r#"{"width":144}"#, "`height` is required")),
        answer: "array",
    },
    Page {
        name: "scenes.list",
        method: "GET",
        path: "/v5/rooms/{uuid}/scenes",
        token: Some(("room", "writer")),
        about: "room",
        success: 200,
        query: "?sceneDir=%2F",
        body: "",
        wrong: Some(("?sceneDir=init", "`sceneDir`")),
        answer: "array",
    },
    Page {
        name: "scenes.add",
        method: "POST",
        path: "/v5/rooms/{uuid}/scenes",
        token: Some(("room", "writer")),
        about: "room",
        success: 201,
        query: "",
        body: r#"{"path":"/lesson","scenes":[{"name":"1","ppt":{"src":"https://a/1.png","width":10,"height":10}}]}"#,
        wrong: Some((
            r#"{"path":"/lesson","scenes":[{"ppt":{"src":"x","width":1}}]}"#,
            "`scenes[0].ppt.height` is required",
        )),
        answer: "object",
    },
    Page {
        name: "scenes.switch",
        method: "PATCH",
        path: "/v5/rooms/{uuid}/scene-state",
        token: Some(("room", "writer")),
        about: "room",
        success: 201,
        query: "",
        body: r#"{"scenePath":"/init"}"#,
        wrong: Some((r#"{"scenePath":"init"}"#, "`scenePath`")),
        answer: "currentScenePath",
    },
    Page {
        name: "conversions.start",
        method: "POST",
        path: "/v5/projector/tasks",
        token: Some(("sdk", "writer")),
        about: "",
        success: 201,
        query: "",
        body: r#"{"resource":"https://a/b.pptx","type":"dynamic","preview":true,"scale":1.2}"#,
        wrong: Some((r#"{"resource":"https://a/b.pptx","preview":true}"#, "`type` is required")),
        answer: "uuid",
    },
    Page {
        name: "conversions.list",
        method: "GET",
        path: "/v5/projector/tasks",
        token: Some(("sdk", "writer")),
        about: "",
        success: 200,
        query: "",
        body: "",
        wrong: None,
        answer: "array",
    },
    Page {
        name: "conversions.get",
        method: "GET",
        path: "/v5/projector/tasks/{uuid}",
        token: Some(("task", "reader")),
        about: "task",
        success: 200,
        query: "?uuid=x",
        body: "",
        wrong: None,
        answer: "status",
    },
    Page {
        name: "conversions.cancel",
        method: "DELETE",
        path: "/v5/projector/tasks/{uuid}",
        token: Some(("sdk", "admin")),
        about: "task",
        success: 200,
        query: "",
        body: "",
        wrong: None,
        answer: "success",
    },
    Page {
        name: "conversions.prioritize",
        method: "PUT",
        path: "/v5/projector/tasks/{uuid}/priority",
        token: Some(("sdk", "writer")),
        about: "waiting task",
        success: 200,
        query: "",
        body: r#"{"priority":"highest"}"#,
        wrong: Some((r#"{"priority":"high"}"#, "did you mean \"highest\"?")),
        answer: "success",
    },
    Page {
        name: "legacy_conversions.start",
        method: "POST",
        path: "/v5/services/conversion/tasks",
        token: Some(("sdk", "writer")),
        about: "",
        success: 201,
        query: "",
        body: r#"{"resource":"https://a/b.pdf","type":"static","pack":true,"canvasVersion":false,"scale":2.4}"#,
        wrong: Some((r#"{"resource":"https://a/b.pdf","type":"static","scale":4}"#, "`scale`")),
        answer: "uuid",
    },
    Page {
        name: "legacy_conversions.get",
        method: "GET",
        path: "/v5/services/conversion/tasks/{uuid}",
        token: Some(("task", "reader")),
        about: "legacy task",
        success: 200,
        query: "?type=static",
        body: "",
        wrong: Some(("?type=undefined", "`type`")),
        answer: "progress",
    },
];

#[test]
fn the_table_says_what_the_pages_say() {
    assert_eq!(TABLE.len(), PAGES.len());
    for (row, page) in TABLE.iter().zip(&PAGES) {
        assert_eq!(row.name, page.name);
        assert_eq!((row.method.as_str(), row.path.as_ref()), (page.method, page.path));
        assert_eq!(row.success.as_u16(), page.success, "{}", page.name);
        let needs = match row.access {
            whiteboard_gateway::api::Access::Needs(kind, role) => {
                Some((kind.as_str(), role.as_str()))
            }
            _ => None,
        };
        assert_eq!(needs, page.token, "{}", page.name);
    }
}

/// The sandbox behind a gateway, and callers of all kinds.
struct World {
    gateway: Process,
    sandbox: Client,
    room: String,
    other_room: String,
    reader: String,
    scoped: String,
    limited: String,
}

fn sandbox() -> Process {
    let mut command = std::process::Command::new(crate::support::binary());
    // Slow steps: what waits stays waiting as long as the test runs.
    command.args(["sandbox", "--listen", "127.0.0.1:0", "--pace", "60s"]);
    Process::of_sandbox(command)
}

impl World {
    fn new(sandbox: &Process) -> Self {
        let url = format!("http://{}", sandbox.address);
        // Rooms come first: a profile names them.
        let plain = Setup::new(&url).start();
        let [room, other_room] = ["one", "other"]
            .map(|name| plain.call("POST", "/v5/rooms", &format!("{{\"name\":\"{name}\"}}")))
            .map(|answer| answer.member("uuid"));
        let mut setup = Setup::new(&url);
        let all = crate::support::EVERYTHING;
        let lines = |rest: &str| format!("allow = {all}\nrole = \"admin\"\n{rest}");
        let reader =
            setup.caller("reader", &format!("allow = {all}\nrooms = \"any\"\nrole = \"reader\""));
        // An SDK token opens every room, so it is not granted beside a list of them.
        let scoped = setup.caller("scoped", &lines(&format!("rooms = [\"{other_room}\"]")));
        let mut setup = setup.take_out("profiles.scoped.allow", "tokens.sdk");
        let limited = setup
            .caller("limited", &lines("rooms = \"any\"\nlimit = { rate = \"1/h\", burst = 1 }"));
        let gateway = setup.start();
        let sandbox = Client::connect(sandbox.address);
        Self { gateway, sandbox, room, other_room, reader, scoped, limited }
    }

    fn call(&self, key: &str, page: &Page, path: &str, body: &str) -> Answer {
        let headers = [("token", key), ("content-type", "application/json")];
        self.gateway.client().request(page.method, path, &headers, body)
    }

    /// The path of a page, with a room or task of its own.
    fn path(&self, page: &Page) -> String {
        let start = |path: &str, body: &str| self.gateway.call("POST", path, body).member("uuid");
        let uuid = match page.about {
            "room" => self.room.clone(),
            "task" | "waiting task" => {
                let body = r#"{"resource":"https://a/b.pdf","type":"static"}"#;
                start("/v5/projector/tasks", body)
            }
            "legacy task" => {
                let body = r#"{"resource":"https://a/b.pdf","type":"static"}"#;
                start("/v5/services/conversion/tasks", body)
            }
            _ => String::new(),
        };
        page.path.replace("{uuid}", &uuid)
    }

    /// The last request that the sandbox received, and how many it has received.
    fn seen(&mut self) -> Vec<Value> {
        let answer = self.sandbox.request("GET", "/sandbox/requests", &[], "");
        assert_eq!(answer.status, 200);
        answer.json().as_array().unwrap().clone()
    }

    fn forget(&mut self) {
        self.sandbox.request("DELETE", "/sandbox/requests", &[], "");
    }
}

#[test]
fn every_operation_succeeds_with_the_weakest_token_that_will_do() {
    let sandbox = sandbox();
    let mut world = World::new(&sandbox);
    for page in &PAGES {
        let path = world.path(page);
        world.forget();
        let key = world.gateway.key.clone();
        let answer = world.call(&key, page, &format!("{path}{}", page.query), page.body);
        assert_eq!(answer.status, page.success, "{}: {}", page.name, answer.text());
        assert_eq!(answer.header("content-type"), "application/json", "{}", page.name);
        assert_eq!(answer.header("x-request-id").len(), 36, "{}", page.name);
        let body = answer.json();
        let fits = match page.answer {
            "array" => body.is_array(),
            "object" => body.is_object(),
            prefix if prefix.starts_with("NETLESS") => {
                body.as_str().is_some_and(|token| token.starts_with(prefix))
            }
            member => !body[member].is_null(),
        };
        assert!(fits, "{}: {body}", page.name);
        let seen = world.seen();
        let Some((kind, role)) = page.token else {
            assert!(seen.is_empty(), "{} is answered by the gateway: {seen:?}", page.name);
            continue;
        };
        assert_eq!(seen.len(), 1, "{}", page.name);
        let token = &seen[0]["token"];
        assert_eq!(
            (token["verified"].as_bool(), token["kind"].as_str(), token["role"].as_str()),
            (Some(true), Some(kind), Some(role)),
            "{}: {token}",
            page.name
        );
        let uuid = path.split('/').nth(if page.path.contains("services") { 5 } else { 4 });
        let uuid = if page.path.starts_with("/v5/rooms/") { path.split('/').nth(3) } else { uuid };
        let own = (kind != "sdk").then_some(uuid).flatten();
        assert_eq!(token["uuid"].as_str(), own, "{}", page.name);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let left = token["expireAt"].as_u64().unwrap() - now;
        assert!((290_000..=600_000).contains(&left), "{}: {left} ms left", page.name);
        assert_eq!(
            (seen[0]["method"].as_str(), seen[0]["path"].as_str()),
            (Some(page.method), Some(path.as_str()))
        );
        assert_eq!(seen[0]["region"], "us-sv", "{}", page.name);
    }
}

#[test]
fn every_operation_is_refused_by_role_room_body_and_limit() {
    let sandbox = sandbox();
    let mut world = World::new(&sandbox);
    let (reader, scoped, limited) =
        (world.reader.clone(), world.scoped.clone(), world.limited.clone());
    let key = world.gateway.key.clone();
    for page in &PAGES {
        let path = world.path(page);
        world.forget();
        let target = format!("{path}{}", page.query);

        // By role: the operation needs more, or a token of a higher role is asked for.
        let asks_more = page.body.replace("\"role\":\"reader\"", "\"role\":\"admin\"");
        let answer = world.call(&reader, page, &target, &asks_more);
        match page.token {
            Some((_, "reader")) => assert_eq!(answer.status, page.success, "{}", page.name),
            _ => {
                answer.assert_envelope(403, "forbidden");
                assert!(answer.member("message").contains("reader"), "{}", answer.text());
                assert_eq!(answer.member("rule"), "profiles.reader.role", "{}", page.name);
            }
        }

        // By room: one that is not the caller's is not there; what is about the project is not
        // granted by a wildcard to a caller with a list of rooms.
        let answer = world.call(&scoped, page, &target, page.body);
        match page.about {
            "room" => answer.assert_envelope(404, "not_found"),
            _ => {
                answer.assert_envelope(403, "forbidden");
                let scope = format!("scope=\"{}\"", page.name);
                let challenge = answer.header("www-authenticate");
                assert!(challenge.contains(&scope), "{}: {challenge}", page.name);
            }
        }
        if page.about == "room" {
            let own = target.replace(&world.room, &world.other_room);
            assert_eq!(world.call(&scoped, page, &own, page.body).status, page.success);
        }

        // By body.
        if let Some((wrong, named)) = page.wrong {
            let answer = match wrong.strip_prefix('?') {
                Some(query) => world.call(&key, page, &format!("{path}?{query}"), ""),
                None => world.call(&key, page, &target, wrong),
            };
            assert_eq!(answer.status, 400, "{}: {}", page.name, answer.text());
            assert!(answer.member("message").contains(named), "{}: {}", page.name, answer.text());
        }

        // By limit: before the body is looked at.
        world.call(&limited, page, &target, page.body);
        let wrong = page.wrong.map_or(page.body, |(wrong, _)| wrong);
        let body = if page.body.is_empty() { "" } else { wrong };
        let answer = world.call(&limited, page, &target, body);
        answer.assert_envelope(403, "rate_limited");
        assert!(
            answer.header("ratelimit").starts_with("\"caller\";r=0;t="),
            "{:?}",
            answer.headers
        );
        assert_eq!(answer.header("ratelimit-policy"), "\"caller\";q=1;w=3600");
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((3_500..=4_400).contains(&wait), "{wait}");
    }
    // Only what was granted arrived.
    for seen in world.seen() {
        assert_eq!(seen["token"]["verified"], true, "{seen}");
    }
}

#[test]
fn a_token_over_the_cap_is_clamped_and_says_so() {
    let gateway = Process::sandbox();
    let room = gateway.call("POST", "/v5/rooms", "{}").member("uuid");
    let path = format!("/v5/tokens/rooms/{room}");
    // What the official clients ask for.
    let answer = gateway.call("POST", &path, r#"{"lifespan":0,"role":"admin"}"#);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("whiteboard-granted"), "role=admin; lifespan=86400000");
    let student = gateway.exported("STUDENT_KEY");
    let ask = |body: &str| gateway.client().request("POST", &path, &[("token", &student)], body);
    let answer = ask(r#"{"lifespan":86400000,"role":"reader"}"#);
    assert_eq!(answer.header("whiteboard-granted"), "role=reader; lifespan=7200000");
    let answer = ask(r#"{"lifespan":1000,"role":"reader"}"#);
    assert!(!answer.has("whiteboard-granted"));
    ask(r#"{"lifespan":1000,"role":"writer"}"#).assert_envelope(403, "forbidden");
}

#[test]
fn a_key_of_another_project_in_the_body_is_refused() {
    let gateway = Process::sandbox();
    let body =
        r#"{"accessKey":"somebody-else","secretAccessKey":"x","lifespan":1000,"role":"admin"}"#;
    let answer = gateway.call("POST", "/v5/tokens/teams", body);
    answer.assert_envelope(403, "forbidden");
    assert!(!answer.text().contains("somebody-else"));
}
