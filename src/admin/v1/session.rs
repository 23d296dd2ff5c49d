//! `/admin/v1/session`: an operator at a browser logs in with a key, and out.

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::route::Asked;
use crate::admin::access::Operator;
use crate::admin::context::AdminContext;
use crate::admin::identity::{IdentifiedOperator, Proof, cookie_name, session_cookie};
use crate::admin::render;
use crate::admin::session::{KnownSession, LIFE};
use crate::failure::{Code, Failure};

/// A key comes, a cookie goes.
pub(super) fn begin(context: &AdminContext, asked: &Asked<'_>) -> Result<Response<Bytes>, Failure> {
    let key = asked.body.text("key").unwrap_or_default();
    let address = asked.peer.address.ip();
    let (operator, shown) = context
        .status
        .access()
        .by_key(key, Timestamp::now())
        .map_err(|failure| context.refused(address, failure))?;
    let no_randomness = || Failure::fixed(Code::Internal, "the system gives no randomness");
    // One that the browser has already is replaced.
    end_of(context, asked.headers, asked.peer.tls);
    let begun = context.sessions.begin(&operator.name, shown).ok_or_else(no_randomness)?;
    tracing::info!(operator = operator.name, key_id = %shown.id, "an operator has logged in");
    let mut response = render::json(&described(&operator, Some(&begun.known)));
    let seconds = LIFE.as_secs();
    set_cookie(&mut response, asked.peer.tls, begun.cookie.expose(), seconds);
    Ok(response)
}

/// Who asks, and for a session its token.
pub(super) fn show(_: &AdminContext, asked: &Asked<'_>) -> Result<Response<Bytes>, Failure> {
    let Some(IdentifiedOperator { operator, proof }) = &asked.by else { return Err(nobody()) };
    let session = match proof {
        Proof::Session(session) => Some(session),
        Proof::Key(_) | Proof::Certificate => None,
    };
    Ok(render::json(&described(operator, session)))
}

/// The session is over.
pub(super) fn end(context: &AdminContext, asked: &Asked<'_>) -> Result<Response<Bytes>, Failure> {
    end_of(context, asked.headers, asked.peer.tls);
    let mut response = render::json(&json!({ "ended": true }));
    set_cookie(&mut response, asked.peer.tls, "", 0);
    Ok(response)
}

fn end_of(context: &AdminContext, headers: &HeaderMap, tls: bool) {
    if let Some(cookie) = session_cookie(headers, tls) {
        context.sessions.end(cookie);
    }
}

fn nobody() -> Failure {
    Failure::fixed(Code::Unauthenticated, "no credential came")
}

fn described(operator: &Operator, session: Option<&KnownSession>) -> Value {
    let session =
        session.map(|one| json!({ "token": one.token.expose(), "ends": one.ends.to_string() }));
    json!({ "operator": operator.name, "role": operator.role.as_str(), "session": session })
}

/// A page of another site makes the browser send it nowhere, and no script reads it.
fn set_cookie(response: &mut Response<Bytes>, tls: bool, value: &str, seconds: u64) {
    let (name, secure) = (cookie_name(tls), if tls { "; Secure" } else { "" });
    let text =
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    if let Ok(mut cookie) = HeaderValue::from_str(&text) {
        cookie.set_sensitive(true);
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
}
