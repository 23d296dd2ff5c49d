//! Certificates of others that do not hold: what is said of them names the cause and the cure.

use std::fs;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};

use crate::jwt::section;
use crate::support::faulty::{Fault, Faulty, Then, Tls};
use crate::support::{Authority, Identity, Issuer, Setup, Signer, answer, wait_until};

/// A service that shows this certificate.
fn showing(identity: &Identity) -> Faulty {
    let config = identity.serving(&["http/1.1"]);
    let tls = Tls { faulty: config.clone(), well: config };
    Faulty::start(Fault::Says(answer("200 OK", "{}").into_bytes(), Then::Keep), Some(tls))
}

/// What the log says of a request to such a service.
fn told(identity: &Identity, ca: Option<&Authority>) -> String {
    let service = showing(identity);
    let setup = Setup::new(&format!("https://{}", service.address));
    let mut keys = "[upstream]\n".to_owned();
    if let Some(ca) = ca {
        fs::write(setup.folder.path().join("ca.pem"), &ca.pem).unwrap();
        keys.push_str("ca = \"ca.pem\"\n");
    }
    let gateway = setup.with(&keys).start();
    let answered = gateway.call("GET", "/v5/rooms", "");
    answered.assert_envelope(500, "upstream_error");
    assert!(answered.header("proxy-status").contains("tls_certificate_error"));
    let line = gateway.access_line(answered.header("x-request-id"));
    line["detail"].as_str().unwrap().to_owned()
}

#[test]
fn a_certificate_of_the_service_that_does_not_hold_is_told_with_its_cure() {
    let (authority, stranger) = (Authority::new("Upstream"), Authority::new("Stranger"));
    let of_an_authority = authority.issue(|one| {
        one.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        one.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        one.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let trusted = Some(&authority);
    for (identity, ca, words) in [
        (
            authority.certify_expired("127.0.0.1"),
            trusted,
            ["ended on 2020-02-01T00:00:00Z", "renew"],
        ),
        (
            authority.certify("elsewhere.example"),
            trusted,
            ["is for elsewhere.example and not for 127.0.0.1", "URL"],
        ),
        (stranger.certify("127.0.0.1"), trusted, ["none of the authorities in", "`upstream.ca`"]),
        (
            authority.certify("127.0.0.1"),
            None,
            ["no authority that this machine trusts", "`upstream.ca`"],
        ),
        (authority.client("localhost"), trusted, ["not one for servers", "serverAuth"]),
        (of_an_authority, trusted, ["of an authority (CA:TRUE) as its own", "`upstream.ca`"]),
    ] {
        let told = told(&identity, ca);
        assert!(words.iter().all(|word| told.contains(word)), "{words:?} in {told}");
        assert!(!told.contains("Error"), "{told}");
    }
}

#[test]
fn a_self_signed_certificate_of_an_authority_is_trusted_where_it_is_named_itself() {
    let made = |name: &str, ended: bool| {
        let mut one = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // As `openssl req -x509` makes it.
        one.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if ended {
            one.not_before = rcgen::date_time_ymd(2020, 1, 1);
            one.not_after = rcgen::date_time_ymd(2020, 2, 1);
        }
        let key = KeyPair::generate().unwrap();
        let pem = one.self_signed(&key).unwrap().pem();
        (Identity::of(pem.clone(), key.serialize_pem()), pem)
    };
    for (name, ended, said) in [
        ("127.0.0.1", false, None),
        ("elsewhere.example", false, Some("is for elsewhere.example and not for 127.0.0.1")),
        ("127.0.0.1", true, Some("ended on 2020-02-01")),
    ] {
        let (identity, pem) = made(name, ended);
        let service = showing(&identity);
        let setup = Setup::new(&format!("https://{}", service.address));
        fs::write(setup.folder.path().join("ca.pem"), &pem).unwrap();
        let gateway = setup.with("[upstream]\nca = \"ca.pem\"\n").start();
        let answered = gateway.call("GET", "/v5/rooms", "");
        match said {
            None => assert_eq!(answered.status, 200, "{}", answered.text()),
            Some(said) => {
                let line = gateway.access_line(answered.header("x-request-id"));
                let detail = line["detail"].as_str().unwrap();
                assert!(detail.contains(said), "{detail}");
            }
        }
    }
}

#[test]
fn a_certificate_of_an_identity_provider_that_does_not_hold_is_told_with_its_cure() {
    let issuer = Issuer::serving(&[Arc::new(Signer::rs256("a"))]);
    let setup = Setup::new("http://127.0.0.1:9");
    fs::write(setup.folder.path().join("other.pem"), &Authority::new("Stranger").pem).unwrap();
    let keys = format!("jwks = \"{}/jwks\"\nca = \"other.pem\"\n", issuer.url());
    let gateway =
        setup.with(&section("school", issuer.url(), &keys, "profile = \"backend\"\n")).start();
    let mut told = String::new();
    wait_until("it is told", || {
        let ready = gateway.admin("/readyz").json();
        told = ready["issuers"]["school"]["error"].as_str().unwrap_or_default().to_owned();
        !told.is_empty()
    });
    assert!(told.contains("none of the authorities in `ca` has issued its certificate"), "{told}");
}
