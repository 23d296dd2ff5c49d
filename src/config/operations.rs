//! `[[operations]]`: what the API has learned since this gateway was built.

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use super::build::Build;
use super::file::{KeyPath, section, word_types};
use super::number::EitherStatus;
use crate::api::{
    self, Access, Feature, Operations, Pace, Query, Role, TableError, TargetKind, TokenKind,
    usual_success,
};
use crate::policy::hands_out_tokens;

section! {
    pub(super) struct OperationSection {
        /// A family and a verb, such as `"rooms.export"`, by which profiles allow it. In the family
        /// `tokens`, or below `/v5/tokens/`, it is allowed only by its name.
        name: Option<String> | "such as \"rooms.export\"";
        /// `"GET"`, `"POST"`, `"PUT"`, `"PATCH"` or `"DELETE"`.
        method: Option<Verb> | "\"GET\", \"POST\" or another";
        /// Its path, with at most one `{uuid}`.
        route as "path": Option<String> | "such as \"/v5/rooms/{uuid}/export\"";
        /// What the service wants: `"sdk"`, `"room"`, `"task"` or `"none"`.
        token: Option<Token> | "\"sdk\", \"room\", \"task\" or \"none\"";
        /// The least role, which a caller must have and the token will have.
        role: Option<Role> => "required, but with `\"none\"`";
        /// `"json"`: an object with any fields. `"opaque"`: anything, streamed unchanged, and
        /// [retried](production.md#retries) while no more than 64 KiB of it were sent.
        body: Option<BodyKind> => "`\"json\"`; `\"none\"` for GET and DELETE";
        /// The status of a success, 200 or 201.
        success: Option<EitherStatus<200, 201>> => "`201` for POST and PATCH, else `200`";
        /// What `{uuid}` names, `"room"` or `"task"`; required if the path has it, and `"room"`
        /// below `/v5/rooms/`. [policy.md](policy.md#allow-which-operations) says to which callers
        /// a family grants it.
        target: Option<TargetKind>;
        /// Whether it has the longer timeouts of screenshots.
        slow: bool = false;
    }
}

/// The method of an added operation.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl From<Verb> for Method {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Get => Self::GET,
            Verb::Post => Self::POST,
            Verb::Put => Self::PUT,
            Verb::Patch => Self::PATCH,
            Verb::Delete => Self::DELETE,
        }
    }
}

/// What the service wants as a token.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Token {
    Sdk,
    Room,
    Task,
    None,
}

/// What an added operation takes as a body.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum BodyKind {
    /// None.
    None,
    /// An object, of whatever fields.
    Json,
    /// Anything, passed through as it comes.
    Opaque,
}

word_types!(Verb, Token, BodyKind, TargetKind);

/// The operations, and every name that was written for one.
pub(super) struct Added {
    pub(super) table: Operations,
    /// With those of added ones that are wrong: that they are granted is no second problem.
    pub(super) names: Vec<String>,
}

impl Build<'_> {
    pub(super) fn operations(&mut self, sections: Vec<OperationSection>) -> Added {
        let mut table = Operations::documented();
        let mut names: Vec<String> = table.iter().map(|(_, row)| row.name.to_string()).collect();
        for (index, section) in sections.into_iter().enumerate() {
            let path = KeyPath::of(&["operations"]).index(index);
            names.extend(section.name.clone());
            let Some(row) = self.operation(&path, section) else { continue };
            self.check_added(&path, &row);
            if let Err(why) = table.add(row) {
                let key = match why {
                    TableError::Name => "name",
                    TableError::Route(_) | TableError::Path => "path",
                    TableError::Target => "target",
                };
                self.wrong(&path.key(key), format_args!("cannot be: {why}"));
            }
        }
        Added { table, names }
    }

    fn operation(&mut self, path: &KeyPath, section: OperationSection) -> Option<api::Operation> {
        let name = self.operation_name(&path.key("name"), section.name.as_deref());
        let access = self.operation_access(path, &section);
        let (name, method, access) = (name?, Method::from(section.method?), access?);
        let reads = method == Method::GET || method == Method::DELETE;
        let usual = if reads { BodyKind::None } else { BodyKind::Json };
        let body = section.body.unwrap_or(usual);
        let why = "must be \"none\" for a GET or DELETE";
        self.wrong_if(reads && body != BodyKind::None, &path.key("body"), why);
        let usual = usual_success(&method);
        Some(api::Operation {
            name: name.into(),
            feature: Feature::Added,
            idempotent: method.is_idempotent(),
            method,
            path: section.route?.into(),
            target: section.target.unwrap_or(TargetKind::Project),
            access,
            body: match body {
                BodyKind::None => api::BodySpec::None,
                BodyKind::Json => api::BodySpec::Json(&[]),
                BodyKind::Opaque => api::BodySpec::Opaque,
            },
            query: Query::Opaque,
            success: section.success.map_or(usual, |status| status.0),
            pace: if section.slow { Pace::Slow } else { Pace::Quick },
            deprecated: false,
            summary: "Added by the configuration".into(),
        })
    }

    /// What its path says of it.
    fn check_added(&mut self, path: &KeyPath, row: &api::Operation) {
        // A task is in no profile's list of rooms.
        let task = row.target == TargetKind::Task && row.path.starts_with("/v5/rooms/");
        let why = "must be \"room\": that is what this path names, and whose rooms they are is \
                   asked of nothing else";
        self.wrong_if(task, &path.key("target"), why);
        let why = format_args!(
            "is `{}`, and hands out tokens by the service's own judgement: without the role and \
             life of a profile, without audit and budget for tokens; no family grants it, only \
             its name",
            row.name
        );
        self.warn_if(hands_out_tokens(row), &path.key("name"), why);
    }

    /// `family.verb`: wildcards, logs and metrics go by these names.
    fn operation_name(&mut self, path: &KeyPath, name: Option<&str>) -> Option<String> {
        let name = name?;
        let word = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let good = name.len() <= 64
            && name.split_once('.').is_some_and(|(family, verb)| word(family) && word(verb));
        let why = "must be a family and a verb in small letters, such as \"rooms.export\"";
        self.wrong_if(!good, path, why);
        good.then(|| name.to_owned())
    }

    /// The role is never guessed: it is what a caller must have, and what its token will carry. A
    /// Room token is for one room, a Task token for one task.
    fn operation_access(&mut self, path: &KeyPath, section: &OperationSection) -> Option<Access> {
        let (kind, target) = match section.token? {
            Token::None => {
                let why = "cannot be: without a token there is none";
                self.wrong_if(section.role.is_some(), &path.key("role"), why);
                return section.role.is_none().then_some(Access::Open);
            }
            Token::Sdk => (TokenKind::Sdk, section.target),
            Token::Room => (TokenKind::Room, Some(TargetKind::Room)),
            Token::Task => (TokenKind::Task, Some(TargetKind::Task)),
        };
        let Some(role) = section.role else {
            let allowed = "the least role that will do, \"reader\", \"writer\" or \"admin\"";
            self.report.missing(&path.key("role"), allowed);
            return None;
        };
        let fits = section.target == target || self.was_removed(&path.key("target"));
        let why = format_args!("is \"{kind}\", so target must be \"{kind}\" as well");
        self.wrong_if(!fits, &path.key("token"), why);
        Some(Access::Needs(kind, role))
    }
}
