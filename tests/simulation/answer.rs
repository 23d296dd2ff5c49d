//! An answer, as its caller sees it, and what every answer promises.

use http::HeaderMap;
use serde_json::Value;
use tokio::time::Instant;
use whiteboard_gateway::failure::{Code, Settings, StatusProfile};

use crate::gateway::TOTAL;
use crate::plan::DISMISSED;
use crate::request::{Asked, Kind, Manner, Outcome};
use crate::world::{Arrival, Request, World};

/// What a caller got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Whether all of it came.
    pub(crate) whole: bool,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether nothing more comes on its connection.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == "close"
    }

    /// Whether it says that it is the answer to this.
    pub(crate) fn is_to(&self, asked: &Asked) -> bool {
        self.header("x-request-id") == asked.id
    }

    /// What it makes of a request; whatever is wrong with it is told.
    pub(crate) fn to(&self, asked: &Asked, world: &World) -> Outcome {
        let mut wrong = Vec::new();
        let id = self.header("x-request-id");
        if id != asked.id {
            wrong.push(format!("it got the answer to {id}"));
        }
        let success = self.status == 200 || self.status == 201;
        let code = if success {
            self.check_success(asked, world, &mut wrong);
            None
        } else {
            let code = self.check_failure(id, &mut wrong);
            let dismissed = code == "invalid_token" && asked.caller == DISMISSED && {
                let entered = |request: &mut Request| request.entered.first().map(|one| one.at);
                let since = world.with(&asked.id, entered).flatten();
                since.is_some_and(|since| world.is_dismissed(since, Instant::now()))
            };
            // The body stood still as well.
            let late = code == "request_timeout" && matches!(asked.manner, Manner::Parts(..)) && {
                let since = world.with(&asked.id, |request| request.asked_at);
                since.is_some_and(|since| !world.stood_still(since, Instant::now()).is_zero())
            };
            if !dismissed && !late && !asked.may_be_told(&code, &world.plan) {
                wrong.push(format!("nothing has happened that is called {code}"));
            }
            Some(code)
        };
        for wrong in wrong {
            world.broken(format!("{}: {wrong}: {}", asked.id, self.describe()));
        }
        Outcome::Answered { status: self.status, code, broke_off: !self.whole }
    }

    /// What was refused before it was a request has no name of its own.
    pub(crate) fn refuses(&self, asked: &Asked, code: &str, world: &World) -> Outcome {
        let mut wrong = Vec::new();
        let told = self.check_failure(self.header("x-request-id"), &mut wrong);
        if told != code && told != "overloaded" {
            wrong.push(format!("{told} instead of {code}"));
        }
        for wrong in wrong {
            world.broken(format!("{}: {wrong}: {}", asked.id, self.describe()));
        }
        Outcome::Answered { status: self.status, code: Some(told), broke_off: !self.whole }
    }

    fn check_success(&self, asked: &Asked, world: &World, wrong: &mut Vec<String>) {
        if self.status != asked.kind.success() {
            wrong.push("it is not the documented status".to_owned());
        }
        if !self.whole {
            // Only what was begun already may break off, and only where the upstream has.
            let whole = world
                .with(&asked.id, |request| request.arrivals.last().is_some_and(Arrival::is_whole));
            // Or where it was taken slowly, and gave way to another; or so slowly that the time of the whole was over.
            let over = world.with(&asked.id, |request| {
                request.entered.first().is_some_and(|taken| taken.at.elapsed() > TOTAL)
            });
            if whole != Some(false) && over != Some(true) && !world.gives_way(&asked.id) {
                wrong.push("it breaks off, and the upstream's did not".to_owned());
            }
            return;
        }
        if asked.kind == Kind::Upload && self.header("content-type") == "text/html" {
            // Nobody knows what an operation of the configuration answers with.
            return;
        }
        let body: Value = match serde_json::from_slice(&self.body) {
            Ok(body) => body,
            Err(why) => return wrong.push(format!("it is no JSON: {why}")),
        };
        let right = match asked.kind {
            Kind::Token => body.as_str().is_some_and(|token| token.starts_with("NETLESSROOM_")),
            // The upstream has said nothing.
            _ if body == Value::Object(serde_json::Map::new()) => true,
            _ => body["tag"] == *asked.id,
        };
        if !right {
            wrong.push("it is another's".to_owned());
        }
    }

    /// The envelope; gives the code.
    fn check_failure(&self, id: &str, wrong: &mut Vec<String>) -> String {
        let settings = Settings::of(StatusProfile::Documented);
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        let known = Code::all().filter(|known| known.name() == code);
        let statuses: Vec<u16> = known.map(|known| known.status(&settings).as_u16()).collect();
        let retry = ["rate_limited", "overloaded", "upstream_unavailable"].contains(&&*code);
        let cause = self.header("proxy-status").strip_prefix("whiteboard-gateway; ");
        let told_by_us = cause.is_some_and(|cause| {
            cause.starts_with("error=") || cause.starts_with("received-status=")
        });
        let holds = [
            (self.whole, "it breaks off"),
            (self.header("content-type") == "application/json", "it is not labelled as JSON"),
            (self.header("cache-control") == "no-store", "it may be stored"),
            (told_by_us, "it has no cause"),
            (body["message"].as_str().is_some_and(|text| !text.is_empty()), "it has no message"),
            (body["requestId"] == id && !id.is_empty(), "it is not that request's"),
            (statuses.contains(&self.status), "its status is not that of its code"),
            (!retry || !self.header("retry-after").is_empty(), "it says not when to come again"),
            (code != "internal", "it is a defect"),
            (body.get("tag").is_none_or(|tag| *tag == *id), "the upstream has told it another"),
        ];
        let failed = holds.iter().filter(|(holds, _)| !holds);
        wrong.extend(failed.map(|(_, why)| format!("its failure is not in the envelope: {why}")));
        code
    }

    fn describe(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let body: String = body.chars().take(300).collect();
        format!("{} {:?} {body}", self.status, self.headers)
    }
}
