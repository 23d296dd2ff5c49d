//! The last step: a token operation is answered here, every other is forwarded with the weakest
//! whiteboard token that will do.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};

use super::admitted::Admitted;
use super::context::RequestContext;
use super::worker::GatewayWorker;
use crate::api::{Access, TokenKind};
use crate::failure::{Code, Failure};
use crate::field::WHITEBOARD_GRANTED;
use crate::policy::Grant;
use crate::token::{Credentials, Minted, Need, Project};
use crate::upstream::{Call, ForwardRecord, RequestBody, ResponseBody, UpstreamResponse};

/// What came of serving a request.
pub(super) struct Served {
    pub(super) answered: Result<UpstreamResponse, Failure>,
    /// The whiteboard service may have got it.
    pub(super) sent: bool,
    pub(super) minted_for_caller: u8,
    pub(super) minted_for_upstream: u8,
}

impl Served {
    /// Without the whiteboard service.
    fn here(answered: Result<UpstreamResponse, Failure>) -> Self {
        let minted_for_caller = answered.is_ok().into();
        Self { answered, sent: false, minted_for_caller, minted_for_upstream: 0 }
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        self.answered.as_ref().err()
    }
}

impl GatewayWorker {
    /// Answers here, or forwards.
    pub(super) async fn serve(
        &self,
        call: &mut Call<'_>,
        admitted: &Admitted<'_>,
        context: &RequestContext,
        record: ForwardRecord<'_>,
    ) -> Served {
        if let Some(grant) = &admitted.grant {
            let minted = self.mint(call, grant, admitted, context).await;
            if let Some(answered) = minted.transpose() {
                return Served::here(answered);
            }
        }
        self.forward(call, admitted, context, record).await
    }

    /// Answers a token operation; `None` for a project whose keys only the whiteboard service has.
    async fn mint(
        &self,
        call: &Call<'_>,
        grant: &Grant,
        admitted: &Admitted<'_>,
        context: &RequestContext,
    ) -> Result<Option<UpstreamResponse>, Failure> {
        call.authority.check()?;
        let Admitted { caller, matched, project, .. } = admitted;
        let minted =
            project.mint(&grant.request, matched.target.uuid(), caller.number, admitted.now_ms)?;
        let Some(minted) = minted else { return Ok(None) };
        self.audit_minted(&minted, grant, admitted, context).await?;
        // A disk can take its time; then the audit has a token that no one gets.
        call.authority.check()?;
        Ok(Some(token_answer(&minted, grant, admitted)))
    }

    async fn forward(
        &self,
        call: &mut Call<'_>,
        admitted: &Admitted<'_>,
        context: &RequestContext,
        mut record: ForwardRecord<'_>,
    ) -> Served {
        let Admitted { caller, permit, matched, grant, project, now_ms } = admitted;
        let need = match (matched.operation.access, grant) {
            (Access::Open, _) => None,
            (Access::Needs(kind, role), _) => {
                let uuid = matched.target.uuid().filter(|_| kind != TokenKind::Sdk);
                Some(Need { kind, role, uuid, or_sdk: permit.sdk_token })
            }
            (Access::Mints(_), grant) => grant.as_ref().map(|grant| {
                call.body = RequestBody::Whole(grant.request.to_body().into());
                Need { kind: TokenKind::Sdk, role: grant.request.role, uuid: None, or_sdk: false }
            }),
        };
        (call.priority, call.caller) = (permit.priority(), caller.number);
        let mut credentials = Credentials::new(project, need, &self.tokens, *now_ms);
        let attempts_before = record.report.attempts;
        let upstream = &self.snapshot.upstream;
        let answered = upstream.forward(&self.pool, call, &mut credentials, &mut record).await;
        if need.is_some() {
            note_acceptance(project, &answered, context.at_ms);
        }
        let answered = match (answered, grant) {
            (Ok(answered), Some(grant)) => {
                self.hand_out(answered, grant, call, admitted, context).await
            }
            (answered, _) => answered,
        };
        Served {
            answered,
            sent: record.report.attempts > attempts_before,
            minted_for_caller: 0,
            minted_for_upstream: credentials.minted,
        }
    }

    /// Issues a token that the whiteboard service has minted.
    async fn hand_out(
        &self,
        mut answered: UpstreamResponse,
        grant: &Grant,
        call: &Call<'_>,
        admitted: &Admitted<'_>,
        context: &RequestContext,
    ) -> Result<UpstreamResponse, Failure> {
        self.audit_answered(&answered, grant, admitted, context).await?;
        call.authority.check()?;
        let headers = answered.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        say_what_was_granted(grant, headers);
        Ok(answered)
    }
}

/// Notes whether the service accepted a token of the project. The first refusal is worth a warning:
/// every caller of the project fails then, and the cause is ours.
fn note_acceptance(project: &Project, answered: &Result<UpstreamResponse, Failure>, at_ms: u64) {
    match answered {
        Ok(_) => project.acceptance.taken(),
        Err(failure) if failure.code() == Code::UpstreamCredential => {
            if project.acceptance.refused(at_ms) {
                let detail = failure.detail().unwrap_or_else(|| failure.message());
                tracing::warn!(
                    project = project.name,
                    detail,
                    "the service takes no token of this project: compare its AK and SK with the \
                     console, and look at the clock"
                );
            }
        }
        // It says nothing about the token.
        Err(_) => {}
    }
}

/// A minted token as the API answers it: a bare JSON string.
fn token_answer(minted: &Minted<'_>, grant: &Grant, admitted: &Admitted<'_>) -> UpstreamResponse {
    // A token is base64url after its prefix: there is nothing to escape.
    let body = Bytes::from(format!("\"{}\"", minted.token.expose()));
    let mut answer = Response::new(ResponseBody::Whole(body));
    *answer.status_mut() = admitted.matched.operation.success;
    let headers = answer.headers_mut();
    headers.reserve(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    say_what_was_granted(grant, headers);
    answer
}

/// Tells a caller that it gets less than it asked for.
fn say_what_was_granted(grant: &Grant, headers: &mut HeaderMap) {
    if !grant.clamped {
        return;
    }
    if let Ok(value) = HeaderValue::try_from(grant.request.granted()) {
        headers.insert(WHITEBOARD_GRANTED, value);
    }
}
