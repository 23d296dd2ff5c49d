//! The compose file, as `docker-compose` resolves it: hardened, whole, and of one mind with the files
//! that it mounts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value};

use super::{Prepared, ran, read, seconds, stop, tried, yaml};
use crate::house::{files, root};
use crate::support::slot;

fn services(model: &Value) -> &Map<String, Value> {
    model["services"].as_object().unwrap()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

#[test]
fn nothing_is_started_before_it_is_prepared() {
    let folder = tempfile::tempdir().unwrap();
    super::copy(&root().join("deploy"), folder.path());
    let mut command = Command::new("docker-compose");
    command.args(["--file", "compose.yaml", "config"]).current_dir(folder.path());
    let (output, told) = tried(command.env_remove("WBG_USER"));
    assert!(!output.status.success());
    assert!(told.contains("run deploy/compose/prepare first"), "{told}");
}

#[test]
fn what_is_prepared_once_is_left_as_it_is() {
    let deploy = Prepared::new();
    let files = [
        "compose/secrets/classroom-sk",
        "compose/secrets/grafana-password",
        "compose/secrets/lessons-key",
        "compose/secrets/operator-key",
        "compose/secrets/store-key.pem",
        "compose/secrets/store-password",
        "compose/secrets/store-users.acl",
        "compose/secrets/store.pem",
        "compose/gateway/gateway.toml",
        ".env",
    ];
    let state = || files.map(|file| deploy.read(&format!("deploy/{file}")));
    let before = state();
    deploy.prepare();
    assert!(state() == before, "something was made anew");
    for file in files.iter().filter(|file| file.contains("/secrets/")) {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = deploy.path(&format!("deploy/{file}")).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file} can be read by others");
    }
    let password = deploy.read("deploy/compose/secrets/store-password");
    let users = deploy.read("deploy/compose/secrets/store-users.acl");
    assert!(!users.contains(password.trim()), "the store has the digest alone");
}

#[test]
fn preparing_changes_no_file_of_the_repository() {
    let deploy = Prepared::new();
    for file in files(&root().join("deploy")) {
        let name = file.strip_prefix(root()).unwrap();
        // What an earlier run of the script made in the repository itself.
        let made = [
            "deploy/.env",
            "deploy/compose/data",
            "deploy/compose/gateway",
            "deploy/compose/secrets",
        ];
        if !made.iter().any(|made| name.starts_with(made)) {
            assert!(
                fs::read(&file).unwrap() == fs::read(deploy.path(name.to_str().unwrap())).unwrap(),
                "{} was changed",
                name.display()
            );
        }
    }
    let configuration = deploy.read("deploy/compose/gateway/gateway.toml");
    assert!(!configuration.contains("sha256:0000"), "a placeholder is still there");
    for (file, section) in
        [("lessons-key", "[callers.lessons]"), ("operator-key", "[operators.ops]")]
    {
        let key = deploy.read(&format!("deploy/compose/secrets/{file}"));
        let key = slot(key.trim());
        let (_, section) = configuration.split_once(section).unwrap();
        let (section, _) = section.split_once("\n[").unwrap();
        assert!(section.contains(&key), "{file} is not that of {section}");
    }
}

#[test]
fn every_service_can_do_no_more_than_it_must() {
    let model = Prepared::new().model();
    // Their images have a user of their own who is not root.
    let own = ["balancer", "prometheus"];
    for (name, service) in services(&model) {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(service.get("privileged").is_none() && service.get("cap_add").is_none(), "{name}");
        assert!(service["mem_limit"].is_string() || service["mem_limit"].is_u64(), "{name}");
        assert!(service["healthcheck"]["test"].is_array(), "{name}");
        assert_eq!(service.get("user").is_none(), own.contains(&name.as_str()), "{name}");
        let image = service["image"].as_str().unwrap();
        let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
        assert!(tag.contains('.') && !tag.contains("latest"), "{image}");
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} is published to everybody: {port}");
        }
    }
}

#[test]
fn only_what_is_published_has_a_way_out() {
    let model = Prepared::new().model();
    for (name, service) in services(&model) {
        let outside = service["networks"].as_object().unwrap().contains_key("edge");
        assert_eq!(outside, service.get("ports").is_some(), "{name}");
    }
    for (name, network) in model["networks"].as_object().unwrap() {
        assert_eq!(network["internal"] == true, name != "edge", "{name}");
    }
}

#[test]
fn what_is_mounted_is_there() {
    let deploy = Prepared::new();
    let model = deploy.model();
    let mut seen = 0;
    for (name, service) in services(&model) {
        for volume in texts(&service["volumes"]) {
            let source = volume.split(':').next().unwrap();
            let named = model["volumes"].as_object().unwrap().contains_key(source);
            assert!(named || Path::new(source).exists(), "{name} mounts {source}");
            seen += 1;
        }
    }
    for (name, secret) in model["secrets"].as_object().unwrap() {
        let file = secret["file"].as_str().unwrap();
        assert!(Path::new(file).is_file(), "the secret {name} is not in {file}");
        seen += 1;
    }
    assert!(seen > 10, "only {seen} were seen");
}

#[test]
fn a_stop_takes_no_longer_than_it_is_given() {
    let deploy = Prepared::new();
    let model = deploy.model();
    let most = stop(&deploy.path("deploy/compose/gateway/gateway.toml"));
    for name in ["gateway-1", "gateway-2"] {
        let given = seconds(services(&model)[name]["stop_grace_period"].as_str().unwrap());
        assert!((most + 5..most + 20).contains(&given), "{name}: {given} s for {most} s");
    }
    // The balancer looks twice within the time in which a gateway is not ready and still serves.
    let balancer = read("deploy/haproxy/haproxy.cfg");
    assert!(balancer.contains(" inter 1s fall 2 "), "{balancer}");
}

#[test]
fn ports_and_addresses_are_the_same_everywhere() {
    let deploy = Prepared::new();
    let model = deploy.model();
    let services = services(&model);
    let configuration: toml::Table =
        deploy.read("deploy/compose/gateway/gateway.toml").parse().unwrap();
    let listen = configuration["listen"]["address"].as_str().unwrap();
    let (_, port) = listen.rsplit_once(':').unwrap();
    let admin = services["gateway-1"]["environment"]["WBG__ADMIN__ADDRESS"].as_str().unwrap();
    let (_, admin_port) = admin.rsplit_once(':').unwrap();
    let balancer = read("deploy/haproxy/haproxy.cfg");
    for name in ["gateway-1", "gateway-2"] {
        let server = format!("server {name} {name}:{port}\n");
        assert!(balancer.contains(&server), "the balancer has no {server}");
        let check = texts(&services[name]["healthcheck"]["test"]);
        assert_eq!(check.last(), Some(&format!("http://127.0.0.1:{admin_port}/readyz").as_str()));
        assert_eq!(services[name]["image"], services["sandbox"]["image"]);
    }
    assert!(balancer.contains(&format!("check port {admin_port} ")));
    let published = texts(&services["balancer"]["ports"])[0].trim_end_matches("/tcp");
    let inside = published.rsplit(':').next().unwrap();
    assert!(balancer.contains(&format!("bind :{inside}\n")), "{published}");
    let address = services["balancer"]["networks"]["front"]["ipv4_address"].as_str().unwrap();
    let trusted = configuration["listen"]["trusted_proxies"].as_array().unwrap();
    assert_eq!(trusted.iter().map(|one| one.as_str().unwrap()).collect::<Vec<_>>(), [address]);
    assert_eq!(configuration["store"]["url"].as_str(), Some("rediss://store:6379"));
    assert!(texts(&services["store"]["command"]).contains(&"--tls-port 6379"));
    let gateways = services.keys().filter(|name| name.starts_with("gateway-")).count();
    assert_eq!(configuration["store"]["replicas"].as_integer(), Some(gateways.try_into().unwrap()));
    let version = env!("CARGO_PKG_VERSION");
    let image = services["gateway-1"]["image"].as_str().unwrap();
    assert_eq!(image, format!("whiteboard-gateway:{version}"));
}

#[test]
fn prometheus_looks_at_what_is_there() {
    let deploy = Prepared::new();
    let model = deploy.model();
    let services = services(&model);
    let jobs = yaml(&root().join("deploy/prometheus/prometheus.yml"));
    let mut targets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for job in jobs["scrape_configs"].as_array().unwrap() {
        let name = job["job_name"].as_str().unwrap();
        targets.insert(name, texts(&job["static_configs"][0]["targets"]));
    }
    let gateways = services.keys().filter(|name| name.starts_with("gateway-"));
    let expected: Vec<String> = gateways.map(|name| format!("{name}:9090")).collect();
    assert_eq!(targets["whiteboard-gateway"], expected);
    assert_eq!(targets["balancer"], ["balancer:8405"]);
    for (job, targets) in targets {
        for target in targets.iter().filter(|target| !target.starts_with("127.0.0.1")) {
            let (host, _) = target.split_once(':').unwrap();
            let networks = services[host]["networks"].as_object().unwrap();
            assert!(networks.contains_key("monitoring"), "{job} cannot reach {target}");
        }
    }
    let config = root().join("deploy/prometheus/prometheus.yml");
    ran(Command::new("promtool").args(["check", "config"]).arg(config));
}

#[test]
fn grafana_is_provisioned_with_what_is_there() {
    let model = Prepared::new().model();
    let services = services(&model);
    let provisioning = root().join("deploy/grafana/provisioning");
    let sources = yaml(&provisioning.join("datasources/prometheus.yml"));
    let url = sources["datasources"][0]["url"].as_str().unwrap();
    assert_eq!(url, "http://prometheus:9090");
    assert!(services["prometheus"]["networks"].as_object().unwrap().contains_key("monitoring"));
    let dashboards = yaml(&provisioning.join("dashboards/gateway.yml"));
    let path = dashboards["providers"][0]["options"]["path"].as_str().unwrap();
    let mounts = texts(&services["grafana"]["volumes"]);
    assert!(mounts.iter().any(|mount| mount.contains(&format!(":{path}:ro"))), "{mounts:?}");
}

#[test]
fn the_stores_user_may_do_what_the_documentation_says_and_no_more() {
    let line_of = |page: &str, start: &str| {
        read(page).lines().find(|line| line.starts_with(start)).unwrap().to_owned()
    };
    let limits = line_of("docs/limits.md", "user gateway on ");
    let documented = format!("{limits} {}", line_of("docs/budgets.md", "+hget "));
    let rights = |line: &str| {
        let words = line.split(' ').filter(|word| word.starts_with(['+', '~']));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let users = Prepared::new().read("deploy/compose/secrets/store-users.acl");
    let user = users.lines().find(|line| line.starts_with("user gateway on ")).unwrap();
    assert_eq!(rights(user), rights(&documented));
    let others = users.lines().find(|line| line.starts_with("user default ")).unwrap();
    assert!(others.ends_with(" -@all +ping"), "{others}");
}

#[test]
fn the_balancer_takes_its_configuration() {
    let config = root().join("deploy/haproxy/haproxy.cfg");
    ran(Command::new("haproxy").args(["-c", "-q", "-f"]).arg(config));
}
