//! `health`, as a container's engine runs it.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::{Process, Setup, Upstream, binary, wait_until};

fn health(arguments: &[&str], admin: Option<&str>) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.arg("health").args(arguments).env_remove("WBG__ADMIN__ADDRESS");
    if let Some(admin) = admin {
        command.env("WBG__ADMIN__ADDRESS", admin);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_gateway_that_serves_is_alive_and_ready() {
    let gateway = Process::sandbox();
    let admin = gateway.admin.to_string();
    let alive = health(&[], Some(&admin));
    assert_eq!(alive, (Some(0), "{\"alive\":true}\n".to_owned(), String::new()));
    let (code, told, _) = health(&[&format!("http://{admin}/readyz")], None);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("{\"ready\":true"), "{told}");
}

#[test]
fn an_address_of_all_interfaces_is_asked_on_this_machine() {
    let gateway = Process::sandbox();
    let everywhere = format!("0.0.0.0:{}", gateway.admin.port());
    assert_eq!(health(&[], Some(&everywhere)).0, Some(0));
}

#[test]
fn a_gateway_that_drains_is_alive_but_not_ready() {
    let upstream = Upstream::json("200 OK", "[]");
    let mut gateway = Setup::new(&upstream.url()).set("listen.pre_drain", "1h").start();
    let admin = gateway.admin.to_string();
    gateway.signal("TERM");
    let ready = format!("http://{admin}/readyz");
    wait_until("it is not ready", || health(&[&ready], None).0 == Some(1));
    let (_, told, _) = health(&[&ready], None);
    assert!(told.contains("\"draining\":true"), "{told}");
    assert_eq!(health(&[], Some(&admin)).0, Some(0), "it is no reason to be killed");
    // The second one ends the wait.
    gateway.signal("TERM");
    assert_eq!(gateway.wait(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn nobody_there_is_an_answer_that_engines_understand() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // It never says anything.
    let (code, told, errors) = health(&["--timeout", "50ms"], Some(&address));
    assert_eq!((code, errors.as_str()), (Some(1), ""));
    assert!(told.contains("does not answer within 0.05 s"), "{told}");
    drop(listener);
    let (code, told, errors) = health(&[], Some(&address));
    assert_eq!((code, errors.as_str()), (Some(1), ""));
    assert!(told.contains(&format!("http://{address}/livez does not answer")), "{told}");
}

#[test]
fn what_is_no_question_is_wrong_usage() {
    for (arguments, admin, says) in [
        (&["https://127.0.0.1/livez"][..], None, "TLS is not spoken"),
        (&["http://user:secret@127.0.0.1/livez"], None, "a URL is http://HOST:PORT/PATH"),
        (&["--timeout", "0s"], None, "no answer comes in no time"),
        (&[], Some("off"), "WBG__ADMIN__ADDRESS is no address"),
    ] {
        let (code, told, errors) = health(arguments, admin);
        assert_eq!((code, told.as_str()), (Some(2), ""), "{errors}");
        assert!(errors.contains(says), "{errors}");
    }
}
