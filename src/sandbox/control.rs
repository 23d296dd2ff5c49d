//! The sandbox's own paths, outside the whiteboard API: the fault switch, what arrived, and the
//! files that its answers point to.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::refusal::SandboxError;
use super::response::{json_answer, refused};
use super::shared::SharedSandbox;

const FAULTS: &str = "/sandbox/faults";
const REQUESTS: &str = "/sandbox/requests";

/// Below it every image is found that an answer points to.
pub(super) const FILES: &str = "/sandbox/files";

/// One white pixel: enough for an application to show.
const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3a\x7e\x9bU\
    \0\0\0\nIDAT\x78\xda\x63\xf8\x0f\0\x01\x01\x01\0\x1c\xb0\x8c\x99\0\0\0\0IEND\xaeB\x60\x82";

impl SharedSandbox {
    /// Answers a request that is not for the whiteboard API.
    pub(super) fn control(
        &self,
        head: &Parts,
        body: Result<Bytes, SandboxError>,
    ) -> Response<Bytes> {
        let path = head.uri.path();
        if let Some(file) = path.strip_prefix(FILES) {
            return match (&head.method, is_image(file)) {
                (&Method::GET | &Method::HEAD, true) => pixel(),
                _ => refused(&SandboxError::NoPath),
            };
        }
        match self.controlled(&head.method, path, body) {
            Ok(value) => json_answer(StatusCode::OK, &value),
            Err(refusal) => refused(&refusal),
        }
    }

    fn controlled(
        &self,
        method: &Method,
        path: &str,
        body: Result<Bytes, SandboxError>,
    ) -> Result<Value, SandboxError> {
        let takes =
            |methods: &str| Err(SandboxError::Request(format!("this path takes {methods}")));
        match (path, method.as_str()) {
            ("/", "GET") => Ok(about()),
            (FAULTS, "GET") => Ok(self.faults().view()),
            (FAULTS, "PUT") => self.faults().set(&body?, &self.operations),
            (FAULTS, "DELETE") => {
                let mut faults = self.faults();
                faults.clear();
                Ok(faults.view())
            }
            (REQUESTS, "GET") => Ok(self.seen().view()),
            (REQUESTS, "DELETE") => {
                let mut seen = self.seen();
                seen.clear();
                Ok(seen.view())
            }
            ("/", _) => takes("GET"),
            (FAULTS, _) => takes("GET, PUT and DELETE"),
            (REQUESTS, _) => takes("GET and DELETE"),
            _ => Err(SandboxError::NoPath),
        }
    }
}

fn about() -> Value {
    json!({
        "sandbox": "a stand-in for the Interactive Whiteboard RESTful API of api.netless.link",
        "version": env!("CARGO_PKG_VERSION"),
        "api": "/v5/…, with the headers `token` and `region`",
        "control": {
            format!("GET {FAULTS}"): "the fault that is set",
            format!("PUT {FAULTS}"): "set one: {\"operations\":[\"rooms.get\"],\"count\":3,\"status\":500}",
            format!("DELETE {FAULTS}"): "clear it",
            format!("GET {REQUESTS}"): "the last 100 requests to the API, newest first, tokens decoded",
            format!("DELETE {REQUESTS}"): "forget them",
            format!("GET {FILES}/…"): "the images that answers point to: one white pixel",
        },
    })
}

fn is_image(file: &str) -> bool {
    let extension = file.rsplit_once('.').map(|(_, extension)| extension);
    matches!(extension, Some("png" | "jpg" | "jpeg" | "webp"))
}

fn pixel() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(PIXEL));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
    response
}
