//! How far callers and operations reach, and the one rule between the two: what an operation shows
//! the service or issues opens no more than its caller has, unless `allow` names the operation;
//! and what opens every room is for callers of every room, whatever is named.
//!
//! Whatever narrows a caller (its profile, its issuer, a claim, its own token) comes to the same
//! [`Reach`], and every entry of `allow` is judged here.

use crate::api::{Access, Feature, Operation, TargetKind, TokenKind};

/// How far a caller reaches, by its profile and its credential together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every room of the project.
    Project,
    /// Some rooms, or none.
    Rooms,
    /// The one room or task of the whiteboard token that it shows.
    OwnToken,
}

impl Reach {
    pub(super) const ALL: [Self; 3] = [Self::Project, Self::Rooms, Self::OwnToken];
}

/// Whether an entry of `allow` is about an operation, and why not.
pub(super) fn names(pattern: &str, operation: &Operation) -> Result<(), &'static str> {
    match pattern.strip_suffix(".*") {
        None if pattern != operation.name => Err("names another operation"),
        Some(family)
            if !operation.name.strip_prefix(family).is_some_and(|rest| rest.starts_with('.')) =>
        {
            Err("names another family of operations")
        }
        _ => Ok(()),
    }
}

/// Whether an entry of `allow` grants an operation to a caller of this reach, and why not.
/// `sdk_token`: the service is shown an SDK token whatever the operation needs.
pub(super) fn judge(
    pattern: &str,
    operation: &Operation,
    reach: Reach,
    sdk_token: bool,
) -> Result<(), &'static str> {
    names(pattern, operation)?;
    if let Some(why) = never(operation, reach, sdk_token) {
        return Err(why);
    }
    let by_name = pattern == operation.name;
    by_name_only(operation, reach, sdk_token).filter(|_| !by_name).map_or(Ok(()), Err)
}

/// Why no entry of `allow` grants an operation to a caller of this reach, if none does.
pub(super) fn never(operation: &Operation, reach: Reach, sdk_token: bool) -> Option<&'static str> {
    if reach == Reach::OwnToken && hands_out_tokens(operation) {
        return Some(
            "a whiteboard token mints no others, as in the API's own matrix: send an API key, a \
             JWT or a client certificate",
        );
    }
    match operation.access {
        Access::Mints(TokenKind::Sdk) if sdk_token => Some(
            "the project has a fixed SDK token and no keys, so no SDK tokens are minted for it",
        ),
        _ if reach == Reach::Project => None,
        Access::Mints(TokenKind::Sdk) => {
            Some("an SDK token opens every room of the project: tokens.sdk takes rooms = \"any\"")
        }
        // A Task token becomes a Room token by another prefix, which is not under the signature:
        // whoever may have one for any task may have one for any room.
        Access::Mints(TokenKind::Task) => Some(
            "the prefix of a token is not signed, so a Task token serves as a Room token for the \
             same uuid: tokens.task takes rooms = \"any\"",
        ),
        _ if operation.name == "rooms.list" => {
            Some("it shows every room of the project: rooms.list takes rooms = \"any\"")
        }
        _ => None,
    }
}

/// Why a family in `allow` does not grant an operation to a caller of this reach, if it does not.
pub(crate) fn by_name_only(
    operation: &Operation,
    reach: Reach,
    sdk_token: bool,
) -> Option<&'static str> {
    if operation.access == Access::Mints(TokenKind::Sdk) {
        Some("no family grants SDK tokens, each of which opens the whole project: name it")
    } else if is_added(operation) && hands_out_tokens(operation) {
        Some("no family grants an added operation that hands out tokens: name it")
    } else if reach != Reach::Project && opens_more_than_its_room(operation, sdk_token) {
        Some(
            "the rooms are not all of them, so a family grants only what is about one room, by a \
             token for that room: name it",
        )
    } else {
        None
    }
}

/// Whether what the service is shown, or what the caller gets, opens more than the room in the path.
pub(crate) fn opens_more_than_its_room(operation: &Operation, sdk_token: bool) -> bool {
    let narrow = match operation.access {
        Access::Mints(kind) => kind == TokenKind::Room,
        // The documented ones are about the room in their path, by whatever token: query and body
        // are known. Those of an added one go to the service unread.
        Access::Needs(kind, _) => kind == TokenKind::Room && !(sdk_token && is_added(operation)),
        Access::Open => true,
    };
    !narrow || operation.target != TargetKind::Room
}

/// Whether tokens are what an operation is for. The path is compared as the service may compare
/// it, which takes small and capital letters for one.
pub(crate) fn hands_out_tokens(operation: &Operation) -> bool {
    const PATH: &str = "/v5/tokens/";
    let path = operation.path.get(..PATH.len());
    matches!(operation.access, Access::Mints(_))
        || operation.name.starts_with("tokens.")
        || path.is_some_and(|path| path.eq_ignore_ascii_case(PATH))
}

/// Whether the configuration has added it: nothing is known of its query and body.
pub(crate) fn is_added(operation: &Operation) -> bool {
    operation.feature == Feature::Added
}
