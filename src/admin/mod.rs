//! The second listener, for operators: health, readiness, metrics, the OpenAPI document, and the
//! admin API.
//!
//! What machines ask for is open. Everything else asks who it is once the configuration has an
//! operator; without one, what shows no more than itself is told on loopback alone, and nothing
//! changes anything. Nothing here shows a secret, but for the page beside the sandbox, which has the
//! sandbox's keys.

mod accept;
mod access;
mod budgets;
mod context;
mod host;
mod html;
mod identity;
mod metrics;
mod operator_page;
mod process_status;
mod render;
mod sandbox;
mod session;
mod shared;
mod try_page;
mod v1;
mod widened;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::json;

use crate::api::openapi;
use crate::failure::{Code, Failure};
use crate::metric::TextFormat;
use crate::net::ListenAddress;
use crate::server::{self, Peer, Service, SocketFile, TlsSettings};
use context::AdminContext;

pub use access::{
    AccessSettings, AdminTransport, ClearTextError, OperatorAccess, OperatorRole, OperatorSettings,
};
pub use host::{HostName, HostNameError};
pub use process_status::{ProcessStatus, ReloadQueue, ReloadReply, StartedWith};
pub use sandbox::{BesideSandbox, SandboxControl};
pub use try_page::TryPage;
pub use widened::WidenedRights;

/// What answers under every name of the listener: machines ask for it by an address.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// What there is to see.
const PLACES: [&str; 5] = ["/livez", "/readyz", "/metrics", "/budgets", "/openapi.json"];

/// The admin listener, from the `[admin]` section, and who may ask there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is; only a start changes that.
    pub listener: AdminListenerSettings,
    /// Who may ask.
    pub access: AccessSettings,
}

/// Where the admin listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminListenerSettings {
    /// Its address; `None` for no admin listener.
    pub address: Option<ListenAddress>,
    /// Its file, where that is a Unix socket.
    pub socket: SocketFile,
    /// TLS, when it is spoken.
    pub tls: Option<TlsSettings>,
}

impl AdminListenerSettings {
    /// The same as a server is started with.
    pub fn of_server(&self) -> server::ListenerSettings {
        let addresses = self.address.iter().cloned().collect();
        let (socket, tls) = (self.socket, self.tls.clone());
        server::ListenerSettings {
            socket,
            tls,
            ..server::ListenerSettings::plain("admin", addresses)
        }
    }
}

/// The service of the admin listener.
pub struct AdminService {
    context: AdminContext,
}

impl AdminService {
    /// Tells a status to whoever may ask.
    pub fn new(
        status: Arc<ProcessStatus>,
        transport: AdminTransport,
        sandbox: Option<BesideSandbox>,
    ) -> Self {
        Self { context: AdminContext::new(status, transport, sandbox) }
    }

    /// The page to try the API on. It has keys in it.
    fn try_page(&self) -> Option<&TryPage> {
        let AdminContext { sandbox, transport, .. } = &self.context;
        sandbox.as_ref()?.try_page.as_ref().filter(|_| transport.on_loopback)
    }

    async fn told(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> Result<Response<Bytes>, Failure> {
        let path = request.uri().path();
        if !OPEN.contains(&path) {
            self.check_host(&request)?;
        }
        if path.starts_with(v1::PREFIX) {
            return v1::answer(&self.context, request, peer).await;
        }
        let is_of_try_page = path == try_page::API && self.try_page().is_some();
        if path != "/" && !is_of_try_page && !self.places().any(|place| place == path) {
            let why = "there are /livez, /readyz, /metrics, /budgets, /openapi.json and /admin/v1/";
            return Err(Failure::fixed(Code::NotFound, why));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Failure::method_not_allowed("GET"));
        }
        let AdminContext { status, pages, .. } = &self.context;
        match path {
            // It waits for nothing.
            "/livez" => status.liveness().map(|()| render::json(&json!({ "alive": true }))),
            "/readyz" => pages.readiness.get(async { self.ready() }).await,
            "/metrics" if accept::prefers_plain(request.headers()) => {
                pages.plain_metrics.get(async { self.measured(TextFormat::Plain) }).await
            }
            "/metrics" => pages.metrics.get(async { self.measured(TextFormat::OpenMetrics) }).await,
            "/" if accept::prefers_html(request.headers()) => {
                Ok(operator_page::answer().unwrap_or_else(|| self.directory()))
            }
            "/" => Ok(self.directory()),
            "/openapi.json" | try_page::API => {
                if !is_of_try_page {
                    self.check_asker(&request, peer)?;
                }
                pages.openapi.get(async { self.described() }).await
            }
            "/budgets" => {
                self.check_asker(&request, peer)?;
                budgets::answer(&self.context).await
            }
            _ => match self.try_page() {
                Some(page) => Ok(page.answer()),
                None => Err(Failure::fixed(Code::NotFound, "there is no such page")),
            },
        }
    }

    /// Refuses what names the listener otherwise than it is called.
    fn check_host<B>(&self, request: &Request<B>) -> Result<(), Failure> {
        let access = self.context.status.access();
        let why = if access.has_operators {
            if access.admits_host(request) {
                return Ok(());
            }
            "this is shown under the names of this listener alone, and the Host of the request is \
             none of them: admin.hosts lists others"
        } else {
            if !self.context.transport.on_loopback || host::names_loopback(request) {
                return Ok(());
            }
            "a listener on loopback shows this under a name of loopback alone, such as localhost: \
             the Host of the request is another"
        };
        Err(Failure::fixed(Code::Forbidden, why))
    }

    /// Refuses whoever may not look: anyone but operators where there are some, and otherwise
    /// anyone on another machine.
    fn check_asker<B>(&self, request: &Request<B>, peer: &Peer) -> Result<(), Failure> {
        if self.context.status.access().has_operators {
            identity::check_origin(request, peer.tls)?;
            let by = self.context.identify(request, peer, Timestamp::now())?;
            return by.needs(OperatorRole::Viewer);
        }
        if self.context.transport.on_loopback {
            return Ok(());
        }
        let why = "without an operator this is shown by a listener on loopback alone: \
                   `key new --operator NAME` makes a key and prints what to write";
        Err(Failure::fixed(Code::Forbidden, why))
    }

    /// What there is to see here.
    fn places(&self) -> impl Iterator<Item = &'static str> {
        PLACES.into_iter().chain(self.try_page().is_some().then_some(try_page::PATH))
    }

    /// It is open, and so shows nothing once anyone is asked who they are.
    fn directory(&self) -> Response<Bytes> {
        let places: Vec<&str> = self.places().collect();
        let mut shown = json!({ "see": places });
        if !self.context.status.access().has_operators {
            shown["whiteboard-gateway"] = env!("CARGO_PKG_VERSION").into();
        }
        render::json(&shown)
    }

    /// In a word, once the detail is for operators.
    fn ready(&self) -> Response<Bytes> {
        let status = &self.context.status;
        let (unready, mut detail) = status.readiness();
        if status.access().has_operators {
            detail = json!({ "ready": unready.is_none(), "why": unready });
        }
        let response = render::json(&detail);
        if unready.is_some() { render::draining(response) } else { response }
    }

    fn measured(&self, format: TextFormat) -> Response<Bytes> {
        let measured = self.context.status.measure().text(format);
        render::of_type(format.media_type(), Bytes::from(measured))
    }

    fn described(&self) -> Response<Bytes> {
        render::json(&openapi::document(&self.context.status.snapshots.load().describes()))
    }
}

impl Service for AdminService {
    type Body = Full<Bytes>;

    async fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> Response<Full<Bytes>> {
        let answered = self.told(request, &peer).await;
        let response = answered.unwrap_or_else(|failure| render::envelope(&failure));
        render::guarded(response).map(Full::new)
    }

    fn refuse(&self, failure: Failure, _: Peer, _: Option<&HeaderValue>) -> Response<Bytes> {
        render::guarded(render::envelope(&failure))
    }
}
