//! The objects of the chart: valid for Kubernetes, hardened, and made for each other.

use serde_json::{Value, json};

use super::{EVERYTHING, Release, SETS, chart, check, helm, list, rendered, said, selects, text};
use super::{tool, values_of};
use crate::house::root;

/// The oldest Kubernetes that `Chart.yaml` names, and the newest whose schemas there are.
const KUBERNETES: [&str; 2] = ["1.27", "1.37"];

fn everywhere() -> impl Iterator<Item = &'static str> {
    SETS.into_iter().chain([EVERYTHING])
}

#[test]
fn the_chart_passes_the_lint_of_both_helms() {
    for set in everywhere() {
        for major in [3, 4] {
            let mut command = helm(major);
            command.args(["lint", "--strict", "--kube-version", "1.27"]).arg(chart());
            command.args(values_of(set));
            said(command, "").unwrap_or_else(|why| panic!("helm {major}, {set}: {why}"));
        }
    }
}

#[test]
fn the_configuration_of_each_set_is_valid_by_the_schema() {
    let (mut compiler, mut schemas) = (boon::Compiler::new(), boon::Schemas::new());
    let path = root().join("config/gateway.schema.json");
    let schema = compiler.compile(path.to_str().unwrap(), &mut schemas).unwrap();
    let mut seen = 0;
    for release in everywhere().map(Release::of).filter(|one| !one.all("ConfigMap").is_empty()) {
        let config: Value = toml::from_str(release.config()).unwrap();
        schemas.validate(&config, schema).unwrap_or_else(|why| panic!("{why:#}"));
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn both_helms_render_the_same() {
    for set in everywhere() {
        let [three, four] = [3, 4].map(|major| {
            let text = rendered(major, set, &[]).unwrap();
            let objects: Value =
                serde_json::from_str(&check(&["objects"], &text).unwrap()).unwrap();
            // Helm 4 sorts kinds of the same rank differently.
            let mut objects = objects.as_array().unwrap().clone();
            objects.sort_by_key(|one| format!("{}/{}", one["kind"], one["metadata"]["name"]));
            objects
        });
        assert!(three.len() >= 6, "{set}: {} objects", three.len());
        assert_eq!(three, four, "{set}");
    }
}

#[test]
fn every_object_is_valid_for_the_oldest_and_the_newest_kubernetes() {
    let arguments = [&["validate"], &KUBERNETES[..]].concat();
    for set in everywhere() {
        let valid = check(&arguments, &rendered(4, set, &[]).unwrap());
        valid.unwrap_or_else(|why| panic!("{set}: {why}"));
    }
    let manifest = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    assert!(manifest.contains(&format!("kubeVersion: \">={}.0-0\"", KUBERNETES[0])));
}

/// So that the test above says something.
#[test]
fn the_schemas_refuse_a_key_that_is_misspelt_and_a_value_of_another_type() {
    let text = rendered(4, "production", &[]).unwrap();
    for (right, wrong) in [
        ("periodSeconds: 2", "periodSecond: 2"),
        ("containerPort: 9090", "containerPort: admin"),
        ("maxUnavailable: 1", "maxUnavailable: [1]"),
        ("scrapeTimeout: 10s", "scrapTimeout: 10s"),
        ("interval: 15s", "interval: often"),
        ("alert:", "alarm:"),
    ] {
        assert!(text.contains(right), "{right}");
        let refused = check(&["validate", "1.37"], &text.replace(right, wrong)).unwrap_err();
        assert!(refused.contains("/wb-whiteboard-gateway"), "{wrong}: {refused}");
    }
    let twice = check(&["objects"], "a: 1\na: 2\n").unwrap_err();
    assert!(twice.contains("twice"), "{twice}");
}

#[test]
fn the_yaml_is_in_one_style_written_and_rendered() {
    let lint = |path: &str, input: &str| {
        let mut command = tool("venv/bin/yamllint");
        command.args(["--strict", "--config-file"]);
        command.arg(root().join("tests/deploy/helm/yamllint.yaml")).arg(path);
        command.current_dir(root());
        said(command, input).unwrap_or_else(|why| panic!("{path}: {why}"));
    };
    lint("deploy/helm", "");
    for set in everywhere() {
        lint("-", &rendered(4, set, &[]).unwrap());
    }
}

#[test]
fn what_selects_pods_selects_those_of_the_gateway() {
    for set in everywhere() {
        let release = Release::of(set);
        let labels = &release.pod()["metadata"]["labels"];
        let mut selectors: Vec<&Value> =
            release.all("Service").iter().map(|one| &one["spec"]["selector"]).collect();
        for kind in ["Deployment", "StatefulSet", "PodDisruptionBudget"] {
            let all = release.all(kind);
            selectors.extend(all.iter().map(|one| &one["spec"]["selector"]["matchLabels"]));
        }
        let policies = release.all("NetworkPolicy");
        selectors.extend(policies.iter().map(|one| &one["spec"]["podSelector"]["matchLabels"]));
        let spread = list(&release.pod()["spec"]["topologySpreadConstraints"]);
        selectors.extend(spread.map(|one| &one["labelSelector"]["matchLabels"]));
        assert!(selectors.len() >= 6, "{set}: {selectors:?}");
        for selector in selectors {
            assert!(selects(selector, labels), "{set}: {selector} does not select {labels}");
        }
    }
}

#[test]
fn every_port_that_is_named_somewhere_is_one_of_the_container() {
    for set in everywhere() {
        let release = Release::of(set);
        for service in release.all("Service") {
            for port in list(&service["spec"]["ports"]) {
                release.port(text(&port["targetPort"]));
            }
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            release.port(text(&release.container()[probe]["httpGet"]["port"]));
        }
        // What the configuration listens on is what the container says.
        let variables = release.variables();
        let scheme = if variables.contains_key("WBG__LISTEN__TLS__KEY") { "https" } else { "http" };
        for (variable, name) in [("WBG__LISTEN__ADDRESS", scheme), ("WBG__ADMIN__ADDRESS", "admin")]
        {
            let (host, port) = variables[variable].rsplit_once(':').unwrap();
            assert!(["0.0.0.0", "[::]"].contains(&host), "{set}: a probe does not reach {host}");
            assert_eq!(port, release.port(name).to_string(), "{set}: {variable}");
        }
    }
}

#[test]
fn the_ingress_and_the_autoscaler_lead_to_objects_that_are_there() {
    for set in ["production", EVERYTHING] {
        let release = Release::of(set);
        let ingress = release.one("Ingress");
        let backend = &ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"];
        let named = |one: &&&Value| one["metadata"]["name"] == backend["name"];
        let services = release.all("Service");
        let service = services.iter().find(named).unwrap();
        let mut ports = list(&service["spec"]["ports"]);
        assert!(ports.any(|port| port["name"] == backend["port"]["name"]), "{set}: {backend}");
        let workload = release.workload();
        let target = json!({ "apiVersion": "apps/v1", "kind": workload["kind"], "name": workload["metadata"]["name"] });
        let scaler = &release.one("HorizontalPodAutoscaler")["spec"];
        assert_eq!(scaler["scaleTargetRef"], target, "{set}");
        // Each upgrade would take the replicas back from the autoscaler.
        assert_eq!(workload["spec"].get("replicas"), None, "{set}");
        assert_eq!(release.variables()["WBG__STORE__REPLICAS"], scaler["maxReplicas"].to_string());
    }
}

/// There are no schemas of the Gateway API here, so its fields are written down.
#[test]
fn a_route_of_the_gateway_api_leads_to_the_service_and_keeps_its_parents() {
    let route = r#"httpRoute={"enabled": true, "annotations": {"a": "b"}, "hostnames": ["a.example.org"],
        "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}]}"#;
    for (set, port) in [("production", 443), ("sandbox", 80)] {
        let release = Release::with(set, &["--set-json", route]);
        let route = release.one("HTTPRoute");
        assert_eq!(route["apiVersion"], "gateway.networking.k8s.io/v1");
        assert_eq!(route["metadata"]["annotations"], json!({ "a": "b" }));
        let services = release.all("Service");
        let backend = &route["spec"]["rules"][0]["backendRefs"][0];
        let named = |one: &&&Value| one["metadata"]["name"] == backend["name"];
        let service = services.iter().find(named).unwrap();
        let spec = json!({
            "parentRefs": [{ "name": "public", "namespace": "gateways", "sectionName": "https" }],
            "hostnames": ["a.example.org"],
            "rules": [{ "backendRefs": [{ "name": backend["name"], "port": port }] }],
        });
        assert_eq!(route["spec"], spec, "{set}");
        assert!(list(&service["spec"]["ports"]).any(|one| one["port"] == port), "{set}: {service}");
    }
}

#[test]
fn prometheus_scrapes_the_admin_service_and_no_other() {
    let release = Release::of("production");
    let monitor = &release.one("ServiceMonitor")["spec"];
    let endpoint = &monitor["endpoints"][0];
    let selected: Vec<&Value> = release
        .all("Service")
        .into_iter()
        .filter(|one| selects(&monitor["selector"]["matchLabels"], &one["metadata"]["labels"]))
        .collect();
    let [service] = selected[..] else { panic!("{} are selected", selected.len()) };
    assert_eq!(service["spec"]["ports"][0]["name"], endpoint["port"]);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "admin");
    assert_eq!((text(&endpoint["path"]), text(&endpoint["scheme"])), ("/metrics", "http"));
    // What the alerts go by.
    let job = &service["metadata"]["labels"][text(&monitor["jobLabel"])];
    assert!(text(job).contains("whiteboard-gateway"), "{job}");
    // Nobody makes it public by making the gateway public.
    assert_eq!(
        (text(&service["spec"]["type"]), text(&service["spec"]["clusterIP"])),
        ("ClusterIP", "None")
    );
}

#[test]
fn a_pod_has_no_right_that_the_gateway_does_not_need() {
    for set in everywhere() {
        let release = Release::of(set);
        let (pod, container) = (&release.pod()["spec"], release.container());
        assert_eq!(pod["automountServiceAccountToken"], false, "{set}");
        assert_eq!(release.one("ServiceAccount")["automountServiceAccountToken"], false, "{set}");
        assert_eq!(pod["enableServiceLinks"], false, "{set}");
        let user = &pod["securityContext"];
        assert_eq!(user["runAsNonRoot"], true, "{set}");
        assert!(user["runAsUser"].as_u64().unwrap() >= 10_000, "{set}: {user}");
        assert_eq!(user["seccompProfile"]["type"], "RuntimeDefault", "{set}");
        let confined = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(container["securityContext"], confined, "{set}");
        for bound in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
            assert!(container["resources"].pointer(bound).is_some(), "{set}: no {bound}");
        }
        assert_eq!(release.all("Role").len() + release.all("ClusterRole").len(), 0, "{set}");
        // Secrets are readable by the group of the pod alone, and it is in that group.
        let group = user["fsGroup"].as_u64();
        for volume in list(&pod["volumes"]) {
            assert_eq!(volume["projected"]["defaultMode"], 0o440, "{set}");
            assert_eq!(group, user["runAsGroup"].as_u64(), "{set}");
        }
    }
}

#[test]
fn the_kubelet_waits_longer_than_the_gateway_drains_and_asks_often_enough() {
    for set in everywhere() {
        let release = Release::of(set);
        let variables = release.variables();
        let seconds =
            |name: &str| -> u64 { variables[name].trim_end_matches('s').parse().unwrap() };
        let (before, drain) = (seconds("WBG__LISTEN__PRE_DRAIN"), seconds("WBG__LISTEN__DRAIN"));
        let grace = release.pod()["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > before + drain, "{set}: {grace} s for {before} s and {drain} s");
        // docs/production.md: /readyz is to be asked more often than every pre_drain.
        let period = release.container()["readinessProbe"]["periodSeconds"].as_u64().unwrap();
        assert!(period <= before, "{set}: every {period} s, and {before} s to learn of it");
    }
}

/// The rules of a direction that allow a port, each with its peers.
fn allowing(policy: &Value, way: &str, protocol: &str, port: u64) -> Vec<Vec<Value>> {
    let peers = if way == "ingress" { "from" } else { "to" };
    let allows = |rule: &&Value| {
        list(&rule["ports"]).any(|one| one["port"] == port && one["protocol"] == protocol)
    };
    let rules = list(&policy["spec"][way]).filter(allows);
    rules.map(|rule| list(&rule[peers]).cloned().collect()).collect()
}

#[test]
fn the_network_policy_lets_through_what_the_gateway_needs_and_no_more() {
    for set in everywhere() {
        let release = Release::of(set);
        let policy = release.one("NetworkPolicy");
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]), "{set}");
        for way in ["ingress", "egress"] {
            let closed = |rule: &Value| list(&rule["ports"]).count() > 0;
            assert!(list(&policy["spec"][way]).all(closed), "{set}: a rule for every port");
        }
        let listens = text(&release.container()["ports"][0]["name"]);
        assert_eq!(allowing(policy, "ingress", "TCP", release.port(listens)).len(), 1, "{set}");
        // Nothing but peers that are named reach the admin listener.
        let admin = allowing(policy, "ingress", "TCP", release.port("admin"));
        assert_eq!(admin.len(), 1, "{set}");
        assert!(admin.iter().all(|peers| !peers.is_empty()), "{set}: everybody reads the metrics");
        for protocol in ["UDP", "TCP"] {
            assert_eq!(allowing(policy, "egress", protocol, 53).len(), 1, "{set}: no names");
        }
        let upstream = allowing(policy, "egress", "TCP", 443);
        assert_eq!(upstream.len(), usize::from(set != "sandbox"), "{set}: {upstream:?}");
        for peer in upstream.iter().flatten().filter(|peer| peer["ipBlock"]["cidr"] == "0.0.0.0/0")
        {
            let except = &peer["ipBlock"]["except"];
            for inside in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"] {
                assert!(list(except).any(|one| one == inside), "{set}: {inside} is reached");
            }
        }
        if let Some(url) = release.variables().get("WBG__STORE__URL") {
            let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
            let store = allowing(policy, "egress", "TCP", port);
            assert!(store.len() == 1 && !store[0].is_empty(), "{set}: {store:?}");
        }
    }
}

#[test]
fn nobody_but_the_kubelet_reads_the_admin_listener_when_nobody_is_named() {
    let release = Release::with("sandbox", &["--set-json", "networkPolicy.ingress.metricsFrom=[]"]);
    let admin = allowing(release.one("NetworkPolicy"), "ingress", "TCP", release.port("admin"));
    assert_eq!(admin, Vec::<Vec<Value>>::new());
}

#[test]
fn secrets_are_references_wherever_they_stand() {
    const KEYS: [&str; 5] = ["secret_key", "sdk_token", "secret", "password", "sentinel_password"];
    fn walk(value: &toml::Value, key: &str, found: &mut usize) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    walk(value, key, found);
                }
            }
            toml::Value::Array(array) => {
                for value in array {
                    walk(value, key, found);
                }
            }
            _ => assert!(!KEYS.contains(&key), "{key} is written out"),
        }
        *found += usize::from(KEYS.contains(&key));
    }
    for set in ["production", "single", EVERYTHING] {
        let release = Release::of(set);
        assert_eq!(release.all("Secret").len(), 0, "{set}: a chart that makes Secrets holds them");
        let mut found = 0;
        walk(&toml::Value::Table(toml::from_str(release.config()).unwrap()), "", &mut found);
        assert!(found > 0, "{set}: no secret is used");
        for name in release.variables().keys().filter(|name| name.starts_with("WBG__")) {
            let key = name.rsplit("__").next().unwrap().to_lowercase();
            assert!(!KEYS.contains(&key.as_str()), "{set}: {name}");
        }
    }
}

#[test]
fn what_is_written_to_is_on_the_volume() {
    let release = Release::of("single");
    assert_eq!(release.workload()["kind"], "StatefulSet");
    assert_eq!(release.workload()["spec"]["replicas"], 1);
    let mount = list(&release.container()["volumeMounts"]).find(|one| one["name"] == "data");
    let claim = &release.workload()["spec"]["volumeClaimTemplates"][0];
    assert_eq!(claim["metadata"]["name"], "data");
    let path = text(&mount.unwrap()["mountPath"]);
    for file in ["audit.jsonl", "budgets.db"] {
        assert!(release.config().contains(&format!("\"{path}/{file}\"")), "{file}");
    }
    // A headless Service gives the pods of a StatefulSet their names.
    let service = &release.workload()["spec"]["serviceName"];
    assert!(
        release
            .all("Service")
            .iter()
            .any(|one| one["metadata"]["name"] == *service && one["spec"]["clusterIP"] == "None")
    );
}
