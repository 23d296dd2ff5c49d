//! Traces and metrics, as a real process sends them to a collector over real sockets.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::support::{
    Answer, Authority, Collector, EVERYTHING, Process, Setup, Upstream, answer, attribute,
    exchange, said, wait_until,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// A context of that trace.
fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a caller may do, and that it is believed about traces.
fn trusted() -> String {
    format!("allow = {EVERYTHING}\nrooms = \"any\"\nrole = \"admin\"\ntrust_traceparent = true")
}

/// An answer's context: the trace, the span, the flags.
fn traceresponse(answer: &Answer) -> (String, String, String) {
    let value = answer.header("traceresponse");
    let parts: Vec<&str> = value.split('-').collect();
    let ["00", trace, span, flags] = parts[..] else { panic!("{value}") };
    (trace.to_owned(), span.to_owned(), flags.to_owned())
}

/// Asks for a room with these fields.
fn ask(gateway: &Process, key: &str, fields: &[(&str, &str)]) -> Answer {
    let fields = [&[("token", key)], fields].concat();
    gateway.client().request("GET", "/v5/rooms/a", &fields, "")
}

fn is_failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

#[test]
fn a_request_is_a_span_and_each_attempt_is_one_below_it() {
    let times = AtomicUsize::new(0);
    let upstream = Upstream::scripted(move |_, stream| {
        let status = match times.fetch_add(1, Ordering::SeqCst) {
            0 => "503 Service Unavailable",
            _ => "200 OK",
        };
        std::io::Write::write_all(stream, answer(status, "{}").as_bytes()).is_ok()
    });
    let collector = Collector::new();
    let resource = "resource = { \"deployment.environment.name\" = \"test\" }";
    let gateway = Setup::new(&upstream.url()).with(&collector.section(resource)).start();
    let before = jiff::Timestamp::now().as_nanosecond();
    let answer = gateway.call("GET", "/v5/rooms/a?secret=1", "");
    assert_eq!(answer.status, 200);
    let id = answer.header("x-request-id");
    let (own, attempts) = collector.spans_of(id);
    assert_eq!((own.name.as_str(), own.kind()), ("GET /v5/rooms/{uuid}", SpanKind::Server));
    assert_eq!((own.parent_span_id.len(), own.flags, is_failed(&own)), (0, 0x101, false));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/v5/rooms/{uuid}"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("whiteboard.operation", "rooms.get"),
        ("whiteboard.caller", "lessons"),
        ("whiteboard.profile", "backend"),
        ("error.type", ""),
    ] {
        assert_eq!(attribute(&own, name), value, "{name}");
    }
    assert_eq!(hex(&own.trace_id), gateway.access_line(id)["trace_id"]);
    let after = jiff::Timestamp::now().as_nanosecond();
    let times = [own.start_time_unix_nano, own.end_time_unix_nano].map(i128::from);
    assert!(before <= times[0] && times[0] < times[1] && times[1] <= after, "{times:?}");

    let [first, second] = &attempts[..] else { panic!("{attempts:?}") };
    let port = upstream.address.port().to_string();
    for (attempt, status, resent, error) in [(first, "503", "", "503"), (second, "200", "1", "")] {
        assert_eq!(
            (attempt.name.as_str(), attempt.kind()),
            ("GET /v5/rooms/{uuid}", SpanKind::Client)
        );
        assert_eq!((&attempt.trace_id, attempt.flags), (&own.trace_id, 0x101));
        assert_eq!(is_failed(attempt), !error.is_empty());
        for (name, value) in [
            ("http.request.method", "GET"),
            ("url.template", "/v5/rooms/{uuid}"),
            ("server.address", "127.0.0.1"),
            ("server.port", &*port),
            ("http.response.status_code", status),
            ("http.request.resend_count", resent),
            ("error.type", error),
        ] {
            assert_eq!(attribute(attempt, name), value, "{name}");
        }
        assert!(own.start_time_unix_nano <= attempt.start_time_unix_nano);
        assert!(attempt.end_time_unix_nano <= own.end_time_unix_nano);
    }
    assert!(first.end_time_unix_nano <= second.start_time_unix_nano);
    let (resource, _) = &collector.spans()[0];
    for (name, value) in [
        ("service.name", "whiteboard-gateway"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "test"),
    ] {
        assert_eq!(said(&resource.attributes, name), value);
    }
    assert_eq!(said(&resource.attributes, "service.instance.id").len(), 36);
}

#[test]
fn a_failure_says_which_trace_it_belongs_to_and_its_span_says_why() {
    let collector = Collector::new();
    let mut setup = Setup::new("http://127.0.0.1:9").with(&collector.section(""));
    let reader = setup.caller("reader", "allow = [\"rooms.get\"]\nrooms = [\"b\"]");
    let gateway = setup.start();
    let no_upstream = gateway.call("GET", "/v5/rooms/a", "");
    let refused = ask(&gateway, &reader, &[]);
    let unknown = gateway.call("GET", "/nowhere", "");
    let malformed =
        exchange(gateway.address, b"GET /v5/rooms HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");
    let malformed = malformed.unwrap();
    for (answer, status, name, error, failed) in [
        (&no_upstream, 500, "GET /v5/rooms/{uuid}", "upstream_error", true),
        (&refused, 404, "GET /v5/rooms/{uuid}", "not_found", false),
        (&unknown, 404, "GET", "not_found", false),
        (&malformed, 400, "HTTP", "malformed_request", false),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text());
        let (trace, span, flags) = traceresponse(answer);
        assert_eq!(flags, "01");
        let id = answer.header("x-request-id");
        assert_eq!(gateway.access_line(id)["trace_id"], trace);
        let (own, attempts) = collector.spans_of(id);
        assert_eq!((hex(&own.trace_id), hex(&own.span_id)), (trace, span));
        assert_eq!((own.name.as_str(), is_failed(&own)), (name, failed));
        assert_eq!(attribute(&own, "error.type"), error);
        if status == 500 {
            assert_eq!(attempts.len(), 3, "{attempts:?}");
            for attempt in &attempts {
                assert_eq!(attribute(attempt, "error.type"), "connection_refused");
                assert!(is_failed(attempt));
            }
        } else {
            assert!(attempts.is_empty());
        }
    }
    let refused = gateway.client().request("GET", "/v5/rooms", &[("token", &reader)], "");
    let (own, _) = collector.spans_of(refused.header("x-request-id"));
    assert_eq!(attribute(&own, "whiteboard.rule"), "profiles.reader.allow");
    assert_eq!(attribute(&own, "whiteboard.caller"), "reader");
}

#[test]
fn only_whoever_is_believed_continues_a_trace() {
    let collector = Collector::new();
    let upstream = Upstream::json("200 OK", "{}");
    let mut setup = Setup::new(&upstream.url()).with(&collector.section(""));
    let trusted = setup.caller("trusted", &trusted());
    let gateway = setup.start();
    let context = traceparent("01");
    let fields = [("traceparent", context.as_str()), ("tracestate", "other=1, more=2")];
    let continued = ask(&gateway, &trusted, &fields);
    let (own, attempts) = collector.spans_of(continued.header("x-request-id"));
    assert_eq!((hex(&own.trace_id), hex(&own.parent_span_id)), (TRACE.to_owned(), SPAN.to_owned()));
    assert_eq!((own.trace_state.as_str(), own.flags), ("other=1,more=2", 0x301));
    assert_eq!((hex(&attempts[0].trace_id), attempts[0].flags), (TRACE.to_owned(), 0x101));
    let line = gateway.access_line(continued.header("x-request-id"));
    assert_eq!(line["trace_id"], TRACE);

    let stranger = ask(&gateway, &gateway.key, &fields);
    let malformed = ask(&gateway, &trusted, &[("traceparent", &context.to_uppercase())]);
    let twice = ask(&gateway, &trusted, &[fields[0], fields[0]]);
    for answer in [stranger, malformed, twice] {
        let (own, _) = collector.spans_of(answer.header("x-request-id"));
        assert_ne!(hex(&own.trace_id), TRACE);
        assert!(own.parent_span_id.is_empty() && own.trace_state.is_empty(), "{own:?}");
        assert_eq!(
            gateway.access_line(answer.header("x-request-id"))["trace_id"],
            hex(&own.trace_id)
        );
    }
}

#[test]
fn a_trusted_proxy_continues_a_trace_also_of_what_fails_before_anybody_is_identified() {
    let collector = Collector::new();
    let gateway = Setup::new("http://127.0.0.1:9")
        .with("[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n")
        .with(&collector.section(""))
        .start();
    let answer = ask(&gateway, "nobody", &[("traceparent", &traceparent("01"))]);
    assert_eq!(answer.status, 401);
    let (trace, ..) = traceresponse(&answer);
    assert_eq!(trace, TRACE);
    let (own, _) = collector.spans_of(answer.header("x-request-id"));
    assert_eq!(hex(&own.parent_span_id), SPAN);
    assert_eq!(attribute(&own, "http.route"), "");
}

#[test]
fn what_is_not_recorded_has_an_id_all_the_same() {
    let collector = Collector::new();
    let upstream = Upstream::json("200 OK", "{}");
    let mut setup = Setup::new(&upstream.url())
        .with(&collector.section(""))
        .with("[otlp.traces]\nsample = \"0%\"\n");
    let trusted = setup.caller("trusted", &trusted());
    let gateway = setup.start();
    let [recorded, unrecorded] = ["01", "00"].map(traceparent);
    let own = ask(&gateway, &trusted, &[]);
    let not = ask(&gateway, &trusted, &[("traceparent", &unrecorded)]);
    let stranger = ask(&gateway, &gateway.key, &[("traceparent", &recorded)]);
    let failed = ask(&gateway, "nobody", &[]);
    assert_eq!(traceresponse(&failed).2, "00");
    // The last, so that all the others would be there before it.
    let parent = ask(&gateway, &trusted, &[("traceparent", &recorded)]);
    collector.spans_of(parent.header("x-request-id"));
    let there = collector.spans();
    let others = there.iter().filter(|(_, span)| hex(&span.trace_id) != TRACE);
    assert_eq!(others.count(), 0, "{there:?}");
    assert_eq!(there.len(), 2, "the request and its attempt: {there:?}");
    for (answer, known) in [(&own, false), (&not, true), (&stranger, false), (&failed, false)] {
        let line = gateway.access_line(answer.header("x-request-id"));
        let id = line["trace_id"].as_str().unwrap();
        assert_eq!((id.len(), id == TRACE), (32, known), "{line}");
    }
}

#[test]
fn a_caller_can_be_kept_from_having_more_recorded_than_others() {
    let collector = Collector::new();
    let upstream = Upstream::json("200 OK", "{}");
    let mut setup = Setup::new(&upstream.url())
        .with(&collector.section(""))
        .with("[otlp.traces]\nsample = \"50%\"\nsampled_parents = \"share\"\n");
    let trusted = setup.caller("trusted", &trusted());
    let gateway = setup.start();
    // By the second half of the id: the lower half of all ids are recorded.
    let [within, beyond] =
        ["0000000000000001", "ffffffffffffffff"].map(|low| format!("{}{low}", &TRACE[..16]));
    for trace in [&beyond, &within] {
        let answer = ask(&gateway, &trusted, &[("traceparent", &format!("00-{trace}-{SPAN}-01"))]);
        assert_eq!(gateway.access_line(answer.header("x-request-id"))["trace_id"], **trace);
    }
    wait_until("the trace within the share is there", || !collector.spans().is_empty());
    for (_, span) in collector.spans() {
        assert_eq!(hex(&span.trace_id), within);
    }
}

#[test]
fn the_service_is_told_of_a_trace_only_when_that_is_configured() {
    let collector = Collector::new();
    let upstream = Upstream::json("200 OK", "{}");
    let [silent, telling] = [false, true].map(|send| {
        let mut setup = Setup::new(&upstream.url())
            .with(&collector.section(""))
            .with(&format!("[upstream]\nsend_traceparent = {send}\n"));
        let trusted = setup.caller("trusted", &trusted());
        (setup.start(), trusted)
    });
    let context = traceparent("01");
    let fields = [("traceparent", context.as_str()), ("tracestate", "other=1")];
    for ((gateway, key), told) in [(silent, false), (telling, true)] {
        let answer = ask(&gateway, &key, &fields);
        let received = upstream.received().pop().unwrap();
        assert_eq!(received.header("tracestate"), "");
        let (own, attempts) = collector.spans_of(answer.header("x-request-id"));
        let span = hex(&attempts[0].span_id);
        assert_ne!(span, hex(&own.span_id));
        let expected = if told { format!("00-{TRACE}-{span}-01") } else { String::new() };
        assert_eq!(received.header("traceparent"), expected);
    }
}

#[test]
fn without_the_section_there_is_no_trace() {
    let upstream = Upstream::json("200 OK", "{}");
    let mut setup = Setup::new(&upstream.url());
    let trusted = setup.caller("trusted", &trusted());
    let gateway = setup.start();
    let context = traceparent("01");
    let answered = ask(&gateway, &trusted, &[("traceparent", &context)]);
    let failed = ask(&gateway, "nobody", &[("traceparent", &context)]);
    assert_eq!((answered.status, failed.status), (200, 401));
    assert!(!failed.has("traceresponse"));
    for answer in [answered, failed] {
        assert!(gateway.access_line(answer.header("x-request-id"))["trace_id"].is_null());
    }
    assert_eq!(upstream.received()[0].header("traceparent"), "");
    assert!(!gateway.admin("/metrics").text().contains("wbg_otlp"));
}

#[test]
fn a_collector_that_is_away_holds_up_nobody_and_gets_all_when_it_is_back() {
    let collector = Collector::absent();
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = Setup::new(&upstream.url()).with(&collector.section("")).start();
    let ids: Vec<String> = (0..50)
        .map(|_| {
            let answer = gateway.call("GET", "/v5/rooms/a", "");
            assert_eq!(answer.status, 200);
            answer.header("x-request-id").to_owned()
        })
        .collect();
    wait_until("it is tried in vain", || {
        gateway.metric("wbg_otlp_exports_total{result=\"failed\"}") >= 2.0
    });
    assert_eq!(gateway.metric("wbg_otlp_spans_total{result=\"sent\"}"), 0.0);
    collector.listen();
    for id in &ids {
        assert_eq!(collector.spans_of(id).1.len(), 1);
    }
    wait_until("it is counted", || {
        gateway.metric("wbg_otlp_spans_total{result=\"sent\"}") == 100.0
    });
    assert_eq!(gateway.metric("wbg_otlp_spans_total{result=\"dropped\"}"), 0.0);
    let log = gateway.until_logged("the collector takes them again");
    assert_eq!(log.matches("the collector does not take them").count(), 1, "{log}");
    assert_eq!(log.matches("the collector takes them again").count(), 1, "{log}");
}

#[test]
fn a_collector_that_refuses_is_not_asked_again_and_one_that_is_busy_is_when_it_says() {
    let collector = Collector::new();
    let gateway = Setup::new("http://127.0.0.1:9").with(&collector.section("")).start();
    collector.answer("400 Bad Request");
    gateway.call("GET", "/nowhere", "");
    wait_until("it is refused", || {
        gateway.metric("wbg_otlp_spans_total{result=\"refused\"}") == 1.0
    });
    assert_eq!(collector.received().len(), 1);
    collector.answer("429 Too Many Requests\r\nretry-after: 2");
    let id = gateway.call("GET", "/nowhere", "").header("x-request-id").to_owned();
    wait_until("it is asked to come back", || collector.received().len() == 2);
    let asked = Instant::now();
    collector.take_again();
    collector.spans_of(&id);
    assert!(asked.elapsed() >= Duration::from_millis(1_900), "after {:?}", asked.elapsed());
    wait_until("it is counted", || gateway.metric("wbg_otlp_spans_total{result=\"sent\"}") == 1.0);
}

#[test]
fn metrics_are_those_that_prometheus_reads() {
    let collector = Collector::new();
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = Setup::new(&upstream.url())
        .with(&collector.section(""))
        .with("[otlp.traces]\nenabled = false\n[otlp.metrics]\ninterval = \"100ms\"\n")
        .start();
    let answer = gateway.call("GET", "/v5/rooms/a", "");
    assert_eq!(answer.status, 200);
    assert!(gateway.access_line(answer.header("x-request-id"))["trace_id"].is_null());
    let counted = |metrics: &[opentelemetry_proto::tonic::metrics::v1::Metric]| {
        metrics.iter().any(|metric| metric.name == "wbg_requests")
    };
    wait_until("the request is in a report", || counted(&collector.metrics()));
    let text = gateway.admin("/metrics").text();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    // What has no sample is not sent, and infos have their name with its ending.
    let there: BTreeSet<String> = types
        .map(|(name, kind)| if kind == "info" { format!("{name}_info") } else { name.to_owned() })
        .filter(|name| text.lines().any(|line| line.starts_with(name.as_str())))
        .collect();
    assert!(there.len() > 15, "{there:?}");
    let sent: BTreeSet<String> =
        collector.metrics().into_iter().map(|metric| metric.name).collect();
    assert_eq!(sent, there);
    assert!(collector.spans().is_empty());
}

#[test]
fn what_is_left_is_sent_when_the_process_ends() {
    let collector = Collector::new();
    let upstream = Upstream::json("200 OK", "{}");
    let mut gateway = Setup::new(&upstream.url()).with(&collector.section("")).start();
    let answer = gateway.call("GET", "/v5/rooms/a", "");
    gateway.signal("TERM");
    assert!(gateway.wait(Duration::from_secs(10)).success());
    let there = collector.spans();
    let own =
        |span: &Span| attribute(span, "whiteboard.request_id") == answer.header("x-request-id");
    assert!(there.iter().any(|(_, span)| own(span)), "{there:?}");
    assert_eq!(there.len(), 2);
    // The interval is a minute: this is the last report.
    assert!(collector.metrics().iter().any(|metric| metric.name == "wbg_requests"));
}

#[test]
fn a_process_does_not_wait_for_a_collector_that_is_away_at_its_end() {
    let collector = Collector::absent();
    let mut gateway = Setup::new("http://127.0.0.1:9").with(&collector.section("")).start();
    gateway.call("GET", "/nowhere", "");
    gateway.signal("TERM");
    assert!(gateway.wait(Duration::from_secs(10)).success());
}

#[test]
fn a_collector_is_trusted_by_its_authority_and_told_what_is_configured() {
    let authority = Authority::new("collectors");
    let collector = Collector::over_tls(&authority.certify("localhost"));
    let setup = |authority: &Authority| {
        let setup = Setup::new("http://127.0.0.1:9");
        let ca = authority.write(setup.folder.path());
        let headers = "headers = { x-tenant = { env = \"TENANT\" } }";
        let section = collector.section(&format!("ca = \"{}\"\n{headers}", ca.display()));
        let setup = setup.with(&section);
        let mut command = setup.command("serve");
        command.env("TENANT", "planted-tenant-7Qd1f9ZrW3kLm0");
        Process::of(command, setup.folder, setup.key)
    };
    let stranger = setup(&Authority::new("others"));
    stranger.call("GET", "/nowhere", "");
    wait_until("it is not trusted", || {
        stranger.stderr().contains("no TLS connection could be made")
    });
    assert!(collector.received().is_empty());
    let gateway = setup(&authority);
    let id = gateway.call("GET", "/nowhere", "").header("x-request-id").to_owned();
    collector.spans_of(&id);
    let (received, _) = collector.received().pop().unwrap();
    assert_eq!(received.header("x-tenant"), "planted-tenant-7Qd1f9ZrW3kLm0");
    assert_eq!(received.header("content-type"), "application/x-protobuf");
    for gateway in [gateway, stranger] {
        let told = gateway.stderr() + &gateway.stdout() + &gateway.admin("/metrics").text();
        assert!(!told.contains("planted"), "{told}");
    }
}

#[test]
fn no_secret_is_sent_to_the_collector() {
    let collector = Collector::new();
    let upstream = Upstream::json("200 OK", "{\"planted-answer\":1}");
    let gateway = Setup::new(&upstream.url())
        .with(&collector.section(""))
        .with("[otlp.metrics]\ninterval = \"100ms\"\n")
        .start();
    let key = gateway.key.clone();
    let fields = [
        ("authorization", format!("Bearer {key}")),
        ("cookie", "planted-cookie".to_owned()),
        ("user-agent", "planted-agent".to_owned()),
        ("x-forwarded-for", "203.0.113.77".to_owned()),
    ];
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut last = String::new();
    for (method, path, body) in [
        ("GET", "/v5/rooms/planted-room?planted-query=1", ""),
        ("POST", "/v5/rooms", "{\"name\":\"planted-body\"}"),
        ("POST", "/v5/tokens/rooms/planted-room", "{\"role\":\"reader\",\"lifespan\":1000}"),
        ("GET", "/planted-path", ""),
    ] {
        let answer = gateway.client().request(method, path, &fields, body);
        last = answer.header("x-request-id").to_owned();
    }
    let wrong = format!("{}x", &key[..key.len() - 1]);
    gateway.client().request("GET", "/v5/rooms", &[("token", &wrong)], "");
    collector.spans_of(&last);
    wait_until("there are metrics as well", || !collector.metrics().is_empty());
    let secret = key.split('_').nth(3).unwrap();
    let shown: Vec<String> =
        upstream.received().iter().map(|one| one.header("token").to_owned()).collect();
    for (request, _) in collector.received() {
        let told = format!("{:?} {}", request.headers, String::from_utf8_lossy(&request.body));
        for planted in ["planted", secret, "sandbox-secret-key", "203.0.113.77", "127.0.0.1:"] {
            assert!(!told.contains(planted), "{planted}: {told}");
        }
        for token in shown.iter().filter(|token| !token.is_empty()) {
            assert!(!told.contains(token.as_str()), "{told}");
        }
        assert!(!told.contains("NETLESS"), "{told}");
    }
}

#[test]
fn a_reload_changes_the_collector() {
    let [first, second] = [Collector::new(), Collector::new()];
    let setup = Setup::new("http://127.0.0.1:9").with(&first.section(""));
    let text = setup.configuration();
    let gateway = setup.start();
    let before = gateway.call("GET", "/nowhere", "");
    gateway.reload(&text.clone().without("otlp").with(&second.section("")));
    let after = gateway.call("GET", "/nowhere", "");
    second.spans_of(after.header("x-request-id"));
    first.spans_of(before.header("x-request-id"));
    assert_eq!((first.spans().len(), second.spans().len()), (1, 1));
    // What was counted goes on.
    wait_until("both are counted", || {
        gateway.metric("wbg_otlp_spans_total{result=\"sent\"}") == 2.0
    });
    gateway.reload(&text.without("otlp"));
    let none = gateway.call("GET", "/nowhere", "");
    assert!(!none.has("traceresponse"));
}
