//! A worker on the runtime of whoever starts it, over whatever network that has: with a clock that
//! stands still and sockets that are none, everything that a server does can be simulated.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

use super::connection::Site;
use super::places::Places;
use super::worker::Worker;
use super::{Bounds, Listen, Service, Settings, Stage};

/// A worker that runs on this thread.
pub struct Local {
    stage: watch::Sender<Stage>,
    serving: JoinHandle<()>,
}

impl Local {
    /// Starts to serve what comes to `listening`, within a [`tokio::task::LocalSet`]. Of the
    /// settings, only the bounds of connections and the proxies count; TLS is not spoken.
    pub fn start<S: Service>(settings: &Settings, listening: impl Listen, service: Rc<S>) -> Self {
        let (stage, seen) = watch::channel(Stage::Serving);
        let Bounds { connections, per_address, .. } = settings.bounds;
        let worker = Worker {
            tls: None,
            bounds: settings.bounds,
            stage: seen,
            places: Arc::new(Places::new(connections, per_address, &settings.proxies)),
            beat: Arc::default(),
        };
        let site = Rc::new(Site::new(service, settings.bounds));
        let serving = spawn_local(worker.serve(vec![listening], site));
        Self { stage, serving }
    }

    /// As [`super::Running::leave`].
    pub fn leave(&self) {
        self.stage.send_replace(Stage::Leaving);
    }

    /// As [`super::Running::drain`].
    pub async fn drain(self) {
        self.stage.send_replace(Stage::Draining);
        if self.serving.await.is_err() {
            tracing::error!("a worker had panicked");
        }
    }
}
