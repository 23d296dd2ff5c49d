//! For how long what a credential proved counts.
//!
//! Identifying a caller costs digests and signatures; to look once more, right before something is
//! done for it, must cost next to nothing. So what identifies a caller also says by what that can
//! end: by the clock, by the keys of an issuer, by the certificate of the connection.

use jiff::Timestamp;

/// What ends a credential while the configuration stays what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// The first moment after it; `None` for one that does not end by the clock.
    pub(super) until: Option<Timestamp>,
    /// The issuer whose keys it was verified with, and the generation of these.
    pub(super) keys: Option<(usize, u64)>,
    /// It is the certificate of the connection, which is judged by lists that change.
    certificate: bool,
}

impl Validity {
    /// Of the certificate of a connection.
    pub(super) const CERTIFICATE: Self = Self { until: None, keys: None, certificate: true };

    /// Of a credential that ends by the clock, or not at all.
    pub(super) const fn until(until: Option<Timestamp>) -> Self {
        Self { until, keys: None, certificate: false }
    }

    /// Of one that was verified with the keys of an issuer.
    pub(super) const fn of_keys(until: Timestamp, issuer: usize, generation: u64) -> Self {
        Self { until: Some(until), keys: Some((issuer, generation)), certificate: false }
    }

    /// Whether the certificate of the connection has to be judged again.
    pub const fn is_of_certificate(&self) -> bool {
        self.certificate
    }

    /// Whether it still counts by the keys, of which there is a generation for each issuer, and by
    /// the clock, which is read only where it matters.
    pub(super) fn holds(
        &self,
        generation: impl FnOnce(usize) -> Option<u64>,
        now: impl FnOnce() -> Timestamp,
    ) -> bool {
        let same = |(issuer, verified_with)| generation(issuer) == Some(verified_with);
        self.keys.is_none_or(same) && self.until.is_none_or(|until| now() < until)
    }
}
