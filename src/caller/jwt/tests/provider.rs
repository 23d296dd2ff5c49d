//! A small identity provider over real TLS on loopback, whose keys and moods a test chooses.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::keys::{Signer, jwks};
use crate::caller::jwt::{IssuerSettings, KeySource};

/// What the provider does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Up,
    /// Hangs up before a word is said.
    Down,
    Failing,
    Slow(Duration),
    /// Sends to another path of its own.
    Moved,
    /// Sends to another host.
    Elsewhere,
    Huge,
    Html,
}

pub(super) struct Provider {
    pub(super) port: u16,
    certificate: CertificateDer<'static>,
    acceptor: TlsAcceptor,
    keys: Mutex<Vec<Arc<Signer>>>,
    mood: Mutex<Mood>,
    /// How often the key set was asked for.
    fetches: AtomicU64,
}

impl Provider {
    /// A provider that listens nowhere yet, on a port that is free.
    pub(super) fn new(signers: &[Arc<Signer>]) -> Arc<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.clone()], key)
                .unwrap();
        Arc::new(Self {
            port,
            certificate,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            keys: Mutex::new(signers.to_vec()),
            mood: Mutex::new(Mood::Up),
            fetches: AtomicU64::new(0),
        })
    }

    /// Listens on the current runtime.
    pub(super) async fn listen(self: &Arc<Self>) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        let provider = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&provider).serve(socket));
            }
        });
    }

    async fn serve(self: Arc<Self>, socket: TcpStream) {
        if *self.mood.lock().unwrap() == Mood::Down {
            return;
        }
        let Ok(stream) = self.acceptor.accept(socket).await else { return };
        let answer = service_fn(move |request| Arc::clone(&self).answer(request));
        // A client that gives up is part of the tests.
        _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answer)
            .await;
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let response = Response::builder();
        let discovery = request.uri().path() == "/.well-known/openid-configuration";
        if !discovery && request.uri().path() != "/moved" {
            self.fetches.fetch_add(1, Ordering::SeqCst);
        }
        let mood = *self.mood.lock().unwrap();
        let body = match mood {
            Mood::Slow(wait) => {
                tokio::time::sleep(wait).await;
                self.document(discovery)
            }
            Mood::Failing => {
                return Ok(response.status(503).body(Full::default()).unwrap());
            }
            Mood::Moved if request.uri().path() != "/moved" => {
                let to = response.status(302).header("location", "/moved");
                return Ok(to.body(Full::default()).unwrap());
            }
            Mood::Elsewhere => {
                let to = response.status(302).header("location", "https://localhost:1/keys");
                return Ok(to.body(Full::default()).unwrap());
            }
            Mood::Huge => " ".repeat(300 * 1024),
            Mood::Html => "<html></html>".to_owned(),
            _ => self.document(discovery),
        };
        let response = response.header("cache-control", "public, max-age=3600");
        Ok(response.body(Full::from(body)).unwrap())
    }

    fn document(&self, discovery: bool) -> String {
        if discovery {
            let issuer = self.issuer();
            return json!({"jwks_uri": format!("{issuer}/keys"), "issuer": issuer}).to_string();
        }
        let keys: Vec<_> = self.keys.lock().unwrap().iter().map(|signer| signer.jwk()).collect();
        jwks(&keys)
    }

    pub(super) fn issuer(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub(super) fn publish(&self, signers: &[Arc<Signer>]) {
        *self.keys.lock().unwrap() = signers.to_vec();
    }

    pub(super) fn mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(super) fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::SeqCst)
    }

    /// The settings of this issuer.
    pub(super) fn settings(&self, discovery: bool) -> IssuerSettings {
        let keys = if discovery {
            KeySource::Discovery
        } else {
            KeySource::Jwks(format!("{}/keys", self.issuer()).parse().unwrap())
        };
        IssuerSettings {
            issuer: self.issuer(),
            keys,
            ca: Some(vec![self.certificate.clone()]),
            ..IssuerSettings::for_tests("school")
        }
    }
}
