//! The last reload that let someone do more than before, for whoever looks at the process.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What a reload gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WidenedRights {
    /// When it was seen.
    pub at: Timestamp,
    /// The version of the configuration that gives it.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// Who has more than before, a line each: the first of them.
    pub changes: Vec<String>,
    /// How many more there are; `policy diff` names all.
    pub more: usize,
}

/// The last of them; it stays until another comes, however many reloads give nothing.
#[derive(Default)]
pub(super) struct LastWidened(ArcSwap<Option<WidenedRights>>);

impl LastWidened {
    pub(super) fn replace(&self, rights: WidenedRights) {
        self.0.store(Arc::new(Some(rights)));
    }

    pub(super) fn get(&self) -> Option<WidenedRights> {
        self.0.load().as_ref().clone()
    }
}

impl WidenedRights {
    /// For machines.
    pub fn json(&self) -> Value {
        let Self { at, version, summary, changes, more } = self;
        json!({
            "at": at.to_string(), "version": version, "summary": summary, "changes": changes,
            "more": more,
        })
    }
}
