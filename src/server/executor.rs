//! Where the tasks of an HTTP/2 connection run.

use hyper::rt::Executor;
use tokio::task::spawn_local;

/// Spawns on the worker's own thread.
#[derive(Clone, Copy)]
pub(super) struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}
