//! What can be set: refused with a clear message when it is wrong, written down where it is documented,
//! and, in the text of the configuration, reloaded or rolled out as it must be.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{
    EVERYTHING, LEAST, MOUNTED, Release, SETS, chart, check, helm, list, rendered, said, text,
};
use crate::docs::Page;
use crate::house::root;

/// An operator, as a value.
const OPERATOR: &str = r#"operators={"ada": {"role": "operator", "keys": [{"id": "5gK3bcdeBCDE",
    "digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000"}]}}"#;

/// The defaults, as JSON.
fn defaults() -> Value {
    let text = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let documents: Value = serde_json::from_str(&check(&["objects"], &text).unwrap()).unwrap();
    documents[0].clone()
}

/// Values that hold no others, by their paths.
fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    match value.as_object() {
        Some(object) if !object.is_empty() => {
            for (key, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(value, &format!("{path}{dot}{key}"), found);
            }
        }
        _ => _ = found.insert(path.to_owned(), value.clone()),
    }
}

/// Renders with a configuration, which is written to a file.
fn configured(config: &str, more: &[&str]) -> Result<String, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), config).unwrap();
    let config = format!("config={}", file.path().display());
    rendered(4, "", &[&["--set-file", &config], &MOUNTED[..], more].concat())
}

#[test]
fn a_value_that_is_wrong_is_refused_by_its_name() {
    for (set, wanted) in [
        ("replicas=two", "'/replicas': got string, want integer"),
        ("replicaCount=2", "additional properties 'replicaCount' not allowed"),
        ("image.pullPolicy=always", "'/image/pullPolicy': value must be one of"),
        ("image.digest=latest", "'/image/digest'"),
        ("admin.port=80", "'/admin/port': minimum"),
        ("admin.port=8080", "admin.port: is listen.port as well"),
        ("admin.hosts[0]=a:9090", "'/admin/hosts/0'"),
        ("admin.tls.certificate=a", "additional properties 'certificate' not allowed"),
        ("operators.ada.role=admin", "'/operators/ada/role': value must be one of"),
        ("operators.ada.keys[0].key=planted", "'/operators/ada/keys/0'"),
        ("operators.Ada.role=viewer", "invalid propertyName"),
        ("listen.address=localhost", "'/listen/address'"),
        ("listen.workers=0", "'/listen/workers': minimum"),
        ("shutdown.drain=10s", "additional properties 'drain' not allowed"),
        ("shutdown.marginSeconds=0", "'/shutdown/marginSeconds': minimum"),
        ("tls.clientAuth=maybe", "value must be one of 'request', 'require'"),
        ("tls.clientCA.existingSecret=ca", "tls.clientCA: client certificates need TLS"),
        ("store.url=http://store", "'/store/url'"),
        ("store.url=redis://store", "networkPolicy.egress.store.to: say where the store is"),
        ("store.url=redis://:planted@store", "store.url: no user and no password in it"),
        ("store.mode=sentinel", "'/store/master'"),
        ("service.externalTrafficPolicy=Local", "'/service/externalTrafficPolicy'"),
        ("ingress.enabled=true", "'/ingress/hosts': minItems"),
        ("httpRoute.enabled=true", "'/httpRoute/parentRefs': minItems"),
        ("prometheusRule.runbookBaseUrl=docs", "'/prometheusRule/runbookBaseUrl'"),
        ("podDisruptionBudget.maxUnavailable=0", "'/podDisruptionBudget/maxUnavailable'"),
        ("networkPolicy.ingress.from[0].namespace=a", "'/networkPolicy/ingress/from/0'"),
        ("serviceMonitor.interval=often", "'/serviceMonitor/interval'"),
        ("sandbox=true", "sandbox: it has a configuration of its own"),
        ("files.a.key=b", "'/files/a'"),
    ] {
        let refused = configured(LEAST, &["--set", set]).unwrap_err();
        assert!(refused.contains(wanted), "{set}: {refused}");
        assert!(!refused.contains("planted"), "{set}: {refused}");
    }
    let refused = rendered(4, "", &[]).unwrap_err();
    assert!(refused.contains("config: give it the text of gateway.toml"), "{refused}");
    for (set, wanted) in [
        (r#"files={"../a": {"existingSecret": "a", "key": "b"}}"#, "invalid propertyName"),
        (r#"files={"gateway.toml": {"existingSecret": "a", "key": "b"}}"#, "invalid propertyName"),
        (r#"operators={"ada": {"role": "viewer"}}"#, "missing property 'keys'"),
        (OPERATOR, "operators: their keys would cross the network in the clear"),
        (r#"autoscaling={"enabled": true, "minReplicas": 20}"#, "autoscaling.minReplicas"),
        (
            r#"autoscaling={"enabled": true, "inFlight": null, "cpu": null}"#,
            "autoscaling: leave it",
        ),
    ] {
        let refused = configured(LEAST, &["--set-json", set]).unwrap_err();
        assert!(refused.contains(wanted), "{set}: {refused}");
    }
}

#[test]
fn a_configuration_that_cannot_work_in_a_pod_is_refused_before_it_is_there() {
    let key = |key: &str| format!("[projects.a]\nkeys = [{{ access_key = \"a\", {key} }}]\n");
    for (config, wanted) in [
        ("[upstream]\n= \"eu\"\n", "config: this is no TOML, at line 2"),
        ("[listen]\naddress = \"0.0.0.0:80\"\n", "use the value listen.address and listen.port"),
        ("[listen]\nworkers = 2\n", "config: listen.workers is set by the chart"),
        ("[listen]\npre_drain = \"1s\"\n", "use the value shutdown.preDrainSeconds"),
        ("[listen]\ndrain = \"1s\"\n", "use the value shutdown.drainSeconds"),
        ("[listen.tls]\ncertificate = \"a\"\n", "use the value tls.existingSecret"),
        ("[listen.tls]\nclient_crl = \"a\"\n", "config: [listen.tls] needs a certificate"),
        ("[admin]\naddress = \"off\"\n", "use the value admin.port"),
        ("[admin]\nhosts = [\"a\"]\n", "use the value admin.hosts"),
        ("[admin]\ninsecure = true\n", "use the value admin.insecure"),
        ("[admin.tls]\nkey = \"a\"\n", "use the value admin.tls.existingSecret"),
        ("[admin.tls]\nclient_ca = \"a\"\n", "config: [admin.tls] needs a certificate"),
        ("[operators.ada]\nrole = \"viewer\"\n", "operators: their keys would cross"),
        ("[store]\nreplicas = 2\n", "use the value replicas or autoscaling.maxReplicas"),
        ("[audit]\nfile = \"./audit.jsonl\"\n", "config: audit.file is a file, and nothing can"),
        ("[log]\naccess = \"/var/log/access.log\"\n", "config: log.access is a file"),
        ("[budgets]\nfile = \"/data/budgets.db\"\n", "config: budgets.file is a file"),
        (&key("secret_key = \"planted\""), "config: projects.a.keys[0].secret_key: a secret"),
        ("[projects.a]\nsdk_token = \"planted\"\n", "config: projects.a.sdk_token: a secret"),
        ("[issuers.a]\nsecret = \"planted\"\n", "config: issuers.a.secret: a secret"),
        ("[store]\npassword = \"planted\"\n", "config: store.password: a secret"),
        ("[store]\nsentinel_password = \"planted\"\n", "config: store.sentinel_password: a secret"),
        ("[store]\nurl = \"redis://:planted@h\"\n", "config: store.url: a secret"),
        ("[store]\nurl = [\"redis://:planted@h\"]\n", "config: store.url: a secret"),
        ("x = planted\n", "config: this is no TOML, at line 1"),
    ] {
        let refused = configured(config, &[]).unwrap_err();
        assert!(refused.contains(wanted), "{config}: {refused}");
        assert!(!refused.contains("planted"), "{config}: {refused}");
    }
    let store = ["--set", "store.url=redis://store", "--set-json", "networkPolicy.enabled=false"];
    let refused = configured("[store]\nmode = \"cluster\"\n", &store).unwrap_err();
    assert!(refused.contains("config: store.mode is set by the chart: use the value store.mode"));
    let both = ["--set-json", OPERATOR, "--set", "admin.tls.existingSecret=a"];
    let refused = configured("[operators.grace]\nrole = \"viewer\"\n", &both).unwrap_err();
    assert!(refused.contains("config: [operators] is in the value operators as well"), "{refused}");
    let budgets = "[budgets]\nfile = \"/var/lib/whiteboard-gateway/budgets.db\"\n";
    let refused = configured(budgets, &["--set", "persistence.enabled=true"]).unwrap_err();
    assert!(refused.contains("config: budgets.file: each of several replicas"), "{refused}");
    let elsewhere = "[audit]\nfile = \"/data/audit.jsonl\"\n";
    let refused = configured(elsewhere, &["--set", "persistence.enabled=true"]).unwrap_err();
    assert!(
        refused.contains("config: audit.file must be below persistence.mountPath"),
        "{refused}"
    );
}

/// So that a forgotten one is not noticed by the pod alone.
#[test]
fn a_file_or_variable_that_the_pod_would_lack_is_refused_by_its_key() {
    let file = |path: &str| {
        format!(
            "[projects.a]\nkeys = [{{ access_key = \"a\", secret_key = {{ file = \"{path}\" }} }}]\n"
        )
    };
    let unmounted = "config: projects.a.keys[0].secret_key.file: no value mounts this file";
    for (config, wanted) in [
        (file("secrets/planted"), unmounted),
        (file("./secrets/planted"), unmounted),
        (file("/etc/whiteboard-gateway/secrets/planted"), unmounted),
        (
            "[projects.a]\nsdk_token = { env = \"PLANTED\" }\n".to_owned(),
            "config: projects.a.sdk_token.env: the pod has no such variable",
        ),
        ("[upstream]\nca = \"planted.pem\"\n".to_owned(), "config: upstream.ca: no value mounts"),
        (
            "[issuers.a]\nkey_file = \"planted.pem\"\n".to_owned(),
            "config: issuers.a.key_file: no value mounts",
        ),
        (
            "[otlp]\nheaders = { authorization = { env = \"PLANTED\" } }\n".to_owned(),
            "config: otlp.headers.authorization.env: the pod has no such variable",
        ),
    ] {
        let refused = configured(&config, &[]).unwrap_err();
        assert!(refused.contains(wanted), "{config}: {refused}");
        assert!(!refused.to_lowercase().contains("planted"), "{config}: {refused}");
    }
    for (config, more) in [
        (file("secrets/classroom-sk"), &[][..]),
        (file("./secrets/classroom-sk"), &[]),
        (file("/etc/whiteboard-gateway/secrets/classroom-sk"), &[]),
        // What an agent puts beside the gateway.
        (file("/vault/secrets/sk"), &[]),
        (
            "[projects.a]\nsdk_token = { env = \"TOKEN\" }\n".to_owned(),
            &["--set", "env[0].name=TOKEN,env[0].value=a"],
        ),
        // Names of others, and a file that is written to.
        ("[otlp]\nresource = { env = \"production\" }\n".to_owned(), &[]),
        (
            "[issuers.a]\nprofile = { claim = \"c\", map = { file = \"b\", env = \"b\" } }\n"
                .to_owned(),
            &[],
        ),
        ("[audit]\nfile = \"stdout\"\n".to_owned(), &[]),
    ] {
        configured(&config, more).unwrap_or_else(|why| panic!("{config}: {why}"));
    }
}

#[test]
fn an_alert_leads_to_its_section_of_the_runbook_where_that_can_be_read() {
    let base = "prometheusRule.enabled=true,prometheusRule.runbookBaseUrl=https://git.example.org/gateway/";
    let release = Release::configured(LEAST, &["--set", base]);
    let mut led = 0;
    for group in list(&release.one("PrometheusRule")["spec"]["groups"]) {
        for rule in list(&group["rules"]).filter(|rule| rule.get("alert").is_some()) {
            let annotations = &rule["annotations"];
            let wanted =
                format!("https://git.example.org/gateway/{}", text(&annotations["runbook"]));
            assert_eq!(text(&annotations["runbook_url"]), wanted);
            led += 1;
        }
    }
    assert!(led > 40, "{led} alerts");
}

#[test]
fn a_change_that_is_reloaded_leaves_the_pods_and_one_that_takes_a_restart_replaces_them() {
    let config = |more: &str| Release::configured(&format!("{LEAST}{more}"), &[]);
    let before = config("[profiles.a]\nproject = \"classroom\"\nlimit = { rate = \"1/s\" }\n");
    for reloaded in [
        "[profiles.a]\nproject = \"classroom\"\nlimit = { rate = \"2/s\" }\n",
        "[errors]\nprofile = \"extended\"\n",
        "[log]\nlevel = \"debug\"\n",
        "# a comment\n",
    ] {
        let after = config(reloaded);
        assert_ne!(after.config(), before.config(), "{reloaded}");
        assert_eq!(after.pod(), before.pod(), "{reloaded}");
    }
    // Operators are taken away by a reload.
    let admin = ["--set", "admin.tls.existingSecret=a"];
    let [none, one] = [&admin[..], &[&admin[..], &["--set-json", OPERATOR]].concat()]
        .map(|more| Release::configured(LEAST, more));
    assert!(one.config().contains("[operators.ada]"), "{}", one.config());
    assert_eq!(none.pod(), one.pod());
    for restarted in ["[listen]\nmax_connections = 100\n", "[log]\nformat = \"text\"\n"] {
        assert_ne!(config(restarted).pod(), before.pod(), "{restarted}");
    }
    for set in ["listen.workers=3", "shutdown.drainSeconds=60", "env[0].name=A,env[0].value=b"] {
        let after = Release::configured(LEAST, &["--set", set]);
        assert_ne!(after.pod(), config("").pod(), "{set}");
    }
    // A newer chart alone is no reason to replace them.
    assert_eq!(before.pod()["metadata"]["labels"].get("helm.sh/chart"), None);
}

#[test]
fn the_readme_of_the_chart_has_every_value_with_its_default_and_no_other() {
    let mut there = BTreeMap::new();
    leaves(&defaults(), "", &mut there);
    let page = Page::read("deploy/helm/whiteboard-gateway/README.md");
    let rows = page.rows_of("\n## Values\n");
    assert!(rows.len() > 50, "{} rows", rows.len());
    for (path, default) in &there {
        // A row says a value, or all below one.
        let says = |row: &&Vec<String>| {
            *path == row[0] || path.strip_prefix(&row[0]).is_some_and(|rest| rest.starts_with('.'))
        };
        let row = rows.iter().find(says).unwrap_or_else(|| panic!("no row for {path}"));
        // Of a list or an object it may say in words what is in it.
        let words = !default.is_string() && serde_json::from_str::<Value>(&row[1]).is_err();
        if row[0] == *path && !words {
            assert_eq!(row[1], default.to_string(), "{path}");
        }
    }
    for row in rows {
        let known = |path: &String| *path == row[0] || path.starts_with(&format!("{}.", row[0]));
        assert!(there.keys().any(known), "there is no value {}", row[0]);
    }
}

#[test]
fn the_schema_of_the_values_is_one_and_knows_every_value() {
    let path = chart().join("values.schema.json");
    check(&["schema", &path.display().to_string()], "").unwrap();
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut there = BTreeMap::new();
    leaves(&defaults(), "", &mut there);
    for path in there.keys() {
        let mut at = &schema;
        for key in path.split('.') {
            at = match at.get("$ref").map(text) {
                Some(name) => schema.pointer(name.trim_start_matches('#')).unwrap(),
                None => at,
            };
            // `inFlight` and `cpu` may be null instead.
            at = list(&at["oneOf"]).find(|one| one.get("properties").is_some()).unwrap_or(at);
            // What Kubernetes knows better than this schema.
            if at.get("properties").is_none() {
                assert_eq!(text(&at["type"]).trim_end(), "object", "{path}");
                break;
            }
            assert_eq!(at["additionalProperties"], false, "{path}");
            at = at["properties"].get(key).unwrap_or_else(|| panic!("{path} is not known"));
            if at["type"].is_array() {
                break;
            }
        }
    }
}

#[test]
fn the_chart_is_of_the_version_of_the_gateway() {
    let manifest = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let version = format!("appVersion: \"{}\"\n", env!("CARGO_PKG_VERSION"));
    assert!(manifest.contains(&version), "no {version}");
    let release = Release::configured(LEAST, &[]);
    let image = text(&release.container()["image"]);
    assert_eq!(image, concat!("whiteboard-gateway:", env!("CARGO_PKG_VERSION")));
    let pinned = Release::of(EVERYTHING);
    assert!(text(&pinned.container()["image"]).contains("whiteboard-gateway@sha256:0000"));
}

#[test]
fn the_notes_say_what_is_doubtful() {
    let notes = |set: &str, more: &[&str]| {
        let mut command: Command = helm(4);
        command.args(["install", "wb", "--dry-run=client", "--namespace", "whiteboard"]);
        command.arg(chart()).args(super::values_of(set)).args(more);
        let printed = said(command, "").unwrap();
        printed.split_once("\nNOTES:\n").unwrap().1.to_owned()
    };
    let plain = notes("production", &[]);
    assert!(plain.contains("https://whiteboard.example.org"), "{plain}");
    assert!(!plain.contains("WARNING"), "{plain}");
    let open = notes("production", &["--set", "networkPolicy.enabled=false"]);
    assert!(open.contains("WARNING: without networkPolicy.enabled"), "{open}");
    let alone = notes("production", &["--set", "store.url="]);
    assert!(alone.contains("WARNING: 12 replicas without a store"), "{alone}");
    let clear = notes("production", &["--set", "admin.insecure=true", "--set-json", OPERATOR]);
    assert!(clear.contains("WARNING: with admin.insecure"), "{clear}");
    assert!(notes("sandbox", &[]).contains("It is a SANDBOX"));
    assert!(notes("single", &["--set", "persistence.whenDeleted=Delete"]).contains("WARNING"));
}

/// A chart cannot reach outside of itself, so it has a copy.
#[test]
fn the_alerts_of_the_chart_are_those_of_prometheus() {
    let copy = chart().join("files/alerts.yml");
    let original = root().join("deploy/prometheus/alerts.yml");
    let [theirs, ours] = [&original, &copy].map(|path| fs::read_to_string(path).unwrap());
    assert!(theirs == ours, "cp {} {}", original.display(), copy.display());
    let documents: Value = serde_json::from_str(&check(&["objects"], &ours).unwrap()).unwrap();
    for set in SETS.iter().filter(|set| **set != "sandbox") {
        let release = Release::of(set);
        assert_eq!(release.one("PrometheusRule")["spec"]["groups"], documents[0]["groups"]);
    }
}

#[test]
fn the_rule_for_the_adapter_is_of_the_metric_that_the_autoscaler_asks_for() {
    let page = Page::read("docs/deploy.md");
    let section = page.section("\n## Kubernetes\n");
    let blocks = section.texts("yaml adapter");
    let [block] = blocks[..] else { panic!("{} rules", blocks.len()) };
    let documents: Value = serde_json::from_str(&check(&["objects"], block).unwrap()).unwrap();
    let rule = &documents[0]["rules"][0];
    let metric = text(&defaults()["autoscaling"]["inFlight"]["metric"]).to_owned();
    assert!(text(&rule["seriesQuery"]).starts_with(&format!("{metric}{{")), "{rule}");
    assert_eq!(text(&rule["name"]["matches"]), format!("^{metric}$"));
}

#[test]
fn the_commands_of_the_documentation_render() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("deploy"), folder.path().join("deploy")).unwrap();
    fs::write(folder.path().join("gateway.toml"), LEAST).unwrap();
    let mut ran = 0;
    for page in ["docs/deploy.md", "deploy/helm/whiteboard-gateway/README.md"] {
        for block in Page::read(page).texts("sh") {
            for line in block.replace("\\\n", " ").lines() {
                let Some(arguments) = line.trim().strip_prefix("helm upgrade --install ") else {
                    continue;
                };
                let mut command = helm(4);
                command.arg("template").args(arguments.split_whitespace());
                command.current_dir(folder.path());
                said(command, "").unwrap_or_else(|why| panic!("{page}: {line}: {why}"));
                ran += 1;
            }
        }
    }
    assert!(ran >= 3, "only {ran} commands were found");
}
