//! The commands that ask the admin API, and a crowd that does.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whiteboard_gateway::caller;

use crate::operators::{operators, over_tls};
use crate::support::{Client, Process, Setup, Upstream, binary, ended, replace, wait_until};

fn run(arguments: &[&str], key: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.args(arguments).env("WBG_ADMIN_KEY", key);
    let Output { status, stdout, stderr } = ended(command);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn gateway() -> (Process, [String; 2], Upstream) {
    let upstream = Upstream::json("200 OK", "[]");
    let (setup, keys) = operators(Setup::new(&upstream.url()));
    (setup.start(), keys, upstream)
}

#[test]
fn the_status_of_a_gateway_is_shown_to_people_and_programs() {
    let (gateway, [viewer, _], _upstream) = gateway();
    let admin = format!("http://{}", gateway.admin);
    let (code, shown, errors) = run(&["status", "--admin", &admin], &viewer);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for part in ["ready          yes", "classroom: usable", "gateway.toml", "workers        2"] {
        assert!(shown.contains(part), "{shown}");
    }
    let (code, shown, _) = run(&["status", "--json", "--admin", &admin], &viewer);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &shown["ready"]), (Some(0), &true.into()));
    // In a file, which goes before the variable.
    let file = gateway.folder.path().join("key");
    std::fs::write(&file, format!("{viewer}\n")).unwrap();
    let from_file = ["status", "--admin", &admin, "--key", file.to_str().unwrap()];
    assert_eq!(run(&from_file, "wbg_admin_wrong").0, Some(0));
}

#[test]
fn it_is_watched_until_it_is_ended() {
    let (gateway, [viewer, _], _upstream) = gateway();
    let mut command = Command::new(binary());
    command.args(["status", "--watch", "--json", "--admin", &format!("http://{}", gateway.admin)]);
    command.env("WBG_ADMIN_KEY", &viewer).stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let begun = Instant::now();
    let shown: Vec<Value> =
        lines.take(2).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    _ = child.kill();
    _ = child.wait();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert!(shown.iter().all(|status| status["ready"] == true), "{shown:?}");
}

#[test]
fn a_reload_is_asked_for_with_why() {
    let (gateway, [viewer, operator], _upstream) = gateway();
    let admin = format!("http://{}", gateway.admin);
    let reload = ["reload", "--admin", &admin, "--why", "a new profile"];
    let (code, shown, _) = run(&reload, &operator);
    assert_eq!((code, shown.starts_with("loaded: ")), (Some(0), true), "{shown}");
    let (code, _, errors) = run(&reload, &viewer);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("this needs the role operator"), "{errors}");
    replace(&gateway.config_path(), "[nonsense]\n");
    let (code, shown, _) = run(&reload, &operator);
    assert_eq!((code, shown.contains("`nonsense` is not a key here")), (Some(1), true), "{shown}");
    assert_eq!(run(&reload[..3], &operator).0, Some(2), "why is asked for");
}

#[test]
fn what_goes_wrong_is_said_with_its_cure() {
    let (gateway, [viewer, _], upstream) = gateway();
    let admin = format!("http://{}", gateway.admin);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stranger = caller::generate_for_operator().unwrap();
    let open = Setup::new(&upstream.url()).start();
    for (admin, key, part) in [
        (admin.clone(), "", "set WBG_ADMIN_KEY"),
        (admin.clone(), stranger.expose(), "does not take this key: this key is not known here"),
        (admin, gateway.key.as_str(), "this is the key of a caller"),
        (format!("http://{closed}"), &viewer, "is not reached"),
        (
            format!("http://{}", gateway.address),
            &viewer,
            "for the admin listener: it is no credential here",
        ),
        (upstream.url(), &viewer, "is no admin listener of a gateway"),
        (format!("https://{}", gateway.admin), &viewer, "TLS"),
        (format!("http://{}", open.admin), &viewer, "key new --operator"),
        ("http://192.0.2.1:9090".to_owned(), &viewer, "in the clear"),
        ("unix:/nowhere/admin.sock".to_owned(), &viewer, "is not reached"),
        ("127.0.0.1:9090".to_owned(), &viewer, "http://HOST:PORT"),
    ] {
        let (code, shown, errors) = run(&["status", "--admin", &admin], key);
        assert_eq!((code, shown.as_str()), (Some(2), ""), "{admin}: {errors}");
        assert!(errors.contains(part), "{admin}: {errors}");
        assert!(key.is_empty() || !errors.contains(key), "{errors}");
    }
}

#[test]
fn it_asks_over_tls_and_through_a_unix_socket() {
    let (gateway, servers, _clients, viewer) = over_tls();
    let ca = servers.write(gateway.folder.path());
    let admin = format!("https://localhost:{}", gateway.admin.port());
    let (code, shown, errors) =
        run(&["status", "--admin", &admin, "--ca", ca.to_str().unwrap()], &viewer);
    assert_eq!((code, shown.contains("admin: ends")), (Some(0), true), "{shown}{errors}");
    let (code, _, errors) = run(&["status", "--admin", &admin], &viewer);
    assert_eq!((code, errors.contains("--ca FILE")), (Some(2), true), "{errors}");

    let upstream = Upstream::json("200 OK", "[]");
    let (setup, [viewer, _]) = operators(Setup::new(&upstream.url()));
    let socket = setup.folder.path().join("admin.sock");
    let socket = format!("unix:{}", socket.display());
    let setup = setup.set("admin.address", socket.as_str());
    let mut serving = setup.command("serve").spawn().unwrap();
    wait_until("it answers", || run(&["status", "--admin", &socket], &viewer).0 == Some(0));
    _ = serving.kill();
    _ = serving.wait();
}

#[test]
fn the_policy_explains_itself_as_the_gateway_decides() {
    let upstream = Upstream::json("200 OK", "[]");
    let (mut setup, [viewer, _]) = operators(Setup::new(&upstream.url()));
    setup.caller("student", "allow = [\"rooms.get\"]\nrooms = [\"a\"]\nrole = \"admin\"\n");
    let gateway = setup.start();
    let explain = |body: Value| {
        let mut client = Client::connect(gateway.admin);
        client.call(&viewer, "POST", "/admin/v1/policy/explain", &body.to_string())
    };
    for (body, decision, caller) in [
        (json!({ "caller": "student", "path": "/v5/rooms/a" }), "allow", "student"),
        (json!({ "caller": "student", "path": "/v5/rooms/b" }), "not_found", "student"),
        (json!({ "caller": "student", "path": "/v5/rooms" }), "forbidden", "student"),
        (json!({ "token": gateway.key, "path": "/v5/rooms/b" }), "allow", "lessons"),
    ] {
        let mut body = body;
        body["method"] = "GET".into();
        let answer = explain(body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = answer.json();
        assert_eq!((&told["decision"], &told["caller"]), (&decision.into(), &caller.into()));
        assert!(!told["reasons"].as_array().unwrap().is_empty(), "{told}");
    }
    let asked = json!({
        "caller": "lessons", "method": "POST", "path": "/v5/tokens/rooms/a", "role": "reader",
        "lifespan": 172_800_000,
    });
    assert_eq!(explain(asked).json()["grant"], "role=reader; lifespan=86400000");
    let stranger = caller::generate(true).unwrap();
    let refused =
        explain(json!({ "token": stranger.expose(), "method": "GET", "path": "/v5/rooms" }));
    assert_eq!(refused.json()["decision"], "invalid_token");
    assert!(!refused.text().contains(&stranger.expose()[22..]), "{}", refused.text());
    for (body, part) in [
        (json!({ "caller": "studen", "method": "GET", "path": "/" }), "did you mean `student`?"),
        (json!({ "issuer": "school", "method": "GET", "path": "/" }), "no issuer `school`"),
        (json!({ "method": "GET", "path": "/" }), "say who asks"),
        (json!({ "caller": "a", "token": "b", "method": "GET", "path": "/" }), "say who asks"),
        (json!({ "caller": "student", "method": "G T", "path": "/" }), "is no method"),
        (json!({ "caller": "student", "path": "/" }), "`method`"),
        (json!({ "caller": "lessons", "method": "GET", "path": "/", "role": "x" }), "`role`"),
        (
            json!({ "caller": "lessons", "method": "GET", "path": "/", "lifespan": -1 }),
            "`lifespan`",
        ),
    ] {
        let answer = explain(body);
        answer.assert_envelope(400, "invalid_body");
        assert!(answer.member("message").contains(part), "{}", answer.text());
    }
}

/// The same text, JSON and exit code, whether the file is asked or the gateway that runs by it.
#[test]
fn the_policy_of_a_gateway_that_runs_is_explained_as_that_of_its_file() {
    let upstream = Upstream::json("200 OK", "[]");
    let (mut setup, [viewer, _]) = operators(Setup::new(&upstream.url()).with(
        "[issuers.school]\nissuer = \"school\"\naudience = \"whiteboard\"\n\
         secret = \"0123456789abcdef0123456789abcdef\"\n\
         profile = { claim = \"role\", map = { pupil = \"student\" } }\n",
    ));
    setup.caller("student", "allow = [\"rooms.get\"]\nrooms = [\"a\"]\nrole = \"admin\"\n");
    let gateway = setup.start();
    let write = |name: &str, text: &str| {
        let path = gateway.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let stranger = caller::generate(true).unwrap();
    let [good, bad] = [write("good", &gateway.key), write("bad", stranger.expose())];
    let [pupil, other] = [r#"{"sub":"ada","role":"pupil"}"#, r#"{"sub":"ada","role":"cook"}"#];
    let [pupil, other] = [write("pupil.json", pupil), write("other.json", other)];
    let (admin, config) = (format!("http://{}", gateway.admin), gateway.config_path());
    let key = write("key", &viewer);
    let online = ["--admin", &admin, "--key", &key];
    let offline = ["--config", config.to_str().unwrap()];
    let explain = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["policy", "explain"]).args(arguments);
        command.env("CLASSROOM_SK", "sandbox-secret-key").env_remove("WBG_ADMIN_KEY");
        let ended = ended(command);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ended.status.code(), text(ended.stdout), text(ended.stderr))
    };
    for (question, code, part) in [
        (&["--caller", "student", "GET", "/v5/rooms/a"][..], 0, "allow\ncaller student"),
        (&["--caller", "student", "get", "/v5/rooms/b"], 1, "  refused by profiles.student.rooms"),
        (&["--caller", "student", "POST", "/v5/nowhere"], 1, "operation -"),
        (
            &["--caller", "lessons", "POST", "/v5/tokens/rooms/a", "--role", "reader"],
            0,
            "  grants role=reader",
        ),
        (
            &["--caller", "lessons", "POST", "/v5/tokens/rooms/a", "--lifespan", "0"],
            0,
            "lifespan=86400000",
        ),
        (
            &["--issuer", "school", "--claims", &pupil, "GET", "/v5/rooms/a"],
            0,
            "operation rooms.get",
        ),
        (
            &["--issuer", "school", "--claims", &other, "GET", "/v5/rooms/a"],
            1,
            "gives it a profile",
        ),
        (&["--token", &good, "GET", "/v5/rooms/b"], 0, "caller lessons"),
        (&["--token", &bad, "GET", "/v5/rooms/b"], 1, "invalid_token"),
        (&["--caller", "studen", "GET", "/v5/rooms"], 2, "did you mean `student`?"),
        (&["--caller", "student", "G T", "/v5/rooms"], 2, "is no method"),
    ] {
        let told = explain(&[question, &online].concat());
        assert_eq!(told.0, Some(code), "{question:?}: {told:?}");
        assert!(
            [&told.1, &told.2].iter().any(|text| text.contains(part)),
            "{question:?}: {told:?}"
        );
        let file = explain(&[question, &offline].concat());
        assert_eq!((told.0, &told.1), (file.0, &file.1), "{question:?}");
        let json = [question, &["--json"]].concat();
        let [told, file] = [&online[..], &offline].map(|of| explain(&[&json[..], of].concat()));
        assert_eq!((told.0, told.1), (file.0, file.1), "{question:?}");
    }
    // By what counts there, and not by what the file says meanwhile.
    replace(&config, "[nonsense]\n");
    let question = ["--caller", "student", "GET", "/v5/rooms/a"];
    assert_eq!(explain(&[&question[..], &online].concat()).0, Some(0));
    assert_eq!(explain(&[&question[..], &offline].concat()).0, Some(2));
    for (more, part) in [
        (&["--admin", &admin, "--key", &good][..], "this is the key of a caller"),
        (&["--admin", &admin, "--key", &key, "--config", "a.toml"], "cannot be used with"),
        (&["--key", &key], "--admin <URL>"),
        (&["--admin", &admin], "set WBG_ADMIN_KEY"),
        (&["--admin", &upstream.url(), "--key", &key], "is no admin listener of a gateway"),
    ] {
        let (code, shown, errors) = explain(&[&question[..], more].concat());
        assert_eq!((code, shown.as_str()), (Some(2), ""), "{more:?}: {errors}");
        assert!(errors.contains(part), "{more:?}: {errors}");
    }
    let both = ["--token", "-", "GET", "/v5/rooms/a", "--admin", &admin, "--key", "-"];
    let (code, _, errors) = explain(&both);
    assert_eq!((code, errors.contains("standard input holds one of")), (Some(2), true), "{errors}");
}

#[test]
fn what_came_of_requests_lately_is_in_the_status() {
    let upstream = Upstream::json("500 Internal Server Error", "{\"message\":\"away\"}");
    let (setup, [viewer, _]) = operators(Setup::new(&upstream.url()));
    let gateway = setup.start();
    let admin = format!("http://{}", gateway.admin);
    let ids: Vec<String> = ["/v5/rooms/a", "/v5/nowhere", "/v5/nowhere"]
        .map(|path| gateway.client().call(&gateway.key, "GET", path, ""))
        .iter()
        .map(|answer| answer.json()["requestId"].as_str().unwrap().to_owned())
        .collect();
    let cells = |shown: &str, name: &str| {
        let row = shown.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        row.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let status = || run(&["status", "--admin", &admin], &viewer).1;
    wait_until("they are counted", || {
        let hour = cells(&status(), "last hour");
        hour.first_chunk().is_some_and(|counts| *counts == ["3", "2", "1"])
    });
    let shown = status();
    let hour = cells(&shown, "last hour");
    assert_eq!((hour[4].as_str(), hour[6].as_str(), hour.len()), ("ms", "ms", 7), "{shown}");
    let failures = shown.split_once("last failures, the caller's doing:\n").unwrap().1;
    let (callers, services) =
        failures.split_once("\nlast failures, the service's doing:\n").unwrap();
    assert!(callers.contains("not_found: lessons"), "{shown}");
    assert!(ids[1..].iter().all(|id| callers.contains(id)), "{shown}");
    assert!(services.contains(": lessons, rooms.get"), "{shown}");
    assert!(services.contains(&ids[0]), "{shown}");
    assert!(!shown.contains("the gateway's doing"), "{shown}");
}

/// As fast as a crowd can, with credentials, without, and with wrong ones; callers go on meanwhile.
#[test]
fn a_crowd_at_the_admin_api_is_bounded_and_callers_do_not_notice() {
    const CROWD: usize = 10_000;
    const CLIENTS: usize = 8;
    let (gateway, [viewer, _], _upstream) = gateway();
    let stranger = caller::generate_for_operator().unwrap();
    let before = gateway.memory();
    let mut client = gateway.client();
    let slowest = thread::scope(|scope| {
        let crowd: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let key = [viewer.as_str(), "", stranger.expose()][number % 3];
                let admin = gateway.admin;
                scope.spawn(move || {
                    let mut client = Client::connect(admin);
                    for _ in 0..CROWD / CLIENTS {
                        let answer =
                            client.request("GET", "/admin/v1/status", &[("token", key)], "");
                        assert!([200, 401, 429].contains(&answer.status), "{}", answer.text());
                    }
                })
            })
            .collect();
        let mut times = Vec::new();
        while crowd.iter().any(|one| !one.is_finished()) {
            let begun = Instant::now();
            let answer = client.request("GET", "/v5/rooms", &[("token", &gateway.key)], "");
            assert_eq!(answer.status, 200);
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        times[times.len() * 99 / 100]
    });
    assert!(slowest < Duration::from_millis(500), "p99 {slowest:?}");
    assert!(gateway.memory() < before + 32, "{before} MiB, then {} MiB", gateway.memory());
    assert_eq!(gateway.admin("/livez").status, 200);
}
