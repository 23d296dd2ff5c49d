//! A page that is made once for all who ask for it at the same time.
//!
//! Whoever asks while it is being made gets the next one, so that no one is answered with what was
//! true before they asked; and the next one is made after a pause, so that no number of askers keeps
//! the listener from anything else. The bytes of a page belong to all of its readers together, and
//! where slow ones hold too many old ones, no new one is made.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::failure::{Code, Failure};

/// The most bytes that readers may hold before no new page is made.
const MOST_HELD: usize = 8 * 1024 * 1024;

/// Making it takes no more than one in so many parts of the time, …
const PARTS: u32 = 4;

/// … and the pause is no longer than that.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A page, and the last answer with it.
pub(super) struct SharedPage {
    last: Mutex<Option<SharedAnswer>>,
    /// How many times it was begun to be made.
    begun: Cell<u64>,
    /// When it may be made again.
    next: Cell<Instant>,
    /// The bytes that readers hold, the last answer's included.
    held: Arc<AtomicUsize>,
}

struct SharedAnswer {
    number: u64,
    answer: Response<Bytes>,
}

/// Bytes that are counted as long as anyone has them.
struct PageBytes {
    bytes: Bytes,
    held: Arc<AtomicUsize>,
}

impl Default for SharedPage {
    fn default() -> Self {
        Self {
            last: Mutex::const_new(None),
            begun: Cell::new(0),
            next: Cell::new(Instant::now()),
            held: Arc::default(),
        }
    }
}

impl SharedPage {
    /// The page, made by `make` after this was called: for this reader, or for one who asked at
    /// the same time.
    ///
    /// # Errors
    /// `overloaded` while slow readers hold too many that were made before.
    pub(super) async fn get(
        &self,
        make: impl Future<Output = Response<Bytes>>,
    ) -> Result<Response<Bytes>, Failure> {
        let asked = self.begun.get();
        let mut last = self.last.lock().await;
        if let Some(made) = last.as_ref().filter(|made| made.number > asked) {
            return Ok(made.answer.clone());
        }
        *last = None;
        if self.held.load(Ordering::Relaxed) >= MOST_HELD {
            let why = "readers that take nothing hold too many earlier answers of this page";
            return Err(Failure::fixed(Code::Overloaded, why));
        }
        sleep_until(self.next.get()).await;
        let number = self.begun.get() + 1;
        self.begun.set(number);
        let begun = Instant::now();
        let answer = make.await.map(|bytes| PageBytes::share(bytes, &self.held));
        let pause = (begun.elapsed() * (PARTS - 1)).min(LONGEST_PAUSE);
        self.next.set(Instant::now() + pause);
        *last = Some(SharedAnswer { number, answer: answer.clone() });
        Ok(answer)
    }
}

impl PageBytes {
    fn share(bytes: Bytes, held: &Arc<AtomicUsize>) -> Bytes {
        held.fetch_add(bytes.len(), Ordering::Relaxed);
        Bytes::from_owner(Self { bytes, held: Arc::clone(held) })
    }
}

impl AsRef<[u8]> for PageBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for PageBytes {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use tokio::task::{LocalSet, spawn_local, yield_now};

    /// A page of so many bytes, and how many times it was made.
    async fn made(count: Rc<Cell<usize>>, bytes: usize) -> Response<Bytes> {
        count.set(count.get() + 1);
        yield_now().await;
        Response::new(Bytes::from(vec![b'x'; bytes]))
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_at_the_same_time_share_one() {
        let (page, count) = (Rc::new(SharedPage::default()), Rc::new(Cell::new(0)));
        let readers = LocalSet::new();
        readers
            .run_until(async {
                let readers: Vec<_> = (0..1000)
                    .map(|_| {
                        let (page, count) = (Rc::clone(&page), Rc::clone(&count));
                        spawn_local(async move { page.get(made(count, 10)).await.unwrap() })
                    })
                    .collect();
                for reader in readers {
                    assert_eq!(reader.await.unwrap().body().len(), 10);
                }
            })
            .await;
        // The first began to be made before the others asked.
        assert_eq!(count.get(), 2);
        page.get(made(Rc::clone(&count), 10)).await.unwrap();
        assert_eq!(count.get(), 3, "what was true before is not told again");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_readers_hold_a_bounded_number_of_bytes() {
        let (page, count) = (SharedPage::default(), Rc::new(Cell::new(0)));
        let get = || page.get(made(Rc::clone(&count), 1024 * 1024));
        let mut readers = Vec::new();
        let refused = loop {
            match get().await {
                Ok(answer) => readers.push(answer),
                Err(failure) => break failure,
            }
        };
        assert_eq!((refused.code(), readers.len()), (Code::Overloaded, 8));
        readers.pop();
        assert!(get().await.is_ok());
    }
}
