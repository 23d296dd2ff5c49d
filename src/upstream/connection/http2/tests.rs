//! Connections of HTTP/2 against a peer in memory.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::LocalSet;

use super::*;

/// The head of a frame.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A connection whose peer has sent these SETTINGS, and the peer.
async fn connection(settings: &[u8]) -> (Http2Connection, DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let mut frame = SETTINGS;
    frame[2] = u8::try_from(settings.len()).unwrap();
    theirs.write_all(&[&frame, settings].concat()).await.unwrap();
    (handshake(ours).await.ok().unwrap(), theirs)
}

/// MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
fn streams(most: u8) -> [u8; 6] {
    [0, 3, 0, 0, 0, most]
}

/// The payload of the first frame of this kind that came on a new connection.
async fn payload(theirs: &mut DuplexStream, kind: u8) -> Vec<u8> {
    loop {
        let mut head = [0; 9];
        theirs.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        theirs.read_exact(&mut payload).await.unwrap();
        if head[3] == kind {
            return payload;
        }
    }
}

/// RFC 9113 §6.5.1, §6.9.
#[tokio::test]
async fn many_answers_that_nobody_takes_leave_room_for_others_on_the_connection() {
    let told = async {
        let (_connection, mut theirs) = connection(&[]).await;
        theirs.read_exact(&mut [0; 24]).await.unwrap();
        let settings = payload(&mut theirs, 4).await;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let setting = |one: &&[u8]| number(&one[..2]) == 4;
        let stream = settings.chunks(6).find(setting).map(|one| number(&one[2..]));
        (stream, number(&payload(&mut theirs, 8).await) + 65_535)
    };
    let (stream, connection) = LocalSet::new().run_until(told).await;
    assert_eq!((stream, connection), (Some(128 * 1024), 64 * 1024 * 1024));
    assert_eq!(connection / stream.unwrap(), u32::try_from(MOST_STREAMS).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_to_end_waits_no_longer_for_a_peer_that_reads_nothing() {
    let closed = async {
        let (ours, mut theirs) = tokio::io::duplex(128);
        theirs.write_all(&SETTINGS).await.unwrap();
        let connection = handshake(ours).await.ok().unwrap();
        // Each has an answer, until there is no room for one.
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let second = Duration::from_secs(1);
        while tokio::time::timeout(second, theirs.write_all(&ping)).await.is_ok() {}
        drop(connection);
        let written = tokio::time::timeout(60 * second, theirs.write_all(&ping)).await;
        written.is_ok_and(|written| written.is_err())
    };
    assert!(LocalSet::new().run_until(closed).await);
}

#[tokio::test]
async fn the_peer_says_how_many_streams_there_are_and_may_change_its_mind() {
    let changes = async {
        let (mut one, mut theirs) = connection(&streams(2)).await;
        let now = Instant::now();
        let held = [one.open(1), one.open(2)];
        assert!(!one.has_room(false, now));
        let mut told = SETTINGS;
        told[2] = 6;
        theirs.write_all(&[&told[..], &streams(3)].concat()).await.unwrap();
        while !one.has_room(false, now) {
            tokio::task::yield_now().await;
        }
        let third = one.open(1);
        let mut callers = Vec::new();
        one.callers(|caller| callers.push(caller));
        assert_eq!(callers, [1, 2, 1]);
        assert!(!one.has_room(false, now));
        drop(third);
        assert!(one.has_room(false, now));
        drop(held);
        assert!(one.is_idle() && one.is_open());
        // GOAWAY (RFC 9113 §6.8).
        theirs.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
        while one.is_open() {
            tokio::task::yield_now().await;
        }
    };
    LocalSet::new().run_until(changes).await;
}

#[tokio::test]
async fn a_connection_stands_once_the_peer_has_said_its_settings() {
    let waits = async {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let standing = handshake(ours);
        tokio::pin!(standing);
        let soon = tokio::time::timeout(Duration::from_millis(20), standing.as_mut()).await;
        assert!(soon.is_err());
        theirs.write_all(&SETTINGS).await.unwrap();
        assert_eq!(standing.await.ok().unwrap().most_streams(), MOST_STREAMS);
        for (bytes, malformed) in [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], true), (b"", false)] {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            theirs.write_all(bytes).await.unwrap();
            theirs.shutdown().await.unwrap();
            let error = handshake(ours).await.err().unwrap();
            let told = error.as_ref().is_some_and(h2::Error::is_library);
            assert_eq!(told, malformed, "{error:?}");
        }
    };
    LocalSet::new().run_until(waits).await;
}

/// WINDOW_UPDATE of the connection (RFC 9113 §6.9).
const WINDOW_UPDATE: [u8; 13] = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_anything_is_not_dead_though_its_pong_is_late() {
    let lives = async {
        let (mut one, mut theirs) = connection(&streams(2)).await;
        let _held = one.open(1);
        for second in 0..30 {
            theirs.write_all(&WINDOW_UPDATE).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(one.is_open(), "after {second} s");
        }
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert!(!one.is_open(), "nothing comes any more");
    };
    LocalSet::new().run_until(lives).await;
}
