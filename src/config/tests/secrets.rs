//! Secrets and certificates: where they are found, and what is wrong with them.

use super::*;
use crate::token::ProjectCredential;

#[test]
fn a_secret_is_found_where_the_file_says() {
    let project = Project::with(
        r#"
        [projects.a]
        keys = [
          { access_key = "A", secret_key = { env = "WBG_CLASSROOM_SK" } },
          { access_key = "B", secret_key = { file = "sk" } },
          { access_key = "C", secret_key = "inline", state = "verify_only" },
        ]
        "#,
    );
    project.private("sk", "\u{feff} from a file\r\n\r\n");
    let loaded = project.load(&[("WBG_CLASSROOM_SK", "from a variable\r")]).ok().unwrap();
    let ProjectCredential::Keys(keys) = &loaded.settings.gateway.projects[0].credential else {
        panic!("a project with keys");
    };
    let secrets: Vec<&str> = keys.iter().map(|key| key.secret_key.expose()).collect();
    assert_eq!(secrets, ["from a variable", "from a file", "inline"]);
    assert_eq!(loaded.files, [project.file(), project.path("sk")]);
    let inline: Vec<_> =
        loaded.warnings.iter().filter(|warning| warning.message.contains("in the file")).collect();
    assert_eq!(inline.len(), 1);
    assert!(inline[0].message.starts_with("`projects.a.keys[2].secret_key`"));

    let empty = project.load(&[("WBG_CLASSROOM_SK", " ")]).err().unwrap();
    assert!(empty.contains("`projects.a.keys[0].secret_key.env` is an empty secret"), "{empty}");
}

#[test]
fn a_secret_that_others_may_read_is_warned_about() {
    let project = Project::with("[projects.a]\nsdk_token = { file = \"token\" }\n");
    project.private("token", "NETLESSSDK_x");
    let exposed =
        |project: &Project| project.warnings().iter().any(|warning| warning.contains("chmod 600"));
    assert!(!exposed(&project));
    fs::set_permissions(project.path("token"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(exposed(&project));
}

/// systemd lets its user read a credential by a list of access, which shows as a right of the group.
#[test]
fn a_secret_that_a_service_manager_keeps_is_not_warned_about() {
    let project = Project::with("[projects.a]\nsdk_token = { file = \"token\" }\n");
    project.private("token", "NETLESSSDK_x");
    fs::set_permissions(project.path("token"), fs::Permissions::from_mode(0o440)).unwrap();
    let warned = |directory: &str| {
        let variables = [("CREDENTIALS_DIRECTORY", directory)];
        let loaded = project.load(&variables).unwrap_or_else(|errors| panic!("{errors}"));
        loaded.warnings.iter().any(|warning| warning.message.contains("chmod 600"))
    };
    let file = project.path("token");
    assert!(!warned(file.parent().unwrap().to_str().unwrap()));
    assert!(warned("/run/credentials/another.service"));
    assert!(warned(""));
}

#[test]
fn a_secret_in_a_variable_of_the_configuration_is_not_in_the_file() {
    let project = Project::with("");
    let variables = [("WBG__PROJECTS__A__SDK_TOKEN", "NETLESSSDK_x")];
    let loaded = project.load(&variables).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(loaded.warnings.iter().all(|warning| !warning.message.contains("in the file")));
}

#[test]
fn a_certificate_and_a_key_of_another_are_told_before_the_start() {
    let project = Project::with("[listen.tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n");
    let one = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    project.private("c.pem", &one.cert.pem());
    project.private("k.pem", &other.signing_key.serialize_pem());
    let said = project.load(&[]).err().unwrap();
    assert!(said.contains("`listen.tls.key` is of another certificate"), "{said}");
    project.private("k.pem", "no key");
    let said = project.load(&[]).err().unwrap();
    assert!(said.contains("`listen.tls.key` names a file without a private key in PEM"), "{said}");
    project.private("k.pem", &one.signing_key.serialize_pem());
    assert_eq!(project.load(&[]).ok().unwrap().files.len(), 3);
}
