//! The processes of a soak: gateways and their upstream, each with its output in a file.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::time::wait_until;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that runs; killed when it is dropped.
pub(crate) struct Process {
    child: RefCell<Child>,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(command: Command, log: PathBuf) -> anyhow::Result<Self> {
        let output = File::options().create(true).append(true).open(&log)?;
        Self::writing(command, output, log)
    }

    /// One that writes there, from where it comes into its log.
    pub(crate) fn writing(
        mut command: Command,
        output: File,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = RefCell::new(command.spawn().context("a process cannot be started")?);
        Ok(Self { child, log })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.borrow().id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) -> anyhow::Result<()> {
        let sent = Command::new("kill").args(["-s", name, &self.id().to_string()]).status()?;
        ensure!(sent.success(), "SIG{name} cannot be sent");
        Ok(())
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> anyhow::Result<ExitStatus> {
        let mut status = None;
        wait_until("a process ends", PATIENCE, async || {
            status = self.child.borrow_mut().try_wait()?;
            Ok(status.is_some())
        })
        .await?;
        status.context("it has ended")
    }

    /// What it has written so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        _ = child.kill();
        _ = child.wait();
    }
}

/// A gateway that serves.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    /// It was told to stop.
    pub(crate) leaves: Cell<bool>,
    admin: SocketAddr,
}

impl Gateway {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(binary: &Path, config: &Path, name: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        command.args(["serve", "--config"]).arg(config);
        command.env("SOAK_SK", "soak-secret-key").env("WBG__ADMIN__ADDRESS", "127.0.0.1:0");
        let log = config.with_file_name(format!("{name}.log"));
        Self::of(Process::start(command, log)?).await
    }

    /// A process that is to listen and to be ready.
    pub(crate) async fn of(process: Process) -> anyhow::Result<Self> {
        let mut admin = None;
        let listens = wait_until("the gateway listens", PATIENCE, async || {
            if let Some(status) = process.child.borrow_mut().try_wait()? {
                bail!("the gateway ended with {status}");
            }
            admin = admin_address(&process.said());
            Ok(admin.is_some())
        });
        listens.await.with_context(|| process.said())?;
        let admin = admin.context("the gateway listens")?;
        let gateway = Self { process, leaves: Cell::new(false), admin };
        ensure!(gateway.page("/readyz").await?.0 == 200, "the gateway is not ready");
        Ok(gateway)
    }

    /// A page of its admin listener: the status and the body.
    pub(crate) async fn page(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let exchange = async {
            let mut socket = TcpStream::connect(self.admin).await?;
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
            socket.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
            let status = head.get(9..12).context("no status")?.parse()?;
            anyhow::Ok((status, body.to_owned()))
        };
        timeout(PATIENCE, exchange).await.context("the admin listener does not answer")?
    }

    pub(crate) async fn ready(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.page("/readyz").await?.1)?)
    }

    /// How many reloads came to this.
    pub(crate) async fn reloads(&self, result: &str) -> anyhow::Result<u64> {
        let name = format!("wbg_config_reloads_total{{result=\"{result}\"}} ");
        let (_, text) = self.page("/metrics").await?;
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        Ok(value.context("the gateway does not count reloads")?.parse::<f64>()? as u64)
    }
}

fn admin_address(log: &str) -> Option<SocketAddr> {
    let line = log
        .lines()
        .find(|line| line.contains("\"listening\"") && line.contains("\"listener\":\"admin\""))?;
    let event: Value = serde_json::from_str(line).ok()?;
    event["address"].as_str()?.parse().ok()
}

/// The upstream.
pub(crate) async fn sandbox(
    binary: &Path,
    listen: SocketAddr,
    log: PathBuf,
) -> anyhow::Result<Process> {
    let mut command = Command::new(binary);
    command.args(["sandbox", "--access-key", "soak", "--secret-key-env", "SOAK_SK"]);
    command.args(["--listen", &listen.to_string()]);
    command.env("SOAK_SK", "soak-secret-key");
    let process = Process::start(command, log)?;
    let listens = wait_until("the sandbox listens", PATIENCE, async || {
        Ok(TcpStream::connect(("127.0.0.1", listen.port())).await.is_ok())
    });
    listens.await.with_context(|| process.said())?;
    Ok(process)
}

/// A port that no one listens on, and that no outgoing connection is given: one to a port of the
/// ephemeral range where no one listens can come to be connected to itself.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    for _ in 0..1_000 {
        let port = fastrand::u16(15_000..30_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("there is no free port")
}
