//! The routes from a client to the gateway: directly, or through a proxy, each side in HTTP/1.1 or
//! HTTP/2.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use serde_json::{Value, json};

use crate::house::root;
use crate::support::{Authority, Client, Process, Setup, binary, free_port, wait_until};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Http {
    /// HTTP/1.0, a connection for each request: what nginx speaks unless it is told otherwise.
    OneZero,
    One,
    Two,
}

impl Http {
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::OneZero => "1.0",
            Self::One => "1.1",
            Self::Two => "2",
        }
    }

    /// As an access line has it.
    fn seen(self) -> &'static str {
        if self == Self::Two { "2" } else { "1.1" }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    None,
    Haproxy,
    Nginx,
    Caddy,
}

/// What a client speaks, what is between, and what the gateway is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) client: Http,
    pub(super) proxy: Proxy,
    pub(super) gateway: Http,
}

impl Route {
    pub(super) const fn new(client: Http, proxy: Proxy, gateway: Http) -> Self {
        Self { client, proxy, gateway }
    }

    pub(super) fn all() -> Vec<Self> {
        let mut all =
            [Http::One, Http::Two].map(|http| Self::new(http, Proxy::None, http)).to_vec();
        for proxy in [Proxy::Haproxy, Proxy::Nginx, Proxy::Caddy] {
            for client in [Http::One, Http::Two] {
                if proxy == Proxy::Nginx {
                    all.push(Self::new(client, proxy, Http::OneZero));
                }
                all.extend([Http::One, Http::Two].map(|gateway| Self::new(client, proxy, gateway)));
            }
        }
        all
    }

    pub(super) fn name(self) -> String {
        let (client, gateway) = (self.client.version(), self.gateway.version());
        let proxy = match self.proxy {
            Proxy::None => return format!("directly, {client}"),
            Proxy::Haproxy => "HAProxy",
            Proxy::Nginx => "nginx",
            Proxy::Caddy => "Caddy",
        };
        format!("{client} to {proxy}, {gateway} behind it")
    }

    /// Why no client can take this route.
    pub(super) fn impossible(self) -> Option<&'static str> {
        (self.proxy == Proxy::Nginx && self.gateway == Http::Two)
            .then_some("nginx 1.22 speaks HTTP/1.1 at most to what is behind it")
    }
}

/// What keeps nginx from buffering requests, and its connections to the gateway open.
const KEEP_ALIVE: &str = "proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                    proxy_set_header Host $http_host; proxy_request_buffering off;";

/// What a page may do with the token of its task.
const PAGE_PROFILE: &str = "[profiles.pages]\nproject = \"classroom\"\nallow = [\"legacy_conversions.get\"]\nrooms = \"any\"\n";

/// A proxy that runs, and ends when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // They end what they have started with them.
        _ = Command::new("kill").arg(self.0.id().to_string()).status();
        _ = self.0.wait();
    }
}

/// A sandbox, a gateway before it, and what is before that: for one client on its own.
pub(super) struct Deployment {
    pub(super) route: Route,
    pub(super) url: String,
    pub(super) authority: std::path::PathBuf,
    pub(super) gateway: Process,
    pub(super) sandbox: Process,
    _proxy: Option<Running>,
}

impl Deployment {
    /// With TLS to the client or without, and more of the gateway's configuration.
    pub(super) fn new(route: Route, secure: bool, more: &str) -> Self {
        let mut command = Command::new(binary());
        command.args(["sandbox", "--listen", "127.0.0.1:0"]);
        let sandbox = Process::of_sandbox(command);
        let mut setup = Setup::new(&format!("http://{}", sandbox.address))
            .set("listen.idle_timeout", "1s")
            .set("projects.classroom.token_profile", "pages")
            .with(PAGE_PROFILE)
            // So that what fails twice is seen by the client.
            .with("[upstream.retry]\nattempts = 1\n")
            .with(more);
        let folder = setup.folder.path();
        let ca = Authority::new("clients");
        let authority = ca.write(folder);
        let names = ["127.0.0.1".to_owned(), "api.netless.link".to_owned()];
        let identity = ca.issue(|one| {
            one.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
            one.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        let (certificate, key) = identity.write(folder);
        let pair = fs::read_to_string(&certificate).unwrap() + &fs::read_to_string(&key).unwrap();
        fs::write(folder.join("pair.pem"), pair).unwrap();
        if route.proxy == Proxy::None && secure {
            setup =
                setup.with("[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n");
        }
        let gateway = setup.start();
        let (proxy, address) = match route.proxy {
            Proxy::None => (None, gateway.address.to_string()),
            _ => {
                let (proxy, port) = start(route, secure, &gateway);
                (Some(proxy), format!("127.0.0.1:{port}"))
            }
        };
        let scheme = if secure { "https" } else { "http" };
        let url = format!("{scheme}://{address}");
        Self { route, url, authority, gateway, sandbox, _proxy: proxy }
    }

    /// The service fails so often where it is asked for the conversions that run.
    pub(super) fn fail(&self, count: usize) {
        let fault =
            format!(r#"{{"operations":["conversions.list"],"count":{count},"status":500}}"#);
        let mut client = Client::connect(self.sandbox.address);
        let answer = client.request("PUT", "/sandbox/faults", &[], &fault);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// How often it has failed.
    pub(super) fn faults(&self) -> u64 {
        let mut client = Client::connect(self.sandbox.address);
        client.request("GET", "/sandbox/faults", &[], "").json()["hits"].as_u64().unwrap_or(0)
    }

    /// Something that a back end does, past every proxy; what it gets.
    pub(super) fn call(&self, method: &str, path: &str, body: &str) -> Value {
        let mut sandbox = Client::connect(self.sandbox.address);
        let keys = json!({
            "accessKey": "sandbox", "secretAccessKey": "sandbox-secret-key",
            "lifespan": 0, "role": "admin",
        });
        let region = ("region", "us-sv");
        let sdk = sandbox.request("POST", "/v5/tokens/teams", &[region], &keys.to_string());
        let token = sdk.json();
        let fields = [region, ("token", token.as_str().unwrap())];
        sandbox.request(method, path, &fields, body).json()
    }

    /// What the gateway must have seen, and must not have written: what is wrong with it.
    pub(super) fn inspect(&self) -> Vec<String> {
        let version = self.route.gateway.seen();
        let lines = self.gateway.access_lines().into_iter();
        let lines = lines.filter(|line| line["protocol"] != version);
        let mut wrong: Vec<_> = lines.map(|line| format!("not HTTP/{version}: {line}")).collect();
        let log = self.gateway.stdout() + &self.gateway.stderr();
        if log.contains(&self.gateway.key) || log.contains("NETLESS") {
            wrong.push("a secret is in the log".to_owned());
        }
        wrong
    }

    /// The access lines.
    pub(super) fn lines(&self) -> String {
        let lines = self.gateway.access_lines();
        lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

/// Starts the proxy of a route before a gateway, by its configuration in `tests/clients/proxies`.
fn start(route: Route, secure: bool, gateway: &Process) -> (Running, u16) {
    let port = free_port();
    let folder = gateway.folder.path();
    let path = |name: &str| folder.join(name).display().to_string();
    let two = route.gateway == Http::Two;
    let (file, tls, protocol) = match route.proxy {
        Proxy::Haproxy => (
            "haproxy.cfg",
            format!("ssl crt {} alpn h2,http/1.1", path("pair.pem")),
            if two { "proto h2" } else { "" },
        ),
        Proxy::Nginx => (
            "nginx.conf",
            format!(
                "ssl http2; ssl_certificate {}; ssl_certificate_key {}",
                path("certificate.pem"),
                path("key.pem")
            ),
            if route.gateway == Http::OneZero { "" } else { KEEP_ALIVE },
        ),
        _ => (
            "Caddyfile",
            format!("tls {} {}", path("certificate.pem"), path("key.pem")),
            if two { "h2c://" } else { "" },
        ),
    };
    let text = fs::read_to_string(root().join("tests/clients/proxies").join(file)).unwrap();
    let text = text
        .replace("{port}", &port.to_string())
        .replace("{gateway}", &gateway.address.to_string())
        .replace("{scheme}", if secure { "https" } else { "http" })
        .replace("{tls}", if secure { &tls } else { "" })
        .replace("{protocol}", protocol);
    fs::write(folder.join(file), text).unwrap();
    let mut command = match route.proxy {
        Proxy::Haproxy => Command::new("/usr/sbin/haproxy"),
        Proxy::Nginx => Command::new("/usr/sbin/nginx"),
        _ => Command::new("caddy"),
    };
    match route.proxy {
        Proxy::Haproxy => command.args(["-q", "-db", "-f", &path(file)]),
        Proxy::Nginx => command.args(["-p", &path(""), "-e", "stderr", "-c", &path(file)]),
        _ => command.args(["run", "--adapter", "caddyfile", "--config", &path(file)]),
    };
    let log = fs::File::create(folder.join("proxy.log")).unwrap();
    command.env("HOME", folder).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let proxy = Running(command.spawn().expect("tests/run installs it"));
    wait_until("the proxy listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    (proxy, port)
}
