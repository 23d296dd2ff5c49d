//! A member of a line that is a JSON object.

use crate::api::push_text;

/// A member whose value may hold anything.
#[inline]
pub(super) fn member(out: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.push_str(",\"");
        out.push_str(name);
        out.push_str("\":");
        push_text(value, out);
    }
}
