//! How long an answer is waited for: one timer for each connection, whatever is waited for on it.
//!
//! Nearly every answer comes long before its deadline. So a timer that is set is left alone when
//! the next deadline is later, and set again only if it goes off: a request costs the timer wheel
//! nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

pub(in crate::upstream) use crate::net::{before, grace};

/// The deadlines of an exchange.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Deadlines {
    /// When the head of the answer must be there.
    pub(in crate::upstream) head: Instant,
    /// How long the next piece of its body may take.
    pub(in crate::upstream) between: Duration,
    /// When all of it must be there.
    pub(in crate::upstream) end: Instant,
}

/// Bounds each wait of an exchange.
#[derive(Default)]
pub(in crate::upstream) struct DeadlineTimer {
    /// Of the exchange that began last; none did, none is waited for.
    deadlines: Option<Deadlines>,
    /// When the present wait is over; not known before something is waited for.
    due: Option<Instant>,
    /// It is, and the socket is looked at once more.
    passed: bool,
    /// Until when that is done after the end of all: what comes meanwhile does not put it off.
    last: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl DeadlineTimer {
    /// For a body whose head has come.
    pub(in crate::upstream) const fn with_body(deadlines: Deadlines) -> Self {
        Self { deadlines: Some(deadlines), due: None, passed: false, last: None, timer: None }
    }

    /// For an exchange that begins.
    pub(in crate::upstream) fn begin(&mut self, deadlines: Deadlines) {
        self.deadlines = Some(deadlines);
        self.due = Some(deadlines.head);
        self.passed = false;
        self.last = None;
    }

    /// Something came: the next wait is one for a piece of the body.
    pub(in crate::upstream) const fn renew(&mut self) {
        self.due = None;
        self.passed = false;
    }

    /// Ready when the present wait is over.
    pub(in crate::upstream) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(Deadlines { between, end, .. }) = self.deadlines else { return Poll::Pending };
        let next = || self.last.unwrap_or_else(|| end.min(Instant::now() + between));
        let mut due = *self.due.get_or_insert_with(next);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= due {
                if self.passed || self.last.is_some() {
                    return Poll::Ready(());
                }
                self.passed = true;
                let now = Instant::now();
                due = now + grace(due);
                self.due = Some(due);
                self.last = (now >= end).then_some(due);
            }
            // It was set for an earlier wait, or has just passed.
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    fn deadlines() -> Deadlines {
        let now = Instant::now();
        Deadlines { head: now + 4 * STEP, between: STEP, end: now + 6 * STEP }
    }

    /// How long the present wait lasts.
    async fn lasts(deadline: &mut DeadlineTimer) -> Duration {
        let begun = Instant::now();
        poll_fn(|context| deadline.poll(context)).await;
        begun.elapsed()
    }

    /// On a busy machine the timer goes off late, and the second look lasts as long as it was late.
    #[tokio::test(start_paused = true)]
    async fn what_drips_on_after_the_end_puts_it_off_once() {
        let mut deadline = DeadlineTimer::with_body(deadlines());
        tokio::time::advance(8 * STEP).await;
        let begun = Instant::now();
        while begun.elapsed() < 20 * STEP {
            tokio::select! {
                () = poll_fn(|context| deadline.poll(context)) => return,
                () = tokio::time::sleep(STEP / 4) => deadline.renew(),
            }
        }
        panic!("it does not come to an end");
    }

    #[tokio::test(start_paused = true)]
    async fn the_head_the_next_piece_and_the_whole_have_their_own_ends() {
        let mut deadline = DeadlineTimer::default();
        let begun = Instant::now();
        deadline.begin(deadlines());
        assert!(lasts(&mut deadline).await >= 4 * STEP);
        deadline.renew();
        assert!(lasts(&mut deadline).await >= STEP);
        // However often something comes, it comes to an end.
        while begun.elapsed() < 6 * STEP {
            deadline.renew();
            lasts(&mut deadline).await;
        }
        deadline.renew();
        assert!(lasts(&mut deadline).await < STEP, "the whole is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_was_set_for_an_earlier_request_ends_no_later_one() {
        let mut deadline = DeadlineTimer::default();
        for _ in 0..3 {
            deadline.begin(deadlines());
            let over = poll_fn(|context| Poll::Ready(deadline.poll(context))).await;
            assert!(over.is_pending());
            tokio::time::sleep(2 * STEP).await;
        }
        deadline.begin(deadlines());
        assert!(lasts(&mut deadline).await >= 4 * STEP);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_was_set_for_later_is_set_again() {
        let mut deadline = DeadlineTimer::default();
        let far = Instant::now() + Duration::from_secs(3600);
        deadline.begin(Deadlines { head: far, between: STEP, end: far });
        let over = poll_fn(|context| Poll::Ready(deadline.poll(context))).await;
        assert!(over.is_pending());
        deadline.renew();
        assert!(lasts(&mut deadline).await >= STEP);
    }
}
