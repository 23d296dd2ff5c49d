//! One JSON line a request, written 32 KiB at a time.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};

/// A file that lines are added to.
pub(super) struct AccessLog(BufWriter<File>);

impl AccessLog {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self(BufWriter::with_capacity(32 * 1024, file)))
    }

    pub(super) fn line(&mut self, method: &Method, path: &str, status: StatusCode, took: Duration) {
        let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        // A comparison does not end because its disk is full.
        _ = writeln!(
            self.0,
            "{{\"time\":{time},\"client\":\"127.0.0.1\",\"method\":\"{method}\",\"uri\":\"{path}\",\
             \"caller\":\"bench\",\"status\":{},\"duration_us\":{}}}",
            status.as_u16(),
            took.as_micros(),
        );
    }
}
