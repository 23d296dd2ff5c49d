//! What is written, read by the types that are generated from OpenTelemetry's own definitions. Read
//! and written again it must be the same bytes: those types drop what they do not know.

use std::fmt;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::{span, status};
use proptest::prelude::*;
use prost::Message as _;

use super::wire::Message;
use super::*;
use crate::metric::{Buckets, MetricSet, TextFormat};
use crate::trace::{SpanId, TraceId};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn read<M: prost::Message + Default + fmt::Debug>(bytes: &[u8]) -> M {
    let read = M::decode(bytes).unwrap();
    assert_eq!(read.encode_to_vec(), bytes, "{read:?}");
    read
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = any_value::Value::StringValue(value.to_owned());
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn number(key: &str, value: i64) -> KeyValue {
    let value = any_value::Value::IntValue(value);
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn a_span<'a>(attributes: &'a [(&'static str, Option<Value<'a>>)]) -> Span<'a> {
    Span {
        trace: TraceId::parse(TRACE.as_bytes()).unwrap(),
        id: SpanId::parse(b"00f067aa0ba902b7").unwrap(),
        parent: Some(Parent { id: SpanId::parse(b"b7ad6b7169203331").unwrap(), remote: true }),
        state: Some("a=1"),
        kind: SpanKind::Server,
        name: ("GET", Some("/v5/rooms/{uuid}")),
        begun_ns: 1_700_000_000_000_000_001,
        over_ns: 1_700_000_000_000_500_000,
        attributes,
        failed: true,
    }
}

fn spans(written: &[&Span<'_>]) -> ExportTraceServiceRequest {
    let mut records = Vec::new();
    written.iter().for_each(|span| span.write(&mut Message(&mut records), 2));
    let resource = [("service.name".to_owned(), "gateway".to_owned())];
    read(&envelope::request(&resource, &records))
}

#[test]
fn a_span_is_what_opentelemetry_reads() {
    let long = "x".repeat(300);
    let attributes = [
        ("http.route", Some(Value::Text("/v5/rooms/{uuid}"))),
        ("error.type", None),
        ("empty", Some(Value::Text(""))),
        ("long", Some(Value::Text(&long))),
        ("http.response.status_code", Some(Value::Number(500))),
        ("zero", Some(Value::Number(0))),
        ("less", Some(Value::Number(-1))),
    ];
    let child = Span { kind: SpanKind::Client, parent: None, failed: false, ..a_span(&[]) };
    let request = spans(&[&a_span(&attributes), &child]);
    let [of_resource] = &request.resource_spans[..] else { panic!("{request:?}") };
    let resource = of_resource.resource.as_ref().unwrap();
    assert_eq!(resource.attributes, [text("service.name", "gateway")]);
    let [of_scope] = &of_resource.scope_spans[..] else { panic!("{request:?}") };
    let scope = of_scope.scope.as_ref().unwrap();
    assert_eq!(
        (scope.name.as_str(), &*scope.version),
        ("whiteboard-gateway", env!("CARGO_PKG_VERSION"))
    );
    let [first, second] = &of_scope.spans[..] else { panic!("{request:?}") };
    assert_eq!(first.trace_id, TraceId::parse(TRACE.as_bytes()).unwrap().bytes());
    assert_eq!(first.span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(first.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!((first.trace_state.as_str(), first.flags), ("a=1", 0x301));
    assert_eq!(first.name, "GET /v5/rooms/{uuid}");
    assert_eq!(first.kind(), span::SpanKind::Server);
    assert_eq!(first.start_time_unix_nano, 1_700_000_000_000_000_001);
    assert_eq!(first.end_time_unix_nano, 1_700_000_000_000_500_000);
    assert_eq!(first.status.as_ref().unwrap().code(), status::StatusCode::Error);
    assert_eq!(
        first.attributes,
        [
            text("http.route", "/v5/rooms/{uuid}"),
            text("empty", ""),
            text("long", &long),
            number("http.response.status_code", 500),
            number("zero", 0),
            number("less", -1),
        ]
    );
    assert_eq!(second.kind(), span::SpanKind::Client);
    assert_eq!((second.flags, &second.status), (0x101, &None));
    assert!(second.parent_span_id.is_empty());
}

proptest! {
    #[test]
    fn whatever_is_in_a_span_is_read_again(value: String, number: i64, route: String) {
        let attributes =
            [("a", Some(Value::Text(&value))), ("b", Some(Value::Number(number)))];
        let span = Span { name: ("GET", Some(&route)), ..a_span(&attributes) };
        let request = spans(&[&span]);
        let read = &request.resource_spans[0].scope_spans[0].spans[0];
        prop_assert_eq!(&read.name, &format!("GET {route}"));
        prop_assert_eq!(&read.attributes, &[text("a", &value), self::number("b", number)]);
    }
}

const TABLE: &[Metric<()>] = &[
    Metric::counter("wbg_requests", "Requests answered.", &["operation", "code"], |(), out| {
        out.add(&["rooms.get", "ok"], 3_u64);
        out.add(&["none", "a \"b\""], 0_u64);
    }),
    Metric::histogram("wbg_duration_seconds", "Time.", &["operation"], |(), out| {
        let buckets = |counts: [u64; 3], total| Buckets {
            counts: [0.1, 2.5, f64::INFINITY].into_iter().zip(counts).collect(),
            total: Duration::from_millis(total),
        };
        out.add(&["a"], buckets([1, 2, 1], 750));
        out.add(&["b"], buckets([0, 0, 1], 9_000));
    }),
    Metric::gauge("wbg_connections", "Connections open.", &[], |(), out| out.add(&[], -2_i64)),
    Metric::info("wbg_build", "What is running.", &["version"], |(), out| {
        out.add(&["0.1.0"], true);
    }),
    Metric::gauge("wbg_start_time_seconds", "When.", &[], |(), out| {
        out.add(&[], 1_700_000_000.5);
    }),
    Metric::counter("wbg_answers", "What was not counted is omitted.", &["status"], |(), _| {}),
];

#[test]
fn metrics_are_what_opentelemetry_reads() {
    let started = 1_700_000_000_500_000_000;
    let now = started + 60_000_000_000;
    let mut set = MetricSet { started: Duration::from_nanos(started), families: Vec::new() };
    set.read(TABLE, &());
    let request: ExportMetricsServiceRequest =
        read(&envelope::request(&[], &metrics::records(&set, Duration::from_nanos(now))));
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let told: Vec<_> =
        metrics.iter().map(|one| (&*one.name, &*one.description, &*one.unit)).collect();
    assert_eq!(
        told,
        [
            ("wbg_requests", "Requests answered.", ""),
            ("wbg_duration_seconds", "Time.", "s"),
            ("wbg_connections", "Connections open.", ""),
            ("wbg_build_info", "What is running.", ""),
            ("wbg_start_time_seconds", "When.", "s"),
        ]
    );
    let Some(metric::Data::Sum(sum)) = &metrics[0].data else { panic!("{:?}", metrics[0]) };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    let [some, none] = &sum.data_points[..] else { panic!("{sum:?}") };
    assert_eq!((some.start_time_unix_nano, some.time_unix_nano), (started, now));
    assert_eq!(some.value, Some(number_data_point::Value::AsInt(3)));
    assert_eq!(some.attributes, [text("operation", "rooms.get"), text("code", "ok")]);
    assert_eq!(none.value, Some(number_data_point::Value::AsInt(0)));
    assert_eq!(none.attributes, [text("operation", "none"), text("code", "a \"b\"")]);
    let Some(metric::Data::Histogram(histogram)) = &metrics[1].data else { panic!() };
    assert_eq!(histogram.aggregation_temporality, 2);
    let [a, b] = &histogram.data_points[..] else { panic!("{histogram:?}") };
    assert_eq!((a.count, a.sum, &a.bucket_counts[..]), (4, Some(0.75), &[1, 2, 1][..]));
    assert_eq!((b.count, b.sum, &b.bucket_counts[..]), (1, Some(9.0), &[0, 0, 1][..]));
    assert_eq!(a.explicit_bounds, [0.1, 2.5]);
    assert_eq!(a.attributes, [text("operation", "a")]);
    assert_eq!((a.start_time_unix_nano, a.time_unix_nano), (started, now));
    for (place, value) in [
        (2, number_data_point::Value::AsInt(-2)),
        (3, number_data_point::Value::AsInt(1)),
        (4, number_data_point::Value::AsDouble(1_700_000_000.5)),
    ] {
        let Some(metric::Data::Gauge(gauge)) = &metrics[place].data else { panic!() };
        assert_eq!(gauge.data_points[0].value, Some(value));
        assert_eq!(gauge.data_points[0].start_time_unix_nano, 0);
    }
}

#[test]
fn what_a_collector_refuses_is_read() {
    let error_message = "no such thing".to_owned();
    let partial = ExportMetricsPartialSuccess { rejected_data_points: 300, error_message };
    let answer = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    assert_eq!(envelope::refused(&answer), (300, "no such thing".to_owned()));
    assert_eq!(envelope::refused(b""), (0, String::new()));
    assert_eq!(envelope::refused(b"<html>"), (0, String::new()));
}

fn collector(more: &str) -> Arc<Collector> {
    let settings = Settings {
        endpoint: format!("http://127.0.0.1:9{more}").parse().unwrap(),
        headers: Vec::new(),
        ca: None,
        egress: crate::net::Egress::default(),
        timeout: Duration::from_secs(1),
        resource: Vec::new(),
        traces: None,
        metrics: None,
    };
    Arc::new(Collector::new(settings, None).unwrap())
}

#[test]
fn what_nobody_sends_is_bounded_and_what_is_over_is_dropped_and_counted() {
    let collector = collector("");
    let spans = Spans::new(Arc::clone(&collector));
    let large = "x".repeat(10_000);
    let attributes = [("large", Some(Value::Text(&large)))];
    let span = a_span(&attributes);
    let dropped = || collector.counts.dropped.get();
    let mut added = 0_u64;
    while dropped() < 10 {
        spans.add(&span);
        added += 1;
        // As a worker does at each tick.
        spans.hand_over();
        assert!(added < 10_000, "there is no bound");
    }
    // Each was handed over by itself, as long as there was room; then 64 KiB wait.
    assert_eq!(added, WAITING as u64 + 7 + 10);
    drop(spans);
    assert_eq!(dropped(), 17, "a worker that ends cannot hand them over either");
}

#[tokio::test]
async fn what_a_worker_hands_over_at_its_end_is_sent_before_the_exporter_ends() {
    let collector = collector("");
    let spans = Spans::new(Arc::clone(&collector));
    let exporter = collector.exporter().unwrap();
    assert!(collector.exporter().is_none());
    spans.add(&a_span(&[]));
    drop(spans);
    collector.finish();
    // No one is there: it is tried once, and not waited for.
    exporter.run(MetricSet::default).await;
    let mut set = MetricSet::default();
    set.read(METRICS, &*collector);
    let text = set.text(TextFormat::OpenMetrics);
    for line in [
        "wbg_otlp_spans_total{result=\"sent\"} 0",
        "wbg_otlp_spans_total{result=\"refused\"} 0",
        "wbg_otlp_spans_total{result=\"dropped\"} 1",
        "wbg_otlp_exports_total{result=\"succeeded\"} 0",
        "wbg_otlp_exports_total{result=\"failed\"} 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
    }
}

#[test]
fn a_collector_in_the_place_of_another_counts_on() {
    let first = collector("");
    first.counts.dropped(3);
    let second = Collector::new(collector("/other").settings().clone(), Some(&first)).unwrap();
    assert_eq!(second.counts.dropped.get(), 3);
}
