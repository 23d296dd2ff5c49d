//! How the API writes a time.

use crate::clock::timestamp;

/// Milliseconds of Unix time as the API writes them.
pub(super) fn iso(ms: u64) -> String {
    format!("{:.3}", timestamp(ms).unwrap_or_default())
}
