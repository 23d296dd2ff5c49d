//! The task that sends spans and metrics to a collector, of the configuration of the moment.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::admin::ProcessStatus;
use crate::otlp::Collector;

/// How long, at the end, what was not sent yet may take.
const LAST: Duration = Duration::from_secs(5);

/// What sends. The one of a configuration before ends by itself, once its last spans are sent.
#[derive(Default)]
pub(super) struct Exporting {
    now: Option<(Arc<Collector>, Receiver<()>)>,
}

impl Exporting {
    /// Starts what sends to the collector of the moment, unless it runs.
    pub(super) fn follow(&mut self, status: &Arc<ProcessStatus>) {
        let snapshot = status.snapshots.load();
        let Some(collector) = &snapshot.collector else {
            self.now = None;
            return;
        };
        let Some(exporter) = collector.exporter() else { return };
        let (ended, end) = channel();
        let status = Arc::clone(status);
        tokio::spawn(async move {
            exporter.run(|| status.measure()).await;
            // No one waits but at the end of the process.
            _ = ended.send(());
        });
        self.now = Some((Arc::clone(collector), end));
    }

    /// Waits until all is sent, for a while: the workers have ended, and the control thread still runs
    /// what sends.
    pub(super) fn finish(self) {
        let Some((collector, end)) = self.now else { return };
        collector.finish();
        // It has been sent, or it is given up: there is nothing else to do about it.
        _ = end.recv_timeout(LAST);
    }
}
