//! `POST /admin/v1/reload`: what SIGHUP asks for, with who and why in the audit.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::route::Asked;
use crate::admin::context::AdminContext;
use crate::admin::render;
use crate::failure::{Code, Failure};
use crate::telemetry::OperatorAction;

/// Longer than the secrets of a configuration that commands give may take.
const LONGEST: Duration = Duration::from_secs(60);

/// The longest reason.
const LONGEST_REASON: usize = 500;

pub(super) async fn reload(
    context: &AdminContext,
    asked: Asked<'_>,
) -> Result<Response<Bytes>, Failure> {
    let why = asked.body.text("why").unwrap_or_default().trim();
    if why.is_empty() || why.len() > LONGEST_REASON {
        let wrong = format!("`why` in the body says why, in up to {LONGEST_REASON} bytes");
        return Err(Failure::new(Code::InvalidBody, wrong));
    }
    let Some(by) = &asked.by else {
        return Err(Failure::fixed(Code::Unauthenticated, "no credential came"));
    };
    let action = OperatorAction {
        operator: &by.operator.name,
        credential: by.proof.name(),
        key_id: by.proof.key_id(),
        client: asked.peer.address.ip(),
        action: "reload",
        why,
        outcome: "asked",
    };
    let status = &context.status;
    // Not held: the reload replaces it.
    let snapshot = status.snapshots.load_full();
    snapshot.record_operator_action(&action).await.map_err(|error| {
        let why = "nothing was changed, since who asked for it could not be recorded";
        Failure::fixed(Code::AuditUnavailable, why).with_detail(error.to_string())
    })?;
    let (reply, replied) = oneshot::channel();
    status.reload(reply);
    let Ok(Ok(result)) = timeout(LONGEST, replied).await else {
        let seconds = LONGEST.as_secs();
        let why =
            format!("the reload is not over after {seconds} s: GET /admin/v1/status tells of it");
        return Err(Failure::new(Code::Internal, why));
    };
    let outcome = if result.is_ok() { "loaded" } else { "failed" };
    let over = OperatorAction { outcome, ..action };
    // It is done: what can be said of it now is that it could not be recorded.
    if let Err(error) = status.snapshots.load_full().record_operator_action(&over).await {
        tracing::error!(%error, "what came of an operator's reload could not be recorded");
    }
    tracing::info!(operator = over.operator, why, outcome, "an operator asked for a reload");
    Ok(render::json(&match result {
        Ok(version) => json!({ "result": outcome, "version": version }),
        Err(error) => json!({ "result": outcome, "version": status.version(), "error": error }),
    }))
}
