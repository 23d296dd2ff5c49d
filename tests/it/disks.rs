//! A disk that stops: a write, an open, an fdatasync that never returns holds up neither requests
//! that need no disk nor the end of the process, and what was not finished is said.
//!
//! It takes a name space of one's own and `/dev/fuse` (`disks/stops.py`). Where the machine gives
//! neither, these say NOT RUN.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::house::root;
use crate::support::{Process, Setup, Upstream, wait_until};

const NAMESPACE: [&str; 2] = ["-rm", "/usr/bin/python3"];

/// Where a room's tokens are asked for, and how.
const TOKENS: &str = "/v5/tokens/rooms/d07bcaf0a17911ea9d7e23232cddf42d";
const LIFE: &str = r#"{"lifespan":60000,"role":"reader"}"#;

/// The drain time of all these, and what is left to do after it.
const DRAIN: Duration = Duration::from_secs(1);
const AFTER_DRAIN: Duration = Duration::from_secs(2);

/// What the machine may be late by.
const LATE: Duration = Duration::from_secs(2);

/// How a disk stops: it takes nothing more, or it takes everything and answers nothing, so that the
/// kernel holds whoever waits.
const STOPS: [&str; 2] = ["STOP", "USR1"];

/// A gateway with a disk that can stop, before it runs.
struct Disk(Setup);

impl Disk {
    /// `None` where this machine has none.
    fn new(upstream: &Upstream) -> Option<Self> {
        let disk = Self(Setup::new(&upstream.url()).set("listen.drain", "1s"));
        fs::create_dir(disk.folder()).unwrap();
        let mut tries = disk.over(&Command::new("/bin/true"), "");
        let ran = tries.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if ran.is_ok_and(|status| status.success()) {
            return Some(disk);
        }
        eprintln!("NOT RUN: there is no file system in user space here");
        None
    }

    fn folder(&self) -> PathBuf {
        self.0.folder.path().join("disk")
    }

    /// Where a file of this name is.
    fn file(&self, name: &str) -> String {
        self.folder().join(name).display().to_string()
    }

    fn with(self, text: &str) -> Self {
        Self(self.0.with(text))
    }

    /// The command on such a disk, after this line of a shell.
    fn over(&self, command: &Command, before: &str) -> Command {
        let mut over = Command::new("unshare");
        over.args(NAMESPACE).arg(root().join("tests/it/disks/stops.py"));
        over.arg(self.folder()).arg(self.0.folder.path().join("disk.pid"));
        over.args(["--", "/bin/sh", "-c", &format!("{before}\nexec \"$@\""), "sh"]);
        over.arg(command.get_program()).args(command.get_args());
        over.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        over
    }

    fn start(self) -> Process {
        let command = self.over(&self.0.command("serve"), "");
        Process::of(command, self.0.folder, self.0.key)
    }
}

/// Tries each way in which a disk stops, at the same time: nearly all of it is waiting.
fn each_stop(attempt: impl Fn(&str) + Sync) {
    thread::scope(|scope| {
        for how in STOPS {
            let attempt = &attempt;
            scope.spawn(move || attempt(how));
        }
    });
}

/// The disk of this gateway stops, in one of the two ways.
fn stop_disk(gateway: &Process, how: &str) {
    let pid = fs::read_to_string(gateway.folder.path().join("disk.pid")).unwrap();
    assert!(Command::new("kill").args(["-s", how, &pid]).status().unwrap().success());
}

/// It ends within its time after SIGTERM; gives its log.
///
/// When its main thread is the last to go, the kernel closes the files on the disk that is stopped
/// before anyone hears of the end. It has no memory then, and so no command line; the disk is ended
/// for it.
fn ends_in_time(gateway: &mut Process, case: &str) -> String {
    let begun = Instant::now();
    gateway.signal("TERM");
    let command = format!("/proc/{}/cmdline", gateway.id());
    wait_until("it ends", || fs::read(&command).unwrap().is_empty());
    let took = begun.elapsed();
    let disk = fs::read_to_string(gateway.folder.path().join("disk.pid")).unwrap();
    _ = Command::new("kill").args(["-s", "KILL", &disk]).stderr(Stdio::null()).status();
    gateway.wait(Duration::from_secs(20));
    let log = gateway.stderr();
    assert!(took < DRAIN + AFTER_DRAIN + LATE, "{case}: {took:?}: {log}");
    log
}

fn says(gateway: &Process, words: &str, case: &str) {
    wait_until(case, || gateway.stderr().contains(words));
}

fn lists_rooms(gateway: &Process) {
    let answer = gateway.call("GET", "/v5/rooms", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn access_lines_on_a_disk_that_stops_hold_up_no_request_and_no_end() {
    let upstream = Upstream::json("200 OK", "[]");
    each_stop(|how| {
        let Some(disk) = Disk::new(&upstream) else { return };
        let access = disk.file("access.log");
        let disk = disk.with(&format!("[log]\naccess = \"{access}\"\n"));
        let mut gateway = disk.start();
        lists_rooms(&gateway);
        stop_disk(&gateway, how);
        for _ in 0..20 {
            lists_rooms(&gateway);
        }
        assert_eq!(gateway.admin("/livez").status, 200, "{how}");
        ends_in_time(&mut gateway, how);
        says(&gateway, "the last access lines or audit records are lost", how);
    });
}

#[test]
fn a_record_whose_fdatasync_never_returns_holds_up_its_token_alone() {
    let upstream = Upstream::json("200 OK", "[]");
    each_stop(|how| {
        let Some(disk) = Disk::new(&upstream) else { return };
        let file = disk.file("audit.jsonl");
        let audit = format!("[audit]\nfile = \"{file}\"\nmode = \"required\"\nsync = true\n");
        let mut gateway = disk.with(&audit).start();
        let minted = gateway.call("POST", TOKENS, LIFE);
        assert_eq!(minted.status, 201, "{}", minted.text());
        stop_disk(&gateway, how);
        gateway.call("POST", TOKENS, LIFE).assert_envelope(500, "audit_unavailable");
        lists_rooms(&gateway);
        ends_in_time(&mut gateway, how);
        says(&gateway, "the last access lines or audit records are lost", how);
    });
}

#[test]
fn budgets_on_a_disk_that_stops_are_not_given_out_and_hold_up_no_end() {
    let upstream = Upstream::json("200 OK", "[]");
    each_stop(|how| {
        let Some(disk) = Disk::new(&upstream) else { return };
        let file = disk.file("budgets.db");
        let budgets = format!("[budgets]\nfile = \"{file}\"\n");
        let budget = "budgets = [{ of = \"tokens\", most = 100000, per = \"day\" }]";
        let disk = disk.with(&format!("[profiles.backend]\n{budget}\n")).with(&budgets);
        let mut gateway = disk.start();
        let minted = gateway.call("POST", TOKENS, LIFE);
        assert_eq!(minted.status, 201, "{}", minted.text());
        stop_disk(&gateway, how);
        let refused =
            (0..2_000).map(|_| gateway.call("POST", TOKENS, LIFE)).find(|one| one.status != 201);
        refused.expect("what was written ahead ends").assert_envelope(500, "store_unavailable");
        lists_rooms(&gateway);
        ends_in_time(&mut gateway, how);
        says(&gateway, "the file of the budgets", how);
    });
}

#[test]
fn a_reload_that_hangs_in_open_holds_up_no_request_and_no_end() {
    let upstream = Upstream::json("200 OK", "[]");
    each_stop(|how| {
        let Some(disk) = Disk::new(&upstream) else { return };
        let access = disk.file("access.log");
        let disk = disk.with(&format!("[log]\naccess = \"{access}\"\n"));
        let mut gateway = disk.start();
        stop_disk(&gateway, how);
        gateway.signal("HUP");
        for _ in 0..20 {
            lists_rooms(&gateway);
        }
        assert_eq!(gateway.admin("/readyz").status, 200, "{how}");
        assert_eq!(gateway.reloads(), 0, "{how}");
        ends_in_time(&mut gateway, how);
    });
}

#[test]
fn a_start_that_hangs_in_open_ends_when_it_is_told_to_and_says_so() {
    let upstream = Upstream::json("200 OK", "[]");
    each_stop(|how| {
        let Some(disk) = Disk::new(&upstream) else { return };
        let audit = format!("[audit]\nfile = \"{}\"\n", disk.file("audit.jsonl"));
        let disk = disk.with(&audit);
        let pid = disk.0.folder.path().join("disk.pid");
        let before = format!("kill -s {how} $(cat {})", pid.display());
        let mut command = disk.over(&disk.0.command("serve"), &before);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let id = child.id();
        let tasks = || {
            let tasks = fs::read_dir(format!("/proc/{id}/task"));
            tasks.map_or(0, Iterator::count)
        };
        let comm = format!("/proc/{id}/comm");
        wait_until("it hears signals, and has begun to open", || {
            let name = fs::read_to_string(&comm).unwrap_or_default();
            name.starts_with("whiteboard") && tasks() > 2
        });
        let begun = Instant::now();
        assert!(Command::new("kill").arg(id.to_string()).status().unwrap().success());
        // A thread that the kernel holds is the kernel's: it alone may be left.
        wait_until("it ends", || child.try_wait().unwrap().is_some() || tasks() == 1);
        assert!(begun.elapsed() < AFTER_DRAIN + LATE, "{how}: {:?}", begun.elapsed());
        let server = fs::read_to_string(&pid).unwrap();
        _ = Command::new("kill").args(["-s", "KILL", &server]).stderr(Stdio::null()).status();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("unfinished"), "{how}: {said}");
    });
}
