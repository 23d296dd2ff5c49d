//! A bare proxy of hyper, rustls and tokio: the floor of the gateway's stack.
//!
//! It does what the other peers are configured to do (key, limiter, `token`, keep-alive both ways)
//! and nothing else: one runtime per worker, one pool of upstream connections per worker.

mod access;
mod origin;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

use crate::certificates;
use crate::local::LocalExecutor;
use crate::upstream;
use access::AccessLog;
use origin::Origin;

const TOKEN: HeaderName = HeaderName::from_static("token");

/// The arguments of the bare proxy.
#[derive(clap::Args, Clone)]
pub struct ProxyArgs {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// The key that callers must have.
    #[arg(long)]
    key: HeaderValue,
    /// The token that the upstream gets.
    #[arg(long)]
    token: HeaderValue,
    /// The least time between two requests, in the long run.
    #[arg(long)]
    interval_ns: u64,
    /// How many may come at once.
    #[arg(long)]
    burst: u32,
    /// Certificate and key; plain HTTP without.
    #[arg(long, num_args = 2)]
    tls: Option<Vec<PathBuf>>,
    /// The certificate that the upstream is trusted by; plain HTTP without.
    #[arg(long)]
    upstream_ca: Option<PathBuf>,
    /// The upstream speaks HTTP/2.
    #[arg(long)]
    upstream_h2: bool,
    /// The caller may do everything.
    #[arg(long)]
    all: bool,
    /// Answer the same at once, and ask no upstream.
    #[arg(long)]
    constant: bool,
    #[arg(long)]
    access_log: Option<PathBuf>,
}

/// Serves until it is killed.
pub fn run(args: &ProxyArgs) -> anyhow::Result<()> {
    let workers: Vec<_> = (0..args.workers)
        .map(|_| {
            let args = args.clone();
            std::thread::spawn(move || worker(&args))
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
    }
    Ok(())
}

fn worker(args: &ProxyArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let tls = args.tls.as_deref().map(certificates::server_from_files).transpose()?;
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let proxy = Rc::new(Proxy::new(args)?);
        let listener = listen(args.listen).context("the address cannot be listened on")?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let (proxy, tls) = (Rc::clone(&proxy), tls.clone());
            spawn_local(async move { proxy.serve(socket, tls).await });
        }
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

type Body = Either<Full<Bytes>, Incoming>;

struct Proxy {
    key: HeaderValue,
    token: HeaderValue,
    host: HeaderValue,
    all: bool,
    limiter: Limiter,
    origin: Origin,
    access: Option<RefCell<AccessLog>>,
    /// The body of every answer, where nothing is forwarded.
    constant: Option<Bytes>,
}

impl Proxy {
    fn new(args: &ProxyArgs) -> anyhow::Result<Self> {
        let key = [b"Bearer ", args.key.as_bytes()].concat();
        let access = args.access_log.as_deref().map(AccessLog::open).transpose()?;
        Ok(Self {
            key: HeaderValue::from_bytes(&key)?,
            token: args.token.clone(),
            host: HeaderValue::from_static("localhost"),
            all: args.all,
            limiter: Limiter::new(args.interval_ns, args.burst),
            origin: Origin::new(args.upstream, args.upstream_ca.as_deref(), args.upstream_h2)?,
            constant: args.constant.then(|| Bytes::from(upstream::body(upstream::USUAL))),
            access: access.map(RefCell::new),
        })
    }

    async fn serve(self: Rc<Self>, socket: TcpStream, tls: Option<TlsAcceptor>) {
        let service = service_fn(move |request| {
            let proxy = Rc::clone(&self);
            async move { Ok::<_, Infallible>(proxy.answer(request).await) }
        });
        // How a connection ends is of no use to anyone here.
        let Some(tls) = tls else {
            let http1 = http1::Builder::new().timer(TokioTimer::new()).clone();
            _ = http1.serve_connection(TokioIo::new(socket), service).await;
            return;
        };
        let Ok(socket) = tls.accept(socket).await else { return };
        if socket.get_ref().1.alpn_protocol() == Some(b"h2") {
            let mut http2 = http2::Builder::new(LocalExecutor);
            http2.timer(TokioTimer::new()).max_concurrent_streams(200);
            _ = http2.serve_connection(TokioIo::new(socket), service).await;
        } else {
            let http1 = http1::Builder::new().timer(TokioTimer::new()).clone();
            _ = http1.serve_connection(TokioIo::new(socket), service).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if let Some(body) = &self.constant {
            return constant(request, body.clone()).await;
        }
        let Some(access) = &self.access else { return self.decide(request).await };
        let began = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self.decide(request).await;
        access.borrow_mut().line(&method, &path, answer.status(), began.elapsed());
        answer
    }

    async fn decide(&self, request: Request<Incoming>) -> Response<Body> {
        if request.headers().get(AUTHORIZATION) != Some(&self.key) {
            return refusal(StatusCode::UNAUTHORIZED, "the key is missing or wrong");
        }
        if !self.all && request.uri().path().starts_with("/v5/projector/") {
            return refusal(StatusCode::FORBIDDEN, "this caller may not do that");
        }
        if !self.limiter.take() {
            return refusal(StatusCode::TOO_MANY_REQUESTS, "too many requests");
        }
        match self.origin.send(self.outbound(request)).await {
            Ok(mut answer) => {
                answer.headers_mut().remove(CONNECTION);
                answer.map(Either::Right)
            }
            Err(error) => {
                eprintln!("proxy: {error:#}");
                refusal(StatusCode::BAD_GATEWAY, "the upstream failed")
            }
        }
    }

    /// The same request as the upstream is to see it.
    fn outbound(&self, request: Request<Incoming>) -> Request<Incoming> {
        let (mut head, body) = request.into_parts();
        if let Some(path) = head.uri.path_and_query().filter(|_| head.uri.scheme().is_some()) {
            head.uri = path.clone().into();
        }
        head.headers.remove(AUTHORIZATION);
        head.headers.remove(CONNECTION);
        if self.origin.is_http2() {
            head.version = http::Version::HTTP_2;
            head.headers.remove(HOST);
            let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
            // Both are parts of a URI that was parsed.
            head.uri = format!("https://localhost{path}").parse().unwrap_or_default();
        } else {
            head.version = http::Version::HTTP_11;
            head.headers.insert(HOST, self.host.clone());
        }
        head.headers.insert(TOKEN, self.token.clone());
        Request::from_parts(head, body)
    }
}

/// What the upstream would answer.
async fn constant(request: Request<Incoming>, bytes: Bytes) -> Response<Body> {
    let created = request.method() == Method::POST;
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    json(status, bytes)
}

fn refusal(status: StatusCode, message: &str) -> Response<Body> {
    json(status, format!("{{\"message\":\"{message}\"}}").into())
}

fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Either::Left(Full::new(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// GCRA with one bucket: the earliest time at which the next request would be on schedule.
struct Limiter {
    began: Instant,
    interval: u64,
    tolerance: u64,
    next: Cell<u64>,
}

impl Limiter {
    fn new(interval: u64, burst: u32) -> Self {
        let tolerance = interval * u64::from(burst.saturating_sub(1));
        Self { began: Instant::now(), interval, tolerance, next: Cell::new(0) }
    }

    fn take(&self) -> bool {
        self.take_at(self.began.elapsed())
    }

    fn take_at(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = self.next.get().max(now);
        if next - now > self.tolerance {
            return false;
        }
        self.next.set(next + self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_in_each_interval() {
        let limiter = Limiter::new(1_000, 2);
        let at = |nanos| limiter.take_at(Duration::from_nanos(nanos));
        assert_eq!([at(0), at(0), at(0), at(1_000), at(1_000)], [true, true, false, true, false]);
    }
}
