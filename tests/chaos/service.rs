//! The service: a sandbox, and before it a proxy that speaks HTTP/2 under TLS, with few streams to a
//! connection.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use whiteboard_gateway::api::TokenKind;
use whiteboard_gateway::token::{KeyPair, Secret, TokenFields};

use crate::fronts::is_there;
use crate::load::{CROWDED, LISTED};
use crate::process::{self, Process, free_port};
use crate::time::wait_until;

/// A way from the gateway to the service.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    /// Who has signed its certificate.
    pub(crate) authority: Option<PathBuf>,
}

/// The service, and the ways to it.
pub(crate) struct Service {
    binary: PathBuf,
    folder: PathBuf,
    port: u16,
    running: RefCell<Option<Process>>,
    /// Since it was started it has got the rooms of which a list is long.
    filled: Cell<bool>,
    _front: Option<Process>,
    pub(crate) ways: Vec<Way>,
}

impl Service {
    /// Starts it, for a gateway that reaches it at this host. The folder has a certificate.
    pub(crate) async fn start(binary: &Path, folder: &Path, host: &str) -> anyhow::Result<Self> {
        let (port, behind) = (free_port()?, free_port()?);
        let way = |name, scheme, port: u16, authority| Way {
            name,
            url: format!("{scheme}://{host}:{port}"),
            authority,
        };
        let mut ways = vec![way("HTTP/1.1", "http", port, None)];
        let front = match is_there("haproxy") {
            true => {
                let authority = folder.join("authority.pem");
                ways.push(way("TLS, HTTP/2, HAProxy", "https", behind, Some(authority)));
                Some(front(folder, behind, port).await?)
            }
            false => None,
        };
        let service = Self {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            port,
            running: RefCell::default(),
            filled: Cell::new(false),
            _front: front,
            ways,
        };
        service.start_again().await?;
        Ok(service)
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        *self.running.borrow_mut() = None;
    }

    /// Starts it without its rooms.
    pub(crate) async fn start_again(&self) -> anyhow::Result<()> {
        let log = self.folder.join("service.log");
        let listen = SocketAddr::from(([0, 0, 0, 0], self.port));
        let service = process::sandbox(&self.binary, listen, log).await?;
        *self.running.borrow_mut() = Some(service);
        self.filled.set(false);
        Ok(())
    }

    /// Killed by another fault, it is not there to be stopped.
    pub(crate) fn signal(&self, name: &str) -> anyhow::Result<()> {
        self.running.borrow().as_ref().map_or(Ok(()), |service| service.signal(name))
    }

    /// Has it know so many rooms of a region that a list of them is long.
    pub(crate) async fn fill(&self) -> anyhow::Result<()> {
        if self.filled.replace(true) {
            return Ok(());
        }
        let key = KeyPair::new("soak".to_owned(), &Secret::new("soak-secret-key".to_owned()));
        let token = key
            .mint(
                TokenFields {
                    kind: TokenKind::Sdk,
                    role: "0",
                    uuid: None,
                    lifespan_ms: 0,
                    nonce: "n".to_owned(),
                },
                1_000,
            )
            .token;
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let (mut sender, connection) = handshake(TokioIo::new(socket)).await?;
        spawn_local(connection);
        let body = Bytes::from(format!("{{\"name\":\"{}\"}}", "x".repeat(2_000)));
        for _ in 0..LISTED {
            let request = Request::post("/v5/rooms")
                .header("host", "localhost")
                .header("token", token.expose())
                .header("region", CROWDED)
                .header("content-type", "application/json")
                .body(Full::new(body.clone()))?;
            sender.ready().await?;
            let answer = sender.send_request(request).await?;
            ensure!(answer.status() == 201, "the service says {}", answer.status());
            answer.into_body().collect().await?;
        }
        Ok(())
    }
}

/// A proxy before the service, on this port.
async fn front(folder: &Path, port: u16, service: u16) -> anyhow::Result<Process> {
    let folder = folder.join("service");
    fs::create_dir(&folder)?;
    let part = |name: &str| fs::read_to_string(folder.with_file_name("tls-1").join(name));
    let pem = folder.join("both.pem");
    fs::write(&pem, part("certificate.pem")? + &part("key.pem")?)?;
    let text = format!(
        "global
    maxconn 4000
    tune.h2.max-concurrent-streams 8
defaults
    mode http
    retries 0
    timeout connect 5s
    timeout client 120s
    timeout server 60s
frontend service
    bind 0.0.0.0:{port} ssl crt {} alpn h2,http/1.1
    default_backend sandbox
backend sandbox
    http-reuse never
    server sandbox 127.0.0.1:{service}
",
        pem.display()
    );
    let path = folder.join("haproxy.cfg");
    fs::write(&path, text)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(path);
    let process = Process::start(command, folder.join("log"))?;
    let listens = async || Ok(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    wait_until("a proxy before the service listens", Duration::from_secs(20), listens).await?;
    Ok(process)
}
