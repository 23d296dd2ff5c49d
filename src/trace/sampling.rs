//! Which traces are recorded: a share of those that begin here, and what is made of the word of
//! those that do not.

use super::TraceId;

/// A share of a whole, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// All.
    pub const ALL: Self = Self(1_000_000);

    /// So many millionths; `None` for more than all.
    pub const fn millionths(parts: u32) -> Option<Self> {
        if parts <= Self::ALL.0 { Some(Self(parts)) } else { None }
    }
}

/// What is recorded of the traces that a caller has recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Parents {
    /// All of them.
    #[default]
    All,
    /// The same share as of those that begin here: no caller can have more recorded.
    Share,
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Of those that begin here.
    pub share: Share,
    /// Of those that a caller has recorded. What a caller has not recorded never is.
    pub parents: Parents,
}

impl Sampling {
    /// Whether a trace is recorded; `parent` is what the caller says, where it began there.
    ///
    /// It depends on the id alone, in the way of OpenTelemetry's libraries: whoever else goes by
    /// the id and the same share records the same traces.
    pub fn keeps(&self, trace: TraceId, parent: Option<bool>) -> bool {
        match (parent, self.parents) {
            (Some(false), _) => false,
            (Some(true), Parents::All) => true,
            (Some(true), Parents::Share) | (None, _) => self.within_share(trace),
        }
    }

    fn within_share(&self, trace: TraceId) -> bool {
        // Of 63 bits, for that is what the libraries compare.
        let bound = (u128::from(self.share.0) << 63) / u128::from(Share::ALL.0);
        u128::from(trace.low() >> 1) < bound
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(millionths: u32) -> Sampling {
        let share = Share::millionths(millionths).unwrap();
        Sampling { share, parents: Parents::Share }
    }

    fn id(low: u64) -> TraceId {
        TraceId::parse(format!("{:032x}", (1_u128 << 64) | u128::from(low)).as_bytes()).unwrap()
    }

    #[test]
    fn a_share_is_kept_by_the_id_alone() {
        for (millionths, low, kept) in [
            (0, 0, false),
            (1_000_000, u64::MAX, true),
            (500_000, u64::MAX / 2 - 1, true),
            (500_000, u64::MAX / 2 + 1, false),
            (1, 0, true),
            (1, u64::MAX / 500_000, false),
        ] {
            assert_eq!(share(millionths).keeps(id(low), None), kept, "{millionths} {low}");
        }
        assert_eq!(Share::millionths(1_000_001), None);
    }

    #[test]
    fn about_as_many_are_kept_as_it_says() {
        let kept = (0..10_000).filter(|_| share(100_000).keeps(TraceId::random(), None)).count();
        // Six standard deviations.
        assert!((820..=1_180).contains(&kept), "{kept}");
    }

    #[test]
    fn the_word_of_a_parent_is_followed_and_can_be_bounded() {
        let none = Share::millionths(0).unwrap();
        let trace = TraceId::random();
        for (sampling, recorded, kept) in [
            (Sampling { share: none, parents: Parents::All }, true, true),
            (Sampling { share: Share::ALL, parents: Parents::All }, false, false),
            (Sampling { share: none, parents: Parents::Share }, true, false),
            (Sampling { share: Share::ALL, parents: Parents::Share }, true, true),
        ] {
            assert_eq!(sampling.keeps(trace, Some(recorded)), kept, "{sampling:?} {recorded}");
        }
    }

    proptest! {
        #[test]
        fn a_larger_share_keeps_what_a_smaller_one_keeps(low: u64, a in 0..=1_000_000_u32, b in 0..=1_000_000_u32) {
            let (small, large) = (a.min(b), a.max(b));
            let kept = share(small).keeps(id(low), None);
            prop_assert!(!kept || share(large).keeps(id(low), None));
        }
    }
}
