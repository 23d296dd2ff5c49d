//! Deadlines that are believed at the second look.
//!
//! After a pause of the process (a stop, a virtual machine that is moved) the timers go off before
//! the runtime has heard what lies in the sockets. So whoever waits for something from outside looks
//! once more when a deadline has passed: what came in time, and what came in the pause, counts.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

/// How long a deadline that has passed waits for a second look: the longer the pause, the more there
/// is to be heard.
pub fn grace(due: Instant) -> Duration {
    due.elapsed().clamp(Duration::from_millis(1), Duration::from_millis(250))
}

/// What comes of a future before a deadline.
pub async fn before<F: Future>(due: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match timeout_at(due, future.as_mut()).await {
        Ok(output) => Some(output),
        Err(_) => timeout(grace(due), future).await.ok(),
    }
}

/// The same for what may take so long.
pub async fn within<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    before(Instant::now() + time, future).await
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::*;

    const TIME: Duration = Duration::from_millis(20);

    /// The one thread of the runtime is held up, as all of a process is that is stopped.
    #[tokio::test]
    async fn what_came_in_a_pause_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..20 {
            let mut near = TcpStream::connect(address).await.unwrap();
            let (mut far, _) = listener.accept().unwrap();
            let pause = async {
                tokio::task::yield_now().await;
                far.write_all(b"x").unwrap();
                std::thread::sleep(2 * TIME);
            };
            let (read, ()) = tokio::join!(within(TIME, near.read_u8()), pause);
            assert_eq!(read.map(Result::unwrap), Some(b'x'));
        }
    }

    #[tokio::test]
    async fn what_never_comes_is_waited_for_no_longer() {
        let begun = Instant::now();
        assert_eq!(within(TIME, std::future::pending::<()>()).await, None);
        assert!(begun.elapsed() >= TIME && begun.elapsed() < Duration::from_secs(5));
    }
}
