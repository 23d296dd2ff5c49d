//! A real Prometheus that scrapes gateways every second and evaluates the rules of `deploy/`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{JOB, RULES};
use crate::house::root;
use crate::support::{Client, wait_until};

/// Runs until it is dropped.
pub(super) struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Prometheus {
    /// One that scrapes these.
    pub(super) fn scraping(targets: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let targets: Vec<String> = targets.iter().map(|one| format!("\"{one}\"")).collect();
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs:\n  - job_name: {JOB}\n    static_configs: [{{ targets: [{}] }}]\n",
            root().join(RULES).display(),
            targets.join(", ")
        );
        fs::write(folder.path().join("prometheus.yml"), text).unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}/prometheus.yml", folder.path().display()));
        command.arg(format!("--storage.tsdb.path={}/data", folder.path().display()));
        command.arg("--web.listen-address=127.0.0.1:0");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("prometheus does not start ({error}); tests/run installs it")
        });
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut prometheus = Self { child, address, folder };
        wait_until("prometheus listens", || {
            let log = prometheus.log();
            let ended = prometheus.child.try_wait().unwrap();
            assert!(ended.is_none(), "prometheus ended: {log}");
            let line = log.lines().find(|line| line.contains("\"Listening on\""));
            let address = line.and_then(|line| line.rsplit("address=").next()?.parse().ok());
            prometheus.address = address.unwrap_or(prometheus.address);
            address.is_some()
        });
        wait_until("prometheus is ready", || {
            Client::connect(prometheus.address).request("GET", "/-/ready", &[], "").status == 200
        });
        prometheus
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// What it says in `data`; or why it cannot.
    fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let encoded = parameters.iter().map(|(name, value)| {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            format!("{}={value}", utf8_percent_encode(name, NON_ALPHANUMERIC))
        });
        let query: Vec<String> = encoded.collect();
        let path = format!("/api/v1/{path}?{}", query.join("&"));
        let mut answer = Client::connect(self.address).request("GET", &path, &[], "").json();
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// What an expression has now: each series and its value.
    pub(super) fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>, String> {
        let data = self.ask("query", &[("query", expression)])?;
        let series = data["result"].as_array().ok_or("no vector")?.iter().map(|one| {
            let value = one["value"][1].as_str().unwrap_or_default();
            (one["metric"].clone(), value.parse().unwrap_or(f64::NAN))
        });
        Ok(series.collect())
    }

    /// The values of a label of the series of a selector.
    pub(super) fn label_values(&self, label: &str, selector: &str) -> Vec<String> {
        let data = self.ask(&format!("label/{label}/values"), &[("match[]", selector)]).unwrap();
        let values = data.as_array().unwrap().iter();
        values.map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    /// Its rules of a kind, `alert` or `record`.
    pub(super) fn rules(&self, kind: &str) -> Vec<Value> {
        let data = self.ask("rules", &[("type", kind)]).unwrap();
        let groups = data["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of prometheus:\n{}", self.log());
        }
    }
}
