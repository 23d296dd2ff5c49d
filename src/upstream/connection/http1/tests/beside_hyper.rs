//! The same answers, read by hyper's client: what it reads we read the same, and what it refuses
//! we refuse.
//!
//! We refuse more than it does: equal lengths that are repeated, lines that end with a line feed
//! alone, an empty line in front, and a protocol that is changed unasked.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::task::LocalSet;

use super::*;
use crate::upstream::connection::http1::syntax::{FIELDS, HEAD_BYTES};

/// Reads an answer with hyper's client: the status and the body.
fn by_hyper(text: &[u8]) -> Result<(u16, Vec<u8>), hyper::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (near, mut far) = tokio::io::duplex(1024 * 1024);
        let mut builder = Builder::new();
        builder.max_headers(FIELDS).max_buf_size(HEAD_BYTES);
        let (mut sender, connection) = builder.handshake(TokioIo::new(near)).await?;
        tokio::task::spawn_local(connection);
        let request = Request::builder().uri("/").header("host", "x").body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.unwrap());
        // The request is taken first: what comes before it would be unasked.
        tokio::task::spawn_local({
            let text = text.to_vec();
            async move {
                let mut first = [0];
                tokio::io::AsyncReadExt::read(&mut far, &mut first).await.unwrap();
                far.write_all(&text).await.unwrap();
                far.shutdown().await.unwrap();
                // Open until hyper has read it all: a write that fails is another matter.
                std::future::pending::<()>().await;
            }
        });
        let (head, body) = answer.await?.into_parts();
        Ok((head.status.as_u16(), body.collect().await?.to_bytes().to_vec()))
    })
}

/// Reads an answer here.
fn here(text: &[u8]) -> Result<(u16, Vec<u8>), ResponseSyntaxError> {
    hear(&[text]).map(|heard| (heard.head.status.as_u16(), heard.body))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_answer_is_read_as_hyper_reads_it(text in answer()) {
        prop_assert_eq!(here(&text).unwrap(), by_hyper(&text).unwrap());
    }

    #[test]
    fn a_mangled_answer_is_read_as_hyper_reads_it_or_refused(text in mangled()) {
        if let Ok(read) = here(&text) {
            prop_assert_eq!(by_hyper(&text).ok(), Some(read), "{:?}", String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn what_is_refused_here_and_not_by_hyper_is_known() {
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
        "\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ] {
        assert_eq!(by_hyper(text.as_bytes()).unwrap(), (200, b"{}".to_vec()), "{text:?}");
        assert!(here(text.as_bytes()).is_err(), "{text:?}");
    }
}
