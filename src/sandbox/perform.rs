//! The operations, each done on what the sandbox remembers. Who asks has been let in, and what
//! is asked for has been checked against the table.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use super::access::AcceptedToken;
use super::refusal::SandboxError;
use super::shared::SharedSandbox;
use super::state::{AskedTask, ConversionKind, ConversionRequest, Family, Room};
use super::webhook;
use crate::api::{Matched, TokenKind, TokenRequest, whole};
use crate::token::{InvalidTokenError, KeyPair, TokenFields};

/// A request that is to be done.
pub(super) struct SandboxCall<'a> {
    pub(super) matched: &'a Matched<'a>,
    pub(super) region: &'a str,
    /// The query in normal form.
    pub(super) query: Option<&'a str>,
    pub(super) body: &'a Map<String, Value>,
    /// `None` where the operation takes no token.
    pub(super) pass: Option<AcceptedToken>,
    /// Where files of this sandbox are found.
    pub(super) base: &'a str,
    pub(super) now_ms: u64,
}

impl SandboxCall<'_> {
    /// The room or task.
    fn uuid(&self) -> &str {
        self.matched.target.uuid().unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.body.get(name).and_then(Value::as_str)
    }

    /// A query parameter.
    fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.unwrap_or_default().split('&');
        let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(of, _)| *of == name)?.1;
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    fn order(&self, family: Family) -> ConversionRequest<'_> {
        ConversionRequest::read(family, self.region, self.base, self.body)
    }
}

impl SharedSandbox {
    /// Does what is asked for: the body of the answer.
    pub(super) fn perform(self: &Arc<Self>, call: &SandboxCall<'_>) -> Result<Value, SandboxError> {
        let (uuid, region, now_ms) = (call.uuid(), call.region, call.now_ms);
        let task = AskedTask { family: Family::Projector, uuid, region, now_ms };
        match call.matched.operation.name.as_ref() {
            "tokens.sdk" => self.mint_for_keys(call),
            "tokens.room" => self.mint(TokenKind::Room, call),
            "tokens.task" => self.mint(TokenKind::Task, call),
            "rooms.create" => {
                let signer = call.pass.as_ref().map_or("", |pass| &pass.access_key);
                Ok(self.state().rooms.create(region, signer, call.body, now_ms))
            }
            "rooms.list" => {
                let limit = call.parameter("limit").and_then(|limit| limit.parse().ok());
                let begin = call.parameter("beginUUID");
                Ok(self.state().rooms.list(region, begin.as_deref(), limit))
            }
            "rooms.get" => self.in_room(call, |room| Ok(room.view(uuid))),
            "rooms.update" => self.in_room(call, |room| {
                room.ban(call.body);
                Ok(room.view(uuid))
            }),
            "scenes.list" => {
                let directory = call.parameter("sceneDir");
                self.in_room(call, |room| Ok(room.list_scenes(directory.as_deref())))
            }
            "scenes.add" => self.in_room(call, |room| room.add_scenes(call.body)),
            "scenes.switch" => self.in_room(call, |room| room.switch_scene(call.body)),
            "screenshots.scene" => {
                self.in_room(call, |room| room.screenshot(uuid, call.base, call.text("path")))
            }
            "screenshots.directory" => {
                self.in_room(call, |room| Ok(room.screenshots(uuid, call.base, call.text("path"))))
            }
            "conversions.start" => self.start_conversion(call),
            "conversions.list" => Ok(self.state().conversions.list(region, now_ms)),
            "conversions.get" => self.state().conversions.get(task, None),
            "conversions.cancel" => self.state().conversions.cancel(task),
            "conversions.prioritize" => self.state().conversions.prioritize(task, call.body),
            "legacy_conversions.start" => {
                let order = call.order(Family::Legacy);
                Ok(self.state().conversions.start(order, now_ms)?.1)
            }
            "legacy_conversions.get" => {
                let kind = ConversionKind::of(call.parameter("type").as_deref());
                let task = AskedTask { family: Family::Legacy, ..task };
                self.state().conversions.get(task, Some(kind))
            }
            _ => Err(SandboxError::NoPath),
        }
    }

    fn in_room(
        &self,
        call: &SandboxCall<'_>,
        act: impl FnOnce(&mut Room) -> Result<Value, SandboxError>,
    ) -> Result<Value, SandboxError> {
        let mut state = self.state();
        let room = state.rooms.find(call.uuid(), call.region)?;
        if let Some(pass) = &call.pass
            && self.strict_keys
            && pass.kind == TokenKind::Room
            && *pass.access_key != *room.access_key
        {
            return Err(InvalidTokenError::Signature.into());
        }
        act(room)
    }

    fn start_conversion(self: &Arc<Self>, call: &SandboxCall<'_>) -> Result<Value, SandboxError> {
        let order = call.order(Family::Projector);
        let (uuid, answer) = self.state().conversions.start(order, call.now_ms)?;
        if let Some(endpoint) = call.text("webhookEndpoint") {
            let retries = call.body.get("webhookRetry").and_then(whole);
            webhook::follow(self, uuid, endpoint, retries);
        }
        Ok(answer)
    }

    /// An SDK token, for whoever knows a key pair of the project.
    fn mint_for_keys(&self, call: &SandboxCall<'_>) -> Result<Value, SandboxError> {
        let of_body = |name: &str| {
            let missing = || SandboxError::Request(format!("`{name}` is required: a string"));
            call.text(name).ok_or_else(missing)
        };
        let (access_key, secret) = (of_body("accessKey")?, of_body("secretAccessKey")?);
        let key = self.key(access_key).ok_or(SandboxError::Keys)?;
        if !bool::from(key.secret.expose().as_bytes().ct_eq(secret.as_bytes())) {
            return Err(SandboxError::Keys);
        }
        let asked = asked(TokenKind::Sdk, call)?;
        Ok(minted(&key.pair, &asked, None, call.now_ms))
    }

    /// A Room or Task token, for whoever has an SDK token of at least its role.
    ///
    /// No one documents that the room or task must exist, and minting by oneself, as most do,
    /// cannot know it.
    fn mint(&self, kind: TokenKind, call: &SandboxCall<'_>) -> Result<Value, SandboxError> {
        let asked = asked(kind, call)?;
        let forbidden = || SandboxError::Role(call.matched.operation.name.to_string());
        let pass = call.pass.as_ref().filter(|pass| pass.role >= asked.role);
        let pass = pass.ok_or_else(forbidden)?;
        let signer = asked.access_key.as_deref().unwrap_or(&pass.access_key);
        let unknown = || SandboxError::Request("`ak` is no access key of this project".to_owned());
        let key = self.key(signer).ok_or_else(unknown)?;
        Ok(minted(&key.pair, &asked, Some(call.uuid()), call.now_ms))
    }
}

/// The body has been checked; one that does not read all the same is told so.
fn asked(kind: TokenKind, call: &SandboxCall<'_>) -> Result<TokenRequest, SandboxError> {
    let unread = || SandboxError::Request("`role` and `lifespan` are required".to_owned());
    TokenRequest::from_checked(kind, &call.body.into()).ok_or_else(unread)
}

fn minted(key: &KeyPair, asked: &TokenRequest, uuid: Option<&str>, now_ms: u64) -> Value {
    let lifespan_ms = i64::try_from(asked.lifespan.to_wire()).unwrap_or(i64::MAX);
    let random = fastrand::u128(..).to_ne_bytes();
    let nonce = uuid::Builder::from_random_bytes(random).into_uuid().to_string();
    let minted = key.mint(
        TokenFields { kind: asked.kind, role: asked.role.digit(), uuid, lifespan_ms, nonce },
        now_ms,
    );
    minted.token.expose().into()
}
