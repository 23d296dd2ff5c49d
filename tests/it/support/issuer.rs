//! An identity provider over TLS on loopback, whose keys and moods a test chooses: its discovery
//! document, its key set and its tokens.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::{Signer, scenario_delay};

/// What `aud` is.
pub(crate) const AUDIENCE: &str = "whiteboard";

/// What the provider does with whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Up,
    /// Hangs up before a word is said.
    Down,
    /// Answers with an error.
    Failing,
    Slow(Duration),
}

/// A provider; it stops accepting with the test's process.
pub(crate) struct Issuer {
    port: u16,
    certificate: String,
    shared: Arc<Shared>,
}

struct Shared {
    tls: Arc<ServerConfig>,
    url: String,
    keys: Mutex<Vec<Arc<Signer>>>,
    mood: Mutex<Mood>,
    fetches: AtomicUsize,
    /// The claims of the tokens that it hands out.
    grants: Mutex<Value>,
}

impl Issuer {
    /// One that serves these keys.
    pub(crate) fn serving(signers: &[Arc<Signer>]) -> Self {
        let issuer = Self::absent(signers);
        issuer.listen();
        issuer
    }

    /// One that nobody can reach until it listens.
    pub(crate) fn absent(signers: &[Arc<Signer>]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let shared = Shared {
            tls: Arc::new(tls),
            url: format!("https://localhost:{port}"),
            keys: Mutex::new(signers.to_vec()),
            mood: Mutex::new(Mood::Up),
            fetches: AtomicUsize::new(0),
            grants: Mutex::new(json!({})),
        };
        Self { port, certificate: made.cert.pem(), shared: Arc::new(shared) }
    }

    pub(crate) fn listen(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A client that gives up is part of the tests.
                thread::spawn(move || _ = shared.serve(stream));
            }
        });
    }

    /// What its tokens say in `iss`.
    pub(crate) fn url(&self) -> &str {
        &self.shared.url
    }

    /// Other keys, from now on.
    pub(crate) fn publish(&self, signers: &[Arc<Signer>]) {
        *self.shared.keys.lock().unwrap() = signers.to_vec();
    }

    pub(crate) fn mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// From now on clients get tokens with these claims at its token endpoint, `/token`.
    pub(crate) fn grant(&self, changes: &Value) {
        *self.shared.grants.lock().unwrap() = self.claims(changes);
    }

    /// The certificate that it is trusted by.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// How often its key set was asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// The section of this issuer, whose keys come by its key set.
    pub(crate) fn section(&self, name: &str, folder: &Path, more: &str) -> String {
        let keys = format!("jwks = \"{}/keys\"", self.url());
        self.section_with(name, folder, &keys, more)
    }

    /// The same, by its discovery document.
    pub(crate) fn discovered(&self, name: &str, folder: &Path, more: &str) -> String {
        self.section_with(name, folder, "discovery = true", more)
    }

    fn section_with(&self, name: &str, folder: &Path, keys: &str, more: &str) -> String {
        let ca = folder.join(format!("{name}.pem"));
        std::fs::write(&ca, &self.certificate).unwrap();
        format!(
            "[issuers.{name}]\nissuer = \"{}\"\naudience = \"{AUDIENCE}\"\n{keys}\nca = \"{}\"\n\
             {more}\n",
            self.url(),
            ca.display()
        )
    }

    /// The claims of a proper token of its own.
    pub(crate) fn claims(&self, changes: &Value) -> Value {
        claims(self.url(), changes)
    }
}

/// The claims of a proper token of `issuer`, with some of them changed; null takes one away.
pub(crate) fn claims(issuer: &str, changes: &Value) -> Value {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": issuer, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 600,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

/// A key set.
pub(crate) fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        if *self.mood.lock().unwrap() == Mood::Down {
            return Ok(());
        }
        let connection = ServerConnection::new(Arc::clone(&self.tls)).unwrap();
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let asked = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while line.trim_end() != "" {
            line.clear();
            stream.read_line(&mut line)?;
        }
        if asked == "/keys" {
            self.fetches.fetch_add(1, Ordering::SeqCst);
        }
        let mood = *self.mood.lock().unwrap();
        if let Mood::Slow(wait) = mood {
            scenario_delay(wait);
        }
        let status = if mood == Mood::Failing { "503 Service Unavailable" } else { "200 OK" };
        let body = self.document(&asked);
        let stream = stream.get_mut();
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             cache-control: public, max-age=3600\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )?;
        stream.conn.send_close_notify();
        stream.flush()?;
        // Until the client has read it and hung up.
        stream.read(&mut [0]).map(|_| ())
    }

    fn document(&self, asked: &str) -> String {
        let (url, keys) = (&self.url, self.keys.lock().unwrap());
        match asked {
            "/.well-known/openid-configuration" => {
                json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string()
            }
            // Whoever asks: it is the gateway that is tested.
            "/token" => {
                let token = keys[0].token(&self.grants.lock().unwrap());
                json!({"access_token": token, "token_type": "Bearer"}).to_string()
            }
            _ => jwks(&keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()),
        }
    }
}
