//! What the compose file starts, started from it without an engine: the same commands, variables and
//! files, each service at an address of its own in a network that nobody else sees.
//!
//! Debian's Redis stands in for Valkey, which speaks the same.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Prepared, ran};
use crate::support::{binary, wait_until};

/// A network with nothing in it but loopback, and names for the addresses there. It is gone with the
/// process that made it, which reads what is never written.
struct Network {
    holder: Child,
}

const HOSTS: [(&str, &str); 5] = [
    ("gateway-1", "127.0.1.1"),
    ("gateway-2", "127.0.1.2"),
    ("store", "127.0.1.3"),
    ("sandbox", "127.0.1.4"),
    ("balancer", "127.0.0.1"),
];

fn address(name: &str) -> &'static str {
    HOSTS.iter().find(|(host, _)| *host == name).unwrap().1
}

/// Root needs no namespace of users, in which the owner of the secrets would be nobody.
fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

impl Network {
    fn new(deploy: &Prepared) -> Self {
        let hosts = deploy.path("hosts");
        let lines = HOSTS.map(|(name, address)| format!("{address} {name}\n"));
        fs::write(&hosts, format!("127.0.0.1 localhost\n{}", lines.concat())).unwrap();
        let script =
            "ip link set lo up && mount --bind \"$1\" /etc/hosts && echo ready && exec cat";
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount"]);
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["sh", "-c", script, "sh"]);
        command.arg(hosts).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut said = [0; 6];
        holder.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"ready\n");
        Self { holder }
    }

    /// A command that runs in it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string()]);
        command.args(["--net", "--mount"]);
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--wd=/", program]);
        command.env("NO_PROXY", "*");
        command
    }

    /// What curl gets: the status, then the body.
    fn curl(&self, arguments: &[&str]) -> (u16, String) {
        let mut command = self.command("curl");
        command.args(["--silent", "--max-time", "10", "--write-out", "\n%{http_code}"]);
        let output = command.args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        _ = self.holder.wait();
    }
}

/// A service that runs.
struct Service {
    name: &'static str,
    child: Child,
    output: PathBuf,
}

impl Service {
    fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}:\n{}", self.name, self.output());
        }
    }
}

/// The compose file, with what of it runs.
struct Stack {
    // In this order they are dropped.
    services: Vec<Service>,
    network: Network,
    model: Value,
    deploy: Prepared,
}

impl Stack {
    fn new() -> Self {
        let deploy = Prepared::new();
        let network = Network::new(&deploy);
        Self { services: Vec::new(), network, model: deploy.model(), deploy }
    }

    /// The command of a service, with the paths of this machine in the place of a container's.
    fn words(&self, name: &str, words: &Value) -> Vec<String> {
        let service = &self.model["services"][name];
        let mut mounts: Vec<(String, PathBuf)> = Vec::new();
        for volume in service["volumes"].as_array().unwrap_or(&Vec::new()) {
            let mut parts = volume.as_str().unwrap().split(':');
            // A named one is a folder of the test's.
            let source = self.deploy.path("volumes").join(parts.next().unwrap());
            mounts.push((parts.next().unwrap().to_owned(), source));
        }
        for secret in service["secrets"].as_array().unwrap_or(&Vec::new()) {
            let source = secret["source"].as_str().unwrap();
            let target =
                Path::new("/run/secrets").join(secret["target"].as_str().unwrap_or(source));
            let file = self.model["secrets"][source]["file"].as_str().unwrap();
            mounts.push((target.to_str().unwrap().to_owned(), file.into()));
        }
        let here = |word: &Value| {
            let word =
                word.as_str().unwrap().replace("/usr/local/bin/whiteboard-gateway", binary());
            let found = mounts.iter().find_map(|(inside, outside)| {
                let (before, rest) = word.split_once(inside.as_str())?;
                let whole = before.is_empty() || before.ends_with([' ', '=']);
                (whole && rest.is_empty()).then(|| format!("{before}{}", outside.display()))
            });
            found.unwrap_or(word)
        };
        words.as_array().unwrap().iter().map(here).collect()
    }

    fn command_of(&self, name: &str) -> Vec<String> {
        self.words(name, &self.model["services"][name]["command"])
    }

    fn start(&mut self, name: &'static str, program: &str, more: impl FnOnce(&mut Command)) {
        let output = self.deploy.path(&format!("{name}.out"));
        let file = fs::File::create(&output).unwrap();
        let mut command = self.network.command(program);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let variables = self.model["services"][name]["environment"].as_object();
        for (variable, value) in variables.into_iter().flatten() {
            command.env(variable, value.as_str().unwrap());
        }
        more(&mut command);
        let child = command.spawn().unwrap();
        self.services.push(Service { name, child, output });
    }

    fn start_store(&mut self) {
        let words = self.command_of("store");
        assert_eq!(words[0], "valkey-server");
        self.start("store", "redis-server", |command| {
            command.args(&words[1..]).arg(format!("--bind {}", address("store")));
        });
    }

    fn start_sandbox(&mut self) {
        let words = self.command_of("sandbox");
        let listen = format!("{}:8081", address("sandbox"));
        self.start("sandbox", binary(), |command| {
            command.args(words.iter().map(|word| word.replace("0.0.0.0:8081", &listen)));
        });
    }

    fn start_gateway(&mut self, name: &'static str) {
        let words = self.command_of(name);
        let configuration = self.deploy.path("deploy/compose/gateway/gateway.toml");
        self.start(name, binary(), |command| {
            command.args(words).arg("--config").arg(configuration);
            // All have one machine here, and the balancer is another one.
            command.env("WBG__LISTEN__ADDRESS", format!("{}:8080", address(name)));
            command.env("WBG__ADMIN__ADDRESS", format!("{}:9090", address(name)));
            command.env("WBG__LISTEN__TRUSTED_PROXIES", address("balancer"));
        });
    }

    fn start_balancer(&mut self) {
        let configuration = self.deploy.path("deploy/haproxy/haproxy.cfg");
        self.start("balancer", "haproxy", |command| {
            command.arg("-W").arg("-db").arg("-f").arg(configuration);
        });
    }

    fn start_prometheus(&mut self) {
        let file = self.deploy.path("deploy/prometheus/prometheus.yml");
        // Nobody waits for a quarter of a minute here.
        let quick = fs::read_to_string(&file).unwrap().replace(": 15s", ": 1s");
        fs::write(&file, quick).unwrap();
        let words = self.command_of("prometheus");
        self.start("prometheus", "prometheus", |command| {
            command.args(words).arg("--web.listen-address=127.0.0.1:9090");
        });
    }

    /// Runs the health check of a service until it is well, as an engine does.
    fn wait_for(&self, name: &str, program: &str) {
        let test = &self.model["services"][name]["healthcheck"]["test"];
        let words = self.words(name, test);
        assert_eq!(words[0], "CMD");
        let address = address(name);
        wait_until(&format!("{name} is well"), || {
            let mut command = self.network.command(program);
            // A container's own address is the one that it has here.
            if name == "store" {
                command.args(["-h", name]);
            }
            command.args(words[2..].iter().map(|word| word.replace("127.0.0.1", address)));
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        });
    }

    fn service(&mut self, name: &str) -> &mut Service {
        self.services.iter_mut().find(|service| service.name == name).unwrap()
    }

    /// All but the monitoring.
    fn up() -> Self {
        let mut stack = Self::new();
        stack.start_store();
        stack.wait_for("store", "redis-cli");
        stack.start_sandbox();
        stack.wait_for("sandbox", binary());
        for name in ["gateway-1", "gateway-2"] {
            stack.start_gateway(name);
            stack.wait_for(name, binary());
        }
        stack.start_balancer();
        wait_until("the balancer has both", || {
            let (_, metrics) = stack.network.curl(&["http://balancer:8405/metrics"]);
            let up = r#"haproxy_backend_active_servers{proxy="gateways"} 2"#;
            metrics.contains(up)
        });
        stack
    }

    /// Asks a gateway as the operator does, who is inside its container.
    fn as_operator(&self, url: &str) -> (u16, String) {
        let key = self.deploy.read("deploy/compose/secrets/operator-key");
        let key = format!("token: {}", key.trim());
        self.network.curl(&["-H", &key, "-H", "Host: localhost", url])
    }

    fn key(&self) -> String {
        format!("token: {}", self.deploy.read("deploy/compose/secrets/lessons-key").trim())
    }

    fn call(&self, arguments: &[&str]) -> (u16, String) {
        self.network.curl(&[&["-H", &self.key()], arguments].concat())
    }
}

const OUTSIDE: &str = "http://balancer:8000";

#[test]
fn a_caller_is_served_through_the_balancer_by_gateways_that_share_their_limits() {
    let mut stack = Stack::up();
    let spoofed = ["-H", "X-Forwarded-For: 203.0.113.9", "-H", "X-Request-Id: mine", "-i"];
    let rooms = format!("{OUTSIDE}/v5/rooms");
    let created = stack.call(&[&spoofed[..], &["-d", r#"{"isRecord":false}"#, &rooms]].concat());
    assert_eq!(created.0, 201, "{}", created.1);
    let id = created.1.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().trim();
    assert!(id.len() == 36 && id != "mine", "the balancer names the request: {id}");
    let room: Value = serde_json::from_str(created.1.lines().last().unwrap()).unwrap();
    let room = room["uuid"].as_str().unwrap();
    let asked = r#"{"role":"reader","lifespan":3600000}"#;
    let token = stack.call(&["-d", asked, &format!("{OUTSIDE}/v5/tokens/rooms/{room}")]);
    assert_eq!(token.0, 201, "{}", token.1);
    assert!(token.1.starts_with("\"NETLESSROOM_"), "{}", token.1);
    let id = id.to_owned();
    let line = ["gateway-1", "gateway-2"].map(|name| stack.service(name).output.clone());
    wait_until("the access line is written", || {
        line.iter().any(|file| {
            let text = fs::read_to_string(file).unwrap();
            let line = text.lines().find(|line| line.contains(&id) && line.contains("\"status\""));
            line.is_some_and(|line| line.contains("\"client\":\"127.0.0.1\""))
        })
    });
    for name in ["gateway-1", "gateway-2"] {
        // Each by itself, with what the other has counted.
        let own = format!("http://{name}:8080/v5/rooms");
        assert_eq!(stack.call(&[&own]).0, 200);
        let (_, ready) = stack.as_operator(&format!("http://{name}:9090/admin/v1/status"));
        assert!(ready.contains("\"store\":{\"answers\":true"), "{ready}");
    }
    // What the store's user may not do, and who has not signed in.
    let certificate = stack.deploy.path("deploy/compose/secrets/store.pem");
    let mut ask = stack.network.command("redis-cli");
    ask.args(["-h", "store", "--tls", "--cacert"]).arg(certificate).args(["keys", "*"]);
    let told = ran(&mut ask);
    assert!(told.contains("NOPERM"), "{told}");
    let kept = fs::read_dir(stack.deploy.path("deploy/compose/data/store/appendonlydir")).unwrap();
    assert!(kept.count() > 0, "nothing is kept on the disk");
}

#[test]
fn a_gateway_that_is_replaced_costs_no_request() {
    let mut stack = Stack::up();
    let rooms = format!("{OUTSIDE}/v5/rooms");
    assert_eq!(stack.call(&[&rooms]).0, 200);
    stack.service("gateway-1").signal("TERM");
    let end = Instant::now() + Duration::from_secs(40);
    let mut answered = 0;
    let ended = loop {
        let (status, body) = stack.call(&[&rooms]);
        assert_eq!(status, 200, "request {answered}: {body}");
        answered += 1;
        if let Some(ended) = stack.service("gateway-1").child.try_wait().unwrap() {
            break ended;
        }
        assert!(Instant::now() < end, "it is given no longer");
    };
    assert_eq!(ended.code(), Some(0));
    assert!(answered > 10, "only {answered} requests came while it stopped");
    // One is left, and another one takes its place.
    assert_eq!(stack.call(&[&rooms]).0, 200);
    stack.services.retain(|service| service.name != "gateway-1");
    stack.start_gateway("gateway-1");
    stack.wait_for("gateway-1", binary());
    stack.service("gateway-2").signal("KILL");
    wait_until("the balancer sends requests to the new one", || stack.call(&[&rooms]).0 == 200);
}

#[test]
fn without_the_store_callers_are_served_all_the_same() {
    let mut stack = Stack::up();
    stack.services.retain(|service| service.name != "store");
    let rooms = format!("{OUTSIDE}/v5/rooms");
    for _ in 0..8 {
        assert_eq!(stack.call(&[&rooms]).0, 200);
    }
    stack.start_store();
    stack.wait_for("store", "redis-cli");
    for name in ["gateway-1", "gateway-2"] {
        let ready = format!("http://{name}:9090/admin/v1/status");
        wait_until("it has found the store again", || {
            _ = stack.call(&[&rooms]);
            stack.as_operator(&ready).1.contains("\"store\":{\"answers\":true")
        });
    }
}

#[test]
fn prometheus_reaches_every_target_and_takes_every_rule() {
    let mut stack = Stack::up();
    stack.start_prometheus();
    let query = |stack: &Stack, text: &str| -> Value {
        let data = format!("query={text}");
        let url = "http://127.0.0.1:9090/api/v1/query";
        let (_, body) = stack.network.curl(&["--data-urlencode", &data, url]);
        serde_json::from_str(&body).unwrap_or_default()
    };
    wait_until("all four are up", || {
        query(&stack, "sum(up)")["data"]["result"][0]["value"][1] == "4"
    });
    let (_, rules) = stack.network.curl(&["http://127.0.0.1:9090/api/v1/rules"]);
    let rules: Value = serde_json::from_str(&rules).unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    let all = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    assert!(all.count() > 0, "{rules}");
}

#[test]
fn the_network_has_nobody_in_it_and_goes_with_the_test() {
    let deploy = Prepared::new();
    let network = Network::new(&deploy);
    assert_eq!(network.curl(&["http://gateway-1:8080/"]).0, 0, "somebody is there");
    let id = network.holder.id();
    drop(network);
    assert!(!PathBuf::from(format!("/proc/{id}")).exists());
}
