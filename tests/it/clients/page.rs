//! The clients that run in a page: the calls come from another origin, with preflights.

use std::io::Write as _;

use serde_json::{Value, json};

use super::program::{Expected, compare};
use super::route::{Deployment, Http, Route};
use crate::house::root;
use crate::support::{Browser, Upstream};

/// What `@netless/fetch-middleware` must get; it shows no status of what was good.
pub(super) const FETCH_CALLS: &[Expected] = &[
    ("create", "ok", r#""uuid":""#),
    ("screenshot", "ok", r#""url":"http"#),
    ("convert", "ok", r#""status":"Waiting""#),
    ("progress", "ok", r#""uuid":""#),
    ("legacy-convert", "ok", r#""type":"static""#),
    ("task-token", "ok", "\"NETLESSTASK_"),
    ("ban", "ok", r#""isBan":true"#),
    ("unknown-room", "404", "room not found"),
    ("wrong-key", "401", "this is no API key"),
];

/// What `white-web-sdk` must get of the conversions that it watches.
pub(super) const SDK_CALLS: &[Expected] = &[
    ("finished", "ok", r#""scenes":[{"name":"1","ppt":{"src":"http"#),
    ("failed", "error", ""),
    ("unknown", "error", "task not found"),
    ("wrong-token", "error", ""),
];

/// The app's server, of an origin of its own.
fn app() -> Upstream {
    let path = root().join("target/clients/bundle.js");
    let bundle = std::fs::read(&path).expect("tests/clients/install makes it");
    Upstream::scripted(move |request, stream| {
        let script = request.line.contains("/bundle.js");
        let (media_type, body) = match script {
            true => ("text/javascript; charset=utf-8", &bundle[..]),
            false => ("text/html", &b"<!doctype html><script src=/bundle.js></script>"[..]),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(body).is_ok()
    })
}

/// The calls of `@netless/fetch-middleware`, as the official demo makes them.
pub(super) fn fetch_middleware(route: Route) -> Result<usize, String> {
    let app = app();
    let deployment = Deployment::new(route, route.client == Http::Two, &cors(&app));
    let browser = Browser::with(&["--ignore-certificate-errors"]);
    browser.open(&format!("{}/", app.url()));
    let call = format!("await fetchMiddleware({:?}, {:?})", deployment.url, deployment.gateway.key);
    check(&deployment, &browser.eval(&call), FETCH_CALLS)
}

/// What `white-web-sdk` asks of the API by itself: how the conversions go whose Task tokens it has.
/// It knows the service's own name alone, which the browser takes to the gateway.
pub(super) fn white_web_sdk(route: Route) -> Result<usize, String> {
    let app = app();
    // It calls `https` alone.
    let deployment = Deployment::new(route, true, &cors(&app));
    let port = deployment.url.rsplit(':').next().unwrap_or_default();
    let rules = format!("--host-resolver-rules=MAP api.netless.link 127.0.0.1:{port}");
    let mut flags = vec!["--ignore-certificate-errors", &rules];
    if route.client == Http::One {
        flags.push("--disable-http2");
    }
    let browser = Browser::with(&flags);
    browser.open(&format!("{}/", app.url()));
    let task = |resource: &str| {
        let body = json!({ "resource": resource, "type": "static" }).to_string();
        deployment.call("POST", "/v5/services/conversion/tasks", &body)["uuid"].clone()
    };
    let token = |uuid: &Value| {
        let path = format!("/v5/tokens/tasks/{}", uuid.as_str().unwrap());
        deployment.call("POST", &path, r#"{"lifespan":600000,"role":"reader"}"#)
    };
    let (finished, failed) = (task("https://a/b.pdf"), task("https://a/fail.pdf"));
    let unknown = json!("7a5f5f0e1d3c4b2a9f8e7d6c5b4a3f2e");
    let tasks = json!([
        ["finished", finished, token(&finished)],
        ["failed", failed, token(&failed)],
        ["unknown", unknown, token(&unknown)],
        ["wrong-token", finished, "NETLESSTASK_old"],
    ]);
    check(&deployment, &browser.eval(&format!("await whiteWebSdk({tasks})")), SDK_CALLS)
}

fn cors(app: &Upstream) -> String {
    format!("[cors]\norigins = [\"{}\"]\n", app.url())
}

fn check(
    deployment: &Deployment,
    lines: &Value,
    expected: &'static [Expected],
) -> Result<usize, String> {
    let lines = lines.as_array().ok_or_else(|| lines.to_string())?;
    let said = lines.iter().map(|line| {
        let fields = line.as_array().into_iter().flatten();
        fields.map(|field| field.as_str().unwrap_or_default()).collect::<Vec<_>>().join("\t")
    });
    let mut wrong = compare(&said.collect::<Vec<_>>().join("\n"), expected);
    wrong.extend(deployment.inspect());
    if wrong.is_empty() {
        return Ok(expected.len());
    }
    Err(format!("{}:\n{}\n--- {}", deployment.route.name(), wrong.join("\n"), deployment.lines()))
}
