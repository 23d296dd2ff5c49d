//! What callers ask, and what becomes of it.

use std::time::Duration;

use fastrand::Rng;

use crate::issuer::{FORGED, token};
use crate::plan::{HONEST, KEYS, Plan, VISITOR, millis};

/// A request, as a caller means it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// In `X-Request-Id`, and in the path or the body: so whoever gets it or its answer can tell.
    pub(crate) id: String,
    pub(crate) caller: usize,
    pub(crate) kind: Kind,
    pub(crate) manner: Manner,
    /// How long a body is whose length is of no matter; of one that is too long, the most.
    pub(crate) length: usize,
    /// By which key of the identity provider its token is signed; 0 for an API key.
    pub(crate) signed_by: u8,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    GetRoom,
    ListRooms,
    CreateRoom,
    BanRoom,
    AddScene,
    Screenshot,
    CancelTask,
    StartConversion,
    Token,
    /// An operation of the configuration, whose body passes through.
    Upload,
    UnknownPath,
    WrongMethod,
    WrongBody,
    TooLong,
    UnknownKey,
}

/// How it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Whole,
    /// In so many parts, with a pause before each.
    Parts(u32, Duration),
    /// The head never ends.
    EndlessHead,
    /// The body never comes.
    NoBody,
    /// The caller ends its side within the body.
    CutBody,
    /// The head is no HTTP.
    Garbage,
}

/// What has become of a request.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It was answered; a failure has a code. An answer can break off.
    Answered { status: u16, code: Option<String>, broke_off: bool },
    /// It was not.
    Gone(Why),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The caller went away.
    Left,
    /// The network broke the connection.
    Harmed,
    /// It broke off before its head was sent: HTTP/2 drops what waits when a stream is reset.
    BrokeOff,
    /// The connection was closed, or the request refused, before the gateway had taken it up.
    NotTaken,
}

impl Outcome {
    /// In a word or two, to count them.
    pub(crate) fn word(&self) -> String {
        match self {
            Self::Answered { broke_off: true, .. } => "an answer that breaks off".to_owned(),
            Self::Answered { code: Some(code), .. } => code.clone(),
            Self::Answered { status, .. } => format!("answer {status}"),
            Self::Gone(why) => format!("no answer: {why:?}"),
        }
    }
}

/// What somebody asks who does nothing wrong.
const HONEST_KINDS: [Kind; 8] = [
    Kind::GetRoom,
    Kind::GetRoom,
    Kind::GetRoom,
    Kind::ListRooms,
    Kind::CreateRoom,
    Kind::BanRoom,
    Kind::Screenshot,
    Kind::Token,
];

const HOW_OFTEN: [(Kind, u32); 15] = [
    (Kind::GetRoom, 30),
    (Kind::ListRooms, 8),
    (Kind::CreateRoom, 20),
    (Kind::BanRoom, 8),
    (Kind::AddScene, 6),
    (Kind::Screenshot, 5),
    (Kind::CancelTask, 4),
    (Kind::StartConversion, 5),
    (Kind::Token, 8),
    (Kind::Upload, 5),
    (Kind::UnknownPath, 2),
    (Kind::WrongMethod, 2),
    (Kind::WrongBody, 2),
    (Kind::TooLong, 2),
    (Kind::UnknownKey, 2),
];

impl Kind {
    fn draw(rng: &mut Rng) -> Self {
        let all: u32 = HOW_OFTEN.iter().map(|(_, often)| often).sum();
        let mut at = rng.u32(..all);
        for (kind, often) in HOW_OFTEN {
            match at.checked_sub(often) {
                None => return kind,
                Some(rest) => at = rest,
            }
        }
        Self::GetRoom
    }

    /// What only the profile `backend` may do.
    const fn is_for_backends(self) -> bool {
        !matches!(self, Self::GetRoom | Self::Token | Self::UnknownPath | Self::UnknownKey)
            && !matches!(self, Self::WrongMethod)
    }

    /// Whether it must not happen twice.
    pub(crate) const fn is_unsafe(self) -> bool {
        matches!(
            self,
            Self::CreateRoom
                | Self::BanRoom
                | Self::AddScene
                | Self::Screenshot
                | Self::StartConversion
                | Self::Upload
        )
    }

    /// Whether it has the long deadlines.
    pub(crate) const fn is_slow(self) -> bool {
        matches!(self, Self::Screenshot)
    }

    pub(crate) const fn method(self) -> &'static str {
        match self {
            Self::GetRoom | Self::ListRooms | Self::UnknownPath | Self::UnknownKey => "GET",
            Self::CancelTask | Self::WrongMethod => "DELETE",
            Self::BanRoom => "PATCH",
            _ => "POST",
        }
    }

    /// The status of success.
    pub(crate) const fn success(self) -> u16 {
        match self {
            Self::GetRoom | Self::ListRooms | Self::CancelTask => 200,
            _ => 201,
        }
    }
}

impl Asked {
    /// What somebody asks who does nothing wrong.
    pub(crate) fn honestly(id: String, rng: &mut Rng, plan: &Plan, at: Duration) -> Self {
        let kind = HONEST_KINDS[rng.usize(..HONEST_KINDS.len())];
        let signed_by = match &plan.issuer {
            Some(issuer) if rng.u32(..3) == 0 => issuer.key(at),
            _ => 0,
        };
        let caller = if signed_by == 0 { HONEST } else { VISITOR };
        Self { id, caller, kind, manner: Manner::Whole, length: 0, signed_by }
    }

    pub(crate) fn draw(id: String, rng: &mut Rng, http2: bool, plan: &Plan) -> Self {
        let caller = rng.usize(..HONEST);
        let mut kind = Kind::draw(rng);
        // Now and then a student tries what only a backend may.
        if kind.is_for_backends() && Plan::profile(caller) == "student" && rng.u32(..4) > 0 {
            kind = Kind::GetRoom;
        }
        let manner = match rng.u32(..40) {
            0..=7 => Manner::Parts(rng.u32(2..5), millis(rng, 0..600)),
            8 if !http2 => Manner::EndlessHead,
            9 if !http2 => Manner::Garbage,
            10 if kind.method() == "POST" => Manner::NoBody,
            11 if kind.method() == "POST" && !http2 => Manner::CutBody,
            _ => Manner::Whole,
        };
        let most = plan.most_bytes;
        let length = if kind == Kind::TooLong { most } else { rng.usize(..most - 100) };
        let forged = kind == Kind::UnknownKey && plan.issuer.is_some() && rng.bool();
        let signed_by = if forged { FORGED } else { 0 };
        Self { id, caller, kind, manner, length, signed_by }
    }

    /// Whether its caller does nothing wrong, and nothing is wrong with its network.
    pub(crate) const fn is_honest(&self) -> bool {
        matches!(self.caller, HONEST | VISITOR)
    }

    /// Whether nothing that comes behind it can be a request.
    pub(crate) const fn is_last(&self) -> bool {
        !matches!(self.manner, Manner::Whole | Manner::Parts(..))
    }

    /// The profile that its caller has; the key of nobody has none.
    pub(crate) fn is_forbidden(&self) -> bool {
        Plan::profile(self.caller) == "student" && self.kind.is_for_backends()
    }

    pub(crate) fn key(&self) -> String {
        if self.signed_by > 0 {
            return token(self.signed_by);
        }
        let key = KEYS[self.caller];
        if self.kind == Kind::UnknownKey {
            key.replace("_1S2", "_1S3") + "x"
        } else {
            key.to_owned()
        }
    }

    pub(crate) fn path(&self) -> String {
        let id = &self.id;
        match self.kind {
            Kind::GetRoom | Kind::BanRoom | Kind::UnknownKey | Kind::WrongMethod => {
                format!("/v5/rooms/{id}")
            }
            Kind::ListRooms => format!("/v5/rooms?beginUUID={id}&limit=10"),
            Kind::CreateRoom | Kind::WrongBody | Kind::TooLong => "/v5/rooms".to_owned(),
            Kind::AddScene => format!("/v5/rooms/{id}/scenes"),
            Kind::Screenshot => format!("/v5/rooms/{id}/screenshots"),
            Kind::CancelTask => format!("/v5/projector/tasks/{id}"),
            Kind::StartConversion => "/v5/projector/tasks".to_owned(),
            Kind::Token => format!("/v5/tokens/rooms/{id}"),
            Kind::Upload => format!("/v5/rooms/{id}/uploads"),
            Kind::UnknownPath => format!("/v5/rooms/{id}/unknown"),
        }
    }

    pub(crate) fn body(&self) -> Option<String> {
        let id = &self.id;
        Some(match self.kind {
            Kind::CreateRoom => format!(r#"{{"isRecord":false,"name":"{id}"}}"#),
            Kind::BanRoom => r#"{"isBan":true}"#.to_owned(),
            Kind::AddScene => r#"{"path":"/a","scenes":[{"name":"b"}]}"#.to_owned(),
            Kind::Screenshot => r#"{"width":640,"height":480}"#.to_owned(),
            Kind::StartConversion => {
                format!(r#"{{"resource":"https://example.org/{id}","type":"static"}}"#)
            }
            Kind::Token => r#"{"lifespan":60000,"role":"reader"}"#.to_owned(),
            Kind::Upload => format!("{id} {}", "u".repeat(self.length)),
            Kind::WrongBody => format!(r#"{{"isRecord":"{id}"}}"#),
            Kind::TooLong => format!(r#"{{"name":"{}"}}"#, "n".repeat(self.length)),
            _ => return None,
        })
    }

    /// Whether its body may take longer than there is time for.
    fn is_slow_to_send(&self, plan: &Plan) -> bool {
        let Some(rate) = plan.uplink else { return false };
        // What passes through is sent within the time for the head of an answer.
        let time = if self.kind == Kind::Upload { plan.first_byte.as_secs() / 2 } else { 5 };
        self.body().is_some_and(|body| body.len() as u64 / u64::from(rate) >= time)
    }

    /// Whether its caller may be told this, where everything was sent as it should be.
    pub(crate) fn may_be_told(&self, code: &str, plan: &Plan) -> bool {
        let certain = match self.kind {
            // It cannot be judged without the keys of the provider.
            Kind::UnknownKey if self.signed_by > 0 && code == "auth_unavailable" => return true,
            Kind::UnknownKey => Some("invalid_token"),
            Kind::UnknownPath => Some("not_found"),
            Kind::WrongMethod => Some("method_not_allowed"),
            _ if self.is_forbidden() => Some("forbidden"),
            _ => None,
        };
        if let Some(certain) = certain {
            return code == certain;
        }
        // It is looked at why, with what is known of the provider.
        let unknown = ["invalid_token", "auth_unavailable"].contains(&code);
        if unknown && self.signed_by > 0 {
            return true;
        }
        // What a store or a file keeps for it; in a file, budgets alone.
        let (token, honest) = (self.kind == Kind::Token, self.is_honest());
        let kept = !honest && (plan.store.is_some() || plan.has_budget() && token);
        let refused = ["rate_limited", "overloaded"].contains(&code)
            || kept && code == "store_unavailable"
            || kept && code == "quota_exceeded" && token
            || plan.is_audit_required() && code == "audit_unavailable" && token;
        match (self.kind, self.manner) {
            // It takes the time that a body may take, or more.
            (_, _) if code == "request_timeout" && self.is_slow_to_send(plan) => true,
            (_, Manner::CutBody) if code == "malformed_request" => true,
            (Kind::WrongBody, Manner::NoBody) => refused || code == "request_timeout",
            (Kind::WrongBody, _) => refused || code == "invalid_body",
            (Kind::TooLong, _) => refused || code == "too_large",
            (_, Manner::NoBody) if code == "request_timeout" => true,
            // A body that passes through is missed by the upstream.
            (Kind::Upload, Manner::NoBody) => refused || code.starts_with("upstream_"),
            (Kind::Upload, Manner::CutBody) => refused || code.starts_with("upstream_"),
            (_, Manner::NoBody | Manner::CutBody) => refused,
            (Kind::Token, _) => refused,
            _ => {
                refused
                    || code.starts_with("upstream_")
                    || ["not_found", "forbidden"].contains(&code)
            }
        }
    }
}
