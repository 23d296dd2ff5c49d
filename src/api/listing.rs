//! The table of operations as people read it: in the README, and from the command line.

use std::fmt::Write as _;

use super::{Access, BodySpec, Operation, Operations};

/// What the columns say.
pub const COLUMNS: [&str; 7] =
    ["operation", "method", "path", "token", "least role", "body", "success"];

/// The cells of an operation, in the order of [`COLUMNS`].
pub fn cells(operation: &Operation) -> [String; COLUMNS.len()] {
    let (token, role) = match operation.access {
        Access::Mints(_) => ("minted here".to_owned(), "as asked".to_owned()),
        Access::Needs(kind, role) => (kind.to_string(), role.to_string()),
        Access::Open => ("none".to_owned(), "none".to_owned()),
    };
    let body = match operation.body {
        BodySpec::None => "none",
        BodySpec::Json(fields) if fields.iter().any(|field| field.required) => "JSON",
        BodySpec::Json(_) => "JSON, optional",
        BodySpec::Opaque => "any",
    };
    [
        operation.name.to_string(),
        operation.method.to_string(),
        operation.path.to_string(),
        token,
        role,
        body.to_owned(),
        operation.success.as_u16().to_string(),
    ]
}

/// The table in Markdown, as it stands in the README.
pub fn markdown(operations: &Operations) -> String {
    let mut table = format!("| {} |\n|{}\n", COLUMNS.join(" | "), " --- |".repeat(COLUMNS.len()));
    for (_, operation) in operations.iter() {
        let [name, method, path, token, role, body, success] = cells(operation);
        let deprecated = if operation.deprecated { " (deprecated)" } else { "" };
        // Writing to a String cannot fail.
        _ = writeln!(
            table,
            "| `{name}`{deprecated} | {method} | `{path}` | {token} | {role} | {body} | {success} |"
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TABLE;

    #[test]
    fn every_operation_is_a_line_of_the_table() {
        let markdown = markdown(&Operations::documented());
        let mut lines = markdown.lines();
        let columns = Some(COLUMNS.len() + 1);
        assert_eq!(lines.next().map(|head| head.matches('|').count()), columns);
        assert_eq!(lines.next().map(|rule| rule.matches('|').count()), columns);
        assert_eq!(lines.clone().count(), TABLE.len());
        for (line, row) in lines.zip(TABLE.iter()) {
            assert_eq!(line.matches('|').count(), COLUMNS.len() + 1, "{line}");
            assert!(line.starts_with(&format!("| `{}`", row.name)), "{line}");
        }
        for line in [
            "| `tokens.room` | POST | `/v5/tokens/rooms/{uuid}` | minted here | as asked | JSON | 201 |",
            "| `rooms.create` | POST | `/v5/rooms` | sdk | writer | JSON, optional | 201 |",
            "| `rooms.get` | GET | `/v5/rooms/{uuid}` | room | writer | none | 200 |",
        ] {
            assert!(markdown.contains(line), "{line}\nis not in\n{markdown}");
        }
    }
}
