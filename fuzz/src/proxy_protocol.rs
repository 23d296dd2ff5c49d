//! The PROXY protocol: who is named by a header, and where it ends, is the same however it comes.
//!
//! An input is what a peer sends on a connection.

use whiteboard_gateway::server::{
    LONGEST_PROXY_HEADER, ProxyHeader, ProxyHeaderError, ProxySource,
};

/// One input.
pub fn run(input: &[u8]) {
    let whole = ProxyHeader::read(input);
    if let Ok(ProxyHeader::Whole { source, length }) = whole {
        assert!((15..=LONGEST_PROXY_HEADER).contains(&length) && length <= input.len());
        assert!(ProxyHeader::is_begun(input));
        if let ProxySource::Address(address) = source {
            // One spelling for an address, whichever family it came by.
            assert_eq!(address.ip(), address.ip().to_canonical());
            if input.starts_with(b"PROXY ") {
                let line = std::str::from_utf8(&input[..length]).expect("a line is text");
                assert!(line.contains(&format!(" {} ", address.port())), "{line}");
            }
        }
        // What follows changes nothing, and what is cut off leaves no other header.
        assert_eq!(ProxyHeader::read(&input[..length]), whole);
        for cut in 0..length {
            assert_eq!(ProxyHeader::read(&input[..cut]), Ok(ProxyHeader::Partial), "{cut}");
        }
    }
    if whole == Ok(ProxyHeader::Partial) {
        assert!(input.len() < LONGEST_PROXY_HEADER, "more than a header can be is waited for");
    }
    // A request and a handshake are never taken for one.
    if whole == Err(ProxyHeaderError::Absent) {
        assert!(!ProxyHeader::is_begun(input));
    }
    for other in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01"]
    {
        let both = [other, input].concat();
        assert_eq!(ProxyHeader::read(&both), Err(ProxyHeaderError::Absent));
    }
}
