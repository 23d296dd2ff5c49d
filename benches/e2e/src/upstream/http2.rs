//! The whiteboard service over HTTP/2: hyper with nothing around it.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::local::LocalExecutor;

/// Gives the body of the answer to a request.
pub(super) type BodyOf = Rc<dyn Fn(&Request<Incoming>) -> Bytes>;

/// Serves a connection on which HTTP/2 was agreed. `body` gives the body of an answer.
pub(super) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, body: BodyOf) {
    let service = service_fn(move |request: Request<Incoming>| {
        let bytes = body(&request);
        async move { Ok::<_, Infallible>(answer(request, bytes).await) }
    });
    let mut http2 = http2::Builder::new(LocalExecutor);
    http2.timer(TokioTimer::new()).max_concurrent_streams(200);
    // How a connection ends is of no use to anyone here.
    _ = http2.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, bytes: Bytes) -> Response<Full<Bytes>> {
    let created = request.method() == Method::POST;
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let mut answer = Response::new(Full::new(bytes));
    if created {
        *answer.status_mut() = StatusCode::CREATED;
    }
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer.headers_mut().insert("x-powered-by", HeaderValue::from_static("whiteboard"));
    answer
}
