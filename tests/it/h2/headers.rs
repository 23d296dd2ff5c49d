//! RFC 7541, and RFC 9113 §8: header blocks, and the messages that they make.

use super::case::{
    COMPRESSION, Case, PROTOCOL, Seen, case, data, fatal, fields, get, head, post, reset, with,
};
use crate::support::frames::{END_STREAM, block};

pub(super) fn cases() -> Vec<Case> {
    [representations(), broken(), pseudo(), messages()].into_iter().flatten().collect()
}

/// The pseudo-headers of a GET, from the static table but for `:authority`, and then these bytes.
fn indexed(more: &[u8]) -> Vec<u8> {
    let authority = b"\x41\x01g";
    head(1, END_STREAM, &[b"\x82\x86\x84".as_slice(), authority, more].concat())
}

fn representations() -> Vec<Case> {
    let taken: [(&str, &str, &[u8]); 16] = [
        ("6.1", "from the static table", b""),
        ("6.1", "from the dynamic table", b"\x40\x01a\x01b\xbe"),
        ("6.2.1", "literal, to be indexed, name from the table", b"\x7a\x01a"),
        ("6.2.1", "literal, to be indexed, name from the table, Huffman", b"\x7a\x81\x1f"),
        ("6.2.1", "literal, to be indexed, new name", b"\x40\x03foo\x03bar"),
        ("6.2.1", "literal, to be indexed, new name, Huffman", b"\x40\x81\x1f\x81\x1f"),
        ("6.2.2", "literal, not indexed, name from the table", b"\x0f\x2b\x01a"),
        ("6.2.2", "literal, not indexed, name from the table, Huffman", b"\x0f\x2b\x81\x1f"),
        ("6.2.2", "literal, not indexed, new name", b"\x00\x03foo\x03bar"),
        ("6.2.2", "literal, not indexed, new name, Huffman", b"\x00\x81\x1f\x81\x1f"),
        ("6.2.3", "literal, never indexed, name from the table", b"\x1f\x2b\x01a"),
        ("6.2.3", "literal, never indexed, name from the table, Huffman", b"\x1f\x2b\x81\x1f"),
        ("6.2.3", "literal, never indexed, new name", b"\x10\x03foo\x03bar"),
        ("6.2.3", "literal, never indexed, new name, Huffman", b"\x10\x81\x1f\x81\x1f"),
        ("5.2", "an empty value", b"\x40\x03foo\x00"),
        ("5.1", "a length in several bytes", b"\x00\x03foo\x7f\x01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
              aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ];
    let mut cases: Vec<Case> = taken
        .into_iter()
        .map(|(section, name, more)| case(section, name, indexed(more), [Seen::Answer]))
        .collect();
    let sized =
        |sizes: &[u8]| head(1, END_STREAM, &[sizes, b"\x82\x86\x84\x41\x01g".as_slice()].concat());
    cases.push(case("6.3", "a size of the table", sized(b"\x20"), [Seen::Answer]));
    cases.push(case("6.3", "two sizes of the table", sized(b"\x20\x3f\xe1\x1f"), [Seen::Answer]));
    cases
}

fn broken() -> Vec<Case> {
    let broken: [(&str, &str, &[u8]); 10] = [
        ("2.3.3", "an index beyond the tables", b"\xff\x00"),
        ("2.3.3", "a name's index beyond the tables", b"\x7f\x40\x01a"),
        ("4.2", "a size of the table at the end of a block", b"\x20"),
        ("5.1", "an integer without end", b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("5.2", "Huffman padding of more than 7 bits", b"\x00\x01a\x82\x1f\xff"),
        ("5.2", "Huffman padding of zeros", b"\x00\x01a\x81\x18"),
        ("5.2", "Huffman with the end of the text in it", b"\x00\x01a\x84\xff\xff\xff\xff"),
        ("5.2", "a text longer than its block", b"\x00\x01a\x20b"),
        ("6.1", "the index 0", b"\x80"),
        ("6.3", "a size of the table within a block", b"\x3f\xff\x3f"),
    ];
    let mut cases: Vec<Case> = broken
        .into_iter()
        .map(|(section, name, more)| {
            case(section, name, indexed(more), fatal(COMPRESSION)).but(Seen::GoAway(PROTOCOL))
        })
        .collect();
    let large = head(1, END_STREAM, b"\x3f\xe2\x1f\x82\x86\x84\x41\x01g");
    cases.push(
        case("6.3", "a size of the table over what was offered", large, fatal(COMPRESSION))
            .but(Seen::GoAway(PROTOCOL)),
    );
    cases
}

/// A request of these fields alone.
fn bare(fields: &[(&str, &str)]) -> Vec<u8> {
    head(1, END_STREAM, &block(fields))
}

fn pseudo() -> Vec<Case> {
    let [method, scheme, path, authority] = fields("GET");
    let plus = |more: &[(&str, &str)]| head(1, END_STREAM, &with("GET", more));
    let malformed = [
        ("an unknown pseudo-header", plus(&[(":test", "ok")])),
        ("a pseudo-header of answers", plus(&[(":status", "200")])),
        (
            "a pseudo-header after a field",
            bare(&[method, scheme, authority, ("x-test", "ok"), path]),
        ),
        ("an empty :path", bare(&[method, scheme, (":path", ""), authority])),
        ("no :method", bare(&[scheme, path, authority])),
        ("no :scheme", bare(&[method, path, authority])),
        ("no :path", bare(&[method, scheme, authority])),
        ("two of :method", plus(&[(":method", "GET")])),
        ("two of :scheme", plus(&[(":scheme", "http")])),
        ("two of :path", plus(&[(":path", "/")])),
        ("two of :authority", plus(&[(":authority", "g")])),
        (":protocol without having been offered it", plus(&[(":protocol", "websocket")])),
    ];
    malformed
        .into_iter()
        .map(|(name, sends)| case("8.3", name, sends, reset(PROTOCOL)))
        .chain([case(
            "8.3",
            "a pseudo-header in trailers",
            [post(1), data(1, 0, b"{}"), head(1, END_STREAM, &block(&[(":method", "POST")]))]
                .concat(),
            reset(PROTOCOL),
        )
        .but(Seen::Answer)])
        .collect()
}

fn messages() -> Vec<Case> {
    let plus = |name: &str, value: &str| head(1, END_STREAM, &with("GET", &[(name, value)]));
    let long = |length: &str, body: Vec<u8>| {
        [head(1, 0, &with("POST", &[("content-length", length)])), body].concat()
    };
    let mut cases = Vec::new();
    for (name, field, value) in [
        ("connection", "connection", "keep-alive"),
        ("keep-alive", "keep-alive", "timeout=5"),
        ("proxy-connection", "proxy-connection", "keep-alive"),
        ("transfer-encoding", "transfer-encoding", "chunked"),
        ("upgrade", "upgrade", "h2c"),
        ("te of another value than trailers", "te", "trailers, deflate"),
    ] {
        cases.push(case("8.2.2", name, plus(field, value), reset(PROTOCOL)));
    }
    cases.push(case("8.2.2", "te of trailers", plus("te", "trailers"), [Seen::Answer]));
    cases.push(case("8.2.1", "a name in upper case", plus("X-TEST", "ok"), reset(PROTOCOL)));
    cases.push(case("8.2.1", "a name with a space", plus("x test", "ok"), reset(PROTOCOL)));
    cases.push(case("8.2.1", "a value with a line break", plus("x", "a\r\nb"), reset(PROTOCOL)));
    cases.push(case("8.2.1", "a value with a NUL", plus("x", "a\0b"), reset(PROTOCOL)));
    cases.push(case(
        "8.1.1",
        "a length that is not that of the body",
        long("1", data(1, END_STREAM, b"test")),
        reset(PROTOCOL),
    ));
    cases.push(case(
        "8.1.1",
        "a length that is not that of several pieces",
        long("1", [data(1, 0, b"test"), data(1, END_STREAM, b"test")].concat()),
        reset(PROTOCOL),
    ));
    cases.push(case(
        "8.1.1",
        "a length and no body",
        head(1, END_STREAM, &with("POST", &[("content-length", "4")])),
        reset(PROTOCOL),
    ));
    cases.push(case(
        "8.1",
        "a second header block that does not end the request",
        [post(1), data(1, 0, b"test"), head(1, 0, &block(&[("x", "y")]))].concat(),
        reset(PROTOCOL),
    ));
    cases.push(case("8.3.1", "two requests at once", [get(1), get(3)].concat(), [Seen::Answer]));
    cases
}
