//! Each step of the way alone, from what a request brings to what the next step gets.

use std::hint::black_box;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use whiteboard_gateway::api::{
    self, BodySpec, Lifespan, Matched, Operations, Priority, Role, TokenKind, TokenRequest,
    UnknownFields,
};
use whiteboard_gateway::caller::jwt::{IssuerSettings, ProfileFrom};
use whiteboard_gateway::caller::{
    self, ApiKey, CallerSettings, Callers, CredentialCache, ShownCertificate,
};
use whiteboard_gateway::failure::{self, Code, Failure, RenderOptions};
use whiteboard_gateway::limit::{self, Allowance, Limits, OnStoreError, ProfileRates, Rate};
use whiteboard_gateway::policy::{OverCap, Policy, ProfileSettings, Rights, Rooms};
use whiteboard_gateway::server::check_head;
use whiteboard_gateway::telemetry::{
    self, AccessLine, AccessLog, Format, Metrics, Outcome, Recorder, Sink,
};
use whiteboard_gateway::token::{
    self, KeySettings, KeyState, Need, Project, ProjectCredential, ProjectSettings, Secret,
};
use whiteboard_gateway::upstream;

use crate::credentials::{ALGORITHMS, Credentials, ISSUER};

/// How often a step is counted.
pub(crate) const TIMES: u64 = 20;

const UUID: &str = "4a50c7a0c71f11ea8c2ba7f2b9f8b7a1";
const BODY: &[u8] = br#"{"name":"Mathematics, 3rd grade","isRecord":true,"limit":20}"#;
const ANSWER: &[u8] = br#"{"uuid":"4a50c7a0c71f11ea8c2ba7f2b9f8b7a1","teamUUID":"team"}"#;

/// Someone who counts: gets the name of a step and the step.
pub(crate) type Counter<'a> = dyn FnMut(&str, &mut dyn FnMut()) + 'a;

/// Runs each step, first without being counted: what is made once is not what a request pays.
pub(crate) fn run(credentials: &Credentials, counter: &mut Counter<'_>) {
    let mut step = |name: &str, step: &mut dyn FnMut()| {
        step();
        counter(name, step);
    };
    head(credentials, &mut step);
    identify(credentials, &mut step);
    decide(&mut step);
    read(&mut step);
    tokens(&mut step);
    answer(&mut step);
    record(&mut step);
}

fn request(credential: &str) -> Request<()> {
    Request::builder()
        .uri(format!("/v5/rooms/{UUID}"))
        .header("host", "gateway.example.org")
        .header("authorization", format!("Bearer {credential}"))
        .header("accept", "application/json")
        .header("user-agent", "bench")
        .header("region", "us-sv")
        .body(())
        .unwrap()
}

fn head(credentials: &Credentials, step: &mut Counter<'_>) {
    let request = request(credentials.key);
    step("check the head", &mut || _ = black_box(check_head(black_box(&request), 16 * 1024)));
}

/// The gateway's callers, and what one of them shows.
struct Shown {
    callers: Callers,
    request: Request<()>,
    now: jiff::Timestamp,
    runtime: tokio::runtime::Runtime,
}

impl Shown {
    fn key(credentials: &Credentials, shown: &str) -> Self {
        let parsed = ApiKey::parse(credentials.key).ok().unwrap();
        let slot = caller::ApiKeySettings { id: parsed.id(), digest: parsed.digest(), until: None };
        let one = CallerSettings {
            name: "lessons".to_owned(),
            profile: "backend".to_owned(),
            keys: vec![slot],
            certificates: Vec::new(),
        };
        Self::new(&[one], Vec::new(), shown)
    }

    fn jwt(credentials: &Credentials, algorithm: &str) -> Self {
        let (name, audience) = ("school".to_owned(), vec!["whiteboard".to_owned()]);
        let keys = credentials.source(algorithm);
        let mut issuer = IssuerSettings::new(name, ISSUER.to_owned(), audience, keys);
        issuer.algorithms = vec![algorithm.parse().unwrap()];
        issuer.mapping.profile = ProfileFrom::Named("backend".to_owned());
        Self::new(&[], vec![issuer], &credentials.jwt(algorithm))
    }

    fn new(keys: &[CallerSettings], issuers: Vec<IssuerSettings>, shown: &str) -> Self {
        let settings = caller::Settings {
            keys,
            key_reminder: None,
            issuers,
            projects: &[],
            denied: &[],
            failed_credentials: None,
        };
        let callers = Callers::new(settings, &policy(), None).unwrap();
        let request = request(shown);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { callers, request, now: jiff::Timestamp::now(), runtime }
    }

    fn identify(&self, memory: &CredentialCache) {
        let address = IpAddr::from([127, 0, 0, 1]);
        let identify = self.callers.identify(
            &self.request,
            address,
            || ShownCertificate::NONE,
            self.now,
            memory,
        );
        _ = black_box(self.runtime.block_on(identify));
    }
}

fn policy() -> Policy {
    let profile = ProfileSettings {
        priority: Priority::default(),
        trust_traceparent: false,
        shadow: None,
        name: "backend".to_owned(),
        project: "classroom".to_owned(),
        sdk_token: false,
        allow: vec!["rooms.*".to_owned()],
        rooms: Rooms::Any,
        role: Role::Admin,
        max_lifespan: Lifespan::Millis(3_600_000),
        over_cap: OverCap::default(),
    };
    Policy::new(&[profile], &Operations::documented(), |_| Some(0)).unwrap()
}

fn identify(credentials: &Credentials, step: &mut Counter<'_>) {
    for (name, shown) in
        [("an API key", credentials.key), ("an unknown API key", credentials.unknown)]
    {
        let (shown, memory) = (Shown::key(credentials, shown), CredentialCache::default());
        step(&format!("identify by {name}"), &mut || shown.identify(&memory));
    }
    for algorithm in ALGORITHMS {
        let (shown, memory) = (Shown::jwt(credentials, algorithm), CredentialCache::default());
        step(&format!("identify by a known JWT, {algorithm}"), &mut || shown.identify(&memory));
        let mut memories =
            (0..=TIMES).map(|_| CredentialCache::default()).collect::<Vec<_>>().into_iter();
        step(&format!("identify by a new JWT, {algorithm}"), &mut || {
            // When only the names are asked for, there is one memory more than it takes.
            let memory = memories.next().unwrap();
            shown.identify(&memory);
            std::mem::forget(memory);
        });
    }
}

fn decide(step: &mut Counter<'_>) {
    let operations = Operations::documented();
    let path = format!("/v5/rooms/{UUID}");
    step("match an operation", &mut || {
        _ = black_box(operations.find(&Method::GET, black_box(&path)));
    });
    let (policy, rights) = (policy(), Rights::of_profile(0));
    let asked = operations.find(&Method::GET, &path).unwrap();
    step("authorize", &mut || _ = black_box(policy.authorize(black_box(&rights), &asked)));
    let forbidden = operations.find(&Method::POST, "/v5/tokens/teams").unwrap();
    step("authorize, forbidden", &mut || {
        _ = black_box(policy.authorize(black_box(&rights), &forbidden));
    });
    let limits = |burst| {
        let number = |count| NonZeroU32::new(count).unwrap();
        let period = Duration::from_secs(3600);
        let rate = Rate { requests: number(burst), period, burst: number(burst) };
        let caller = ProfileRates {
            name: "backend".to_owned(),
            caller: Some(rate),
            shared: None,
            on_store_error: OnStoreError::default(),
        };
        let settings = limit::Settings { profiles: vec![caller], ..limit::Settings::default() };
        Limits::new(&settings, false, None)
    };
    let generous = limits(1_000_000);
    let take = |limits: &Limits| {
        let mut allowance = Allowance::default();
        _ = black_box(limits.take(0, black_box(7), &mut allowance));
        allowance
    };
    step("take out of a limit", &mut || _ = black_box(take(&generous)));
    let tight = limits(1);
    step("take out of a limit, over it", &mut || _ = black_box(take(&tight)));
    let allowance = take(&generous);
    step("say what is left of a limit", &mut || {
        let mut headers = HeaderMap::with_capacity(8);
        allowance.stamp(&mut headers);
        _ = black_box(headers);
    });
}

fn read(step: &mut Counter<'_>) {
    let operations = Operations::documented();
    let created = operations.find(&Method::POST, "/v5/rooms").unwrap();
    let BodySpec::Json(fields) = created.operation.body else { panic!("rooms.create has a body") };
    step("read a small body", &mut || {
        let object = api::parse_object(black_box(BODY)).unwrap();
        api::check_object(&object, fields, UnknownFields::Pass).unwrap();
    });
    let listed = operations.find(&Method::GET, "/v5/rooms").unwrap();
    step("read a query", &mut || {
        _ = black_box(listed.operation.query.normalize(black_box(Some("limit=20&beginUUID=a"))));
    });
    let one = operations.find(&Method::GET, &format!("/v5/rooms/{UUID}")).unwrap();
    step("make the upstream's path", &mut || _ = black_box(Matched::path(black_box(&one))));
}

fn tokens(step: &mut Counter<'_>) {
    let key = KeySettings {
        access_key: "bench-access-key".to_owned(),
        secret_key: Secret::new("bench-secret-key".to_owned()),
        state: KeyState::Active,
    };
    let credential = ProjectCredential::Keys(vec![key]);
    let settings = ProjectSettings { name: "p".to_owned(), credential, token_profile: None };
    let project = Project::new(&settings).ok().unwrap();
    let need = Need { kind: TokenKind::Room, role: Role::Reader, uuid: Some(UUID), or_sdk: true };
    let cache = token::Cache::default();
    let first = |at_ms| {
        let mut credentials = token::Credentials::new(&project, Some(need), &cache, at_ms);
        _ = black_box(credentials.first());
    };
    step("choose a token that is kept", &mut || first(0));
    let mut at_ms = 0;
    step("choose a token and mint it", &mut || {
        at_ms += 3_600_000;
        first(at_ms);
    });
    let asked = TokenRequest {
        kind: TokenKind::Room,
        role: Role::Writer,
        lifespan: Lifespan::Millis(60_000),
        access_key: None,
    };
    step("mint a caller's token", &mut || _ = black_box(project.mint(&asked, Some(UUID), 7, 0)));
}

fn answer(step: &mut Counter<'_>) {
    let operations = Operations::documented();
    let got = operations.find(&Method::GET, &format!("/v5/rooms/{UUID}")).unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("content-length", "60"),
        ("date", "Mon, 23 Nov 2026 12:00:00 GMT"),
        ("x-powered-by", "whiteboard"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let sent = HeaderValue::from_static("NETLESSROOM_YWs9");
    let mut all = vec![headers; TIMES as usize + 1].into_iter();
    step("normalize an answer", &mut || {
        let (headers, body) = (all.next().unwrap(), Bytes::from_static(ANSWER));
        _ = black_box(upstream::heard(StatusCode::OK, &headers, body, got.operation, Some(&sent)));
    });
    let settings = failure::Settings::default();
    let options =
        RenderOptions { settings: &settings, request_id: UUID, problem: false, titled: false };
    let unknown = || Failure::invalid_credential(Code::InvalidToken, "this API key is not known");
    step("say a failure, 401", &mut || _ = black_box(unknown().answer(&options)));
    let forbidden = || {
        let why = "`tokens.sdk` is not among the operations of this caller".to_owned();
        Failure::insufficient_scope("tokens.sdk", why).with_rule("profiles.backend.allow")
    };
    step("say a failure, 403", &mut || _ = black_box(forbidden().answer(&options)));
}

fn record(step: &mut Counter<'_>) {
    let metrics = Arc::new(Metrics::new(1));
    let (operation, profile) = (metrics.operation("rooms.get"), metrics.profile("backend"));
    let line = AccessLine {
        at_ms: 1_700_000_000_123,
        request_id: UUID,
        trace_id: None,
        client: IpAddr::from([127, 0, 0, 1]),
        listener: None,
        protocol: "1.1",
        method: Some("GET"),
        caller: Some("lessons"),
        caller_number: Some(7),
        credential: Some("key"),
        key_id: Some("4fJ2abcdABCD"),
        nonce: None,
        operation: &operation,
        profile: Some(&profile),
        status: Some(StatusCode::OK),
        outcome: Outcome::Answered,
        rule: None,
        would: None,
        decision: None,
        upstream_request_id: None,
        upstream_region: None,
        detail: None,
        took: Duration::from_micros(1_234),
        upstream: None,
        bytes: 300,
    };
    for (name, access) in [
        ("count a request", AccessLog::Off),
        ("write an access line", AccessLog::File("/dev/null".into())),
    ] {
        let settings =
            telemetry::Settings { access, format: Format::Json, ..telemetry::Settings::default() };
        let sink = Arc::new(Sink::open(&settings, &metrics).unwrap());
        let recorder = Recorder::new(Arc::clone(&metrics), 0, sink);
        // As many as make its buffer grow.
        (0..100).for_each(|_| recorder.record(&line));
        step(name, &mut || recorder.record(black_box(&line)));
    }
}
