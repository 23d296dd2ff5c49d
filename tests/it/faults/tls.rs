//! What an upstream does wrong under HTTP: certificates, and handshakes that come to nothing.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use super::matrix::{Bound, Outcome, Row, broken, failure};
use crate::support::faulty::{Fault, Then, Tls, WELL};
use crate::support::{Authority, Identity, answer};

/// Whose certificates the gateway trusts, and those of a stranger.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("Upstream"));
static STRANGER: LazyLock<Authority> = LazyLock::new(|| Authority::new("Stranger"));

/// Where every upstream is.
const HOST: &str = "127.0.0.1";

/// What certificate an upstream shows until it is mended.
#[derive(Clone, Copy)]
pub(crate) enum Shown {
    Good,
    Expired,
    OfAnotherName,
    OfAStranger,
    OfAClient,
}

impl Shown {
    fn identity(self) -> Identity {
        match self {
            Self::Good => AUTHORITY.certify(HOST),
            Self::Expired => AUTHORITY.certify_expired(HOST),
            Self::OfAnotherName => AUTHORITY.certify("elsewhere.example"),
            Self::OfAStranger => STRANGER.certify(HOST),
            Self::OfAClient => AUTHORITY.client("localhost"),
        }
    }

    pub(crate) fn tls(self, protocols: &[&str]) -> Tls {
        let known: Vec<&str> =
            protocols.iter().copied().filter(|name| ["h2", "http/1.1"].contains(name)).collect();
        Tls {
            faulty: self.identity().serving(protocols),
            well: Self::Good.identity().serving(&known),
        }
    }

    /// Writes down whom the gateway is to trust, and gives the line of its configuration.
    pub(crate) fn trusted(folder: &Path) -> String {
        fs::write(folder.join("ca.pem"), &AUTHORITY.pem).unwrap();
        "ca = \"ca.pem\"\n".to_owned()
    }
}

const NO_TLS: &str = "no TLS connection to the whiteboard service could be made";
const BROKE_OFF: &str = "the whiteboard service's answer broke off";
const CERTIFICATE: Outcome = broken(NO_TLS, "tls_certificate_error");
const PROTOCOL: Outcome = broken(NO_TLS, "tls_protocol_error");

fn says(text: &str, then: Then) -> Fault {
    Fault::Says(text.as_bytes().to_vec(), then)
}

fn good() -> Fault {
    says(&answer("200 OK", WELL), Then::Keep)
}

fn shows(name: &'static str, shown: Shown) -> Row {
    Row::secure(name, shown, &["http/1.1"], good(), CERTIFICATE).never_arrives()
}

rows! {
    pub(super) fn rows;
    shows_a_certificate_whose_time_is_over =>
        shows("shows a certificate whose time is over", Shown::Expired),
    shows_a_certificate_of_another_name =>
        shows("shows a certificate of another name", Shown::OfAnotherName),
    shows_a_certificate_of_an_unknown_authority =>
        shows("shows a certificate of an unknown authority", Shown::OfAStranger),
    shows_a_certificate_that_is_not_for_servers =>
        shows("shows a certificate that is not for servers", Shown::OfAClient),
    speaks_no_protocol_that_the_gateway_offers =>
        Row::secure(
            "speaks no protocol that the gateway offers",
            Shown::Good,
            &["spdy/3"],
            good(),
            PROTOCOL,
        )
        .never_arrives(),
    // These never get as far as a handshake, so that what they do comes before TLS.
    speaks_plain_http_on_the_port_of_tls =>
        Row::handshake(
            "speaks plain HTTP on the port of TLS",
            |peer| peer.says(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n", Then::Close),
            PROTOCOL,
        ),
    knows_tls_1_1_at_most =>
        Row::handshake(
            "knows TLS 1.1 at most",
            // The alert protocol_version (RFC 8446 §6.2).
            |peer| peer.says(&[21, 3, 2, 0, 2, 2, 70], Then::Close),
            PROTOCOL,
        ),
    closes_in_the_handshake =>
        Row::handshake("closes in the handshake", |_| Then::Close, PROTOCOL),
    never_ends_the_handshake =>
        Row::handshake(
            "never ends the handshake",
            |_| Then::Hold,
            failure(
                500,
                "upstream_timeout",
                "the whiteboard service could not be connected to in time",
                "connection_timeout",
            ),
        )
        .within(Bound::Connect),
    ends_an_answer_of_no_length_without_ending_tls =>
        Row::secure(
            "ends an answer of no length without ending TLS",
            Shown::Good,
            &["http/1.1"],
            says("HTTP/1.1 200 OK\r\n\r\n{\"uuid\":", Then::Close),
            broken(BROKE_OFF, "http_response_incomplete"),
        ),
}
