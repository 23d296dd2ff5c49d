//! The table: every documented operation, one row each. Adding one is adding a row.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::{Method, StatusCode};

use super::operation::{Access, BodySpec, Feature, Operation, Pace, Query, TargetKind, TokenKind};
use super::{Field, Parameter, Role, Shape};

use Access::{Mints, Needs};
use Role::{Admin, Reader, Writer};

/// The 19 documented operations of the whiteboard API.
pub static TABLE: LazyLock<[Operation; 19]> = LazyLock::new(|| {
    [
        Operation {
            access: Mints(TokenKind::Sdk),
            idempotent: true,
            body: BodySpec::Json(SDK_TOKEN),
            summary: text("Mint an SDK token, which opens the whole project"),
            ..create("tokens.sdk", "/v5/tokens/teams")
        },
        Operation {
            access: Mints(TokenKind::Room),
            idempotent: true,
            body: BodySpec::Json(TOKEN),
            summary: text("Mint a Room token"),
            ..create("tokens.room", "/v5/tokens/rooms/{uuid}")
        },
        Operation {
            access: Mints(TokenKind::Task),
            idempotent: true,
            body: BodySpec::Json(TOKEN),
            summary: text("Mint a Task token"),
            ..create("tokens.task", "/v5/tokens/tasks/{uuid}")
        },
        Operation {
            access: Needs(TokenKind::Sdk, Writer),
            body: BodySpec::Json(ROOM),
            summary: text("Create a room"),
            ..create("rooms.create", "/v5/rooms")
        },
        Operation {
            access: Needs(TokenKind::Sdk, Writer),
            query: Query::Known(ROOM_LIST),
            summary: text("List the rooms of the project"),
            ..read("rooms.list", "/v5/rooms")
        },
        Operation {
            access: Needs(TokenKind::Room, Writer),
            summary: text("Get a room"),
            ..read("rooms.get", "/v5/rooms/{uuid}")
        },
        Operation {
            access: Needs(TokenKind::Room, Admin),
            body: BodySpec::Json(BAN),
            summary: text("Ban or unban a room"),
            ..change(Method::PATCH, "rooms.update", "/v5/rooms/{uuid}")
        },
        Operation {
            access: Needs(TokenKind::Room, Writer),
            body: BodySpec::Json(SCREENSHOT),
            pace: Pace::Slow,
            summary: text("Take a screenshot of a scene"),
            ..create("screenshots.scene", "/v5/rooms/{uuid}/screenshots")
        },
        Operation {
            access: Needs(TokenKind::Room, Writer),
            body: BodySpec::Json(SCREENSHOT_LIST),
            pace: Pace::Slow,
            summary: text("Take screenshots of every scene in a directory"),
            ..create("screenshots.directory", "/v5/rooms/{uuid}/screenshot-list")
        },
        Operation {
            access: Needs(TokenKind::Room, Writer),
            query: Query::Known(SCENE_LIST),
            summary: text("List the paths of a room's scenes"),
            ..read("scenes.list", "/v5/rooms/{uuid}/scenes")
        },
        Operation {
            access: Needs(TokenKind::Room, Writer),
            body: BodySpec::Json(SCENES),
            summary: text("Add scenes to a room"),
            ..create("scenes.add", "/v5/rooms/{uuid}/scenes")
        },
        Operation {
            access: Needs(TokenKind::Room, Writer),
            body: BodySpec::Json(SCENE_STATE),
            summary: text("Switch to another scene"),
            ..change(Method::PATCH, "scenes.switch", "/v5/rooms/{uuid}/scene-state")
        },
        Operation {
            access: Needs(TokenKind::Sdk, Writer),
            body: BodySpec::Json(CONVERSION),
            summary: text("Start a file conversion"),
            ..create("conversions.start", "/v5/projector/tasks")
        },
        Operation {
            access: Needs(TokenKind::Sdk, Writer),
            summary: text("List the conversions that run or wait"),
            ..read("conversions.list", "/v5/projector/tasks")
        },
        Operation {
            access: Needs(TokenKind::Task, Reader),
            summary: text("Query a file conversion"),
            ..read("conversions.get", "/v5/projector/tasks/{uuid}")
        },
        Operation {
            // No page says which role it takes; admin is the one that cannot be too low.
            access: Needs(TokenKind::Sdk, Admin),
            summary: text("Cancel a file conversion"),
            ..change(Method::DELETE, "conversions.cancel", "/v5/projector/tasks/{uuid}")
        },
        Operation {
            access: Needs(TokenKind::Sdk, Writer),
            body: BodySpec::Json(PRIORITY),
            summary: text("Move a waiting conversion to the front or the end of the queue"),
            ..change(Method::PUT, "conversions.prioritize", "/v5/projector/tasks/{uuid}/priority")
        },
        Operation {
            access: Needs(TokenKind::Sdk, Writer),
            body: BodySpec::Json(LEGACY_CONVERSION),
            deprecated: true,
            summary: text("Start a file conversion of the deprecated kind"),
            ..create("legacy_conversions.start", "/v5/services/conversion/tasks")
        },
        Operation {
            access: Needs(TokenKind::Task, Reader),
            query: Query::Known(LEGACY_QUERY),
            deprecated: true,
            summary: text("Query a file conversion of the deprecated kind"),
            ..read("legacy_conversions.get", "/v5/services/conversion/tasks/{uuid}")
        },
    ]
});

/// What reads something.
fn read(name: &'static str, path: &'static str) -> Operation {
    change(Method::GET, name, path)
}

/// What creates something.
fn create(name: &'static str, path: &'static str) -> Operation {
    change(Method::POST, name, path)
}

/// What changes something, or does something else that a row says. Its name says which feature it
/// is of, and its path what it is about.
fn change(method: Method, name: &'static str, path: &'static str) -> Operation {
    let feature = match name.split_once('.').map_or(name, |(family, _)| family) {
        "tokens" => Feature::Tokens,
        "rooms" => Feature::Rooms,
        "screenshots" => Feature::Screenshots,
        "scenes" => Feature::Scenes,
        _ => Feature::Conversions,
    };
    let target = match path.split_once("s/{uuid}").map(|(before, _)| before.rsplit('/').next()) {
        None => TargetKind::Project,
        Some(Some("room")) => TargetKind::Room,
        Some(_) => TargetKind::Task,
    };
    Operation {
        name: text(name),
        feature,
        path: text(path),
        target,
        access: Access::Open,
        body: BodySpec::None,
        query: Query::Known(&[]),
        success: usual_success(&method),
        idempotent: method.is_idempotent(),
        method,
        pace: Pace::Quick,
        deprecated: false,
        summary: text(""),
    }
}

/// The status of success of an operation that says no other: the API answers every `POST` and
/// `PATCH` with 201. Neither of them may be sent twice (RFC 9110 §9.2.2): a second room, or a scene
/// switched back under a teacher's hands.
pub fn usual_success(method: &Method) -> StatusCode {
    match *method {
        Method::POST | Method::PATCH => StatusCode::CREATED,
        _ => StatusCode::OK,
    }
}

const fn text(text: &'static str) -> Cow<'static, str> {
    Cow::Borrowed(text)
}

// Bodies. Ranges and enums are those of the API's pages; where a page states none, the bound is
// one that no real request meets.

const LIFESPAN: &str =
    "milliseconds; 0, and what is over 4.5e15, is permanent, capped by the profile";
const ROLES: Shape = Shape::OneOf(&["admin", "writer", "reader"]);
const URL: Shape = Shape::Text { starts_with: "", longest: 16_384 };
const PATH: Shape = Shape::Text { starts_with: "/", longest: 4_096 };
const ANY_TEXT: Shape = Shape::Text { starts_with: "", longest: 4_096 };
const PIXELS: Shape = Shape::Number { min: 1.0, max: 100_000.0 };
const SCALE: Shape = Shape::Number { min: 0.1, max: 3.0 };
const CONVERSION_TYPE: Shape = Shape::OneOf(&["dynamic", "static"]);

const TOKEN: &[Field] = &[
    Field::required("lifespan", Shape::Lifespan, LIFESPAN),
    Field::required("role", ROLES, "not above the role of the profile"),
    Field::optional("ak", ANY_TEXT, "the access key that signs; one of the project's"),
];
const SDK_TOKEN: &[Field] = &[
    Field::required("lifespan", Shape::Lifespan, LIFESPAN),
    Field::required("role", ROLES, "not above the role of the profile"),
    Field::optional("accessKey", ANY_TEXT, "the access key that signs; one of the project's"),
    Field::optional("secretAccessKey", Shape::Ignored, "not needed, not read and not passed on"),
];
const ROOM: &[Field] = &[
    Field::optional("isRecord", Shape::Boolean, "record the room for playback"),
    Field::optional(
        "limit",
        Shape::Integer { min: 0, max: i32::MAX as i64 },
        "most users with writer or admin at once; 0 is unlimited",
    ),
    Field::optional("name", Shape::Text { starts_with: "", longest: 2_048 }, "of older versions"),
];
const BAN: &[Field] =
    &[Field::required("isBan", Shape::Boolean, "true removes all users and stops joins")];
const SCREENSHOT: &[Field] = &[
    Field::required("width", PIXELS, "pixels"),
    Field::required("height", PIXELS, "pixels"),
    Field::optional("path", PATH, "the scene; /init when left out"),
];
const SCREENSHOT_LIST: &[Field] = &[
    Field::required("width", PIXELS, "pixels"),
    Field::required("height", PIXELS, "pixels"),
    Field::optional("path", PATH, "the directory; the current one when left out"),
];
const SCENES: &[Field] = &[
    Field::required("path", PATH, "the directory; made if missing"),
    Field::required("scenes", Shape::Array(&Shape::Object(SCENE)), "the scenes"),
];
const SCENE: &[Field] = &[
    Field::optional(
        "name",
        Shape::Text { starts_with: "", longest: 4_096 },
        "unique in its directory",
    ),
    Field::optional("ppt", Shape::Object(PPT), "the background"),
];
const PPT: &[Field] = &[
    Field::required("src", URL, "URL of an image"),
    Field::required("width", PIXELS, "pixels"),
    Field::required("height", PIXELS, "pixels"),
];
const SCENE_STATE: &[Field] = &[Field::required("scenePath", PATH, "the scene to switch to")];
const CONVERSION: &[Field] = &[
    Field::required("resource", URL, "public URL of the source file"),
    Field::required("type", CONVERSION_TYPE, "dynamic: to a web page; static: to images"),
    Field::optional("preview", Shape::Boolean, "make previews"),
    Field::optional("scale", SCALE, "static only; 1.2 when left out"),
    Field::optional("outputFormat", Shape::OneOf(&["png", "jpg", "jpeg"]), "static only"),
    Field::optional("webhookEndpoint", URL, "URL that the service will call"),
    Field::optional("webhookRetry", Shape::Integer { min: 0, max: 10 }, "3 when left out"),
    Field::optional(
        "imageCompressionLevel",
        Shape::Integer { min: 0, max: 4 },
        "dynamic only: 0 keeps the original, 4 leaves 64 colours",
    ),
    Field::optional("buildSpa", Shape::Boolean, "true when left out"),
    Field::optional("pack", Shape::Boolean, "not documented; sent by real clients"),
    Field::optional(
        "targetStorageDriver",
        Shape::Object(&[]),
        "not documented; carries storage secrets, so this body is never logged",
    ),
];
const PRIORITY: &[Field] =
    &[Field::required("priority", Shape::OneOf(&["highest", "lowest"]), "where in the queue")];
const LEGACY_CONVERSION: &[Field] = &[
    Field::required("resource", URL, "public URL of the source file"),
    Field::required("type", CONVERSION_TYPE, "dynamic: to a web page; static: to images"),
    Field::optional("preview", Shape::Boolean, "dynamic only"),
    Field::optional("scale", SCALE, "static only; 1.2 when left out"),
    Field::optional("outputFormat", Shape::OneOf(&["png", "jpg", "jpeg", "webp"]), "static only"),
    Field::optional("pack", Shape::Boolean, "static only"),
    Field::optional("canvasVersion", Shape::Boolean, "not documented; sent by real clients"),
];

// Query parameters. Percent-encoded they stand in the head, which has 16 KiB.

const ID: Shape = Shape::Text { starts_with: "", longest: 256 };
const QUERY_PATH: Shape = Shape::Text { starts_with: "/", longest: 1_024 };

const ROOM_LIST: &[Parameter] = &[
    Parameter::optional("beginUUID", ID, "the room to begin at, itself included"),
    Parameter::optional("limit", Shape::Integer { min: 1, max: 1000 }, "100 when left out"),
];
const SCENE_LIST: &[Parameter] =
    &[Parameter::optional("sceneDir", QUERY_PATH, "the directory; the current one when left out")];
const LEGACY_QUERY: &[Parameter] =
    &[Parameter::required("type", CONVERSION_TYPE, "the type it was started with")];
