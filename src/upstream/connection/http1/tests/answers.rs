//! What is an answer and where it ends, whatever pieces it comes in.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::*;
use crate::upstream::connection::http1::syntax::has_lone_line_feed;

fn all(text: &str) -> Result<Heard, ResponseSyntaxError> {
    hear(&[text.as_bytes()])
}

/// Asserts that an answer is refused in the same way at once and byte by byte.
#[track_caller]
fn assert_refused(text: &str, why: ResponseSyntaxError) {
    assert_eq!(all(text), Err(why), "{text:?}");
    assert_eq!(hear(&split(text.as_bytes(), &[1])), Err(why), "byte by byte: {text:?}");
}

fn head(error: httparse::Error) -> ResponseSyntaxError {
    ResponseSyntaxError::Head(error)
}

#[test]
fn an_answer_ends_where_its_framing_says() {
    for (text, body, reusable) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "{}", true),
        ("HTTP/1.1 200 \r\ncontent-length:\t002 \r\n\r\n{}", "{}", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "", true),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
            "{}",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: cHunKed\r\n\r\n0000A;x=\"y\"\r\n0123456789\r\n00\r\na: b\r\n\r\n",
            "0123456789",
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", "to the end", false),
        ("HTTP/1.0 200 OK\r\n\r\n", "", false),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\n1", "1", false),
        ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 1\r\n\r\n1", "1", false),
        (
            "HTTP/1.1 200 OK\r\nconnection: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\n1",
            "1",
            false,
        ),
        ("HTTP/1.1 204 No\r\n\r\n", "", true),
        ("HTTP/1.1 304 No\r\n\r\n", "", true),
        ("HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n", "", true),
        // A body where none can be is not read, and nothing after it is either.
        ("HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\n", "", false),
        ("HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n", "", false),
        ("HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\n{}", "", false),
        // What comes after the end belongs to no request.
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}x", "{}", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n", "{}", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\r\n", "", false),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1",
            "1",
            true,
        ),
    ] {
        for pieces in [split(text.as_bytes(), &[text.len()]), split(text.as_bytes(), &[1])] {
            let heard = hear(&pieces).unwrap_or_else(|why| panic!("{text:?}: {why}"));
            assert_eq!(
                (heard.body.as_slice(), heard.reusable),
                (body.as_bytes(), reusable),
                "{text:?}"
            );
        }
    }
}

#[test]
fn a_length_that_is_not_certain_is_refused() {
    for fields in [
        "content-length: 2\r\ncontent-length: 2",
        "content-length: 2\r\ncontent-length: 3",
        "content-length: 2, 2",
        "content-length: +2",
        "content-length: -2",
        "content-length: 0x2",
        "content-length: 2 2",
        "content-length: 2.0",
        "content-length: ",
        "content-length: \u{b2}",
        "content-length: 18446744073709551616",
        "content-length: 2\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 2",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip",
        "transfer-encoding: identity",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, gzip",
        "transfer-encoding: chunked;q=1",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: ",
        "transfer-encoding: chunked\u{b}",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{{}}");
        assert!(
            matches!(all(&text), Err(ResponseSyntaxError::Length | ResponseSyntaxError::Head(_))),
            "{fields:?}: {:?}",
            all(&text)
        );
        assert_eq!(all(&text), hear(&split(text.as_bytes(), &[1])), "{fields:?}");
    }
    assert_refused(
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ResponseSyntaxError::Length,
    );
}

#[test]
fn what_is_no_head_is_refused() {
    use httparse::Error as E;
    for (text, why) in [
        ("", ResponseSyntaxError::Closed),
        ("H", ResponseSyntaxError::Cut),
        ("HTTP/1.1 200 OK\r\ncontent-le", ResponseSyntaxError::Cut),
        ("HTTP/1.1 200 OK\r\n\r", ResponseSyntaxError::Cut),
        ("HTTP/1.1 100 Continue\r\n\r\n", ResponseSyntaxError::Cut),
        ("SSH-2.0-OpenSSH_9.2\r\n", head(E::Version)),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", head(E::Version)),
        ("\n", head(E::Version)),
        (" HTTP/1.1 200 OK\r\n\r\n", head(E::Version)),
        ("http/1.1 200 OK\r\n\r\n", head(E::Version)),
        ("HTTP/2 200\r\n\r\n", head(E::Version)),
        ("HTTP/1.2 200 OK\r\n\r\n", head(E::Version)),
        ("HTTP/1.1 20 OK\r\n\r\n", head(E::Status)),
        ("HTTP/1.1  200 OK\r\n\r\n", head(E::Status)),
        ("HTTP/1.1 2000 OK\r\n\r\n", head(E::Status)),
        ("HTTP/1.1 099 Low\r\n\r\n", ResponseSyntaxError::Status),
        ("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", ResponseSyntaxError::Status),
        ("HTTP/1.1 200 OK\r\nbad field\r\n\r\n", head(E::HeaderName)),
        ("HTTP/1.1 200 OK\r\na : b\r\n\r\n", head(E::HeaderName)),
        ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", head(E::HeaderName)),
        ("HTTP/1.1 200 OK\r\n a: b\r\n\r\n", head(E::HeaderName)),
        ("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", head(E::HeaderName)),
        ("HTTP/1.1 200 OK\r\na: b\0\r\n\r\n", head(E::HeaderValue)),
        ("HTTP/1.1 200 OK\r\na: b\rc: d\r\n\r\n", head(E::HeaderValue)),
        ("HTTP/1.1 200 OK\r\na: b\n\r\n", ResponseSyntaxError::Line),
        ("HTTP/1.1 200 OK\n\n", ResponseSyntaxError::Line),
    ] {
        assert_refused(text, why);
    }
}

#[test]
fn what_is_no_chunk_is_refused() {
    for chunks in [
        "\r\n",
        ";a\r\n",
        " 1\r\n1\r\n0\r\n\r\n",
        "x\r\n",
        "0x1\r\n1\r\n0\r\n\r\n",
        "-1\r\n",
        "+1\r\n",
        "1 1\r\n1\r\n0\r\n\r\n",
        "1\n1\r\n0\r\n\r\n",
        "1\r1\r\n0\r\n\r\n",
        "1\r\r\n1\r\n0\r\n\r\n",
        "1\r\n1\n0\r\n\r\n",
        "1\r\n10\r\n\r\n",
        "1\r\n1\r0\r\n\r\n",
        "1\r\n12\r\n0\r\n\r\n",
        "1;a\nb\r\n1\r\n0\r\n\r\n",
        "1;a\0b\r\n1\r\n0\r\n\r\n",
        "1;a\rb\r\n1\r\n0\r\n\r\n",
        "10000000000000000\r\n",
        "00000000000000001\r\n1\r\n0\r\n\r\n",
        "0\r\nbad trailer\r\n\r\n",
        "0\r\na : b\r\n\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\n\n\r\n\r\n",
        "0\r\na: b\nc: d\r\n\r\n",
        "0\r\na: b\n\r\n\r\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        assert_refused(&text, ResponseSyntaxError::Chunk);
    }
    for chunks in [
        "",
        "1",
        "1\r",
        "1\r\n",
        "1\r\n1",
        "1\r\n1\r\n",
        "0\r\n",
        "0\r\n\r",
        "0\r\na: b\r\n",
        "ffffffffffffffff\r\n1",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        assert_refused(&text, ResponseSyntaxError::Cut);
    }
}

#[test]
fn what_has_no_end_of_its_own_has_a_bound() {
    let field = format!("a: {}\r\n", "b".repeat(1000));
    let long = format!("HTTP/1.1 200 OK\r\n{}", field.repeat(100));
    let fields = format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(129));
    let interims = "HTTP/1.1 103 Hints\r\n\r\n".repeat(33);
    let interim = format!("HTTP/1.1 103 Hints\r\n{}\r\n", field.repeat(60)).repeat(2);
    for text in [&long, &format!("{long}\r\n"), &format!("{fields}\r\n"), &interims, &interim] {
        assert_eq!(all(text), Err(ResponseSyntaxError::TooLarge), "{} bytes", text.len());
        assert_eq!(hear(&split(text.as_bytes(), &[997])), Err(ResponseSyntaxError::TooLarge));
    }
    let most = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(128));
    assert!(all(&most).is_ok());
    let interims = "HTTP/1.1 103 Hints\r\n\r\n".repeat(32);
    assert!(all(&format!("{interims}HTTP/1.1 200 OK\r\n\r\n")).is_ok());

    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let extension = format!("1;{}\r\n1\r\n", "a".repeat(1000));
    let trailers = format!("0\r\n{}", field.repeat(20));
    for text in [
        format!("{chunked}{}", extension.repeat(20)),
        format!("{chunked}{trailers}"),
        format!("{chunked}{trailers}\r\n"),
        format!("{chunked}1;{}", "a".repeat(20_000)),
        format!("{chunked}1{}", " ".repeat(20_000)),
    ] {
        assert_eq!(all(&text), Err(ResponseSyntaxError::Chunk), "{} bytes", text.len());
    }
    // Chunks themselves may be as many as there are.
    let many = format!("{chunked}{}0\r\n\r\n", "1\r\n1\r\n".repeat(20_000));
    assert_eq!(all(&many).map(|heard| heard.body.len()), Ok(20_000));
}

#[test]
fn only_what_is_looked_at_is_kept_of_a_head() {
    let heard = all(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCONTENT-TYPE: text/html\r\n\
         cache-control: no-store\r\nretry-after: 7\r\nset-cookie: a\r\ncontent-encoding: identity\r\n\
         content-length: 0\r\n\r\n",
    );
    let head = heard.unwrap().head;
    assert_eq!(head.content_type.unwrap(), "application/json", "the first counts");
    assert_eq!(head.caching.said(), "no-store");
    assert_eq!(head.retry_after.unwrap(), "7");
    assert!(!head.encoded);
    for fields in ["content-encoding: gzip", "content-encoding: identity\r\ncontent-encoding: br"] {
        let heard = all(&format!("HTTP/1.1 200 OK\r\n{fields}\r\ncontent-length: 0\r\n\r\n"));
        assert!(heard.unwrap().head.encoded, "{fields}");
    }
}

#[test]
fn a_short_body_is_taken_whole_and_a_long_one_as_it_comes() {
    let (mut reader, buffers) = (ResponseParser::default(), Buffers::default());
    for (length, first) in [(60_000, None), (70_000, Some(1))] {
        reader.expect(false);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nx");
        reader.buffer(&buffers).extend_from_slice(head.as_bytes());
        assert!(reader.head().unwrap().is_some());
        let piece = match reader.body().unwrap() {
            ParseStep::Piece(piece) => Some(piece.len()),
            _ => None,
        };
        assert_eq!(piece, first);
        reader.buffer(&buffers).extend_from_slice(&vec![b'x'; length - 1]);
        assert!(matches!(reader.body().unwrap(), ParseStep::Piece(_)));
        assert_eq!(reader.body().unwrap(), ParseStep::End);
        assert!(reader.is_reusable());
    }
}

/// Reads an answer with a body of so many bytes, in pieces as large as there is room for.
fn read(
    reader: &mut ResponseParser,
    buffers: &Buffers,
    length: usize,
    mut take: impl FnMut(Bytes),
) {
    reader.expect(false);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    reader.buffer(buffers).extend_from_slice(head.as_bytes());
    assert!(reader.head().unwrap().is_some());
    let mut left = length;
    while left > 0 {
        let buffer = reader.buffer(buffers);
        let here = left.min(buffer.capacity() - buffer.len());
        buffer.extend_from_slice(&vec![b'x'; here]);
        left -= here;
        match reader.body().unwrap() {
            ParseStep::Piece(piece) => take(piece),
            ParseStep::More => assert!(left > 0),
            ParseStep::End => panic!("there is more"),
        }
    }
    assert!(reader.is_reusable());
    reader.rest(buffers);
}

/// Where the next answer is read, and how much room there is.
fn next(reader: &mut ResponseParser, buffers: &Buffers) -> (*const u8, usize) {
    reader.expect(false);
    let buffer = reader.buffer(buffers);
    let next = (buffer.as_ptr(), buffer.capacity());
    reader.rest(buffers);
    next
}

#[test]
fn whoever_reads_long_answers_borrows_the_same_buffer() {
    let buffers = Buffers::default();
    let mut readers = [ResponseParser::default(), ResponseParser::default()];
    let mut places = BTreeSet::new();
    for length in [60_000, 79_000, 1_000_000, 60_000] {
        for reader in &mut readers {
            read(reader, &buffers, length, drop);
            places.insert(next(reader, &buffers));
        }
    }
    assert_eq!(places.len(), 1, "{places:?}");
}

#[test]
fn who_reads_small_answers_borrows_nothing() {
    let (mut reader, buffers) = (ResponseParser::default(), Buffers::default());
    for (length, small) in [(300, true), (60_000, false), (300, true), (1_000_000, false)] {
        read(&mut reader, &buffers, length, drop);
        assert_eq!(next(&mut reader, &buffers).1 < 16 * 1024, small, "after {length}");
    }
}

#[test]
fn a_piece_that_is_kept_stays_what_it_is_and_a_small_body_keeps_no_large_buffer() {
    let (mut reader, buffers) = (ResponseParser::default(), Buffers::default());
    let (mut small, mut long) = (Vec::new(), Vec::new());
    read(&mut reader, &buffers, 60_000, drop);
    let (first, _) = next(&mut reader, &buffers);
    read(&mut reader, &buffers, 300, |piece| small.push(piece));
    read(&mut reader, &buffers, 60_000, drop);
    assert_eq!(next(&mut reader, &buffers).0, first);
    read(&mut reader, &buffers, 1_000_000, |piece| long.push(piece));
    assert_ne!(next(&mut reader, &buffers).0, first);
    read(&mut reader, &buffers, 1_000_000, drop);
    for (pieces, length) in [(small, 300), (long, 1_000_000)] {
        assert_eq!(pieces.concat(), vec![b'x'; length]);
    }
}

#[test]
fn pieces_of_many_tiny_chunks_share_their_buffers() {
    let (mut reader, buffers) = (ResponseParser::default(), Buffers::default());
    reader.expect(false);
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    reader.buffer(&buffers).extend_from_slice(head);
    assert!(reader.head().unwrap().is_some());
    let (mut pieces, mut places) = (Vec::new(), BTreeSet::new());
    for _ in 0..1_000 {
        let buffer = reader.buffer(&buffers);
        buffer.extend_from_slice(b"1\r\nx\r\n");
        // Where it ends stays where it is, however much is taken off its front.
        places.insert(buffer.as_ptr() as usize + buffer.capacity());
        let ParseStep::Piece(piece) = reader.body().unwrap() else { panic!("there is a piece") };
        pieces.push(piece);
    }
    assert!(places.len() <= 2, "{} buffers", places.len());
}

#[test]
fn an_answer_to_head_has_no_body() {
    let (mut reader, buffers) = (ResponseParser::default(), Buffers::default());
    reader.expect(true);
    reader.buffer(&buffers).extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n");
    assert!(reader.head().unwrap().is_some());
    assert_eq!(reader.body().unwrap(), ParseStep::End);
    assert!(reader.is_reusable());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_pieces_that_an_answer_comes_in_change_nothing(
        text in answer(), lengths in vec(1_usize..40, 1..8),
    ) {
        let whole = hear(&[&text]);
        prop_assert!(whole.is_ok(), "{:?}", whole);
        prop_assert_eq!(hear(&split(&text, &lengths)), whole);
    }

    #[test]
    fn nor_do_they_when_it_is_mangled(
        text in mangled(), lengths in vec(1_usize..40, 1..8),
    ) {
        prop_assert_eq!(hear(&split(&text, &lengths)), hear(&[&text]));
    }
}

#[test]
fn a_line_feed_alone_is_found_wherever_it_stands() {
    let lines = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n".repeat(4);
    assert!(!has_lone_line_feed(lines.as_bytes()) && !has_lone_line_feed(b""));
    for at in 0..lines.len() {
        let mut lines = lines.clone().into_bytes();
        let before = std::mem::replace(&mut lines[at], b'\n');
        assert!(before == b'\n' || has_lone_line_feed(&lines), "at {at}");
    }
}

#[test]
fn a_small_answer_keeps_no_lent_buffer() {
    for head in ["content-length: 9000\r\n\r\n", "transfer-encoding: chunked\r\n\r\n2328\r\n"] {
        let (mut reader, buffers) = (ResponseParser::default(), Buffers::default());
        // What a long one was read into is lent for the next head as well.
        reader.expect(false);
        let long =
            format!("HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n{}", "x".repeat(60_000));
        reader.buffer(&buffers).extend_from_slice(&long.as_bytes()[..20_000]);
        assert!(reader.head().unwrap().is_some());
        reader.buffer(&buffers).extend_from_slice(&long.as_bytes()[20_000..]);
        assert!(matches!(reader.body(), Ok(ParseStep::Piece(_))));
        reader.expect(false);
        let small = format!("HTTP/1.1 200 OK\r\n{head}{}", "x".repeat(9_000));
        reader.buffer(&buffers).extend_from_slice(small.as_bytes());
        assert!(reader.head().unwrap().is_some());
        let Ok(ParseStep::Piece(piece)) = reader.body() else { panic!("no piece") };
        assert_eq!(piece.len(), 9_000);
        assert!(piece.is_unique(), "{head}");
    }
}
