//! The last failures, in a ring for each of those who can be at fault, so that the many of one do
//! not push out the few of another.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError, TryLockError};

use serde::Serialize;

use super::form::{cut, moment};
use crate::failure::Code;

/// How many failures a ring keeps.
const KEPT: usize = 50;

/// How many a worker keeps of each kind while someone reads that ring.
const PENDING: usize = 8;

/// The most bytes of the texts of a failure: id, caller, operation, rule and message.
const MOST: [usize; TEXTS] = [128, 128, 64, 128, 320];
const TEXTS: usize = 5;

/// Whose doing a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A caller that is known could have done better.
    Caller,
    /// The gateway's, or that of what it depends on.
    Gateway,
    /// The whiteboard service's.
    Service,
    /// Of a request that shows no good credential, whatever failed: anyone can make as many as they
    /// like.
    Unidentified,
}

impl FailureKind {
    const COUNT: usize = 4;

    /// Of a request that failed with a code.
    pub fn of(code: Code, is_identified: bool) -> Self {
        match code {
            _ if !is_identified => Self::Unidentified,
            code if code.is_of_the_service() => Self::Service,
            code if code.is_of_the_caller() => Self::Caller,
            _ => Self::Gateway,
        }
    }
}

/// What is told of a request that failed.
#[derive(Clone, Copy, Debug)]
pub struct FailureSeen<'a> {
    /// When it came, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Its id.
    pub request_id: &'a str,
    /// The address of the client.
    pub client: IpAddr,
    /// The caller, once known.
    pub caller: Option<&'a str>,
    /// The operation.
    pub operation: Option<&'a str>,
    /// The status that the caller got.
    pub status: Option<u16>,
    /// Why it failed.
    pub code: Code,
    /// The rule that refused.
    pub rule: Option<&'a str>,
    /// What the log knows of the failure.
    pub message: Option<&'a str>,
}

/// A failure as it is kept: its texts in one, with their ends.
#[derive(Clone)]
struct KeptFailure {
    at_ms: u64,
    client: IpAddr,
    code: Code,
    status: Option<u16>,
    /// Which texts there are, and where they end.
    ends: [Option<u16>; TEXTS],
    text: String,
}

/// A failure, for whoever looks.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct RecordedFailure {
    /// When the request came, in RFC 3339.
    pub time: String,
    /// Its id.
    pub request_id: String,
    /// The address of the client.
    pub client: IpAddr,
    /// The caller, where it is known.
    pub caller: Option<String>,
    /// The operation, where one matched.
    pub operation: Option<String>,
    /// The status that the caller got.
    pub status: Option<u16>,
    /// What went wrong.
    pub code: &'static str,
    /// The rule of the configuration that refused.
    pub rule: Option<String>,
    /// What the log says of it.
    pub message: Option<String>,
}

/// The last failures of each kind, the newest first.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct LastFailures {
    /// Callers could have done better.
    pub caller: Vec<RecordedFailure>,
    /// The gateway's.
    pub gateway: Vec<RecordedFailure>,
    /// The whiteboard service's.
    pub service: Vec<RecordedFailure>,
    /// Those of requests without a good credential.
    pub unidentified: Vec<RecordedFailure>,
}

#[derive(Default)]
struct FailureRing {
    kept: Vec<KeptFailure>,
    /// Where the next one goes.
    next: usize,
}

#[derive(Default)]
pub(super) struct FailureRings([Mutex<FailureRing>; FailureKind::COUNT]);

/// The failures of a worker that found their ring in use.
#[derive(Default)]
pub(super) struct Pending(RefCell<[Vec<KeptFailure>; FailureKind::COUNT]>);

impl KeptFailure {
    fn new(seen: &FailureSeen<'_>) -> Self {
        let text = String::new();
        let mut kept = Self {
            at_ms: 0,
            client: seen.client,
            code: seen.code,
            status: None,
            ends: [None; TEXTS],
            text,
        };
        kept.fill(seen);
        kept
    }

    /// Takes the place of an older one, whose buffer it uses: no failure allocates once a ring is
    /// full.
    fn fill(&mut self, seen: &FailureSeen<'_>) {
        let FailureSeen { at_ms, client, code, status, .. } = *seen;
        (self.at_ms, self.client, self.code, self.status) = (at_ms, client, code, status);
        self.text.clear();
        let texts = [Some(seen.request_id), seen.caller, seen.operation, seen.rule, seen.message];
        for ((end, text), most) in self.ends.iter_mut().zip(texts).zip(MOST) {
            *end = text.map(|text| {
                self.text.push_str(cut(text, most));
                u16::try_from(self.text.len()).unwrap_or(u16::MAX)
            });
        }
    }

    fn view(&self) -> RecordedFailure {
        let mut from = 0;
        let [request_id, caller, operation, rule, message] = self.ends.map(|end| {
            let end = usize::from(end?);
            let text = self.text.get(from..end).unwrap_or_default().to_owned();
            from = end;
            Some(text)
        });
        RecordedFailure {
            time: moment(self.at_ms),
            request_id: request_id.unwrap_or_default(),
            client: self.client,
            caller,
            operation,
            status: self.status,
            code: self.code.name(),
            rule,
            message,
        }
    }
}

impl FailureRing {
    fn push(&mut self, seen: &FailureSeen<'_>) {
        match self.kept.get_mut(self.next) {
            Some(oldest) => oldest.fill(seen),
            None => self.kept.push(KeptFailure::new(seen)),
        }
        self.next = (self.next + 1) % KEPT;
    }

    fn insert(&mut self, kept: KeptFailure) {
        match self.kept.get_mut(self.next) {
            Some(oldest) => *oldest = kept,
            None => self.kept.push(kept),
        }
        self.next = (self.next + 1) % KEPT;
    }
}

impl FailureRings {
    /// Does something with a ring, unless it is in use.
    fn with(&self, index: usize, then: impl FnOnce(&mut FailureRing)) -> bool {
        match self.0.get(index).map(Mutex::try_lock) {
            Some(Ok(mut ring)) => then(&mut ring),
            Some(Err(TryLockError::Poisoned(ring))) => then(&mut ring.into_inner()),
            Some(Err(TryLockError::WouldBlock)) | None => return false,
        }
        true
    }

    pub(super) fn view(&self) -> LastFailures {
        // Copied while the lock is held, and put into words when it is not.
        let kept = |kind: FailureKind| {
            let ring = self.0[kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
            ring.kept.clone()
        };
        let newest_first = |kind| {
            let mut kept = kept(kind);
            kept.sort_by_key(|failure| std::cmp::Reverse(failure.at_ms));
            kept.iter().map(KeptFailure::view).collect()
        };
        LastFailures {
            caller: newest_first(FailureKind::Caller),
            gateway: newest_first(FailureKind::Gateway),
            service: newest_first(FailureKind::Service),
            unidentified: newest_first(FailureKind::Unidentified),
        }
    }
}

impl Pending {
    pub(super) fn record(&self, rings: &FailureRings, seen: &FailureSeen<'_>) {
        let index = FailureKind::of(seen.code, seen.caller.is_some()) as usize;
        if rings.with(index, |ring| ring.push(seen)) {
            return;
        }
        let mut pending = self.0.borrow_mut();
        if let Some(pending) = pending.get_mut(index).filter(|pending| pending.len() < PENDING) {
            pending.push(KeptFailure::new(seen));
        }
    }

    pub(super) fn hand_over(&self, rings: &FailureRings) {
        for (index, pending) in self.0.borrow_mut().iter_mut().enumerate() {
            if !pending.is_empty() {
                rings.with(index, |ring| pending.drain(..).for_each(|kept| ring.insert(kept)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: Option<&str> = Some("ada");

    fn seen(at_ms: u64, caller: Option<&str>, code: Code) -> FailureSeen<'_> {
        FailureSeen {
            at_ms,
            request_id: "r-1",
            client: IpAddr::from([127, 0, 0, 1]),
            caller,
            operation: Some("rooms.get"),
            status: Some(500),
            code,
            rule: None,
            message: Some("why"),
        }
    }

    #[test]
    fn each_failure_is_in_the_ring_of_whoever_is_at_fault() {
        let (rings, pending) = (FailureRings::default(), Pending::default());
        for (caller, code) in [
            (ADA, Code::Forbidden),
            (ADA, Code::RateLimited),
            (ADA, Code::UpstreamRefused),
            (ADA, Code::UpstreamCredential),
            (ADA, Code::Overloaded),
            (ADA, Code::Internal),
            (ADA, Code::UpstreamError),
            (ADA, Code::UpstreamTimeout),
            (None, Code::Unauthenticated),
            (None, Code::Overloaded),
            (None, Code::UpstreamError),
        ] {
            pending.record(&rings, &seen(1, caller, code));
        }
        let codes = |of: &[RecordedFailure]| of.iter().map(|one| one.code).collect::<Vec<_>>();
        let view = rings.view();
        assert_eq!(codes(&view.caller), ["forbidden", "rate_limited", "upstream_refused"]);
        assert_eq!(codes(&view.gateway), ["upstream_credential", "overloaded", "internal"]);
        assert_eq!(codes(&view.service), ["upstream_error", "upstream_timeout"]);
        assert_eq!(codes(&view.unidentified), ["unauthenticated", "overloaded", "upstream_error"]);
    }

    #[test]
    fn strangers_push_out_strangers_and_nobody_else() {
        let (rings, pending) = (FailureRings::default(), Pending::default());
        pending.record(&rings, &seen(7, ADA, Code::Forbidden));
        for at_ms in 0..10_000 {
            pending.record(&rings, &seen(at_ms, None, Code::InvalidToken));
        }
        let view = rings.view();
        assert_eq!(view.caller.len(), 1);
        assert_eq!(view.unidentified.len(), KEPT);
        assert_eq!(view.unidentified[0].time, moment(9_999), "the newest is the first");
        assert_eq!(view.unidentified[KEPT - 1].time, moment(9_950));
    }

    #[test]
    fn texts_are_bounded_and_cut_between_characters() {
        let (rings, pending) = (FailureRings::default(), Pending::default());
        let long = "é".repeat(4_000);
        let told = FailureSeen {
            request_id: &long,
            caller: Some(&long),
            operation: None,
            rule: Some(&long),
            message: Some(&long),
            ..seen(1, None, Code::Forbidden)
        };
        for _ in 0..2 * KEPT {
            pending.record(&rings, &told);
        }
        let view = rings.view().caller.remove(0);
        assert_eq!(view.caller.unwrap().len(), 128);
        assert_eq!((view.operation, view.rule.unwrap().len()), (None, 128));
        assert!(view.message.unwrap().chars().all(|one| one == 'é'));
        let ring = rings.0[FailureKind::Caller as usize].lock().unwrap();
        let bytes: usize = ring.kept.iter().map(|one| one.text.capacity()).sum();
        assert!(bytes <= KEPT * 1024, "{bytes}");
    }

    #[test]
    fn what_finds_its_ring_in_use_waits_for_the_next_tick_and_not_for_the_ring() {
        let (rings, pending) = (FailureRings::default(), Pending::default());
        {
            let _reader = rings.0[FailureKind::Caller as usize].lock().unwrap();
            for at_ms in 0..2 * PENDING as u64 {
                pending.record(&rings, &seen(at_ms, ADA, Code::Forbidden));
            }
            pending.record(&rings, &seen(9, ADA, Code::Internal));
            pending.hand_over(&rings);
        }
        assert_eq!(rings.view().gateway.len(), 1, "another ring is not in use");
        assert!(rings.view().caller.is_empty());
        pending.hand_over(&rings);
        assert_eq!(rings.view().caller.len(), PENDING);
    }
}
