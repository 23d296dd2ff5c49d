//! A collector that takes OTLP over HTTP, in the clear or over TLS, and reads it by the types that
//! are generated from OpenTelemetry's own definitions.

use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Identity, Received, wait_until};

/// A collector; it stops accepting with the test's process.
pub(crate) struct Collector {
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    shared: Arc<Shared>,
}

struct Shared {
    /// What it answers: a status line and fields.
    answer: Mutex<String>,
    /// What it took, and what it refused.
    received: Mutex<Vec<(Received, bool)>>,
}

const TAKEN: &str = "200 OK\r\ncontent-type: application/x-protobuf";

impl Collector {
    /// One that takes everything.
    pub(crate) fn new() -> Self {
        let collector = Self::absent();
        collector.listen();
        collector
    }

    /// One over TLS, by this certificate.
    pub(crate) fn over_tls(identity: &Identity) -> Self {
        let certificates = CertificateDer::pem_slice_iter(identity.pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates.map(Result::unwrap).collect(), key)
            .unwrap();
        let collector = Self { tls: Some(Arc::new(tls)), ..Self::absent() };
        collector.listen();
        collector
    }

    /// One that nobody can reach until it listens.
    pub(crate) fn absent() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Shared { answer: Mutex::new(TAKEN.to_owned()), received: Mutex::default() };
        Self { port: free.local_addr().unwrap().port(), tls: None, shared: Arc::new(shared) }
    }

    pub(crate) fn listen(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        let (shared, tls) = (Arc::clone(&self.shared), self.tls.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                thread::spawn(move || match tls {
                    None => shared.serve(stream),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        shared.serve(StreamOwned::new(connection, stream));
                    }
                });
            }
        });
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The section of this collector, with more of it.
    pub(crate) fn section(&self, more: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("[otlp]\nendpoint = \"{scheme}://localhost:{}\"\n{more}\n", self.port)
    }

    /// From now on it answers so; a status line and fields.
    pub(crate) fn answer(&self, answer: &str) {
        answer.clone_into(&mut self.shared.answer.lock().unwrap());
    }

    pub(crate) fn take_again(&self) {
        self.answer(TAKEN);
    }

    /// Every request so far, and whether it was taken.
    pub(crate) fn received(&self) -> Vec<(Received, bool)> {
        self.shared.received.lock().unwrap().clone()
    }

    fn taken(&self, path: &str) -> Vec<Received> {
        let line = format!("POST {path} HTTP/1.1");
        let received = self.received().into_iter();
        received.filter(|(one, taken)| *taken && one.line == line).map(|(one, _)| one).collect()
    }

    /// The spans so far, each with what sent it.
    pub(crate) fn spans(&self) -> Vec<(Resource, Span)> {
        let mut spans = Vec::new();
        for request in self.taken("/v1/traces") {
            let read: ExportTraceServiceRequest = read(&request.body);
            for of_resource in read.resource_spans {
                let resource = of_resource.resource.unwrap();
                let found = of_resource.scope_spans.into_iter().flat_map(|one| one.spans);
                spans.extend(found.map(|span| (resource.clone(), span)));
            }
        }
        spans
    }

    /// Waits for the spans of a request: its own, and those of its attempts.
    pub(crate) fn spans_of(&self, request_id: &str) -> (Span, Vec<Span>) {
        let mut own = None;
        wait_until("its span is there", || {
            let mut spans = self.spans().into_iter().map(|(_, span)| span);
            own = spans.find(|span| attribute(span, "whiteboard.request_id") == request_id);
            own.is_some()
        });
        let own = own.unwrap();
        let spans = self.spans().into_iter().map(|(_, span)| span);
        let attempts = spans.filter(|span| span.parent_span_id == own.span_id).collect();
        (own, attempts)
    }

    /// The metrics of the last report that was taken; none before there was one.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let Some(last) = self.taken("/v1/metrics").pop() else { return Vec::new() };
        let read: ExportMetricsServiceRequest = read(&last.body);
        let scopes = read.resource_metrics.into_iter().flat_map(|one| one.scope_metrics);
        scopes.flat_map(|one| one.metrics).collect()
    }
}

/// Reads a message of which nothing may be unknown.
fn read<M: prost::Message + Default + std::fmt::Debug>(bytes: &[u8]) -> M {
    let read = M::decode(bytes).unwrap();
    assert_eq!(read.encode_to_vec(), bytes, "{read:?}");
    read
}

/// An attribute of a span as text; empty when it has none of that name.
pub(crate) fn attribute(span: &Span, name: &str) -> String {
    said(&span.attributes, name)
}

/// The same of whatever has attributes.
pub(crate) fn said(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|pair| pair.key == name);
    match found.and_then(|pair| pair.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        None => String::new(),
        Some(other) => panic!("{other:?}"),
    }
}

impl Shared {
    fn serve(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = Received::read(&mut stream) {
            let answer = self.answer.lock().unwrap().clone();
            let taken = answer.starts_with("200");
            self.received.lock().unwrap().push((request, taken));
            let head = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
            let out = stream.get_mut();
            if out.write_all(head.as_bytes()).and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    }
}
