//! What is to be known of one attempt, whatever came of it.

/// What happened on the connections of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AttemptReport {
    /// A connection that was kept turned out to be closed, and no one knows how much was read.
    pub(super) stale: bool,
    /// It was sent, and the upstream says that it did nothing of it.
    pub(super) untouched: bool,
    /// What came of it came on a connection that was kept.
    pub(super) reused: bool,
    /// The connection that failed was made for others too, and one of them says so.
    pub(super) secondhand: bool,
    /// How many connections were opened.
    pub(super) connects: u8,
    /// How many could not be opened.
    pub(super) connects_failed: u8,
    /// How many requests were sent, but for one that is untouched.
    pub(super) sent: u8,
}
