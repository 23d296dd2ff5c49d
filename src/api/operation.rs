//! What a row of the table says about an operation.

use std::borrow::Cow;
use std::fmt;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Field, Parameter, Role, RoomId, TaskId};

/// One operation of the whiteboard API: a row of the table.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The name that policies, logs and metrics use, such as `rooms.create`.
    pub name: Cow<'static, str>,
    /// The feature of the API it belongs to.
    pub feature: Feature,
    /// The one method that it answers to.
    pub method: Method,
    /// The path's template, such as `/v5/rooms/{uuid}`; what is forwarded has this form.
    pub path: Cow<'static, str>,
    /// What `{uuid}` in the path names.
    pub target: TargetKind,
    /// The credential that it takes, and the least role of it.
    pub access: Access,
    /// The request body.
    pub body: BodySpec,
    /// The query parameters.
    pub query: Query,
    /// The status of a success, whatever 2xx the upstream chose.
    pub success: StatusCode,
    /// Whether sending it twice does the same as sending it once (RFC 9110 §9.2.2), so that it
    /// may be retried when no one knows whether the first one arrived.
    pub idempotent: bool,
    /// How long an answer may take.
    pub pace: Pace,
    /// The API's pages call it deprecated.
    pub deprecated: bool,
    /// One line for people.
    pub summary: Cow<'static, str>,
}

/// The features of the API, and `Added` for operations that the configuration adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Token generation.
    Tokens,
    /// Room management.
    Rooms,
    /// Screenshots.
    Screenshots,
    /// Scene management.
    Scenes,
    /// File conversion, the current `projector` family and the deprecated one.
    Conversions,
    /// Added by the configuration.
    Added,
}

impl Feature {
    /// The name for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "Token generation",
            Self::Rooms => "Rooms",
            Self::Screenshots => "Screenshots",
            Self::Scenes => "Scenes",
            Self::Conversions => "File conversion",
            Self::Added => "Added by configuration",
        }
    }
}

/// The kind of a whiteboard token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// `NETLESSSDK_`: the whole project.
    Sdk,
    /// `NETLESSROOM_`: one room.
    Room,
    /// `NETLESSTASK_`: one conversion task.
    Task,
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Sdk, Self::Room, Self::Task];

    /// `sdk`, `room` or `task`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sdk => "sdk",
            Self::Room => "room",
            Self::Task => "task",
        }
    }
}

impl fmt::Display for TokenKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The credential that an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It makes a token of that kind; the gateway answers it by itself.
    Mints(TokenKind),
    /// It needs a token: the weakest kind that will do, and the least role.
    Needs(TokenKind, Role),
    /// It takes no token at all.
    Open,
}

/// What `{uuid}` in a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// Nothing: the operation is about the project.
    #[serde(skip)]
    Project,
    /// A room.
    Room,
    /// A conversion task.
    Task,
}

/// What a request is about: the `{uuid}` of its path, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The project.
    Project,
    /// A room.
    Room(RoomId),
    /// A conversion task.
    Task(TaskId),
}

impl Target {
    /// The room, when it is about one.
    pub const fn room(&self) -> Option<&RoomId> {
        match self {
            Self::Room(room) => Some(room),
            Self::Project | Self::Task(_) => None,
        }
    }

    /// The `{uuid}` of the path, decoded.
    pub fn uuid(&self) -> Option<&str> {
        match self {
            Self::Project => None,
            Self::Room(room) => Some(room.as_str()),
            Self::Task(task) => Some(task.as_str()),
        }
    }
}

/// The request body that an operation takes.
#[derive(Clone, Copy, Debug)]
pub enum BodySpec {
    /// None: one that comes is refused.
    None,
    /// A JSON object of these fields. Empty is `{}` where every field is optional.
    Json(&'static [Field]),
    /// Whatever comes is passed through unread (operations added by the configuration).
    Opaque,
}

/// The query parameters that an operation takes.
#[derive(Clone, Copy, Debug)]
pub enum Query {
    /// These; others are dropped.
    Known(&'static [Parameter]),
    /// Whatever comes is passed through (operations added by the configuration).
    Opaque,
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The usual deadlines.
    Quick,
    /// The long ones: the service renders and uploads an image.
    Slow,
}
