//! The gateway as a pod of the chart runs it: with its arguments, its variables, and its volume laid out
//! as the kubelet does. Only the addresses are others, since a test has no network of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::SanType;
use serde_json::{Value, json};
use whiteboard_gateway::caller::{self, ApiKey};

use super::{EVERYTHING, Release, SETS, list, text};
use crate::support::{Authority, Configuration, Process, TlsClient, binary, finished, wait_until};

/// Where the containers of the chart have their configuration and their volume.
const PLACES: [(&str, &str); 2] =
    [("/etc/whiteboard-gateway", "config"), ("/var/lib/whiteboard-gateway", "data")];

/// One that does for every kind of secret.
const SECRET: &str = "NETLESSSDK_a-secret-of-more-than-thirty-two-bytes";

/// What a pod has on its disk.
struct Pod {
    path: PathBuf,
    /// Until a process has it.
    folder: Option<tempfile::TempDir>,
    /// Of the certificates that it has.
    authority: Authority,
}

impl Pod {
    fn of(release: &Release) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let pod = Self { path, folder: Some(folder), authority: Authority::new("pods") };
        fs::create_dir(pod.path.join("data")).unwrap();
        if release.pod()["spec"].get("volumes").is_some() {
            pod.publish(release, |config| config);
        }
        pod
    }

    /// A text of the chart, with the places of this pod.
    fn here(&self, text: &str) -> String {
        PLACES.iter().fold(text.to_owned(), |text, (there, here)| {
            text.replace(there, &self.path.join(here).display().to_string())
        })
    }

    /// Lays out the volume: everything in a folder of its own, to which `..data` leads, and links to
    /// what lies in `..data`. Later it is that one link that is turned.
    fn publish(&self, release: &Release, change: impl Fn(String) -> String) {
        let volume = self.path.join("config");
        fs::create_dir_all(&volume).unwrap();
        let generation = tempfile::Builder::new().prefix("..").tempdir_in(&volume).unwrap().keep();
        for path in self.projected(release) {
            let text = match path.as_str() {
                "gateway.toml" => change(self.here(release.config())),
                path => self.file(path),
            };
            let path = generation.join(&path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        }
        let turned = volume.join("..data_tmp");
        symlink(generation.file_name().unwrap(), &turned).unwrap();
        fs::rename(&turned, volume.join("..data")).unwrap();
        for entry in fs::read_dir(&generation).unwrap() {
            let name = entry.unwrap().file_name();
            let link = volume.join(&name);
            if !link.exists() {
                symlink(Path::new("..data").join(&name), link).unwrap();
            }
        }
    }

    /// The paths of the files in the volume, those of the chart's own ConfigMap first.
    fn projected(&self, release: &Release) -> Vec<String> {
        let volume = &release.pod()["spec"]["volumes"][0]["projected"]["sources"];
        let mut paths = Vec::new();
        for source in list(volume) {
            let own = source["configMap"]["name"] == release.one("ConfigMap")["metadata"]["name"];
            let items = list(&source["secret"]["items"]).chain(list(&source["configMap"]["items"]));
            paths.extend(items.map(|item| text(&item["path"]).to_owned()));
            paths.extend(own.then(|| "gateway.toml".to_owned()));
        }
        assert!(!paths.is_empty(), "nothing is in the volume");
        paths
    }

    /// What the owner of the Secrets and ConfigMaps has put there.
    fn file(&self, path: &str) -> String {
        let server = self.authority.server();
        match path.rsplit_once('.') {
            // The two are asked for one after the other, and must fit.
            Some((_, "crt")) => {
                fs::write(self.path.join("tls.key"), &server.key).unwrap();
                server.pem + &self.authority.pem
            }
            Some((_, "key")) => fs::read_to_string(self.path.join("tls.key")).unwrap(),
            Some((_, "pem")) => self.authority.pem.clone(),
            _ => format!("{SECRET}\n"),
        }
    }

    /// The command with the variables of the container.
    fn command(&self, release: &Release, arguments: &[String]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments);
        for (name, value) in release.variables() {
            command.env(name, self.here(&value));
        }
        for one in list(&release.container()["env"]).filter(|one| one.get("valueFrom").is_some()) {
            command.env(text(&one["name"]), SECRET);
        }
        command
    }

    fn config(&self) -> PathBuf {
        self.path.join("config/gateway.toml")
    }

    fn start(&mut self, release: &Release) -> Process {
        let arguments = list(&release.container()["args"]).map(|one| self.here(text(one)));
        let mut command = self.command(release, &arguments.collect::<Vec<_>>());
        for listener in ["LISTEN", "ADMIN"] {
            command.env(format!("WBG__{listener}__ADDRESS"), "127.0.0.1:0");
        }
        Process::of(command, self.folder.take().unwrap(), String::new())
    }
}

#[test]
fn the_configuration_of_every_set_passes_check_with_the_variables_of_the_pod() {
    for set in ["production", "single", EVERYTHING] {
        let release = Release::of(set);
        let pod = Pod::of(&release);
        let config = pod.config().display().to_string();
        let arguments = ["check", "--json", "--config", &config].map(str::to_owned);
        let output = finished(pod.command(&release, &arguments));
        let told: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{set}: {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(list(&told["errors"]).count(), 0, "{set}: {told:#}");
        // That the admin listener is not on loopback is what the network policy is for where there are
        // no operators; but for what whoever deploys it replaces, nothing else is doubtful.
        let warnings = list(&told["warnings"])
            .filter(|one| !text(&one["message"]).contains("is a placeholder of an example"));
        let variables: Vec<&Value> = warnings.map(|one| &one["variable"]).collect();
        let asks = release.variables().contains_key("WBG__ADMIN__TLS__KEY");
        let doubtful = if asks { &[][..] } else { &["WBG__ADMIN__ADDRESS"] };
        assert_eq!(variables, doubtful, "{set}: {told:#}");
        assert_eq!(output.status.code(), Some(1), "{set}");
    }
}

#[test]
fn every_set_starts_and_answers_its_probes() {
    for set in SETS {
        let release = Release::of(set);
        let gateway = Pod::of(&release).start(&release);
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let path = text(&release.container()[probe]["httpGet"]["path"]);
            let answer = gateway.admin(path);
            assert_eq!(answer.status, 200, "{set}: {probe}: {}", answer.text());
        }
        // What the autoscaler goes by is a level, which it can divide by the number of pods.
        for scaler in release.all("HorizontalPodAutoscaler") {
            let name = text(&scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]);
            let metrics = gateway.admin("/metrics").text();
            assert!(metrics.contains(&format!("# TYPE {name} gauge\n")), "{set}: {name}");
            gateway.metric(name);
        }
    }
}

#[test]
fn an_operator_of_the_values_is_let_in_over_tls_and_probes_still_answer() {
    let key = caller::generate_for_operator().unwrap();
    let parsed = ApiKey::parse(key.expose()).ok().unwrap();
    let (id, digest) = (parsed.id().as_str().to_owned(), parsed.digest().to_string());
    let operators =
        json!({ "ada": { "role": "operator", "keys": [{ "id": id, "digest": digest }] } });
    let operators = format!("operators={operators}");
    let tls = "admin.tls.existingSecret=admin,admin.hosts={gateway.example.org}";
    let release = Release::with("production", &["--set-json", &operators, "--set", tls]);
    let mut pod = Pod::of(&release);
    let client = TlsClient::new(&pod.authority, None);
    let gateway = pod.start(&release);
    let get = |path: &str, host: &str, key: &str| {
        let mut client = client.connect(gateway.admin);
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\ntoken: {key}\r\n\r\n");
        client.send(head.as_bytes());
        client.answer("GET").unwrap()
    };
    let shown = get("/admin/v1/status", "gateway.example.org", key.expose());
    assert_eq!((shown.status, &shown.json()["ready"]), (200, &true.into()), "{}", shown.text());
    let elsewhere = get("/admin/v1/status", "elsewhere.example.org", key.expose());
    assert!(elsewhere.member("message").contains("admin.hosts"), "{}", elsewhere.text());
    assert_eq!(get("/admin/v1/status", "gateway.example.org", "wbg_admin_wrong").status, 401);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let asked = &release.container()[probe]["httpGet"];
        assert_eq!(asked["scheme"], "HTTPS", "{probe}");
        // By the address of the pod.
        let answer = get(text(&asked["path"]), "10.1.2.3:9090", "x");
        assert_eq!(answer.status, 200, "{probe}: {}", answer.text());
    }
    let endpoint = &release.one("ServiceMonitor")["spec"]["endpoints"][0];
    assert_eq!(endpoint["scheme"], "https");
    assert_eq!(endpoint["tlsConfig"]["insecureSkipVerify"], true);
    let plain = Release::of("production");
    assert_eq!(plain.container()["livenessProbe"]["httpGet"]["scheme"], "HTTP");
    assert_eq!(plain.one("ServiceMonitor")["spec"]["endpoints"][0]["scheme"], "http");
}

#[test]
fn a_service_with_a_client_certificate_gets_a_token_whose_record_is_on_the_volume() {
    let release = Release::of("single");
    let mut pod = Pod::of(&release);
    let authority = Authority::new("strangers");
    let id = "spiffe://example.org/ns/prod/sa/scheduler";
    let name = SanType::URI(id.try_into().unwrap());
    let [known, unknown] = [&pod.authority, &authority]
        .map(|authority| authority.issue(|one| one.subject_alt_names = vec![name.clone()]));
    let clients = [&known, &unknown].map(|one| TlsClient::new(&pod.authority, Some(one)));
    let gateway = pod.start(&release);
    let asked = r#"{"role":"reader","lifespan":3600000}"#;
    let answer =
        clients[0].connect(gateway.address).request("POST", "/v5/tokens/rooms/a", &[], asked);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let record = fs::read_to_string(pod.path.join("data/audit.jsonl")).unwrap();
    assert!(record.contains("\"caller\":\"scheduler\""), "{record}");
    assert!(pod.path.join("data/budgets.db").exists());
    // With `clientAuth: require` a stranger does not even begin.
    let refused = clients[1].try_connect(gateway.address).map(|shown| {
        let mut stream = shown.stream;
        std::io::Read::read(&mut stream, &mut [0]).map_or(0, |count| count)
    });
    assert!(matches!(refused, Err(_) | Ok(0)), "a stranger was let in");
}

#[test]
fn what_the_kubelet_publishes_is_reloaded_and_what_is_broken_changes_nothing() {
    let release = Release::of("production");
    let mut pod = Pod::of(&release);
    let gateway = pod.start(&release);
    let turn = |rate: &str| {
        pod.publish(&release, |config| {
            Configuration::read(&config).set("profiles.backend.limit.rate", rate).to_string()
        });
    };
    let readiness = || gateway.admin("/readyz").json();
    let first = readiness()["config"]["version"].clone();
    turn("100/s");
    wait_until("the change counts", || readiness()["config"]["version"] != first);
    let second = readiness()["config"]["version"].clone();
    turn("often");
    wait_until("the error is told", || !readiness()["config"]["reload_error"].is_null());
    assert_eq!(readiness()["config"]["version"], second);
    assert_eq!(gateway.admin("/readyz").status, 200);
    assert!(gateway.metric("wbg_config_reload_success") == 0.0);
}
