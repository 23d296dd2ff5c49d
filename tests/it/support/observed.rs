//! What a process says of itself: metrics, log and access lines. All come a little later than the
//! client of a request sees its answer, so what is to come is waited for.

use super::{Process, wait_until};

impl Process {
    /// The value of a metric, named with its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.admin("/metrics").text();
        metric(&text, name).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Waits until a metric has this value. A worker counts an answer when it is over, which is a
    /// little later than its client may see it, and what is in flight at intervals.
    pub(crate) fn until_metric(&self, name: &str, value: f64) {
        self.until_metric_is(name, |now| (now - value).abs() < f64::EPSILON);
    }

    /// Waits until a metric has this value or a higher one.
    pub(crate) fn until_metric_reaches(&self, name: &str, least: f64) {
        self.until_metric_is(name, |now| now >= least);
    }

    fn until_metric_is(&self, name: &str, good: impl Fn(f64) -> bool) {
        wait_until(&format!("{name} is as it should be"), || {
            metric(&self.admin("/metrics").text(), name).is_some_and(&good)
        });
    }

    /// Waits until its log has this text, and gives the log.
    pub(crate) fn until_logged(&self, text: &str) -> String {
        wait_until(&format!("the log has {text:?}"), || self.stderr().contains(text));
        self.stderr()
    }

    /// The access lines so far.
    pub(crate) fn access_lines(&self) -> Vec<serde_json::Value> {
        let out = self.stdout();
        out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for the access line of a request.
    pub(crate) fn access_line(&self, request_id: &str) -> serde_json::Value {
        let mut found = None;
        wait_until("the access line is written", || {
            found = self.access_lines().into_iter().find(|line| line["request_id"] == request_id);
            found.is_some()
        });
        found.unwrap()
    }
}

/// The value of a metric, with its labels as they are written.
fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}
