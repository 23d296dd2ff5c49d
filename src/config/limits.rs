//! `[limits]`: how much is let through, of everyone together and of what does not hold.

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::file::{FromTree, KeyPath, Node, Notation, Report, any_of, section};
use super::value::Frequency;
use crate::limit::Rate;

/// The failures of an address when none are configured: more than a school behind one address makes
/// by mistake, and at a tenth of a millisecond for a signature half a percent of a processor.
const FAILED_CREDENTIALS: Rate =
    Rate { requests: THREE_THOUSAND, period: Duration::from_secs(60), burst: THREE_THOUSAND };
const THREE_THOUSAND: NonZeroU32 = NonZeroU32::MIN.saturating_add(2999);

section! {
    pub(super) struct LimitsSection {
        /// How many requests of all callers together.
        gateway: Option<RateTable> => "unlimited";
        /// How many invalid signatures one address may send (in IPv6, the first 64 bits). Beyond
        /// that, JWTs whose signature never held before are refused unchecked, as over a limit; API
        /// keys, and JWTs that held, are checked as usual ([the
        /// throttle](callers.md#the-throttle)). `failed_credentials = "off"` for no bound.
        failed_credentials: ThrottleSetting => "`\"3000/m\"`";
    }
}

section! {
    pub(super) struct RateTable ("a table such as { rate = \"200/s\", burst = 400 }, where burst may be left out") {
        rate: Option<Frequency> | "a rate such as \"200/s\"";
        /// How many of them at once.
        burst: Option<NonZeroU32> => "the rate's count";
    }
}

impl RateTable {
    /// The rate; `None` when it is missing.
    pub(super) fn rate(self) -> Option<Rate> {
        let Frequency { requests, period } = self.rate?;
        Some(Rate { requests, period, burst: self.burst.unwrap_or(requests) })
    }
}

/// How many credentials that do not hold an address may show: a rate, or no bound at all.
pub(super) struct ThrottleSetting(pub(super) Option<Rate>);

impl FromTree for ThrottleSetting {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        const ALLOWED: &str = "a table such as { rate = \"3000/m\", burst = 3000 }, or \"off\"";
        match node.form() {
            // What a variable can say of `false`.
            Notation::Text("off" | "false") | Notation::Boolean(false) => Some(Self(None)),
            Notation::Text(_) => node.refuse(ALLOWED, "found another string", report),
            Notation::Boolean(true) => node.refuse(ALLOWED, "found true", report),
            Notation::Table(_) => Some(Self(RateTable::read(node, report)?.rate())),
            other => node.refuse(ALLOWED, other.found(), report),
        }
    }

    fn absent(_path: &KeyPath, _report: &mut Report) -> Option<Self> {
        Some(Self(Some(FAILED_CREDENTIALS)))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        any_of([RateTable::schema(generator), json_schema!({ "enum": ["off", "false", false] })])
    }
}
