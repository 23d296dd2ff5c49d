//! What is recorded of a token before its caller has it, wherever it was minted.

use std::time::Duration;

use super::admitted::Admitted;
use super::context::RequestContext;
use super::worker::GatewayWorker;
use crate::failure::{Code, Failure};
use crate::policy::Grant;
use crate::telemetry::{AuditRecorder, TokenFingerprint, TokenRecord};
use crate::token::{Claims, Minted, Secret};
use crate::upstream::{ResponseBody, UpstreamResponse};

/// A disk that is full is seldom free again at once.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A token that is about to be issued.
struct Handed<'a> {
    token: &'a Secret,
    access_key: Option<&'a str>,
    nonce: Option<&'a str>,
    expire_at_ms: Option<u64>,
}

impl GatewayWorker {
    /// Records a token that was minted here.
    ///
    /// # Errors
    /// `audit_unavailable` when a record is required and cannot be written.
    pub(super) async fn audit_minted(
        &self,
        minted: &Minted<'_>,
        grant: &Grant,
        admitted: &Admitted<'_>,
        context: &RequestContext,
    ) -> Result<(), Failure> {
        let Some(trail) = &self.trail else { return Ok(()) };
        let handed = Handed {
            token: &minted.token,
            access_key: Some(minted.access_key),
            nonce: Some(&minted.nonce),
            expire_at_ms: minted.expire_at_ms,
        };
        handed.record(trail, grant, admitted, context).await
    }

    /// Records a token that the whiteboard service has minted: it is in the answer.
    ///
    /// # Errors
    /// As [`GatewayWorker::audit_minted`], and `upstream_error` when a record is required and there is
    /// no token in the answer of which there could be one.
    pub(super) async fn audit_answered(
        &self,
        answered: &UpstreamResponse,
        grant: &Grant,
        admitted: &Admitted<'_>,
        context: &RequestContext,
    ) -> Result<(), Failure> {
        let Some(trail) = &self.trail else { return Ok(()) };
        let Some(token) = token_in(answered.body()) else {
            let why = "the whiteboard service was asked for a token, and its answer holds none";
            if trail.is_required() {
                return Err(Failure::fixed(Code::UpstreamError, why));
            }
            trail.lost(why);
            return Ok(());
        };
        // What cannot be read is recorded by its fingerprint all the same.
        let claims = Claims::read(token.expose()).ok();
        let handed = Handed {
            token: &token,
            access_key: None,
            nonce: claims.as_ref().map(Claims::nonce),
            expire_at_ms: claims
                .as_ref()
                .and_then(Claims::expire_at)
                .and_then(|at| at.parse().ok()),
        };
        handed.record(trail, grant, admitted, context).await
    }
}

impl Handed<'_> {
    async fn record(
        &self,
        trail: &AuditRecorder,
        grant: &Grant,
        admitted: &Admitted<'_>,
        context: &RequestContext,
    ) -> Result<(), Failure> {
        let Admitted { caller, matched, project, .. } = admitted;
        let record = TokenRecord {
            at_ms: context.at_ms,
            request_id: context.request_id.as_str(),
            client: context.client,
            caller: Some(&caller.name),
            credential: Some(caller.credential.name()),
            rule: &grant.rule,
            operation: &matched.operation.name,
            kind: grant.request.kind,
            uuid: matched.target.uuid(),
            role: grant.request.role,
            lifespan: grant.request.lifespan,
            expire_at_ms: self.expire_at_ms,
            clamped: grant.clamped,
            asked_role: grant.asked_role,
            asked_lifespan: grant.asked_lifespan,
            project: &project.name,
            access_key: self.access_key,
            nonce: self.nonce,
            fingerprint: TokenFingerprint::of(self.token.expose()),
        };
        trail.record(&record).await.map_err(|error| {
            tracing::error!(%error, "a token is not handed out: its record cannot be written");
            let why = "the token is not handed out, since it could not be recorded";
            Failure::fixed(Code::AuditUnavailable, why)
                .with_detail(error.to_string())
                .with_retry_after(RETRY_AFTER)
        })
    }
}

/// The API answers with a bare JSON string. One that is too long to be read whole is no token.
fn token_in(body: &ResponseBody) -> Option<Secret> {
    let ResponseBody::Whole(bytes) = body else { return None };
    serde_json::from_slice(bytes).ok().map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_token_is_a_bare_json_string() {
        for (body, token) in [
            ("\"NETLESSROOM_a\"", Some("NETLESSROOM_a")),
            (" \"NETLESSROOM_a\" \n", Some("NETLESSROOM_a")),
            ("{}", None),
            ("NETLESSROOM_a", None),
            ("{\"token\":\"NETLESSROOM_a\"}", None),
        ] {
            let found = token_in(&ResponseBody::Whole(Bytes::from_static(body.as_bytes())));
            assert_eq!(found.as_ref().map(Secret::expose), token, "{body}");
        }
    }
}
