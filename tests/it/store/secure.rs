//! TLS to the store, a user of its access list, and a password that is never seen.

use std::fs;

use super::{passed, profile, setup};
use crate::budgets::used;
use crate::support::{Authority, Redis, ended, wait_until};

const PASSWORD: &str = "planted-store-password-3Kd";

/// The user that the documentation recommends, with what budgets need.
const ACL: &str = "user gateway on >planted-store-password-3Kd ~wbg:* +eval +evalsha +get +set \
                   +time +ping +hget +hincrby +expireat +hscan +info";

/// A server that speaks TLS alone on a second port, and knows one user beside the administrator.
fn server(authority: &Authority) -> (Redis, u16) {
    let folder = tempfile::tempdir().unwrap();
    let identity = authority.certify("localhost");
    for (name, text) in
        [("cert.pem", &identity.pem), ("key.pem", &identity.key), ("ca.pem", &authority.pem)]
    {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.keep().display().to_string();
    let port = fastrand::u16(12_000..22_000);
    let redis = Redis::with_password(
        &[
            &format!("tls-port {port}"),
            &format!("tls-cert-file {path}/cert.pem"),
            &format!("tls-key-file {path}/key.pem"),
            &format!("tls-ca-cert-file {path}/ca.pem"),
            "tls-auth-clients no",
            "user default on >of-the-administrator ~* +@all",
            ACL,
        ],
        "of-the-administrator",
    );
    (redis, port)
}

#[test]
fn a_store_is_asked_over_tls_as_a_user_that_may_do_little() {
    let authority = Authority::new("of the store");
    let (_redis, port) = server(&authority);
    let mut setup = setup(&format!(
        "url = \"rediss://localhost:{port}\"\nusername = \"gateway\"\n\
         password = {{ env = \"WBG_STORE_PASSWORD\" }}\nca = \"authority.pem\"\ntimeout = \"2s\""
    ));
    authority.write(setup.folder.path());
    let limit = "limit = { rate = \"5/h\", burst = 5 }\non_store_error = \"closed\"";
    let budget = "budgets = [{ of = \"tokens\", most = 9, per = \"month\" }]";
    let key = setup.caller("secure", &profile(&format!("{limit}\n{budget}")));
    let mut command = setup.command("serve");
    command.env("WBG_STORE_PASSWORD", PASSWORD);
    let gateway = crate::support::Process::of(command, setup.folder, key.clone());
    assert_eq!(passed(&gateway, &key, 7), 5);
    assert_eq!(used(&gateway, "tokens"), (5, 0));
    let said = "the store keeps no append-only file";
    wait_until("it is warned", || gateway.stderr().contains(said));
    for (place, text) in [("the log", gateway.stderr()), ("output", gateway.stdout())] {
        assert!(!text.contains(PASSWORD), "{place}");
    }
}

#[test]
fn a_password_that_is_refused_is_seen_nowhere() {
    let authority = Authority::new("of the store");
    let (redis, _) = server(&authority);
    let url = format!("redis://gateway:{PASSWORD}-wrong@127.0.0.1:{}", redis.port);
    let mut setup = setup(&format!("url = \"{url}\"")).set("log.level", "trace");
    let limit = "limit = { rate = \"5/h\", burst = 5 }\non_store_error = \"closed\"";
    let key = setup.caller("secure", &profile(limit));
    let checked = ended(setup.command("check"));
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(said.contains("`store.url` has a password in it"), "{said}");
    let gateway = setup.start();
    let mut client = gateway.client();
    super::token(&mut client, &key).assert_envelope(500, "store_unavailable");
    wait_until("it is known", || gateway.metric("wbg_ratelimit_degraded") == 1.0);
    let ready = gateway.admin("/readyz").text();
    assert!(ready.contains("WRONGPASS") || ready.contains("uthentication"), "{ready}");
    for (place, text) in [
        ("check", said.into_owned()),
        ("the log", gateway.stderr()),
        ("standard output", gateway.stdout()),
        ("/readyz", ready),
        ("/metrics", gateway.admin("/metrics").text()),
    ] {
        assert!(!text.contains(PASSWORD), "{place}: {text}");
    }
}
