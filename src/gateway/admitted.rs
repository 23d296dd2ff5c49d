//! A request that may be served: who sends it, what it asks for, and what it is granted.

use std::sync::Arc;

use super::snapshot::Snapshot;
use crate::api::{Matched, TokenRequest};
use crate::caller::Caller;
use crate::failure::Failure;
use crate::policy::{Grant, Permit};
use crate::token::Project;

pub(super) struct Admitted<'a> {
    pub(super) caller: &'a Arc<Caller>,
    pub(super) permit: Permit<'a>,
    pub(super) matched: &'a Matched<'a>,
    /// The token that it gets, where it asks for one.
    pub(super) grant: Option<Grant>,
    pub(super) project: &'a Project,
    /// The time of its steps, in milliseconds of Unix time.
    pub(super) now_ms: u64,
}

impl Snapshot {
    /// Decides about the token that a request asks for, where it asks for one.
    ///
    /// # Errors
    /// `forbidden`, as [`Permit::grant`].
    pub(super) fn admit<'a>(
        &'a self,
        caller: &'a Arc<Caller>,
        permit: Permit<'a>,
        matched: &'a Matched<'a>,
        asks: Option<TokenRequest>,
        now_ms: u64,
    ) -> Result<Admitted<'a>, Failure> {
        let grant = asks.map(|asks| permit.grant(&asks)).transpose()?;
        let project = self.project(permit.project())?;
        Ok(Admitted { caller, permit, matched, grant, project, now_ms })
    }
}
