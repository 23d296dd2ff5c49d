//! The only ways in which a test lets time go by: until something holds, and for the delay of a
//! peer that is part of what is tested. `house.rs` refuses every other sleep.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything that is waited for takes, on a machine that does much besides.
const LONG: Duration = Duration::from_secs(30);

/// Waits until something holds, and panics when it never does.
pub(crate) fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    wait_within(LONG, what, holds);
}

/// The same, with another bound.
pub(crate) fn wait_within(most: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + most;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Time that is part of the scenario: a slow service, a client that pauses, a process that is
/// stopped for a while. Never a wait for something to have happened.
pub(crate) fn scenario_delay(time: Duration) {
    std::thread::sleep(time);
}

/// The same, of a peer that has other connections on its thread.
pub(crate) async fn async_scenario_delay(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A peer that says nothing until the gateway has gone; whatever that says is not looked at.
pub(crate) fn silent_until_gone(stream: &mut impl Read) {
    let mut rest = [0; 4096];
    while matches!(stream.read(&mut rest), Ok(count) if count > 0) {}
}

/// Holds whoever waits until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn wait(&self) {
        let (is_open, opened) = &*self.0;
        drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
    }

    pub(crate) fn open(&self) {
        let (is_open, opened) = &*self.0;
        *is_open.lock().unwrap() = true;
        opened.notify_all();
    }

    pub(crate) fn close(&self) {
        *self.0.0.lock().unwrap() = false;
    }
}
