//! Real Redis servers, alone or several, that can be killed, stopped and started again; and what
//! stands between one and a gateway that makes it slow.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::{scenario_delay, wait_until};

/// A server that runs until it is dropped.
pub(crate) struct Redis {
    child: Option<Child>,
    program: &'static str,
    pub(crate) port: u16,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    /// Needed to ask it anything.
    password: Option<&'static str>,
}

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    // A cluster takes the one ten thousand further on as well; connections get higher ones.
    loop {
        let port = fastrand::u16(12_000..22_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Redis {
    /// One with nothing kept on the disk.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With more of its configuration; `{folder}` and `{port}` are filled in.
    pub(crate) fn with(lines: &[&str]) -> Self {
        Self::of("redis-server", lines, None)
    }

    /// One that wants a password of everybody who asks.
    pub(crate) fn with_password(lines: &[&str], password: &'static str) -> Self {
        Self::of("redis-server", lines, Some(password))
    }

    /// A sentinel that watches this one, by the name `gateways`.
    pub(crate) fn sentinel_of(master: &Self) -> Self {
        let watched = format!("sentinel monitor gateways 127.0.0.1 {} 1", master.port);
        let lines = [
            watched.as_str(),
            "sentinel down-after-milliseconds gateways 300",
            "sentinel failover-timeout gateways 2000",
        ];
        Self::of("redis-sentinel", &lines, None)
    }

    /// Three servers that have a third of the slots each; with more of their configuration.
    pub(crate) fn cluster(more: &[&str]) -> Vec<Self> {
        let lines = [&["cluster-enabled yes", "cluster-node-timeout 2000"], more].concat();
        let nodes: Vec<Self> = (0..3).map(|_| Self::with(&lines)).collect();
        for (place, node) in nodes.iter().enumerate() {
            let first = (place * 16_384).div_ceil(3);
            let last = ((place + 1) * 16_384).div_ceil(3) - 1;
            let [first, last] = [first, last].map(|slot| slot.to_string());
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            node.ask(&["CLUSTER", "MEET", "127.0.0.1", &nodes[0].port.to_string()]);
        }
        for node in &nodes {
            wait_until("the cluster stands", || {
                node.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
            });
            wait_until("each knows all", || {
                node.ask(&["CLUSTER", "SLOTS"]).matches("127.0.0.1").count() >= 3
            });
        }
        nodes
    }

    fn of(program: &'static str, lines: &[&str], password: Option<&'static str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nsave \"\"\nappendonly no\n",
            folder.path().display()
        );
        if program == "redis-sentinel" {
            text = format!("bind 127.0.0.1\nport {port}\ndir {}\n", folder.path().display());
        }
        for line in lines {
            let line = line.replace("{folder}", &folder.path().display().to_string());
            text.push_str(&line.replace("{port}", &port.to_string()));
            text.push('\n');
        }
        let config = folder.path().join("redis.conf");
        fs::write(&config, text).unwrap();
        let arguments = vec![config.display().to_string()];
        let mut redis = Self { child: None, program, port, folder, arguments, password };
        redis.revive();
        redis
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it, again where it was killed, and waits until it answers.
    pub(crate) fn revive(&mut self) {
        let mut command = Command::new(self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn();
        self.child = Some(child.unwrap_or_else(|error| {
            panic!("{} does not start ({error}); tests/run installs it", self.program)
        }));
        wait_until("redis answers", || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {ended:?}", self.program);
            self.try_ask(&["PING"]).is_some_and(|answer| answer.contains("PONG"))
        });
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal, `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// What it answers to a command, as it comes over the wire.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        self.try_ask(words).unwrap_or_else(|| panic!("no answer to {words:?}"))
    }

    fn try_ask(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut text = String::new();
        if let Some(password) = self.password {
            text.push_str(&packed(&["AUTH", password]));
        }
        text.push_str(&packed(words));
        stream.write_all(text.as_bytes()).ok()?;
        stream.shutdown(Shutdown::Write).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (!answer.is_empty()).then_some(answer)
    }
}

fn packed(words: &[&str]) -> String {
    let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    format!("*{}\r\n{}", words.len(), words.iter().map(word).collect::<String>())
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Stands between a gateway and a server, and lets answers wait.
pub(crate) struct Slow {
    pub(crate) address: SocketAddr,
    millis: Arc<AtomicU64>,
}

impl Slow {
    pub(crate) fn before(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let millis = Arc::new(AtomicU64::new(0));
        let (delay, port) = (Arc::clone(&millis), redis.port);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let none = Arc::default();
                thread::spawn(move || pass(from, to, &none));
                let delay = Arc::clone(&delay);
                thread::spawn(move || pass(server, client, &delay));
            }
        });
        Self { address, millis }
    }

    /// Lets no answer through until [`Self::delay`] says how long they wait.
    pub(crate) fn hold(&self) {
        self.millis.store(u64::MAX, Ordering::Relaxed);
    }

    pub(crate) fn delay(&self, delay: Duration) {
        self.millis.store(delay.as_millis().try_into().unwrap(), Ordering::Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, delay: &AtomicU64) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        wait_until("answers go on", || delay.load(Ordering::Relaxed) != u64::MAX);
        scenario_delay(Duration::from_millis(delay.load(Ordering::Relaxed)));
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    _ = from.shutdown(Shutdown::Both);
    _ = to.shutdown(Shutdown::Both);
}
