//! The record of what an operator does that changes something: who, why, and what came of it.

use std::io;
use std::net::IpAddr;

use super::file::AuditLog;
use super::{AuditMode, WRITE_TIMEOUT};
use crate::clock::now_ms;
use crate::telemetry::access::time;
use crate::telemetry::member::member;

/// What an operator does.
#[derive(Clone, Copy)]
pub struct OperatorAction<'a> {
    /// The name in `[operators.NAME]`.
    pub operator: &'a str,
    /// `key`, `session` or `certificate`.
    pub credential: &'a str,
    /// The id of the key.
    pub key_id: Option<&'a str>,
    /// Where from.
    pub client: IpAddr,
    /// What is done.
    pub action: &'a str,
    /// Why, in the operator's words.
    pub why: &'a str,
    /// `asked` before it is done, and what came of it afterwards.
    pub outcome: &'a str,
}

impl AuditLog {
    /// Records it. With [`AuditMode::Required`] it waits until that is written.
    ///
    /// # Errors
    /// With [`AuditMode::Required`], when it is not written: nothing may be done then.
    pub async fn operator(&self, action: &OperatorAction<'_>) -> io::Result<()> {
        let line = action.json().into_bytes();
        match self.mode() {
            AuditMode::Required => self.write_and_wait(line, WRITE_TIMEOUT).await,
            AuditMode::BestEffort => {
                self.write(line);
                Ok(())
            }
        }
    }
}

impl OperatorAction<'_> {
    fn json(&self) -> String {
        let mut line = "{\"time\":\"".to_owned();
        time(now_ms(), &mut line);
        line.push_str("\",\"event\":\"operator\"");
        let client = self.client.to_string();
        for (name, value) in [
            ("client", Some(client.as_str())),
            ("operator", Some(self.operator)),
            ("credential", Some(self.credential)),
            ("key_id", self.key_id),
            ("action", Some(self.action)),
            ("why", Some(self.why)),
            ("outcome", Some(self.outcome)),
        ] {
            member(&mut line, name, value);
        }
        line.push_str("}\n");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_whatever_the_reason_holds() {
        let action = OperatorAction {
            operator: "ada",
            credential: "session",
            key_id: Some("4fJ2abcdABCD"),
            client: "127.0.0.1".parse().unwrap(),
            action: "reload",
            why: "a \"new\"\nprofile",
            outcome: "asked",
        };
        let line = action.json();
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["event"], &value["why"]), (&"operator".into(), &action.why.into()));
        assert_eq!((&value["operator"], &value["key_id"]), (&"ada".into(), &"4fJ2abcdABCD".into()));
    }
}
