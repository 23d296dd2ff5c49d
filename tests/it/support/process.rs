//! The built binary, started with a configuration and stopped when it is dropped.

use std::fmt::Display;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use whiteboard_gateway::caller::{self, ApiKey};

use super::{Answer, Client, Configuration, Value, value, wait_until, wait_within};

/// The path of the built binary.
pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_whiteboard-gateway")
}

/// A configuration in the making: a project, a backend that may do everything, and whatever a test
/// adds.
pub(crate) struct Setup {
    pub(crate) folder: tempfile::TempDir,
    /// The key of the caller `lessons`, whose profile is `backend`.
    pub(crate) key: String,
    configuration: Configuration,
}

/// A process that runs.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// The key of the caller `lessons`, or of the sandbox's backend.
    pub(crate) key: String,
    pub(crate) folder: tempfile::TempDir,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

/// Everything by name: what the profile `backend` may do.
pub(crate) const EVERYTHING: &str = r#"["tokens.sdk", "tokens.*", "rooms.*", "scenes.*", "screenshots.*", "conversions.*", "legacy_conversions.*"]"#;

impl Setup {
    /// In front of an upstream at this URL.
    pub(crate) fn new(upstream: &str) -> Self {
        let key = caller::generate(true).unwrap().expose().to_owned();
        let text = format!(
            r#"
[listen]
address = "127.0.0.1:0"
workers = 2
pre_drain = "1ms"
[admin]
address = "127.0.0.1:0"
[log]
format = "json"
level = "trace"
[upstream]
url = "{upstream}"
[projects.classroom]
keys = [{{ access_key = "sandbox", secret_key = {{ env = "CLASSROOM_SK" }} }}]
[profiles.backend]
project = "classroom"
allow = {EVERYTHING}
rooms = "any"
role = "admin"
max_lifespan = "24h"
[callers.lessons]
profile = "backend"
keys = [{slot}]
"#,
            slot = slot(&key)
        );
        let configuration = Configuration::read(&text);
        Self { folder: tempfile::tempdir().unwrap(), key, configuration }
    }

    fn changed(mut self, change: impl FnOnce(Configuration) -> Configuration) -> Self {
        self.configuration = change(self.configuration);
        self
    }

    /// Adds sections, or keys to sections: see [`Configuration::with`].
    pub(crate) fn with(self, sections: &str) -> Self {
        self.changed(|configuration| configuration.with(sections))
    }

    /// Sets a key by its path: see [`Configuration::set`].
    pub(crate) fn set(self, path: &str, value: impl Into<Value>) -> Self {
        self.changed(|configuration| configuration.set(path, value))
    }

    /// Takes away a key, a section or an item of a list.
    pub(crate) fn without(self, path: &str) -> Self {
        self.changed(|configuration| configuration.without(path))
    }

    /// Adds to the end of a list.
    pub(crate) fn push(self, path: &str, value: impl Into<Value>) -> Self {
        self.changed(|configuration| configuration.push(path, value))
    }

    /// Takes an item out of a list.
    pub(crate) fn take_out(self, path: &str, item: &str) -> Self {
        self.changed(|configuration| configuration.take_out(path, item))
    }

    /// A second key of the project, `other`, which comes after the first.
    pub(crate) fn with_other_key(self) -> Self {
        let other = value("{ access_key = \"other\", secret_key = { env = \"CLASSROOM_SK\" } }");
        self.push("projects.classroom.keys", other)
    }

    /// The project has a fixed token of the SDK in the place of keys.
    pub(crate) fn with_sdk_token(self, token: &str) -> Self {
        self.without("projects.classroom.keys").set("projects.classroom.sdk_token", token)
    }

    /// Adds a caller with a new key and a profile of its own, whose lines (but for `project`) are
    /// given. Gives the key.
    pub(crate) fn caller(&mut self, name: &str, profile: &str) -> String {
        self.add(&format!("[profiles.{name}]\nproject = \"classroom\"\n{profile}\n"));
        self.key_of(name, name)
    }

    /// Adds a caller with a new key and a profile that is there. Gives the key.
    pub(crate) fn key_of(&mut self, name: &str, profile: &str) -> String {
        let key = caller::generate(true).unwrap().expose().to_owned();
        let slot = slot(&key);
        self.add(&format!("[callers.{name}]\nprofile = \"{profile}\"\nkeys = [{slot}]\n"));
        key
    }

    fn add(&mut self, sections: &str) {
        self.configuration = self.configuration.clone().with(sections);
    }

    /// The same for another process.
    pub(crate) fn copy(&self) -> Self {
        let (key, configuration) = (self.key.clone(), self.configuration.clone());
        Self { folder: tempfile::tempdir().unwrap(), key, configuration }
    }

    /// Where the configuration is, once the process runs.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    pub(crate) fn configuration(&self) -> Configuration {
        self.configuration.clone()
    }

    /// Writes the configuration.
    pub(crate) fn write(&self) {
        self.configuration.write(&self.path());
    }

    /// Writes the configuration, for a command of this name to read.
    pub(crate) fn command(&self, name: &str) -> Command {
        self.write();
        let mut command = Command::new(binary());
        command.args([name, "--config"]).arg(self.path());
        command.env("CLASSROOM_SK", "sandbox-secret-key");
        command
    }

    pub(crate) fn start(self) -> Process {
        Process::of(self.command("serve"), self.folder, self.key)
    }

    /// Starts it with a clock that is wrong by so much, such as `+1h`.
    ///
    /// The program `faketime` starts another process, which would outlive it when it is killed.
    pub(crate) fn start_at(self, off: &str) -> Process {
        let mut command = self.command("serve");
        command.env("LD_PRELOAD", libfaketime()).env("FAKETIME", off);
        Process::of(command, self.folder, self.key)
    }

    /// Starts it with a socket that listens already, as a service manager does.
    pub(crate) fn activated(self, listener: &TcpListener, name: &str) -> Process {
        let command = activated(&self.command("serve"), listener, name);
        Process::listening(command, self.folder, self.key)
    }
}

fn libfaketime() -> PathBuf {
    let architectures = fs::read_dir("/usr/lib").unwrap();
    let places = architectures.map(|one| one.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    let mut there = places.filter(|library| library.exists());
    there.next().expect("libfaketime is here; tests/run installs it")
}

/// The command with a socket as its descriptor 3, which `LISTEN_FDS` tells of.
pub(crate) fn activated(command: &Command, socket: &TcpListener, name: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"LISTEN_PID=$$ exec "$@" 3<&0 0</dev/null"#, "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name);
    shell.stdin(OwnedFd::from(socket.try_clone().unwrap()));
    shell
}

/// Runs a command to its end, which must come soon: what is tested is that it does not serve.
pub(crate) fn ended(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    finished(command)
}

/// As [`ended`], with the standard input that the command has.
pub(crate) fn finished(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_until("it ends", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap()
}

/// The entry of a key in the configuration.
pub(crate) fn slot(key: &str) -> String {
    let key = ApiKey::parse(key).ok().unwrap();
    format!("{{ id = \"{}\", digest = \"{}\" }}", key.id(), key.digest())
}

/// The same for a key that ends.
pub(crate) fn slot_until(key: &str, until: impl Display) -> String {
    let key = ApiKey::parse(key).ok().unwrap();
    format!("{{ id = \"{}\", digest = \"{}\", until = \"{until}\" }}", key.id(), key.digest())
}

impl Process {
    /// `serve --sandbox`, on free ports.
    pub(crate) fn sandbox() -> Self {
        Self::sandbox_with(&[])
    }

    /// The same with more of a configuration, in variables.
    pub(crate) fn sandbox_with(variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.args(["serve", "--sandbox"]);
        command.env("WBG__LISTEN__ADDRESS", "127.0.0.1:0");
        command.env("WBG__ADMIN__ADDRESS", "127.0.0.1:0");
        command.env("WBG__LOG__FORMAT", "json");
        command.envs(variables.iter().copied());
        let mut process = Self::of(command, tempfile::tempdir().unwrap(), String::new());
        wait_until("the greeting is printed", || process.stdout().contains("Ctrl-C stops"));
        process.key = process.exported("KEY");
        process
    }

    /// A command that greets, whatever listeners it has.
    pub(crate) fn of_greeting(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        let mut process = Self::spawned(command, tempfile::tempdir().unwrap(), String::new());
        wait_until("the greeting is printed", || process.stdout().contains("Ctrl-C stops"));
        wait_until("it has said where it listens", || process.listener("listen").is_some());
        process.address = process.listener("listen").unwrap();
        process
    }

    /// `sandbox`: the stand-in alone. Its address is in its first line.
    pub(crate) fn of_sandbox(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = gather(child.stdout.take().unwrap());
        let stderr = gather(child.stderr.take().unwrap());
        let mut address = None;
        wait_until("the sandbox serves", || {
            let out = stdout.lock().unwrap();
            let line = out.lines().find(|line| line.contains("serves on"));
            address = line.and_then(|line| line.rsplit("://").next()?.parse().ok());
            address.is_some()
        });
        let address = address.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { child, address, admin: address, key: String::new(), folder, stdout, stderr }
    }

    /// Starts a command that serves, and waits until it listens.
    pub(crate) fn of(mut command: Command, folder: tempfile::TempDir, key: String) -> Self {
        command.stdin(Stdio::null());
        Self::listening(command, folder, key)
    }

    fn spawned(mut command: Command, folder: tempfile::TempDir, key: String) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = gather(child.stdout.take().unwrap());
        let stderr = gather(child.stderr.take().unwrap());
        let unset = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { child, address: unset, admin: unset, key, folder, stdout, stderr }
    }

    fn listening(command: Command, folder: tempfile::TempDir, key: String) -> Self {
        Self::listening_or_ended(command, folder, key)
            .unwrap_or_else(|(status, log)| panic!("it ended with {status}: {log}"))
    }

    /// The same for a command that may end instead: with this status, and this log.
    pub(crate) fn try_of(
        mut command: Command,
        folder: tempfile::TempDir,
        key: String,
    ) -> Result<Self, (ExitStatus, String)> {
        command.stdin(Stdio::null());
        Self::listening_or_ended(command, folder, key)
    }

    fn listening_or_ended(
        command: Command,
        folder: tempfile::TempDir,
        key: String,
    ) -> Result<Self, (ExitStatus, String)> {
        let mut process = Self::spawned(command, folder, key);
        let mut ended = None;
        wait_until("it listens", || {
            ended = process.child.try_wait().unwrap();
            let listens = |name| process.listener(name);
            match (listens("listen"), listens("admin")) {
                (Some(address), Some(admin)) => {
                    (process.address, process.admin) = (address, admin);
                    true
                }
                _ => ended.is_some(),
            }
        });
        match ended {
            None => Ok(process),
            Some(status) => {
                process.until_output_is_read();
                Err((status, process.stderr()))
            }
        }
    }

    /// The command that serves by its configuration.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.args(["serve", "--config"]).arg(self.config_path());
        command.env("CLASSROOM_SK", "sandbox-secret-key");
        command
    }

    /// Another process with the same configuration and files, in the place of this one, which has
    /// ended.
    pub(crate) fn again(mut self) -> Self {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let mut command = Command::new(binary());
        command.args(["serve", "--config"]).arg(folder.path().join("gateway.toml"));
        command.env("CLASSROOM_SK", "sandbox-secret-key");
        Self::of(command, folder, std::mem::take(&mut self.key))
    }

    pub(crate) fn listener(&self, name: &str) -> Option<SocketAddr> {
        let log = self.stderr();
        let line = log.lines().find(|line| {
            line.contains("\"listening\"") && line.contains(&format!("\"listener\":\"{name}\""))
        })?;
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        Some(event["address"].as_str()?.parse().unwrap())
    }

    /// The value of an `export` line of the greeting.
    pub(crate) fn exported(&self, name: &str) -> String {
        let out = self.stdout();
        let line = out.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
        line.expect("the greeting exports it").to_owned()
    }

    /// The address of the sandbox, as the greeting says it.
    pub(crate) fn sandbox_address(&self) -> SocketAddr {
        self.exported("SANDBOX").strip_prefix("http://").unwrap().parse().unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request of the caller `lessons` on a connection of its own.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.client().request(method, path, &[("token", &self.key)], body)
    }

    /// A page of the admin listener, which the operator of a sandbox asks for.
    pub(crate) fn admin(&self, path: &str) -> Answer {
        let out = self.stdout();
        let key = out.lines().find_map(|line| line.strip_prefix("export WBG_ADMIN_KEY="));
        let key: Vec<_> = key.iter().map(|key| ("x-api-key", *key)).collect();
        Client::connect(self.admin).request("GET", path, &key, "")
    }

    /// What it has written to standard output so far: access lines, and the greeting.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// Its log so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    /// The configuration as it stands.
    pub(crate) fn configuration(&self) -> Configuration {
        Configuration::read(&fs::read_to_string(self.config_path()).unwrap())
    }

    /// Writes another configuration in the place of the old one, and waits for what comes of it.
    pub(crate) fn reload(&self, configuration: &(impl Display + ?Sized)) {
        let before = self.reloads();
        replace(&self.config_path(), &configuration.to_string());
        self.signal("HUP");
        wait_until("it has reloaded", || self.reloads() > before);
    }

    /// How many reloads it has logged, good and bad.
    pub(crate) fn reloads(&self) -> usize {
        let log = self.stderr();
        log.matches("the configuration was reloaded").count()
            + log.matches("the configuration was not reloaded").count()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// The processor time that it has used so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // After the name, which may hold anything: the 12th and the 13th field, in hundredths.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
    }

    /// The memory that it holds, in MiB.
    pub(crate) fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, most: Duration) -> ExitStatus {
        let mut status = None;
        wait_within(most, "it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.until_output_is_read();
        status.unwrap()
    }

    /// Whoever gathers what a process writes lets go of it at its end.
    fn until_output_is_read(&self) {
        for gathered in [&self.stdout, &self.stderr] {
            wait_until("its output is read", || Arc::strong_count(gathered) == 1);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- its log:\n{}\n--- its output:\n{}", self.stderr(), self.stdout());
        }
    }
}

/// Replaces a file whole, as an editor or a deployment does.
pub(crate) fn replace(path: &Path, text: &str) {
    let other = path.with_extension("new");
    fs::write(&other, text).unwrap();
    fs::rename(&other, path).unwrap();
}

fn gather(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let gathered = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&gathered);
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = String::new();
        while matches!(from.read_line(&mut line), Ok(count) if count > 0) {
            into.lock().unwrap().push_str(&line);
            line.clear();
        }
    });
    gathered
}
