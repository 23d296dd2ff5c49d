//! `[[operations]]`: what the API has learned since this gateway was built.

use http::Method;

use super::{Build, copied};
use crate::api::{
    Access, Body, Feature, Operation, Operations, Pace, Query, Role, TableError, TargetKind,
    TokenKind, usual_success,
};
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::Written;
use crate::config::word::{BodyKind, Token};
use crate::policy::hands_out_tokens;

/// The operations, and every name that was written for one.
pub(super) struct Added {
    pub(super) table: Operations,
    /// With those of added ones that are wrong: that they are granted is no second problem.
    pub(super) names: Vec<String>,
}

impl Build<'_> {
    pub(super) fn operations(&mut self, raw: &[raw::Operation]) -> Added {
        let mut table = Operations::documented();
        let mut names: Vec<String> = table.iter().map(|(_, row)| row.name.to_string()).collect();
        let section = KeyPath::of(&["operations"]);
        for (index, raw) in raw.iter().enumerate() {
            let path = section.index(index);
            names.extend(raw.name.as_ref().map(|name| name.0.clone()));
            let Some(row) = self.operation(&path, raw) else { continue };
            self.check_added(&path, &row);
            if let Err(why) = table.add(row) {
                let key = match why {
                    TableError::Name => "name",
                    TableError::Route(_) | TableError::Path => "path",
                    TableError::Target => "target",
                };
                self.report.wrong(&path.key(key), format_args!("cannot be: {why}"));
            }
        }
        Added { table, names }
    }

    fn operation(&mut self, path: &KeyPath, raw: &raw::Operation) -> Option<Operation> {
        let name = self.operation_name(path, raw);
        let method = raw.method.as_ref().map(|method| method.0.0.clone());
        if method.is_none() {
            self.report.missing(&path.key("method"), "\"GET\", \"POST\" or another");
        }
        if raw.path.is_none() {
            self.report.missing(&path.key("path"), "such as \"/v5/rooms/{uuid}/export\"");
        }
        let access = self.operation_access(path, raw);
        let (name, method, access) = (name?, method?, access?);
        let reads = method == Method::GET || method == Method::DELETE;
        let body = copied(&raw.body, if reads { BodyKind::None } else { BodyKind::Json });
        if reads && body != BodyKind::None {
            self.report.wrong(&path.key("body"), "must be \"none\" for a GET or DELETE");
        }
        let usual = usual_success(&method);
        Some(Operation {
            name: name.into(),
            feature: Feature::Added,
            idempotent: method.is_idempotent(),
            method,
            path: raw.path.as_ref()?.0.clone().into(),
            target: copied(&raw.target, TargetKind::Project),
            access,
            body: match body {
                BodyKind::None => Body::None,
                BodyKind::Json => Body::Json(&[]),
                BodyKind::Opaque => Body::Opaque,
            },
            query: Query::Opaque,
            success: raw.success.as_ref().map_or(usual, |status| status.0.0),
            pace: if copied(&raw.slow, false) { Pace::Slow } else { Pace::Quick },
            deprecated: false,
            summary: "Added by the configuration".into(),
        })
    }

    /// What its path says of it.
    fn check_added(&mut self, path: &KeyPath, row: &Operation) {
        // A task is in no profile's list of rooms.
        if row.target == TargetKind::Task && row.path.starts_with("/v5/rooms/") {
            let why = "must be \"room\": that is what this path names, and whose rooms they are \
                       is asked of nothing else";
            self.report.wrong(&path.key("target"), why);
        }
        if hands_out_tokens(row) {
            let why = format_args!(
                "is `{}`, and hands out tokens by the service's own judgement: without the role and \
                 life of a profile, without audit and budget for tokens; no family grants it, only \
                 its name",
                row.name
            );
            self.report.warn(&path.key("name"), why);
        }
    }

    /// `family.verb`: wildcards, logs and metrics go by these names.
    fn operation_name(&mut self, path: &KeyPath, raw: &raw::Operation) -> Option<String> {
        let path = path.key("name");
        let Some(Written(name)) = &raw.name else {
            self.report.missing(&path, "such as \"rooms.export\"");
            return None;
        };
        let word = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let good = name.len() <= 64
            && name.split_once('.').is_some_and(|(family, verb)| word(family) && word(verb));
        if !good {
            let why = "must be a family and a verb in small letters, such as \"rooms.export\"";
            self.report.wrong(&path, why);
            return None;
        }
        Some(name.clone())
    }

    /// The role is never guessed: it is what a caller must have, and what its token will carry.
    fn operation_access(&mut self, path: &KeyPath, raw: &raw::Operation) -> Option<Access> {
        let role: Option<Role> = raw.role.as_ref().map(|role| role.0);
        let Some(Written(token)) = raw.token else {
            let allowed = "\"sdk\", \"room\", \"task\" or \"none\"";
            self.report.missing(&path.key("token"), allowed);
            return None;
        };
        match (token, role) {
            (Token::None, None) => Some(Access::Open),
            (Token::None, Some(_)) => {
                self.report.wrong(&path.key("role"), "cannot be: without a token there is none");
                None
            }
            (Token::Kind(_), None) => {
                let allowed = "the least role that will do, \"reader\", \"writer\" or \"admin\"";
                self.report.missing(&path.key("role"), allowed);
                None
            }
            (Token::Kind(kind), Some(role)) => {
                self.check_kind(path, kind, raw);
                Some(Access::Needs(kind, role))
            }
        }
    }

    /// A Room token is for one room, a Task token for one task.
    fn check_kind(&mut self, path: &KeyPath, kind: TokenKind, raw: &raw::Operation) {
        let target = copied(&raw.target, TargetKind::Project);
        let fits = match kind {
            TokenKind::Sdk => true,
            TokenKind::Room => target == TargetKind::Room,
            TokenKind::Task => target == TargetKind::Task,
        };
        if !fits && !self.report.was_removed(&path.key("target")) {
            let why = format_args!("is \"{kind}\", so target must be \"{kind}\" as well");
            self.report.wrong(&path.key("token"), why);
        }
    }
}
