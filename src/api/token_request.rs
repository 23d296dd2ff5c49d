//! The body of `POST /v5/tokens/…`, parsed.

use serde_json::json;

use super::{Json, Lifespan, Object, Role, TokenKind};

/// What a caller asks for when it asks for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The kind, which the path says.
    pub kind: TokenKind,
    /// The role.
    pub role: Role,
    /// The life.
    pub lifespan: Lifespan,
    /// The access key that is to sign: `ak`, or `accessKey` for an SDK token.
    pub access_key: Option<String>,
}

impl TokenRequest {
    /// Reads a body that has been checked against the table; `None` when it was not.
    ///
    /// `secretAccessKey` is never read: the gateway holds the secret keys.
    pub fn from_checked(kind: TokenKind, body: &Object<'_>) -> Option<Self> {
        Some(Self {
            kind,
            role: body.text("role")?.parse().ok()?,
            lifespan: lifespan(body.get("lifespan")?)?,
            access_key: match kind {
                TokenKind::Sdk => body.text("accessKey").map(str::to_owned),
                TokenKind::Room | TokenKind::Task => body.text("ak").map(str::to_owned),
            },
        })
    }

    /// As `Whiteboard-Granted` and the log say it.
    pub fn granted(&self) -> String {
        format!("role={}; lifespan={}", self.role, self.lifespan.to_wire())
    }

    /// The body for an upstream that mints: role and life only, never a key of any kind.
    pub fn to_body(&self) -> Vec<u8> {
        json!({ "lifespan": self.lifespan.to_wire(), "role": self.role }).to_string().into_bytes()
    }
}

/// A life that was checked to be whole and not negative. What no number of the wire holds is
/// permanent, as all that is too long to have an end.
fn lifespan(value: &Json<'_>) -> Option<Lifespan> {
    let millis = value.as_whole()?;
    Some(u64::try_from(millis).map_or(Lifespan::Permanent, Lifespan::from_wire))
}
