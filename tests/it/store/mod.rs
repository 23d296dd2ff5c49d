//! Limits and budgets that several gateways share, in real Redis servers: how exact they are, what
//! happens when a server does not answer, and who may ask it.

mod budgets;
mod cluster;
mod degraded;
mod exact;
mod script;
mod secure;

use crate::support::{Answer, Client, Process, Setup};

/// What a test asks for: a token, which no upstream is needed for.
const TOKEN: (&str, &str, &str) =
    ("POST", "/v5/tokens/rooms/a", "{\"role\":\"reader\",\"lifespan\":60000}");

/// A gateway in the making that shares this store, quiet enough to be hammered.
fn setup(store: &str) -> Setup {
    let quiet = Setup::new("http://127.0.0.1:9").set("log.level", "info");
    quiet.with(&format!("[store]\n{store}\n"))
}

/// The lines of a profile that mints tokens.
fn profile(limits: &str) -> String {
    format!("allow = [\"tokens.room\"]\nrooms = \"any\"\n{limits}")
}

fn token(client: &mut Client, key: &str) -> Answer {
    let (method, path, body) = TOKEN;
    client.request(method, path, &[("token", key)], body)
}

/// How many of so many requests passed; the others were refused for being too many.
fn passed(gateway: &Process, key: &str, tries: usize) -> usize {
    let mut client = gateway.client();
    let answers = (0..tries).map(|_| token(&mut client, key));
    let is_passed = |answer: &Answer| {
        if answer.status != 201 {
            answer.assert_envelope(403, "rate_limited");
        }
        answer.status == 201
    };
    answers.filter(is_passed).count()
}
