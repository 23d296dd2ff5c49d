//! HTTP proxies: one of ours that does what a test wants, and a real Squid.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{free_port, wait_until};

/// A proxy that makes tunnels to ports of this machine, whatever the name, or answers something else;
/// it stops accepting with the test's process.
pub(crate) struct TestProxy {
    pub(crate) address: SocketAddr,
    /// The heads of what it was asked.
    asked: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Option<Vec<u8>>>>,
}

impl TestProxy {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, answer) = (Arc::default(), Arc::default());
        let proxy = Self { address, asked: Arc::clone(&asked), answer: Arc::clone(&answer) };
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                thread::spawn(move || serve(socket, &asked, &answer));
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it answers this, and closes; an empty text is no answer, and it closes nothing.
    pub(crate) fn answers(&self, bytes: &[u8]) {
        *self.answer.lock().unwrap() = Some(bytes.to_vec());
    }

    /// It makes tunnels again.
    pub(crate) fn works(&self) {
        *self.answer.lock().unwrap() = None;
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The hosts and ports that it was asked for, each once.
    pub(crate) fn targets(&self) -> Vec<String> {
        let mut targets: Vec<String> = self
            .asked()
            .iter()
            .filter_map(|head| head.strip_prefix("CONNECT ")?.split(' ').next().map(str::to_owned))
            .collect();
        targets.sort();
        targets.dedup();
        targets
    }
}

fn serve(
    mut socket: TcpStream,
    asked: &Mutex<Vec<String>>,
    answer: &Mutex<Option<Vec<u8>>>,
) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    asked.lock().unwrap().push(head.clone());
    let answer = answer.lock().unwrap().clone();
    if let Some(answer) = answer {
        socket.write_all(&answer).ok()?;
        if answer.is_empty() {
            _ = socket.read(&mut byte);
        }
        return None;
    }
    let authority = head.split(' ').nth(1)?;
    let port: u16 = authority.rsplit(':').next()?.trim_end_matches('/').parse().ok()?;
    let far = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
    let (mut up, mut down) = (socket.try_clone().ok()?, far.try_clone().ok()?);
    let mut far = far;
    thread::spawn(move || {
        _ = std::io::copy(&mut up, &mut far);
        _ = far.shutdown(Shutdown::Write);
    });
    _ = std::io::copy(&mut down, &mut socket);
    _ = socket.shutdown(Shutdown::Write);
    Some(())
}

/// A real Squid, which wants a user and a password, and knows two names as this machine.
pub(crate) struct Squid {
    child: Child,
    pub(crate) port: u16,
    _folder: tempfile::TempDir,
}

impl Squid {
    pub(crate) const USER: &'static str = "gateway";
    pub(crate) const PASSWORD: &'static str = "right: horse";

    /// One that makes tunnels to these ports alone.
    pub(crate) fn start(allowed: &[u16]) -> Self {
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::write(at("hosts"), "127.0.0.1 service.internal other.internal\n").unwrap();
        let hashed = Command::new("openssl").args(["passwd", "-apr1", Self::PASSWORD]).output();
        let hashed = String::from_utf8(hashed.unwrap().stdout).unwrap();
        fs::write(at("users"), format!("{}:{hashed}", Self::USER)).unwrap();
        let port = free_port();
        let text = format!(
            "http_port 127.0.0.1:{port}\n\
             pid_filename none\n\
             coredump_dir {folder}\n\
             cache deny all\n\
             access_log none\n\
             cache_log stdio:/dev/null\n\
             cache_store_log none\n\
             netdb_filename none\n\
             pinger_enable off\n\
             shutdown_lifetime 0 seconds\n\
             hosts_file {hosts}\n\
             auth_param basic program /usr/lib/squid/basic_ncsa_auth {users}\n\
             auth_param basic children 1\n\
             acl known proxy_auth REQUIRED\n\
             acl allowed port {allowed}\n\
             http_access deny !known\n\
             http_access allow CONNECT known allowed\n\
             http_access deny all\n",
            folder = folder.path().display(),
            allowed = allowed.join(" "),
            hosts = at("hosts"),
            users = at("users"),
        );
        fs::write(at("squid.conf"), text).unwrap();
        // It gives up the rights of root, and its helper reads the users then.
        let open = Command::new("chmod").args(["-R", "a+rX"]).arg(folder.path()).status().unwrap();
        assert!(open.success());
        let mut command = Command::new("squid");
        command.args(["-N", "-f", &at("squid.conf")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("squid is here; tests/run installs it");
        wait_until("squid listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, port, _folder: folder }
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // Asked, so that it ends its helper.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(asked.unwrap().success());
        _ = self.child.wait();
    }
}
