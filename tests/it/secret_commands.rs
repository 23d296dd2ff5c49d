//! Secrets that commands print: at the start, at a reload, and when they hang, fail or say too much.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Setup, Upstream, ended, value, wait_until, wait_within};

/// Writes a program beside the configuration.
fn program(folder: &Path, script: &str) {
    let path = folder.join("secret");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
}

fn setup(upstream: &str) -> Setup {
    let command = value("{ exec = [\"./secret\", \"class room\"] }");
    Setup::new(upstream).set("projects.classroom.keys.0.secret_key", command)
}

#[test]
fn a_command_gives_the_secret_at_the_start_and_at_each_reload_and_leaves_the_old_one_when_it_hangs()
{
    let upstream = Upstream::json("200 OK", "[]");
    let setup = setup(&upstream.url());
    let folder = setup.folder.path().to_owned();
    let good = "test \"$1\" = 'class room' && echo noise >&2 && echo run >>runs && echo sandbox-secret-key";
    program(&folder, good);
    let gateway = setup.start();
    let runs = || fs::read_to_string(folder.join("runs")).unwrap().lines().count();
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
    assert_eq!(runs(), 1, "not by a request");
    gateway.reload(&gateway.configuration().set("log.level", "info"));
    assert_eq!(runs(), 2);
    // One that hangs: requests are answered meanwhile, and afterwards by the old configuration.
    program(&folder, "echo $$ >hangs; exec sleep 1000");
    gateway.signal("HUP");
    wait_until("it hangs", || {
        fs::read_to_string(folder.join("hangs")).is_ok_and(|id| id.ends_with('\n'))
    });
    let id = fs::read_to_string(folder.join("hangs")).unwrap();
    let alive = || Path::new("/proc").join(id.trim()).exists();
    assert!(alive());
    let begun = Instant::now();
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5));
    wait_within(Duration::from_secs(20), "it is given up", || {
        gateway.stderr().contains("names a command that did not end within 10 s and was killed")
    });
    assert!(!alive(), "it is killed, and waited for");
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
    let log = gateway.stdout() + &gateway.stderr();
    for hidden in ["sandbox-secret-key", "noise", "class room"] {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
}

#[test]
fn a_stop_ends_a_command_that_hangs() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = setup(&upstream.url());
    let folder = setup.folder.path().to_owned();
    program(&folder, "echo sandbox-secret-key");
    let mut gateway = setup.start();
    program(&folder, "echo $$ >hangs; exec sleep 1000");
    gateway.signal("HUP");
    wait_until("it hangs", || {
        fs::read_to_string(folder.join("hangs")).is_ok_and(|id| id.ends_with('\n'))
    });
    let id = fs::read_to_string(folder.join("hangs")).unwrap();
    gateway.signal("TERM");
    assert!(gateway.wait(Duration::from_secs(9)).success());
    wait_until("it is gone", || {
        let stat = fs::read_to_string(Path::new("/proc").join(id.trim()).join("stat"));
        stat.map_or(true, |stat| stat.contains(") Z"))
    });
}

#[test]
fn what_a_command_does_wrong_is_told_without_what_it_said() {
    for (script, said) in [
        ("echo s3cret; echo s3cret >&2; exit 3", "names a command that failed with exit status: 3"),
        ("kill -9 $$", "names a command that failed with signal: 9"),
        ("yes s3cret", "names a command that prints more than 65536 bytes and was killed"),
        ("exit 0", "is an empty secret"),
        ("printf 's3cret\\ns3cret\\n'", "holds more than one line"),
        ("printf '\\377s3cret'", "names a command whose output is not UTF-8"),
    ] {
        let setup = setup("http://127.0.0.1:9");
        program(setup.folder.path(), script);
        let checked = ended(setup.command("check"));
        assert_eq!(checked.status.code(), Some(2), "{script}");
        let told = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
        assert!(told.contains("secret_key.exec` ") && told.contains(said), "{script}: {told}");
        assert!(!told.contains("s3cret"), "{told}");
    }
    for (exec, said) in [
        ("[]", "it names no program"),
        ("\"  \"", "it names no program"),
        ("\"a 's3cret\"", "a quotation mark in it has no end"),
        ("5", "found an integer"),
        ("[\"./s3cret\"]", "names a command that cannot be run: No such file or directory"),
        ("[\"/etc/passwd\"]", "names a command that cannot be run: Permission denied"),
    ] {
        let key = value(&format!("{{ exec = {exec} }}"));
        let setup =
            Setup::new("http://127.0.0.1:9").set("projects.classroom.keys.0.secret_key", key);
        let checked = ended(setup.command("check"));
        let told = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
        assert!(told.contains(said) && !told.contains("s3cret"), "{exec}: {told}");
    }
}
