//! Two gateways with everything that has a metric, and callers of every kind.

use std::fs;
use std::sync::Arc;

use serde_json::json;
use whiteboard_gateway::api::{Role, TokenKind};
use whiteboard_gateway::caller;
use whiteboard_gateway::token::{KeyPair, Secret, TokenFields};

use crate::support::{
    Authority, Client, EVERYTHING, Issuer, Process, Redis, Setup, Signer, Upstream, answer,
    handshake, slot_until, value,
};

const ROOM: &str = "/v5/tokens/rooms/faed3130727911ebaea37759ee91947c";
const READER: &str = r#"{"lifespan":600000,"role":"reader"}"#;

/// A region of the service that fails.
const ILL: &str = "eu";

/// Everything that runs.
pub(super) struct World {
    /// Without TLS, with a store, budgets, an audit and an identity provider.
    pub(super) first: Process,
    /// With TLS, and a project with a fixed token.
    pub(super) second: Process,
    redis: Redis,
    authority: Authority,
    issuer: Issuer,
    signer: Arc<Signer>,
    /// The key of a caller that may do little, and that seldom.
    student: String,
    /// The key of one that is refused when the store does not answer.
    careful: String,
    /// The key of one whose budget is small.
    frugal: String,
}

impl World {
    pub(super) fn start() -> Self {
        let upstream = Upstream::scripted(|request, stream| {
            let text = if request.header("region") == ILL {
                answer("503 Service Unavailable", "")
            } else if request.line.contains("/refused") {
                answer("401 Unauthorized", r#"{"message":"token not valid"}"#)
            } else {
                answer("200 OK", "[]")
            };
            std::io::Write::write_all(stream, text.as_bytes()).is_ok()
        });
        let redis = Redis::start();
        let authority = Authority::new("authority");
        let signer = Arc::new(Signer::es256("a"));
        let issuer = Issuer::serving(&[Arc::clone(&signer)]);

        let mut setup = Setup::new(&upstream.url())
            .set("log.level", "info")
            .with(&format!("[store]\nurl = \"{}\"\n", redis.url()))
            .with("[audit]\nfile = \"./audit.jsonl\"\n")
            .with("[budgets]\nfile = \"./budgets.db\"\n")
            // Nobody is there: what is recorded for it is lost.
            .with("[otlp]\nendpoint = \"http://127.0.0.1:9\"\n");
        let profile = |lines: &str| {
            format!("allow = {EVERYTHING}\nrooms = \"any\"\nrole = \"admin\"\n{lines}")
        };
        let student = setup.caller(
            "student",
            "allow = [\"tokens.room\"]\nrooms = \"any\"\n\
             role = \"reader\"\nmax_lifespan = \"1h\"\nlimit = { rate = \"1/s\", burst = 2 }",
        );
        let careful = setup.caller(
            "careful",
            &profile(
                "limit = { rate = \"100/s\" }\non_store_error = \"closed\"\nmax_lifespan = \"1h\"\n\
                 shadow = \"student\"",
            ),
        );
        let frugal = setup.caller(
            "frugal",
            &profile(
                "budgets = [{ of = \"tokens\", most = 1, per = \"month\" }]\nmax_lifespan = \"1h\"",
            ),
        );
        let section = issuer.section("school", setup.folder.path(), "profile = \"backend\"");
        let first = setup.with(&section).start();

        let ends = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
        let key = KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()));
        let nonce = "nonce".to_owned();
        let token = key.mint(
            TokenFields {
                kind: TokenKind::Sdk,
                role: Role::Admin.digit(),
                uuid: None,
                lifespan_ms: 86_400_000,
                nonce,
            },
            ends,
        );
        let setup = Setup::new(&upstream.url())
            .with("[projects.console]\nsdk_token = { file = \"console\" }\n")
            .with(
                "[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n\
                 client_ca = \"authority.pem\"\nclient_crl = \"list.pem\"\n",
            )
            // One whose keys are in a file, in a certificate.
            .with(
                "[issuers.old]\nissuer = \"https://old.example.net\"\naudience = \"whiteboard\"\n\
                 key_file = \"certificate.pem\"\nprofile = \"backend\"\n",
            );
        let ending = slot_until(&setup.key, "2099-12-31T00:00:00Z");
        let setup = setup.set("callers.lessons.keys", value(&format!("[{ending}]")));
        let operator = caller::generate(true).unwrap();
        let operator = slot_until(operator.expose(), "2099-12-31T00:00:00Z");
        let setup =
            setup.with(&format!("[operators.ada]\nrole = \"viewer\"\nkeys = [{operator}]\n"));
        authority.write(setup.folder.path());
        fs::write(
            setup.folder.path().join("list.pem"),
            authority.revoked(&[], time::Duration::DAY),
        )
        .unwrap();
        fs::write(setup.folder.path().join("console"), token.token.expose()).unwrap();
        authority.certify("localhost").write(setup.folder.path());
        let second = setup.start();
        Self { first, second, redis, authority, issuer, signer, student, careful, frugal }
    }

    /// Some requests of each kind.
    pub(super) fn call(&self) {
        let (key, student) = (self.first.key.as_str(), self.student.as_str());
        let jwt = self.signer.token(&self.issuer.claims(&json!({})));
        let mut client = self.first.client();
        for (token, method, path, body) in [
            (key, "GET", "/v5/rooms", ""),
            (key, "GET", "/v5/rooms/a", ""),
            (key, "POST", "/v5/rooms", "{}"),
            (key, "POST", ROOM, READER),
            (key, "GET", "/v5/rooms/refused", ""),
            (key, "GET", "/v5/nowhere", ""),
            (student, "POST", ROOM, READER),
            (student, "POST", ROOM, READER),
            (student, "POST", ROOM, READER),
            (student, "GET", "/v5/rooms", ""),
            (&self.careful, "POST", ROOM, READER),
            (&self.frugal, "POST", ROOM, READER),
            (&self.frugal, "POST", ROOM, READER),
            ("none-of-ours", "GET", "/v5/rooms", ""),
            (&jwt, "GET", "/v5/rooms", ""),
        ] {
            client.request(method, path, &[("token", token)], body);
        }
        client.request("GET", "/v5/rooms", &[], "");
        let page = [("token", "NETLESSSDK_YWs9"), ("origin", "https://page.example.org")];
        client.request("GET", "/v5/rooms", &page, "");
        for _ in 0..4 {
            client.request("POST", "/v5/rooms", &[("token", key), ("region", ILL)], "{}");
            client.request("GET", "/v5/rooms", &[("token", key), ("region", ILL)], "");
        }
        let stream = handshake(self.second.address, &self.authority, &["http/1.1"]).unwrap();
        let token = [("token", self.second.key.as_str())];
        Client::over(stream).request("GET", "/v5/rooms", &token, "");
    }

    /// Breaks what the gateways stand on.
    pub(super) fn break_down(&mut self) {
        self.redis.kill();
        self.second.reload("this = \"is no configuration\"\n");
    }
}
