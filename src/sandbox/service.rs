//! The way of a request through the sandbox: read, noted, hit by a fault or done, answered.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_METHOD, CONNECTION, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};

use super::body::SandboxBody;
use super::faults::{Form, Garble, InjectedFault, Instead};
use super::perform::SandboxCall;
use super::refusal::SandboxError;
use super::response::{json_answer, refused};
use super::shared::SharedSandbox;
use super::{Settings, access, seen};
use crate::api::{BodySpec, Matched, Object, UnknownFields, check_object, parse_object};
use crate::clock::now_ms;
use crate::failure::{self, Failure, RenderOptions};
use crate::field::REGION;
use crate::server::{self, NoAnswer, Peer, Service};
use crate::token::InvalidTokenError;

/// The most bytes of a request body.
const LONGEST: usize = 1024 * 1024;

/// How long a request body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// A sandbox. Clones share what it remembers.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<SharedSandbox>,
}

impl Sandbox {
    /// A sandbox that remembers nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { shared: Arc::new(SharedSandbox::new(settings)) }
    }

    /// The last requests that it received, newest first.
    pub fn requests(&self) -> Value {
        self.shared.seen().view()
    }

    /// The fault that is set.
    pub fn fault(&self) -> Value {
        self.shared.faults().view()
    }

    /// Sets a fault in place of the one that is set.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set_fault(&self, fault: &Value) -> Result<Value, String> {
        let set = self.shared.faults().set(fault.to_string().as_bytes(), &self.shared.operations);
        set.map_err(|error| error.to_string())
    }

    /// Sets none any more.
    pub fn clear_fault(&self) -> Value {
        let mut faults = self.shared.faults();
        faults.clear();
        faults.view()
    }

    /// Starts to serve it.
    ///
    /// # Errors
    /// As [`server::start`]: an address that cannot be bound.
    pub fn start(
        &self,
        server: &server::Settings,
        listeners: Vec<server::Listener>,
    ) -> io::Result<server::Running> {
        let shared = Arc::clone(&self.shared);
        server::start(server, listeners, move |_worker| SandboxService(Arc::clone(&shared)))
    }
}

/// A sandbox on one worker.
struct SandboxService(Arc<SharedSandbox>);

impl Service for SandboxService {
    type Body = SandboxBody;

    fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<SandboxBody>> + 'static {
        let shared = Arc::clone(&self.0);
        async move {
            let (head, body) = request.into_parts();
            let body = read(body).await;
            match head.uri.path() {
                path if path == "/v5" || path.starts_with("/v5/") => {
                    shared.api(&head, body, peer).await
                }
                _ => shared.control(&head, body).map(SandboxBody::from),
            }
        }
    }

    fn refuse(&self, failure: Failure, _: Peer, _: Option<&HeaderValue>) -> Response<Bytes> {
        let settings = failure::Settings::default();
        let options =
            RenderOptions { settings: &settings, request_id: "", problem: false, titled: false };
        // Only whether the connection goes on is the same for a third party.
        let connection = failure.answer(&options).headers_mut().remove(CONNECTION);
        let mut response = refused(&failure.into());
        if let Some(connection) = connection {
            response.headers_mut().insert(CONNECTION, connection);
        }
        response
    }
}

impl SharedSandbox {
    /// Answers a request to the whiteboard API.
    async fn api(
        self: Arc<Self>,
        head: &Parts,
        body: Result<Bytes, SandboxError>,
        peer: Peer,
    ) -> Response<SandboxBody> {
        let bytes = body.as_ref().map_or(0, Bytes::len);
        self.seen().add(seen::describe(head, bytes, peer.tls, self.pairs(), now_ms()));
        if head.method == Method::OPTIONS
            && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return preflight().map(SandboxBody::from);
        }
        let matched = match self.operations.find(&head.method, head.uri.path()) {
            Ok(matched) => matched,
            Err(failure) => return open(refused(&failure.into())).map(SandboxBody::from),
        };
        let fault = self.faults().hit(&matched.operation.name);
        let answer = match fault.as_ref().and_then(|fault| fault.instead.as_ref()) {
            Some(instead) => instead.answer(),
            None => match self.done(&matched, head, body, peer) {
                Ok(value) => json_answer(matched.operation.success, &value),
                Err(refusal) => refused(&refusal),
            },
        };
        let answer = open(answer);
        match fault {
            None => answer.map(SandboxBody::from),
            Some(fault) => fault.spoil(answer, &head.headers).await,
        }
    }

    /// Checks a request as the service does, and does what it asks for.
    fn done(
        self: &Arc<Self>,
        matched: &Matched<'_>,
        head: &Parts,
        body: Result<Bytes, SandboxError>,
        peer: Peer,
    ) -> Result<Value, SandboxError> {
        let (operation, body) = (matched.operation, body?);
        let now_ms = now_ms();
        let pass = access::check(operation, &matched.target, &head.headers, self.pairs(), now_ms)?;
        let region = self.region(&head.headers)?;
        let query = operation.query.normalize(head.uri.query())?;
        let object = match operation.body {
            BodySpec::Json(fields) => {
                let object = if body.is_empty() { Object::default() } else { parse_object(&body)? };
                check_object(&object, fields, UnknownFields::Pass)?;
                object.into()
            }
            BodySpec::None | BodySpec::Opaque => Map::new(),
        };
        let base = base(head, peer);
        let query = query.as_deref();
        let (body, base) = (&object, base.as_str());
        self.perform(&SandboxCall { matched, region, query, body, pass, base, now_ms })
    }

    /// The region, which every documented operation requires.
    fn region<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, SandboxError> {
        let mut regions = headers.get_all(REGION).iter();
        let region = match (regions.next(), regions.next()) {
            (Some(region), None) => region.to_str().unwrap_or_default(),
            (None, _) => return Err(wrong("the header `region` is required".to_owned())),
            _ => return Err(wrong("the header `region` stands twice".to_owned())),
        };
        if self.regions.iter().any(|known| known == region) {
            return Ok(region);
        }
        Err(wrong(format!("unknown region; the regions are {}", self.regions.join(", "))))
    }
}

impl Instead {
    fn answer(&self) -> Response<Bytes> {
        match self {
            Self::Status(status, message) => json_answer(*status, &json!({ "message": message })),
            Self::TokenError => refused(&InvalidTokenError::Signature.into()),
            Self::Redirect(place) => {
                let body = json!({ "message": "the sandbox was told to send you elsewhere" });
                let mut answer = json_answer(StatusCode::TEMPORARY_REDIRECT, &body);
                if let Ok(place) = HeaderValue::from_str(place) {
                    answer.headers_mut().insert(LOCATION, place);
                }
                answer
            }
            Self::Close => Response::default(),
        }
    }
}

impl InjectedFault {
    /// Makes of an answer what the fault wants of it.
    async fn spoil(self, answer: Response<Bytes>, asked: &HeaderMap) -> Response<SandboxBody> {
        if !self.latency.is_zero() {
            sleep(self.latency).await;
        }
        if self.instead == Some(Instead::Close) {
            let mut none = Response::new(SandboxBody::none());
            none.extensions_mut().insert(NoAnswer);
            return none;
        }
        let (mut head, mut body) = answer.into_parts();
        if self.form == Form::Observed && !head.status.is_success() {
            body = observed(&body, asked);
        }
        if let Some(seconds) = self.retry_after {
            head.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        let body = match self.body {
            Garble::Nothing => body.into(),
            Garble::Empty => Bytes::new().into(),
            Garble::Truncated => SandboxBody::truncated(&body),
            Garble::Html => {
                head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
                Bytes::from_static(PAGE.as_bytes()).into()
            }
        };
        Response::from_parts(head, body)
    }
}

/// The body of a failure as the real service was seen to write it: the message is a title, and there
/// are a request's id and region, which its support asks for, and the names of its machines.
fn observed(documented: &[u8], asked: &HeaderMap) -> Bytes {
    let documented: Value = serde_json::from_slice(documented).unwrap_or_default();
    let region = asked.get(REGION).and_then(|region| region.to_str().ok()).unwrap_or("us-sv");
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    let machine = |part: &str| format!("{region}-{part}-5d9c7b6f84-x2l4k");
    let error = json!({
        "title": documented["message"],
        "messages": [],
        "requestId": id.simple().to_string(),
        "region": region,
        "traceStack": [machine("shunt-api"), machine("room-service")],
    });
    json!({ "error": error }).to_string().into()
}

/// What load balancers answer in place of the service behind them.
const PAGE: &str = "<html>\r\n<head><title>The sandbox was told to answer this</title></head>\r\n\
                    <body><center><h1>Not the whiteboard service</h1></center></body>\r\n</html>\r\n";

/// The whole body of a request.
async fn read(body: Incoming) -> Result<Bytes, SandboxError> {
    let late = || wrong("the body of the request did not arrive in time".to_owned());
    let collected = timeout(PATIENCE, Limited::new(body, LONGEST).collect()).await;
    let broken =
        |_| wrong(format!("the body of the request is incomplete, or over {LONGEST} bytes"));
    collected.map_err(|_| late())?.map_err(broken).map(|body| body.to_bytes())
}

fn wrong(why: String) -> SandboxError {
    SandboxError::Request(why)
}

/// Where files of this sandbox are found, as whoever asks knows it.
fn base(head: &Parts, peer: Peer) -> String {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = head.uri.authority().map(http::uri::Authority::as_str).or(host);
    // It is kept with each conversion, so its length is bounded.
    let authority = authority.filter(|authority| authority.len() <= 255);
    let scheme = if peer.tls { "https" } else { "http" };
    format!("{scheme}://{}{}", authority.unwrap_or("localhost"), super::control::FILES)
}

/// Browsers call the service from any origin.
fn open(mut answer: Response<Bytes>) -> Response<Bytes> {
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

fn preflight() -> Response<Bytes> {
    let mut answer = open(json_answer(StatusCode::OK, &json!({})));
    let headers = answer.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    let names = HeaderValue::from_static("content-type, region, token");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    answer
}
