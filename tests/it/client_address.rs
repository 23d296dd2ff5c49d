//! Who is taken for the client, in the access log and in the audit: what a trusted proxy wrote, read
//! from the right by its grammar, and one spelling for each address.

use std::net::SocketAddr;

use crate::support::{Client, Process, Setup, Upstream, wait_until};

fn gateway(field: &str) -> Process {
    let listen = format!(
        "[listen]\ntrusted_proxies = [\"::ffff:127.0.0.1\"]\nclient_address = \"{field}\"\n"
    );
    Setup::new(&Upstream::json("200 OK", "{}").url()).with(&listen).start()
}

/// The client in the access line of a request with these lines of a field.
fn client(gateway: &Process, name: &str, lines: &[&[u8]]) -> String {
    let mut request = format!("GET /v5/rooms/r HTTP/1.1\r\nhost: a\r\ntoken: {}\r\n", gateway.key);
    request.push_str("content-length: 0\r\n");
    let mut request = request.into_bytes();
    for line in lines {
        request.extend([name.as_bytes(), b": ", line, b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    let mut client = gateway.client();
    client.send(&request);
    let answer = client.answer("GET").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = gateway.access_line(answer.header("x-request-id"));
    line["client"].as_str().unwrap().to_owned()
}

#[test]
fn forwarded_is_read_by_its_grammar_from_the_right() {
    let gateway = gateway("forwarded");
    let cases: [(&[&[u8]], &str); 11] = [
        (&[b"for=9.9.9.9"], "9.9.9.9"),
        (&[b"for=6.6.6.6, for=9.9.9.9"], "9.9.9.9"),
        (&[b"by=_gw;host=\"x,for=6.6.6.6\";for=1.2.3.4"], "1.2.3.4"),
        (&[b"proto=http;host=\"x,for=6.6.6.6\";for=9.9.9.9"], "9.9.9.9"),
        (&[b"proto=http;host=\"x;for=6.6.6.6\";for=9.9.9.9"], "9.9.9.9"),
        (&[b"by=10.0.0.1;for=9.9.9.9;host=\"x,for=6.6.6.6\""], "9.9.9.9"),
        (&[b"for=\"9.9.9.9\";host=\"a\\\",for=6.6.6.6\""], "9.9.9.9"),
        (&[b"for=6.6.6.6;x=\"", b"for=9.9.9.9"], "9.9.9.9"),
        (&[b"for=\"6.6.6.6", b"for=\"[2001:db8::1]:4711\""], "2001:db8::1"),
        (&[b"\xff, for=\"[::ffff:9.9.9.9]\""], "9.9.9.9"),
        (&[b"for=6.6.6.6;host=\"x"], "127.0.0.1"),
    ];
    for (lines, expected) in cases {
        assert_eq!(client(&gateway, "Forwarded", lines), expected, "{lines:?}");
    }
}

#[test]
fn x_forwarded_for_is_read_from_the_right_whatever_bytes_stand_left() {
    let gateway = gateway("x-forwarded-for");
    let cases: [(&[&[u8]], &str); 7] = [
        (&[b"6.6.6.6, 9.9.9.9"], "9.9.9.9"),
        (&[b"\xff, 9.9.9.9"], "9.9.9.9"),
        (&[b"\xff", b"9.9.9.9"], "9.9.9.9"),
        (&[b"9.9.9.9, "], "9.9.9.9"),
        (&[b"9.9.9.9, 127.0.0.1"], "9.9.9.9"),
        (&[b"::ffff:9.9.9.9, ::ffff:127.0.0.1"], "9.9.9.9"),
        (&[b"6.6.6.6 9.9.9.9"], "127.0.0.1"),
    ];
    for (lines, expected) in cases {
        assert_eq!(client(&gateway, "X-Forwarded-For", lines), expected, "{lines:?}");
    }
}

#[test]
fn an_address_of_ipv4_has_one_spelling_on_a_socket_of_both_families() {
    let setup = Setup::new(&Upstream::json("200 OK", "{}").url())
        .set("listen.address", "[::]:0")
        .with("[listen]\ntrusted_proxies = [\"10.0.0.0/8\"]\n");
    let gateway = setup.with("[audit]\nfile = \"./audit.jsonl\"\nmode = \"required\"\n").start();
    let address = SocketAddr::from(([127, 0, 0, 1], gateway.address.port()));
    let mut client = Client::connect(address);
    let body = "{\"role\":\"reader\",\"lifespan\":60000}";
    let answer = client.call(&gateway.key, "POST", "/v5/tokens/rooms/r", body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!(line["client"], "127.0.0.1");
    let audit = gateway.config_path().with_file_name("audit.jsonl");
    let record = || std::fs::read_to_string(&audit).unwrap_or_default();
    wait_until("it is recorded", || record().ends_with('\n'));
    assert!(record().contains("\"client\":\"127.0.0.1\""), "{}", record());
}
