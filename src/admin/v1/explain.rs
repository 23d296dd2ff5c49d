//! `POST /admin/v1/policy/explain`: whether a request would be allowed by the configuration that
//! counts, and what each rule says to it, as `policy explain` tells of a file.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use jiff::Timestamp;

use super::route::{Asked, BodyMember, MemberKind, member};
use crate::admin::context::AdminContext;
use crate::admin::render;
use crate::api::{Lifespan, Role};
use crate::caller::{Caller, CredentialCache, ShownCertificate};
use crate::failure::{Code, Failure};
use crate::field::TOKEN;
use crate::gateway::{PolicyQuestion, QuestionError, Snapshot};

/// Whose failures those of tokens that operators ask about are: no caller has it.
const NO_CALLER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What its body holds.
pub(super) const TAKES: &[BodyMember] = &[
    member("method", MemberKind::Text, true, "The method of the request"),
    member("path", MemberKind::Text, true, "Its path"),
    member("caller", MemberKind::Text, false, "A caller of the configuration"),
    member("issuer", MemberKind::Text, false, "An issuer, whose token makes the caller"),
    member("claims", MemberKind::Object, false, "The claims of that token"),
    member("token", MemberKind::Text, false, "The credential itself, which is kept nowhere"),
    member("role", MemberKind::Text, false, "The role that is asked for, of a token"),
    member("lifespan", MemberKind::Number, false, "Its lifespan in milliseconds, 0 is permanent"),
];

pub(super) async fn explain(
    context: &AdminContext,
    asked: Asked<'_>,
) -> Result<Response<Bytes>, Failure> {
    let body = &asked.body;
    let snapshot = context.status.snapshots.load_full();
    let role = body.text("role").map(str::parse::<Role>).transpose();
    let role = role.map_err(|_| wrong("`role` is reader, writer or admin"))?;
    let lifespan = body.number("lifespan").map(|one| one.as_u64().ok_or(one)).transpose();
    let lifespan = lifespan
        .map_err(|_| wrong("`lifespan` is a whole number of milliseconds, and 0 is permanent"))?;
    let question = PolicyQuestion {
        method: body.text("method").unwrap_or_default(),
        path: body.text("path").unwrap_or_default(),
        role,
        lifespan: lifespan.map(Lifespan::from_wire),
    };
    let unanswered = |why: QuestionError| wrong(&why.to_string());
    let caller = match (body.text("caller"), body.text("issuer"), body.text("token")) {
        (Some(name), None, None) => Ok(snapshot.caller_named(name).map_err(unanswered)?),
        (None, Some(issuer), None) => {
            let none = serde_json::Map::new();
            let claims = body.object("claims").unwrap_or(&none);
            snapshot.caller_with_claims(issuer, claims).map_err(unanswered)?
        }
        (None, None, Some(token)) => identify(&snapshot, token).await?,
        _ => return Err(wrong("say who asks: `caller`, `issuer` with `claims`, or `token`")),
    };
    Ok(render::json(&snapshot.explain(caller, &question).map_err(unanswered)?.json()))
}

/// Who shows a credential, by the keys of issuers that are there.
async fn identify(
    snapshot: &Snapshot,
    token: &str,
) -> Result<Result<Arc<Caller>, Failure>, Failure> {
    let request = Request::builder().header(TOKEN, token).body(());
    let request = request.map_err(|_| wrong("the token holds what no header can"))?;
    let (now, memory) = (Timestamp::now(), CredentialCache::default());
    let callers = &snapshot.callers;
    let none = || ShownCertificate::NONE;
    let identified = callers.identify(&request, NO_CALLER, none, now, &memory).await;
    Ok(identified.map(|identified| identified.caller))
}

fn wrong(why: &str) -> Failure {
    Failure::new(Code::InvalidBody, why.to_owned())
}
