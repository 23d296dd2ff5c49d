//! What goes out by an HTTP proxy, and what is said when that does not let it.

mod proxy;

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;

use whiteboard_gateway::net::{Egress, Proxy};

use crate::jwt::section;
use crate::support::faulty::{Fault, Faulty, Then, Tls};
use crate::support::{
    Authority, Collector, Issuer, Process, Redis, Setup, Signer, Upstream, answer, claims, ended,
    free_port, wait_until,
};
use proxy::{Squid, TestProxy};

/// The service by a name that only the proxy knows, with a certificate for it.
fn service(folder: &std::path::Path) -> Faulty {
    let authority = Authority::new("Upstream");
    fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
    let config = authority.certify("service.internal").serving(&["http/1.1"]);
    let tls = Tls { faulty: config.clone(), well: config };
    let rooms = answer("200 OK", "[]").into_bytes();
    Faulty::start(Fault::Says(rooms, Then::Keep), Some(tls))
}

/// What `check --online` says.
fn checked_online(setup: &Setup) -> String {
    let mut check = setup.command("check");
    check.arg("--online");
    String::from_utf8(ended(check).stdout).unwrap()
}

/// Whether a request comes through.
fn answers(gateway: &Process) -> bool {
    gateway.call("GET", "/v5/rooms", "").status == 200
}

fn serves(gateway: &Process) {
    let answered = gateway.call("GET", "/v5/rooms", "");
    assert_eq!(answered.status, 200, "{}", answered.text());
}

/// What the access line of a request says of why it failed.
fn detail(gateway: &Process) -> String {
    let answered = gateway.call("GET", "/v5/rooms", "");
    answered.assert_envelope(500, "upstream_error");
    assert!(!answered.text().contains("407"), "{}", answered.text());
    let line = gateway.access_line(answered.header("x-request-id"));
    line["detail"].as_str().unwrap().to_owned()
}

#[test]
fn squid_leads_to_the_service_whose_certificate_is_verified_and_is_named_where_it_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let port = service.address.port();
    let gone = free_port();
    let squid = Squid::start(&[port, gone]);
    let setup = |host: &str, port: u16, password: &str| {
        let egress = format!(
            "[egress]\nproxy = \"http://127.0.0.1:{}\"\nusername = \"{}\"\npassword = \"{password}\"\n",
            squid.port,
            Squid::USER
        );
        let ca = folder.path().join("ca.pem").display().to_string();
        let setup = Setup::new(&format!("https://{host}:{port}")).with(&egress);
        setup.set("upstream.ca", ca.as_str())
    };
    let right = setup("service.internal", port, Squid::PASSWORD);
    let check = right.copy();
    let gateway = right.start();
    serves(&gateway);
    let online = checked_online(&check);
    assert!(
        online.contains("ok     the certificate of the upstream at service.internal"),
        "{online}"
    );
    let named = format!("the proxy 127.0.0.1:{} on the way: it refused CONNECT with ", squid.port);
    for (host, to, password, said) in [
        ("service.internal", port, "wrong", "407: it wants a user and a password"),
        ("service.internal", 9, Squid::PASSWORD, "403: its rules do not allow"),
        ("service.internal", gone, Squid::PASSWORD, "503: it cannot reach that host"),
    ] {
        let setup = setup(host, to, password);
        let check = setup.copy();
        let gateway = setup.start();
        let detail = detail(&gateway);
        assert!(detail.starts_with(&named) && detail.contains(said), "{said}: {detail}");
        let online = checked_online(&check);
        assert!(online.contains(&named) && online.contains(said), "{said}: {online}");
        let everything = gateway.stdout() + &gateway.stderr() + &online;
        assert!(!everything.contains(Squid::PASSWORD), "{everything}");
        assert!(!everything.contains("Basic "), "{everything}");
    }
    // The name is that of the certificate, whatever the proxy says.
    let gateway = setup("other.internal", port, Squid::PASSWORD).start();
    let detail = detail(&gateway);
    assert!(detail.contains("its certificate is for service.internal"), "{detail}");
}

#[test]
fn the_service_issuers_and_the_collector_go_by_the_proxy_and_the_store_does_not() {
    let (proxy, redis, collector) = (TestProxy::start(), Redis::start(), Collector::new());
    let upstream = Upstream::json("200 OK", "{}");
    let signer = Arc::new(Signer::es256("a"));
    let issuer = Issuer::serving(&[Arc::clone(&signer)]);
    let port = upstream.address.port();
    let setup = Setup::new(&format!("http://service.internal:{port}"));
    let profile = "profile = \"backend\"";
    let folder = setup.folder.path().to_owned();
    let gateway = setup
        .with(&issuer.section("school", &folder, profile))
        .with(&collector.section(""))
        .with(&format!("[store]\nurl = \"{}\"\n", redis.url()))
        .with(&format!("[egress]\nproxy = \"{}\"\n", proxy.url()))
        .set("profiles.backend.limit", crate::support::value("{ rate = \"100/s\" }"))
        .start();
    wait_until("the keys are there", || {
        let token = signer.token(&claims(issuer.url(), &serde_json::json!({})));
        gateway.client().call(&token, "GET", "/v5/rooms", "").status == 200
    });
    wait_until("spans are there", || !collector.spans().is_empty());
    let issued = issuer.url().strip_prefix("https://").unwrap().to_owned();
    let targets = proxy.targets();
    assert!(targets.contains(&format!("service.internal:{port}")), "{targets:?}");
    assert!(targets.contains(&issued), "{targets:?}");
    let reported = format!(":{}", collector.port());
    assert!(targets.iter().any(|target| target.ends_with(&reported)), "{targets:?}");
    let stored = format!(":{}", redis.port);
    assert!(!targets.iter().any(|target| target.ends_with(&stored)), "{targets:?}");
    assert!(gateway.admin("/readyz").text().contains("\"store\""), "the store is there");
}

#[test]
fn what_a_proxy_does_wrong_is_a_failure_that_names_it() {
    let (proxy, upstream) = (
        TestProxy::start(),
        Upstream::scripted(|_, stream| {
            let once = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            _ = stream.write_all(once.as_bytes());
            false
        }),
    );
    let setup =
        Setup::new(&upstream.url()).with(&format!("[egress]\nproxy = \"{}\"\n", proxy.url()));
    let gateway = setup.set("upstream.connect_timeout", "500ms");
    let gateway = gateway.with("[upstream.breaker]\nenabled = false\n").start();
    for (bytes, code, said) in [
        (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], "upstream_error", "407"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\n<html>", "upstream_error", "403"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "upstream_error", "502"),
        (b"<!doctype html><title>Sign in</title>\r\n\r\n", "upstream_error", "no HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nVia: 1.1 pro", "upstream_error", "within its answer"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", "upstream_error", "bytes came behind"),
        (b"", "upstream_timeout", "through the proxy"),
    ] {
        let before = upstream.received().len();
        proxy.answers(bytes);
        let answered = gateway.call("GET", "/v5/rooms", "");
        answered.assert_envelope(500, code);
        let line = gateway.access_line(answered.header("x-request-id"));
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{said}: {detail}");
        assert!(detail.contains(&proxy.address.to_string()), "{detail}");
        assert_eq!(upstream.received().len(), before);
        proxy.works();
        serves(&gateway);
    }
}

#[test]
fn a_proxy_that_refuses_everybody_opens_the_breaker() {
    let (proxy, upstream) = (TestProxy::start(), Upstream::json("200 OK", "{}"));
    proxy.answers(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let gateway = Setup::new(&upstream.url())
        .with(&format!("[egress]\nproxy = \"{}\"\n", proxy.url()))
        .start();
    wait_until("its breaker opens", || {
        gateway.call("GET", "/v5/rooms", "").text().contains("upstream_unavailable")
    });
    assert!(upstream.received().is_empty());
    proxy.works();
    wait_until("it closes", || answers(&gateway));
}

#[test]
fn the_proxy_of_the_environment_is_used_where_that_is_said_and_warned_about_elsewhere() {
    let (proxy, upstream) = (TestProxy::start(), Upstream::json("200 OK", "{}"));
    let variables = [("HTTPS_PROXY", format!("http://me:s3cret@{}", proxy.address))];
    let setup = Setup::new(&upstream.url());
    let copy = setup.copy();
    let mut check = copy.command("check");
    check.envs(variables.clone());
    let checked = ended(check);
    let checked = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
    let start = |setup: Setup, more: &[(&str, &str)]| {
        let mut command = setup.command("serve");
        command.envs(variables.clone()).envs(more.iter().copied());
        Process::of(command, setup.folder, setup.key)
    };
    let warned = "the proxy that HTTPS_PROXY in the environment names is not used";
    assert!(checked.contains(warned) && !checked.contains("s3cret"), "{checked}");
    let gateway = start(setup.copy(), &[]);
    serves(&gateway);
    assert_eq!(proxy.targets(), [""; 0]);
    gateway.until_logged(warned);
    let used = || setup.copy().with("[egress]\nfrom_environment = true\n");
    let gateway = start(used(), &[("NO_PROXY", "127.0.0.0/8")]);
    serves(&gateway);
    assert_eq!(proxy.targets(), [""; 0]);
    let gateway = start(used(), &[]);
    serves(&gateway);
    assert_eq!(proxy.targets(), [upstream.address.to_string()]);
    let asked = proxy.asked().concat();
    assert!(asked.contains("Proxy-Authorization: Basic bWU6czNjcmV0\r\n"), "{asked}");
    let log = gateway.stdout() + &gateway.stderr();
    assert!(!log.contains("s3cret") && !log.contains("is not used"), "{log}");
}

#[test]
fn after_a_reload_new_connections_go_by_the_new_proxy() {
    let (old, new, upstream) =
        (TestProxy::start(), TestProxy::start(), Upstream::json("200 OK", "{}"));
    let gateway = Setup::new(&upstream.url())
        .with(&format!("[egress]\nproxy = \"{}\"\n", old.url()))
        .set("listen.workers", crate::support::value("1"))
        .start();
    serves(&gateway);
    assert_eq!((old.asked().len(), new.asked().len()), (1, 0));
    // What does not concern the service leaves its connection alone.
    let configuration = gateway.configuration();
    let elsewhere = crate::support::value("[\"elsewhere.internal\"]");
    gateway.reload(&configuration.clone().set("egress.no_proxy", elsewhere));
    serves(&gateway);
    assert_eq!((old.asked().len(), new.asked().len()), (1, 0));
    gateway.reload(&configuration.set("egress.proxy", new.url().as_str()));
    serves(&gateway);
    assert_eq!((old.asked().len(), new.asked().len()), (1, 1));
}

/// Whether curl asks the proxy for a host with this list.
fn curl_asks(proxy: &TestProxy, no_proxy: &str, host: &str) -> bool {
    let before = proxy.asked().len();
    let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "5", "--proxytunnel", "--proxy", &proxy.url()]);
    // Nothing leaves this machine where the proxy is passed by.
    curl.args(["--noproxy", no_proxy, "--connect-to", "::127.0.0.1:9", "--output", "/dev/null"]);
    curl.arg(format!("http://{shown}:9/"));
    ended(curl);
    proxy.asked().len() > before
}

#[test]
fn exceptions_mean_what_they_mean_to_curl() {
    let proxy = TestProxy::start();
    proxy.answers(b"HTTP/1.1 403 Forbidden\r\n\r\n");
    for (no_proxy, hosts) in [
        ("a.internal", &["a.internal", "b.a.internal", "na.internal", "internal"][..]),
        (".a.internal", &["a.internal", "b.a.internal", "na.internal"]),
        ("A.Internal,c.internal", &["a.internal", "c.internal", "d.internal"]),
        ("10.0.0.0/8", &["10.1.2.3", "11.1.2.3", "a.internal"]),
        ("10.0.0.1", &["10.0.0.1", "10.0.0.11"]),
        ("*", &["a.internal", "10.0.0.1"]),
        ("localhost", &["localhost", "127.0.0.1"]),
    ] {
        let exceptions = no_proxy.split(',').map(|one| one.parse().unwrap()).collect();
        let egress = Egress::through(Proxy::new("proxy".to_owned(), 1), exceptions);
        for host in hosts {
            let ours = egress.proxy_of(host, 9).is_some();
            assert_eq!(curl_asks(&proxy, no_proxy, host), ours, "{no_proxy}: {host}");
        }
    }
}

#[test]
fn an_issuer_and_a_collector_that_a_proxy_does_not_lead_to_say_so() {
    let proxy = TestProxy::start();
    proxy.answers(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let setup = Setup::new("http://127.0.0.1:9")
        .with(&section(
            "school",
            "https://idp.internal",
            "discovery = true",
            "profile = \"backend\"",
        ))
        .with("[otlp]\nendpoint = \"http://collector.internal:4318\"\n")
        .with(&format!("[egress]\nproxy = \"{}\"\n", proxy.url()));
    let check = setup.copy();
    let gateway = setup.start();
    let named = format!("the proxy {} on the way: it refused CONNECT with 407", proxy.address);
    wait_until("the log says so", || gateway.stderr().contains(&named));
    gateway.call("GET", "/v5/rooms", "");
    wait_until("readyz says so", || {
        gateway.admin("/readyz").text().contains("refused CONNECT with 407")
    });
    let online = checked_online(&check);
    for whom in ["the issuer `school`", "the collector at"] {
        let line = online.lines().find(|line| line.contains(whom)).unwrap_or_default();
        assert!(line.contains(&named), "{whom}: {online}");
    }
}
