//! The key exchange of TLS on the wire: what the gateway offers first, and what it takes.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use rustls::NamedGroup;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::server::Acceptor;

use crate::support::{Authority, Setup, TlsClient, Upstream};

#[test]
fn as_a_client_we_offer_a_post_quantum_exchange_first() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let setup = Setup::new(&url).with("[upstream]\nca = \"authority.pem\"\n");
    Authority::new("authority").write(setup.folder.path());
    let gateway = setup.start();
    let hello = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut shown = vec![0; 16 * 1024];
        let mut length = 0;
        let mut acceptor = Acceptor::default();
        loop {
            let read = stream.read(&mut shown[length..]).unwrap();
            assert!(read > 0, "the hello is cut short");
            acceptor.read_tls(&mut &shown[length..length + read]).unwrap();
            length += read;
            if let Some(accepted) = acceptor.accept().map_err(|(why, _)| why).unwrap() {
                let groups = accepted.client_hello().named_groups().unwrap().to_vec();
                shown.truncate(length);
                return (groups, shown);
            }
        }
    });
    _ = gateway.call("GET", "/v5/rooms/a", "");
    let (groups, shown) = hello.join().unwrap();
    assert_eq!(groups.first(), Some(&NamedGroup::X25519MLKEM768), "{groups:?}");
    // Not the name alone: the first share is of that group, 0x11ec, with a key of 1216 bytes.
    assert!(shown.windows(4).any(|part| part == [0x11, 0xec, 0x04, 0xc0]), "no share of it");
}

/// The group that a client with these agrees upon with the gateway.
fn agreed(groups: &[&'static dyn SupportedKxGroup]) -> NamedGroup {
    let authority = Authority::new("authority");
    let setup = Setup::new(&Upstream::json("200 OK", "{}").url())
        .with("[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n");
    authority.certify("localhost").write(setup.folder.path());
    let gateway = setup.start();
    let provider = rustls::crypto::CryptoProvider {
        kx_groups: groups.to_vec(),
        ..aws_lc_rs::default_provider()
    };
    let client = TlsClient::by(&authority, Arc::new(provider));
    let shown = client.try_connect(gateway.address).unwrap();
    shown.stream.conn.negotiated_key_exchange_group().unwrap().name()
}

#[test]
fn as_a_server_we_take_a_post_quantum_exchange_of_those_who_offer_it() {
    let (hybrid, classic) = (kx_group::X25519MLKEM768, kx_group::X25519);
    for (offered, expected) in [
        (&[hybrid, classic][..], NamedGroup::X25519MLKEM768),
        (&[hybrid], NamedGroup::X25519MLKEM768),
        (&[classic], NamedGroup::X25519),
    ] {
        assert_eq!(agreed(offered), expected, "{offered:?}");
    }
}
