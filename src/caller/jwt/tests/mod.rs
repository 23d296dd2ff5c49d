//! Tokens, keys and a provider for tests, and the tests that need all of them together.

mod corpus;
pub(super) mod keys;
mod provider;
mod rotation;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{IssuerSettings, KeySource, ProfileFrom};
use crate::token::Secret;

pub(super) const ISSUER: &str = "https://idp.example.org";
pub(super) const AUDIENCE: &str = "whiteboard";

impl IssuerSettings {
    /// An issuer of asymmetric keys; where they come from does not matter to the test.
    pub(super) fn for_tests(name: &str) -> Self {
        let keys = KeySource::Discovery;
        let audience = vec![AUDIENCE.to_owned()];
        let mut settings = Self::new(name.to_owned(), ISSUER.to_owned(), audience, keys);
        settings.mapping.profile = ProfileFrom::Named("student".to_owned());
        settings
    }

    fn of_secret(secret: &str) -> Self {
        let keys = KeySource::Secret(Secret::new(secret.to_owned()));
        Self { algorithms: keys.default_algorithms(), keys, ..Self::for_tests("shared") }
    }
}

pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

/// The claims of a proper token of `issuer`, with some of them changed; null takes one away.
fn claims(issuer: &str, changes: &Value) -> Value {
    let now = now().as_second();
    let mut claims = json!({
        "iss": issuer, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 600,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}
