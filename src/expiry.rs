//! What ends by the clock, and when: keys, fixed tokens, certificates, lists of revoked ones.
//!
//! Whoever keeps such a thing says whose it is and when it ends, as an [`Expiry`]; `check --ending`,
//! the metrics and the admin listener show them. Nothing is refused by it: that is for whoever keeps
//! the thing.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::metric::{Metric, SampleValue, Samples};

/// Something that ends by the clock. The first of several to end compares as less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    /// When it ends.
    pub at: Timestamp,
    /// What it is.
    pub kind: ExpiryKind,
    /// Whose it is: a caller, a project, a listener, or the key of the configuration that names it.
    pub owner: String,
    /// Which it is of several: the id of a key, a file, the name of an authority.
    pub item: Option<String>,
}

/// A kind of thing that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExpiryKind {
    /// The API key of a caller.
    Key,
    /// The API key of an operator.
    OperatorKey,
    /// The fixed SDK token of a project.
    SdkToken,
    /// A certificate that a listener shows, or one of its chain.
    Certificate,
    /// An authority that is trusted.
    Authority,
    /// A list of revoked certificates: when the next one is due.
    RevocationList,
    /// The certificate around a key that an issuer has in a file.
    IssuerKey,
}

/// The most keys that are measured, those that end next: a series each is kept by whoever collects
/// them. A rotation of more at once is seen by `check --ending`.
const MEASURED: usize = 1000;

/// Everything that ends, in Unix time, whatever becomes of it.
pub const METRICS: &[Metric<[Expiry]>] = &[
    Metric::gauge(
        "wbg_key_end_time_seconds",
        "When the API key of a caller ends, in Unix time",
        &["caller", "key"],
        |all, out| each_key(all, ExpiryKind::Key, out),
    ),
    Metric::gauge(
        "wbg_operator_key_end_time_seconds",
        "When the key of an operator ends, in Unix time",
        &["operator", "key"],
        |all, out| each_key(all, ExpiryKind::OperatorKey, out),
    ),
    Metric::gauge(
        "wbg_sdk_token_end_time_seconds",
        "When the fixed SDK token of a project ends, in Unix time",
        &["project"],
        |all, out| first_of_each(all, ExpiryKind::SdkToken, out),
    ),
    Metric::gauge(
        "wbg_certificate_end_time_seconds",
        "When the first of the certificates that clients of a listener are shown ends, in Unix time",
        &["listener"],
        |all, out| first_of_each(all, ExpiryKind::Certificate, out),
    ),
    Metric::gauge(
        "wbg_authority_end_time_seconds",
        "When the first of the authorities that a key of the configuration names ends, in Unix time",
        &["setting"],
        |all, out| first_of_each(all, ExpiryKind::Authority, out),
    ),
    Metric::gauge(
        "wbg_revocation_list_end_time_seconds",
        "When the first of the lists of revoked certificates of a listener ends, in Unix time",
        &["setting"],
        |all, out| first_of_each(all, ExpiryKind::RevocationList, out),
    ),
    Metric::gauge(
        "wbg_issuer_key_end_time_seconds",
        "When the first certificate in the file with the keys of an issuer ends, in Unix time",
        &["issuer"],
        |all, out| first_of_each(all, ExpiryKind::IssuerKey, out),
    ),
];

impl Expiry {
    /// Of something whose end is known in seconds of Unix time; `None` where there is no such time.
    pub fn at_second(kind: ExpiryKind, owner: &str, second: i64) -> Option<Self> {
        let at = Timestamp::from_second(second).ok()?;
        Some(Self { at, kind, owner: owner.to_owned(), item: None })
    }

    /// This one of several.
    #[must_use]
    pub fn of(self, item: impl Into<String>) -> Self {
        Self { item: Some(item.into()), ..self }
    }

    /// Its name for people and programs, such as `lessons/4fJ2abcdABCD`.
    pub fn name(&self) -> String {
        match &self.item {
            Some(item) => format!("{}/{item}", self.owner),
            None => self.owner.clone(),
        }
    }

    /// Whether it has ended.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.at <= now
    }
}

impl ExpiryKind {
    /// The word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::OperatorKey => "operator_key",
            Self::SdkToken => "sdk_token",
            Self::Certificate => "certificate",
            Self::Authority => "authority",
            Self::RevocationList => "revocation_list",
            Self::IssuerKey => "issuer_key",
        }
    }
}

impl fmt::Display for ExpiryKind {
    /// The words for people.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Key => "the API key",
            Self::OperatorKey => "the key of the operator",
            Self::SdkToken => "the SDK token of the project",
            Self::Certificate => "the certificate of the listener",
            Self::Authority => "the authority",
            Self::RevocationList => "the list of revoked certificates",
            Self::IssuerKey => "the certificate in the key file of the issuer",
        })
    }
}

/// In the order in which they matter: what ends next first, and what is over last.
pub fn sort(all: &mut [Expiry], now: Timestamp) {
    all.sort_by(|one, other| (one.is_over(now), one).cmp(&(other.is_over(now), other)));
}

fn of(all: &[Expiry], kind: ExpiryKind) -> impl Iterator<Item = &Expiry> {
    all.iter().filter(move |one| one.kind == kind)
}

/// Unix time, which has a fraction only where the end has one.
fn unix_time(at: Timestamp) -> SampleValue {
    match at.as_millisecond() {
        whole if whole % 1000 == 0 => at.as_second().into(),
        millis => (millis as f64 / 1000.0).into(),
    }
}

fn each_key(all: &[Expiry], kind: ExpiryKind, out: &mut Samples) {
    for one in of(all, kind).take(MEASURED) {
        out.add(&[&one.owner, one.item.as_deref().unwrap_or_default()], unix_time(one.at));
    }
}

/// Of each owner that which ends first: it is there as long as anything of its is.
fn first_of_each(all: &[Expiry], kind: ExpiryKind, out: &mut Samples) {
    let mut first: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for one in of(all, kind) {
        let at = first.entry(&one.owner).or_insert(one.at);
        *at = one.at.min(*at);
    }
    first.into_iter().for_each(|(owner, at)| out.add(&[owner], unix_time(at)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{MetricSet, TextFormat};

    fn expiry(kind: ExpiryKind, owner: &str, second: i64) -> Expiry {
        Expiry::at_second(kind, owner, second).unwrap()
    }

    #[test]
    fn what_ends_next_comes_first_and_what_is_over_last() {
        let mut all = [90, 300, 100, 200].map(|at| expiry(ExpiryKind::Key, "a", at));
        sort(&mut all, Timestamp::from_second(100).unwrap());
        assert_eq!(all.map(|one| one.at.as_second()), [200, 300, 90, 100]);
    }

    #[test]
    fn a_metric_has_the_first_end_of_each_owner_and_each_key_of_a_caller() {
        let all = [
            expiry(ExpiryKind::Key, "lessons", 30).of("4fJ2abcdABCD"),
            expiry(ExpiryKind::Key, "lessons", 20).of("9aQzabcdABCD"),
            expiry(ExpiryKind::Certificate, "listen", 50).of("b.pem"),
            expiry(ExpiryKind::Certificate, "listen", 40).of("a.pem"),
            expiry(ExpiryKind::Authority, "upstream.ca", 60),
        ];
        let mut set = MetricSet::default();
        set.read(METRICS, &all[..]);
        let text = set.text(TextFormat::Plain);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "wbg_key_end_time_seconds{caller=\"lessons\",key=\"4fJ2abcdABCD\"} 30",
            "wbg_key_end_time_seconds{caller=\"lessons\",key=\"9aQzabcdABCD\"} 20",
            "wbg_certificate_end_time_seconds{listener=\"listen\"} 40",
            "wbg_authority_end_time_seconds{setting=\"upstream.ca\"} 60",
        ];
        assert_eq!(samples, expected);
    }

    #[test]
    fn no_more_keys_are_measured_than_a_collector_should_keep() {
        let all: Vec<_> =
            (0..1500).map(|at| expiry(ExpiryKind::Key, "a", at).of(at.to_string())).collect();
        let mut set = MetricSet::default();
        set.read(METRICS, &all[..]);
        assert_eq!(set.families[0].samples.len(), MEASURED);
    }

    #[test]
    fn a_time_that_is_none_is_no_end() {
        assert_eq!(Expiry::at_second(ExpiryKind::Key, "a", i64::MAX), None);
    }
}
