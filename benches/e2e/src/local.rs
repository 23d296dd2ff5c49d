//! Tasks of hyper on this thread.

use std::future::Future;

use tokio::task::spawn_local;

/// Spawns onto the `LocalSet` that runs.
#[derive(Clone, Copy)]
pub struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        // What it yields is of no use to anyone.
        spawn_local(async move { drop(task.await) });
    }
}
