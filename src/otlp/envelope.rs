//! What stands around spans and metrics in a request, and what an answer says of them.

use super::wire::{Fields, Message, Value, WireField};

/// Who measured.
const SCOPE: &str = "whiteboard-gateway";

/// Whose words the names of attributes are.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.27.0";

/// A request of spans or of metrics, which have the same form: what sends, who measured, and the
/// records, which are written already.
pub(super) fn request(resource: &[(String, String)], records: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.len() + 1024);
    Message(&mut out).message(1, |of_resource| {
        of_resource.message(1, |message| {
            for (key, value) in resource {
                message.attribute(1, key, Value::Text(value));
            }
        });
        of_resource.message(2, |of_scope| {
            of_scope.message(1, |scope| {
                scope.text(1, SCOPE);
                scope.text(2, env!("CARGO_PKG_VERSION"));
            });
            of_scope.0.extend_from_slice(records);
        });
        of_resource.text(3, SCHEMA);
    });
    out
}

/// How many records a collector did not take of those that it answered with success for, and why
/// (`partial_success`).
pub(super) fn refused(answer: &[u8]) -> (u64, String) {
    let (mut count, mut why) = (0, String::new());
    let partial = Fields(answer).find_map(|field| match field {
        (1, WireField::Bytes(partial)) => Some(partial),
        _ => None,
    });
    for field in Fields(partial.unwrap_or_default()) {
        match field {
            (1, WireField::Number(number)) => count = number,
            (2, WireField::Bytes(text)) => why = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    (count, why)
}
