//! The faults, and what may be answered while each lasts: written down before any run. Everything
//! else is the gateway's failure.

use std::fmt::Write as _;

use Asked::{Any, Budgeted, Forwarded, Long, Minted};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    BlackHole,
    DeadConnections,
    LongLink,
    NarrowLink,
    LossyLink,
    ServiceKilled,
    ServicePaused,
    StoreFailover,
    StorePaused,
    FullDisk,
    HungDisk,
    BlockedPipe,
    FileSize,
    FewDescriptors,
    FewThreads,
    Paused,
    Starved,
    ClockJump,
    Reloads,
    Crowd,
    Rotation,
    LongAnswers,
    Unread,
    HalfCloses,
    LogReader,
    ProviderHangs,
}

/// Which requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of them.
    Any,
    /// Those that the service answers.
    Forwarded,
    /// Of these, those whose answers are longer than what is read before any of it is sent on.
    Long,
    /// Those that the gateway answers by itself.
    Minted,
    /// Of these, those under a budget.
    Budgeted,
}

/// What a fault does, and what may be answered meanwhile.
pub(crate) struct Row {
    pub(crate) fault: Fault,
    pub(crate) name: &'static str,
    pub(crate) does: &'static str,
    /// How long it lasts, in seconds.
    pub(crate) lasts: f64,
    /// How long its effects may be felt after it is over.
    pub(crate) after: f64,
    /// How much longer than without it an answer may take.
    pub(crate) longer: f64,
    pub(crate) allowed: &'static [(Asked, &'static [&'static str])],
}

/// What there is of an answer where a connection is ended: nothing, or what a proxy says then.
pub(crate) const NO_ANSWER: &str = "no answer";

/// What the failure of the service may be called.
const AWAY: &[&str] =
    &["upstream_error", "upstream_timeout", NO_CONNECTION, "upstream_unavailable"];

/// What there is of a long answer that has begun and cannot go on: half of it, which is no answer.
const CUT: &[&str] = &[NO_ANSWER];

/// `upstream_timeout` of a request that was not sent: there was no connection in time.
pub(crate) const NO_CONNECTION: &str = "upstream_timeout (not sent)";

/// The time in which everything is answered where nothing is broken, in seconds: this may be a
/// debug build on a busy machine.
pub(crate) const USUAL: f64 = 4.0;

/// The deadlines of the gateway that is tried: 1 s for a connection, 2 s for the first byte, 5 s for
/// all; its breaker tries again after 2 s.
pub(crate) const TABLE: &[Row] = &[
    Row {
        fault: Fault::BlackHole,
        name: "black-hole",
        does: "a route swallows every packet from the service",
        lasts: 4.0,
        // The breaker asks again once in its time, and a connection takes its own.
        after: 3.0,
        longer: 5.0,
        allowed: &[(Forwarded, AWAY), (Long, CUT)],
    },
    Row {
        fault: Fault::DeadConnections,
        name: "dead-connections",
        does: "every connection to the service goes silent, new ones work",
        // Until the first timeout: nothing that is sent after it fails.
        lasts: 2.0,
        after: 0.3,
        longer: 5.0,
        allowed: &[(Forwarded, AWAY), (Long, CUT)],
    },
    Row {
        fault: Fault::LongLink,
        name: "long-link",
        does: "the round trip to the service and to far callers becomes 300 ms",
        lasts: 4.0,
        after: 1.0,
        longer: 3.0,
        allowed: &[],
    },
    Row {
        fault: Fault::NarrowLink,
        name: "narrow-link",
        does: "the link to the service and to far callers carries 40 KB/s (tbf)",
        lasts: 4.0,
        after: 3.0,
        longer: 10.0,
        allowed: &[(Forwarded, AWAY), (Long, CUT)],
    },
    Row {
        fault: Fault::LossyLink,
        name: "lossy-link",
        does: "the link to the service and to far callers loses 3 % of the packets",
        lasts: 4.0,
        after: 1.0,
        longer: 5.0,
        // Such a link carries less, the longer it is: 2 MB do not come in their 5 s if it is long.
        allowed: &[(Long, &["upstream_timeout", NO_ANSWER])],
    },
    Row {
        fault: Fault::ServiceKilled,
        name: "service-killed",
        does: "the service is killed, and started again after 2 s without its rooms",
        lasts: 2.0,
        after: 3.0,
        longer: 5.0,
        allowed: &[(Forwarded, AWAY), (Long, CUT)],
    },
    Row {
        fault: Fault::ServicePaused,
        name: "service-paused",
        does: "the service is stopped (SIGSTOP)",
        lasts: 4.0,
        after: 3.0,
        longer: 5.0,
        allowed: &[(Forwarded, AWAY), (Long, CUT)],
    },
    Row {
        fault: Fault::StoreFailover,
        name: "store-failover",
        does: "the Redis master is killed, and sentinels choose the replica",
        lasts: 4.0,
        after: 8.0,
        longer: 2.0,
        allowed: &[(Budgeted, &["store_unavailable"])],
    },
    Row {
        fault: Fault::StorePaused,
        name: "store-paused",
        does: "the Redis master is stopped (SIGSTOP) for less than sentinels wait",
        lasts: 1.5,
        after: 4.0,
        longer: 2.0,
        allowed: &[(Budgeted, &["store_unavailable"])],
    },
    Row {
        fault: Fault::FullDisk,
        name: "full-disk",
        does: "the disk of the access log has no room",
        lasts: 4.0,
        after: 0.0,
        longer: 0.0,
        allowed: &[],
    },
    Row {
        fault: Fault::HungDisk,
        name: "hung-disk",
        does: "the disk of the required audit stops: no call on it returns",
        lasts: 4.0,
        after: 6.0,
        longer: 6.0,
        allowed: &[(Minted, &["audit_unavailable"])],
    },
    Row {
        fault: Fault::BlockedPipe,
        name: "blocked-pipe",
        does: "no one reads standard output and standard error",
        lasts: 4.0,
        after: 0.0,
        longer: 0.0,
        allowed: &[],
    },
    Row {
        fault: Fault::FileSize,
        name: "file-size",
        does: "no file may grow (RLIMIT_FSIZE)",
        lasts: 4.0,
        after: 0.0,
        longer: 0.0,
        // A record that is required cannot be written; in most scenes none is.
        allowed: &[(Minted, &["audit_unavailable"])],
    },
    Row {
        fault: Fault::FewDescriptors,
        name: "few-descriptors",
        does: "two descriptors more may be opened than are (RLIMIT_NOFILE)",
        lasts: 4.0,
        after: 2.0,
        longer: 4.0,
        // A connection to the service, or to the store, takes one; and idle connections are ended
        // for new ones, also while a request is on its way on them.
        allowed: &[
            (Forwarded, &["overloaded"]),
            (Budgeted, &["store_unavailable"]),
            (Any, &[NO_ANSWER]),
        ],
    },
    Row {
        fault: Fault::FewThreads,
        name: "few-threads",
        does: "no thread can be started (pids.max)",
        lasts: 4.0,
        after: 0.0,
        longer: 0.0,
        allowed: &[],
    },
    Row {
        fault: Fault::Paused,
        name: "paused",
        does: "the gateway is stopped (SIGSTOP) for longer than its deadlines",
        lasts: 6.0,
        after: 1.0,
        longer: 7.0,
        // An answer that lay in its socket counts. What was not sent before has no time left.
        // Nor has an answer of which the last was not there.
        allowed: &[(Forwarded, &[NO_CONNECTION]), (Long, CUT)],
    },
    Row {
        fault: Fault::Starved,
        name: "starved",
        does: "the gateway runs for 30 of each 150 ms (SIGSTOP and SIGCONT by turns)",
        lasts: 4.0,
        after: 1.0,
        longer: 4.0,
        allowed: &[],
    },
    Row {
        fault: Fault::ClockJump,
        name: "clock-jump",
        does: "the gateway's clock is ten minutes ahead",
        lasts: 4.0,
        after: 2.0,
        longer: 0.0,
        // Tokens that it made then are those of the future when it is back.
        allowed: &[],
    },
    Row {
        fault: Fault::Reloads,
        name: "reloads",
        does: "the configuration changes twice a second, every other time into one that is broken",
        lasts: 4.0,
        after: 0.0,
        longer: 0.0,
        allowed: &[],
    },
    Row {
        fault: Fault::Crowd,
        name: "crowd",
        does: "strangers open 100 connections a second, and say nothing or ask without a credential",
        lasts: 4.0,
        after: 1.0,
        longer: 2.0,
        allowed: &[],
    },
    Row {
        fault: Fault::Rotation,
        name: "rotation",
        does: "the certificate and the identity provider's keys are replaced each second",
        lasts: 4.0,
        after: 0.0,
        longer: 0.0,
        allowed: &[],
    },
    Row {
        fault: Fault::LongAnswers,
        name: "long-answers",
        does: "callers besides get answers of 2 MB from the service, one after the other",
        lasts: 4.0,
        after: 1.0,
        longer: 2.0,
        allowed: &[],
    },
    Row {
        fault: Fault::Unread,
        name: "unread",
        does: "a caller asks for ten answers of 2 MB a second, by HTTP/1.1 and HTTP/2, and takes \
               nothing of them",
        lasts: 4.0,
        after: 1.0,
        longer: 2.0,
        allowed: &[],
    },
    Row {
        fault: Fault::HalfCloses,
        name: "half-closes",
        does: "callers end their side behind each request, and others in the midst of theirs",
        lasts: 4.0,
        after: 0.0,
        longer: 0.0,
        allowed: &[],
    },
    Row {
        fault: Fault::LogReader,
        name: "log-reader",
        does: "the access log is a named pipe of 4 KiB, whose reader is there for a third of each second",
        lasts: 4.0,
        after: 0.0,
        longer: 0.0,
        allowed: &[],
    },
    Row {
        fault: Fault::ProviderHangs,
        name: "provider-hangs",
        does: "the identity provider takes requests for its keys and answers none, and strangers \
               show tokens of unknown keys",
        lasts: 4.0,
        after: 0.0,
        longer: 0.0,
        allowed: &[],
    },
];

impl Fault {
    pub(crate) fn row(self) -> &'static Row {
        let row = TABLE.iter().find(|row| row.fault == self);
        row.unwrap_or(&TABLE[0])
    }

    pub(crate) fn name(self) -> &'static str {
        self.row().name
    }
}

impl Row {
    /// Whether a request of this kind may get this code.
    pub(crate) fn allows(&self, is: impl Fn(Asked) -> bool, code: &str) -> bool {
        self.allowed.iter().any(|(asked, codes)| is(*asked) && codes.contains(&code))
    }
}

impl Asked {
    const fn words(self) -> &'static str {
        match self {
            Any => "whatever is asked",
            Forwarded => "what is forwarded",
            Long => "a long answer",
            Minted => "a token that is minted",
            Budgeted => "a token under a budget",
        }
    }
}

/// The table in Markdown, as `docs/chaos.md` has it.
pub(crate) fn markdown() -> String {
    let mut text = String::from(
        "| fault | what happens | for | what may be answered meanwhile | felt for | slower by |\n\
         | --- | --- | ---: | --- | ---: | ---: |\n",
    );
    for Row { name, does, lasts, after, longer, allowed, .. } in TABLE {
        let allowed: Vec<String> = allowed
            .iter()
            .map(|(asked, codes)| format!("{}: `{}`", asked.words(), codes.join("`, `")))
            .collect();
        let allowed = match allowed.is_empty() {
            true => "nothing but the right answers".to_owned(),
            false => allowed.join("; "),
        };
        _ = writeln!(text, "| {name} | {does} | {lasts} s | {allowed} | {after} s | {longer} s |");
    }
    text
}
