//! The proxies in front of the gateway: HAProxy, nginx and Caddy, each over HTTP/1.1 and HTTP/2 to
//! their clients, over HTTP/1.1 and (but for nginx) HTTP/2 to the gateway, buffering and not.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;

use crate::load::Lane;
use crate::process::{Process, free_port};
use crate::time::wait_until;

/// Those that run, and the ways through them.
#[derive(Default)]
pub(crate) struct Fronts {
    running: Vec<Process>,
    pub(crate) lanes: Vec<Lane>,
    /// Programs that are not on this machine.
    pub(crate) missing: Vec<&'static str>,
}

/// What a configuration is made of.
struct Site<'a> {
    folder: &'a Path,
    gateway: u16,
    /// Where it listens; the second way differs from the first.
    ports: [u16; 2],
}

type Front = (&'static str, [&'static str; 4], fn(&Site<'_>) -> anyhow::Result<Command>);

const FRONTS: [Front; 3] = [
    (
        "haproxy",
        [
            "HTTP/1.1, HAProxy, HTTP/1.1",
            "HTTP/2, HAProxy, HTTP/1.1",
            "HTTP/1.1, HAProxy, HTTP/2",
            "HTTP/2, HAProxy, HTTP/2",
        ],
        haproxy,
    ),
    (
        "nginx",
        [
            "HTTP/1.1, nginx that buffers",
            "HTTP/2, nginx that buffers",
            "HTTP/1.1, nginx that does not",
            "HTTP/2, nginx that does not",
        ],
        nginx,
    ),
    (
        "caddy",
        [
            "HTTP/1.1, Caddy, HTTP/1.1",
            "HTTP/2, Caddy, HTTP/1.1",
            "HTTP/1.1, Caddy, HTTP/2",
            "HTTP/2, Caddy, HTTP/2",
        ],
        caddy,
    ),
];

impl Fronts {
    /// Starts all that are on this machine, in front of this port. The folder has a certificate.
    pub(crate) async fn start(folder: &Path, gateway: u16) -> anyhow::Result<Self> {
        let mut fronts = Self::default();
        for (program, names, command) in FRONTS {
            if !is_there(program) {
                fronts.missing.push(program);
                continue;
            }
            let folder = folder.join(program);
            fs::create_dir(&folder)?;
            let site = Site { folder: &folder, gateway, ports: [free_port()?, free_port()?] };
            let process = Process::start(command(&site)?, folder.join("log"))?;
            for (number, name) in names.into_iter().enumerate() {
                let address = SocketAddr::from(([127, 0, 0, 1], site.ports[number / 2]));
                wait_for(address, &process).await?;
                fronts.lanes.push(Lane { name, address, http2: number % 2 == 1 });
            }
            fronts.running.push(process);
        }
        Ok(fronts)
    }
}

/// Whether a program is on this machine.
pub(crate) fn is_there(program: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", "command -v \"$1\"", "sh", program]).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

async fn wait_for(address: SocketAddr, process: &Process) -> anyhow::Result<()> {
    let listens = wait_until("a proxy listens", Duration::from_secs(20), async || {
        Ok(TcpStream::connect(address).await.is_ok())
    });
    listens.await.with_context(|| process.said())
}

impl Site<'_> {
    /// The certificate and the key, which every front shows.
    fn certificate(&self) -> [PathBuf; 2] {
        ["certificate.pem", "key.pem"].map(|name| self.folder.with_file_name("tls-1").join(name))
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

fn haproxy(site: &Site<'_>) -> anyhow::Result<Command> {
    let [certificate, key] = site.certificate();
    let both = fs::read_to_string(certificate)? + &fs::read_to_string(key)?;
    let pem = site.write("both.pem", &both)?;
    let ([first, second], pem, gateway) = (site.ports, pem.display(), site.gateway);
    let text = format!(
        "global
    maxconn 2000
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    option forwardfor
frontend first
    bind 127.0.0.1:{first} ssl crt {pem} alpn h2,http/1.1
    option http-buffer-request
    default_backend first
frontend second
    bind 127.0.0.1:{second} ssl crt {pem} alpn h2,http/1.1
    default_backend second
backend first
    server gateway 127.0.0.1:{gateway} ssl verify none alpn http/1.1
backend second
    server gateway 127.0.0.1:{gateway} ssl verify none alpn h2
"
    );
    let path = site.write("haproxy.cfg", &text)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(path);
    Ok(command)
}

fn nginx(site: &Site<'_>) -> anyhow::Result<Command> {
    let [certificate, key] = site.certificate();
    let (folder, gateway) = (site.folder.display(), site.gateway);
    let server = |port: u16, buffering: &str| {
        format!(
            "    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {};
        ssl_certificate_key {};
        keepalive_requests 100000;
        location / {{
            proxy_pass https://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_request_buffering {buffering};
            proxy_buffering {buffering};
        }}
    }}
",
            certificate.display(),
            key.display()
        )
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {folder}/{kind};\n"))
        .concat();
    let text = format!(
        "daemon off;
user root;
master_process off;
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 2000; }}
http {{
    access_log off;
{temporary}    upstream gateway {{ server 127.0.0.1:{gateway}; keepalive 32; }}
{}{}}}
",
        server(site.ports[0], "on"),
        server(site.ports[1], "off"),
    );
    let path = site.write("nginx.conf", &text)?;
    let mut command = Command::new("nginx");
    command.arg("-e").arg("stderr").arg("-p").arg(site.folder).arg("-c").arg(path);
    Ok(command)
}

fn caddy(site: &Site<'_>) -> anyhow::Result<Command> {
    let [certificate, key] = site.certificate();
    let (certificate, key, gateway) = (certificate.display(), key.display(), site.gateway);
    let server = |port: u16, version: &str, flush: &str| {
        format!(
            "https://localhost:{port} {{
    bind 127.0.0.1
    tls {certificate} {key}
    reverse_proxy https://127.0.0.1:{gateway} {{
        {flush}
        transport http {{
            tls_insecure_skip_verify
            versions {version}
        }}
    }}
}}
"
        )
    };
    let text = format!(
        "{{\n    admin off\n    auto_https off\n}}\n{}{}",
        server(site.ports[0], "1.1", ""),
        server(site.ports[1], "2", "flush_interval -1"),
    );
    let path = site.write("Caddyfile", &text)?;
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(path);
    command.env("HOME", site.folder).env("XDG_DATA_HOME", site.folder);
    Ok(command)
}
