//! Client certificates: the authorities in `[listen.tls]`, the names of callers.

use std::fs;

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
    let client = loaded.settings.server.listeners[0].tls.clone().unwrap().client.unwrap();
    assert!(client.required && client.crls.is_empty());
    assert!(client.authorities[0].file.ends_with("ca.pem"));
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
        ("trust_domains = { \"a\" = \"b\" }", "trust_domains` means nothing without client_ca"),
        ("transport_certificates = \"all\"", "certificates` means nothing without client_ca"),
        ("client_ca = {}", "client_ca` is an empty table"),
        ("client_ca = { Ours = \"ca.pem\" }", "client_ca.Ours` has a name that cannot be"),
        ("client_ca = { ours = \"gone.pem\" }", "client_ca.ours` names a file that cannot be read"),
        ("client_ca = { ours = \"none.pem\" }", "client_ca.ours` names a file without a"),
        ("client_ca = 7", "must be the path of a PEM file, or a table of names and paths"),
        (
            "client_ca = { ours = \"ca.pem\" }\ntrust_domains = { \"a.org\" = \"our\" }",
            "does not have; did you mean `ours`?",
        ),
        (
            "client_ca = { ours = \"ca.pem\" }\ntrust_domains = { \"A.org\" = \"ours\" }",
            "is no trust domain",
        ),
        (
            "client_ca = \"ca.pem\"\ntrust_domains = { \"a.org\" = \"ours\" }",
            "gives none a name: write client_ca = { ours = \"path\" }",
        ),
        (
            "client_ca = \"ca.pem\"\ntransport_certificates = \"some\"",
            "must be \"all\", or a list of names",
        ),
        (
            "client_ca = \"ca.pem\"\ntransport_certificates = [{ dns = \"a\", subject = \"CN=a\" }]",
            "transport_certificates[0]` must have one of spiffe, dns and subject",
        ),
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

/// The warnings about a caller, whom these authorities can certify.
fn doubts(more: &str, certificate: &str) -> Vec<String> {
    let project = under_tls(more);
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    let both = fs::read_to_string(project.path("ca.pem")).unwrap() + &other.cert.pem();
    project.private("other.pem", &other.cert.pem());
    project.private("both.pem", &both);
    project.append(&caller(certificate));
    let loaded = project.load(&[]).unwrap_or_else(|errors| panic!("{errors}"));
    let said = loaded.warnings.into_iter().map(|one| one.message);
    said.filter(|one| one.starts_with("`callers.app.certificates")).collect()
}

#[test]
fn a_name_that_several_authorities_can_give_says_whose_it_is() {
    let named = "client_ca = { ours = \"ca.pem\", partner = \"other.pem\" }\n";
    let mapped = format!("{named}trust_domains = {{ \"example.org\" = \"ours\" }}\n");
    let (spiffe, dns) =
        ("{ spiffe = \"spiffe://example.org/app\" }", "{ dns = \"a.example.org\" }");
    let whose = "{ dns = \"a.example.org\", authority = \"ours\" }";
    for (more, certificate, told) in [
        ("client_ca = \"ca.pem\"", spiffe, None),
        ("client_ca = \"both.pem\"", spiffe, Some("give them names there")),
        ("client_ca = { ours = \"both.pem\" }", spiffe, None),
        (named, spiffe, Some("listen.tls.trust_domains")),
        (named, dns, Some("write authority =")),
        (named, whose, None),
        (&mapped, spiffe, None),
        (&mapped, dns, Some("write authority =")),
        ("client_ca = \"ca.pem\"\ntransport_certificates = \"all\"", dns, Some("can never count")),
    ] {
        let said = doubts(more, certificate);
        let fits = told.is_none_or(|told| said.iter().any(|one| one.contains(told)));
        assert!(
            fits && said.len() == usize::from(told.is_some()),
            "{more} {certificate}: {said:?}"
        );
    }
}

#[test]
fn an_authority_of_a_name_is_one_of_those_that_are_trusted() {
    let ours = "client_ca = { ours = \"ca.pem\", partner = \"none.pem\" }\n";
    let named = |more: &str, certificates: &str| {
        let project = under_tls(&format!("{ours}{more}"));
        project.append(&caller(certificates));
        project.load(&[]).err().unwrap()
    };
    for (more, certificates, told) in [
        (
            "",
            "{ dns = \"a\", authority = \"theirs\" }",
            "authority that listen.tls.client_ca does not",
        ),
        ("", "{ dns = \"a\", authority = \"our\" }", "did you mean `ours`?"),
        ("", "{ dns = \"a\" }, { dns = \"a\", authority = \"ours\" }", "is the same name as"),
        (
            "trust_domains = { \"a.org\" = \"partner\" }",
            "{ spiffe = \"spiffe://a.org/a\", authority = \"ours\" }",
            "gives to another authority",
        ),
        (
            "transport_certificates = [{ dns = \"A\" }]",
            "{ dns = \"a\" }",
            "a certificate that only secures the transport identifies no caller",
        ),
    ] {
        let said = named(more, certificates);
        assert!(said.contains(told), "{certificates}\n  said {said}");
    }
}

#[test]
fn a_certificate_and_a_key_that_cannot_be_used_together_are_told_why() {
    let one = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    let key = one.signing_key.serialize_pem();
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n\
               AAAA\n-----END RSA PRIVATE KEY-----\n";
    for (chain, key, told) in [
        (other.cert.pem() + &one.cert.pem(), &*key, "tls.certificate` names a file with the cert"),
        (other.cert.pem() + &one.cert.pem(), &key, "the key is that of certificate 2"),
        (other.cert.pem(), &key, "tls.key` is of another certificate"),
        (one.cert.pem(), encrypted, "tls.key` names a file whose private key is encrypted"),
        (one.cert.pem(), old, "openssl pkey"),
        (one.cert.pem(), "none", "tls.key` names a file without a private key"),
    ] {
        let project = under_tls("");
        project.private("c.pem", &chain);
        project.private("k.pem", key);
        let said = project.load(&[]).err().unwrap();
        assert!(said.contains(told), "{told}\n  said {said}");
    }
}
