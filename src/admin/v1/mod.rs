//! The admin API: each route is a row of one table, of which its OpenAPI document is made too.
//!
//! The row says who may ask and whether something changes; what lets a request in is here, and no
//! handler looks at a credential.

mod explain;
mod openapi;
mod reload;
mod route;
mod sandbox;
mod session;
mod status;
mod traffic;

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::timeout;

use super::access::OperatorRole;
use super::budgets;
use super::context::AdminContext;
use super::identity::check_origin;
use super::render;
use crate::failure::{Code, Failure};
use crate::server::Peer;
use route::{AdminRoute, Asked, BodyMembers, MemberKind, VIEWER, member};

/// What every path of it begins with.
pub(super) const PREFIX: &str = "/admin/v1/";

/// The longest body, and how long it may take.
const MOST_BODY: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const FAULT: &str = "The fault, as PUT /sandbox/faults of the sandbox takes it";
const OPERATOR: Option<OperatorRole> = Some(OperatorRole::Operator);

/// The routes.
static TABLE: &[AdminRoute] = &[
    AdminRoute::new(
        Method::POST,
        "/session",
        None,
        "Begin a session of a browser: the key of an operator comes, a cookie goes",
        |context, asked| Box::pin(async move { session::begin(context, &asked) }),
    )
    .takes(&[member("key", MemberKind::Text, true, "The key, wbg_admin_…")]),
    AdminRoute::read(
        "/session",
        "Who asks, and the token that each change by this session carries",
        |context, asked| Box::pin(async move { session::show(context, &asked) }),
    ),
    AdminRoute::new(Method::DELETE, "/session", VIEWER, "End the session", |context, asked| {
        Box::pin(async move { session::end(context, &asked) })
    })
    .changes(),
    AdminRoute::read("/status", "What runs, and whether it is well", |context, _| {
        Box::pin(status::status(context))
    }),
    AdminRoute::read(
        "/configuration",
        "The configuration as it counts, without its secrets",
        |context, _| Box::pin(async { configuration(context).await }),
    ),
    AdminRoute::read("/budgets", "How much of each budget is used, and by whom", |context, _| {
        Box::pin(budgets::answer(context))
    }),
    AdminRoute::read("/traffic", "The last hour by minutes", |context, _| {
        Box::pin(traffic::minutes(context))
    }),
    AdminRoute::read("/failures", "The last failures, by whose doing they are", |context, _| {
        Box::pin(traffic::failures(context))
    }),
    AdminRoute::read(
        "/callers",
        "Who called in the last hour, with the keys of callers and their ends",
        |context, _| Box::pin(traffic::callers(context)),
    ),
    AdminRoute::new(
        Method::POST,
        "/reload",
        OPERATOR,
        "Read the configuration again, as SIGHUP does",
        |context, asked| Box::pin(reload::reload(context, asked)),
    )
    .takes(&[member("why", MemberKind::Text, true, "Why, for the audit")])
    .changes(),
    AdminRoute::new(
        Method::POST,
        "/policy/explain",
        VIEWER,
        "Whether a request would be allowed, and what each rule says to it",
        |context, asked| Box::pin(explain::explain(context, asked)),
    )
    .takes(explain::TAKES),
    AdminRoute::read(
        "/sandbox",
        "Beside the sandbox: what it received, and the fault that is set",
        |context, _| Box::pin(async { sandbox::show(context) }),
    ),
    AdminRoute::new(
        Method::PUT,
        "/sandbox/fault",
        OPERATOR,
        "Beside the sandbox: set a fault",
        |context, asked| Box::pin(async move { sandbox::set(context, &asked) }),
    )
    .takes(&[member("fault", MemberKind::Object, true, FAULT)])
    .changes(),
    AdminRoute::new(
        Method::DELETE,
        "/sandbox/fault",
        OPERATOR,
        "Beside the sandbox: set no fault any more",
        |context, _| Box::pin(async { sandbox::clear(context) }),
    )
    .changes(),
    AdminRoute::read("/openapi.json", "This document", |_, _| {
        Box::pin(async { Ok(render::json(&openapi::document(TABLE))) })
    }),
];

/// Answers a request for a path of the API.
///
/// # Errors
/// Whatever it is refused for.
pub(super) async fn answer(
    context: &AdminContext,
    request: Request<Incoming>,
    peer: &Peer,
) -> Result<Response<Bytes>, Failure> {
    if !context.status.access().has_operators {
        let why = "the admin API is for operators, and the configuration has none: \
                   `key new --operator NAME` makes a key and prints what to write there";
        return Err(Failure::fixed(Code::Forbidden, why));
    }
    let route = find(&request)?;
    check_origin(&request, peer.tls)?;
    let by = match route.role {
        None => None,
        Some(role) => {
            let by = context.identify(&request, peer, Timestamp::now())?;
            by.needs(role)?;
            if route.changes {
                by.may_change(request.headers())?;
            }
            Some(by)
        }
    };
    let (Parts { headers, .. }, body) = request.into_parts();
    let body = match route.takes {
        [] => BodyMembers::default(),
        takes => BodyMembers::read(&read(body).await?, takes)?,
    };
    (route.answer)(context, Asked { by, headers: &headers, peer, body }).await
}

fn find<B>(request: &Request<B>) -> Result<&'static AdminRoute, Failure> {
    let path = request.uri().path().strip_prefix("/admin/v1").unwrap_or_default();
    let mut routes = TABLE.iter().filter(|route| route.path == path).peekable();
    if routes.peek().is_none() {
        let why = "there is no such path: GET /admin/v1/openapi.json tells which there are";
        return Err(Failure::fixed(Code::NotFound, why));
    }
    let methods: Vec<&str> = routes.clone().map(|route| route.method.as_str()).collect();
    let takes = |route: &&AdminRoute| {
        route.method == *request.method()
            || (route.method == Method::GET && *request.method() == Method::HEAD)
    };
    routes.find(takes).ok_or_else(|| Failure::method_not_allowed(&methods.join(", ")))
}

async fn read(body: Incoming) -> Result<Bytes, Failure> {
    let late = |_| Failure::fixed(Code::RequestTimeout, "the body did not come in time");
    let read = timeout(BODY_TIMEOUT, Limited::new(body, MOST_BODY).collect()).await;
    match read.map_err(late)? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let why = format!("the body is longer than {MOST_BODY} bytes");
            Err(Failure::new(Code::BodyTooLarge, why))
        }
        Err(_) => Err(Failure::fixed(Code::MalformedRequest, "the body broke off")),
    }
}

async fn configuration(context: &AdminContext) -> Result<Response<Bytes>, Failure> {
    let page = async {
        let shown = context.status.configuration().unwrap_or_default();
        render::of_type("application/json", Bytes::from(shown))
    };
    context.pages.configuration.get(page).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn whatever_changes_something_takes_the_role_of_an_operator_or_is_a_session() {
        for route in TABLE {
            let looks = matches!(route.method, Method::GET);
            let session = route.path == "/session";
            assert!(!(looks && route.changes), "{}", route.path);
            assert!(!route.changes || session || route.role == OPERATOR, "{}", route.path);
            assert!(route.role.is_some() || session, "{}", route.path);
        }
    }

    #[test]
    fn the_document_has_each_route_once() {
        let document = openapi::document(TABLE);
        let paths = document["paths"].as_object().unwrap();
        let operations: Vec<_> =
            paths.values().flat_map(|path| path.as_object().unwrap().values()).collect();
        let ids: BTreeSet<_> =
            operations.iter().map(|one| one["operationId"].as_str().unwrap()).collect();
        assert_eq!((operations.len(), ids.len()), (TABLE.len(), TABLE.len()));
        let reload = &document["paths"]["/admin/v1/reload"]["post"];
        assert_eq!(reload["x-role"], "operator");
        let schema = &reload["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(schema["required"][0], "why");
    }
}
