//! Client certificates: the authorities in `[listen.tls]`, the names of callers.

use super::{Project, errors, load, profile};

/// A configuration under TLS, whose files are there, with more lines in `[listen.tls]`.
fn under_tls(more: &str) -> Project {
    let project =
        Project::with(&format!("[listen.tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n{more}\n"));
    let one = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    project.private("c.pem", &one.cert.pem());
    project.private("k.pem", &one.signing_key.serialize_pem());
    project.private("ca.pem", &one.cert.pem());
    project.private("none.pem", "none");
    project.private(
        "no-authority.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    project
}

fn caller(certificates: &str) -> String {
    profile(&format!("[callers.app]\nprofile = \"backend\"\ncertificates = [{certificates}]"))
}

#[test]
fn the_authorities_of_clients_are_read_before_the_start() {
    let loaded = under_tls("client_ca = \"ca.pem\"\nclient_auth = \"require\"").load(&[]);
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    let client = loaded.settings.server.tls.unwrap().client.unwrap();
    assert!(client.required && client.crls.is_empty() && client.ca.ends_with("ca.pem"));
    assert_eq!(loaded.files.len(), 4);
}

#[test]
fn what_is_wrong_with_a_file_is_told_by_its_key() {
    for (more, told) in [
        ("client_ca = \"none.pem\"", "client_ca` names a file without a certificate in PEM"),
        ("client_ca = \"gone.pem\"", "client_ca` names a file that cannot be read"),
        ("client_ca = \"no-authority.pem\"", "client_ca` names a file with no authority's"),
        (
            "client_ca = \"ca.pem\"\nclient_crl = \"none.pem\"",
            "client_crl` names a file without a list of revoked certificates in PEM",
        ),
        (
            "client_ca = \"ca.pem\"\nclient_crl = [\"gone.pem\", \"none.pem\"]",
            "client_crl[0]` names a file that cannot be read",
        ),
        ("client_auth = \"require\"", "client_auth` means nothing without client_ca"),
        ("client_crl = \"none.pem\"", "client_crl` means nothing without client_ca"),
        ("client_ca = \"ca.pem\"\nclient_auth = \"requir\"", "did you mean \"require\"?"),
    ] {
        let said = under_tls(more).load(&[]).err().unwrap();
        assert!(said.contains(told), "{more}\n  said {said}");
    }
}

#[test]
fn a_name_is_of_one_kind_and_of_one_caller() {
    let other = "[callers.other]\nprofile = \"backend\"\n";
    let name = "certificates = [{ dns = \"APP.example.org\" }]";
    for (text, told) in [
        (caller("{}"), "callers.app.certificates[0]` must have one of spiffe, dns and subject"),
        (
            caller("{ dns = \"a\", subject = \"CN=a\" }"),
            "must have one of spiffe, dns and subject: a certificate needs only",
        ),
        (caller("{ dns = \"*.example.org\" }"), "a wildcard names nobody"),
        (caller("{ spiffe = \"spiffe://td\" }"), "a trust domain in small letters, and a path"),
        (caller("{ subject = \"app\" }"), "RFC 4514"),
        (caller("{ subject = \"XX=app\" }"), "parts of the types CN"),
        (caller("{ email = \"a@b\" }"), "is not a key here"),
        (
            caller("{ dns = \"app.example.org\" }") + other + name,
            "callers.other.certificates[0]` is the same name as `callers.app.certificates[0]`",
        ),
    ] {
        let said = errors(&text);
        assert!(said.contains(told), "{text}\n  said {said}");
    }
}

#[test]
fn names_that_nobody_is_asked_for_are_doubtful() {
    let loaded = load(&caller("{ dns = \"app.example.org\" }"));
    let said: Vec<&str> = loaded.warnings.iter().map(|one| one.message.as_str()).collect();
    let told = "`callers.app.certificates` can never be seen";
    assert!(said.iter().any(|one| one.starts_with(told)), "{said:?}");
    assert!(!said.iter().any(|one| one.contains("has no key")), "{said:?}");
}
