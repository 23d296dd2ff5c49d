//! The whiteboard service: it looks into each token that it is shown, takes it or not as the service
//! would, and writes down what came.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::spawn_local;
use whiteboard_gateway::upstream::{Dial, Dialled, Dialling, Origin};

use crate::fixture::{NOW_MS, Signed};
use crate::gateway::{BUFFER, read_message};
use crate::oracle::{Kind, Operation, PERMANENT, Read, Role, Target, Token, base64url, read};
use crate::world::{CONSOLE, ROOMS, TASKS, secret};

thread_local! {
    static CURRENT: RefCell<Option<Rc<Service>>> = const { RefCell::new(None) };
}

/// The way from the gateway to it.
pub(crate) struct Way;

impl Dial for Way {
    fn dial(&self, _: &Origin) -> Dialling {
        let service = CURRENT.with_borrow(Clone::clone);
        Box::pin(async move {
            let service = service.ok_or(io::ErrorKind::NotConnected)?;
            let (near, far) = duplex(BUFFER);
            spawn_local(service.serve(far));
            Ok(Dialled::Http1(Box::new(near)))
        })
    }
}

/// The service of a configuration.
pub(crate) struct Service {
    operations: Vec<Operation>,
    came: RefCell<Vec<Came>>,
    /// How many answers it has given.
    answers: Cell<usize>,
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: String,
    /// The text of its token, and what that says if it is one.
    pub(crate) shown: Option<(String, Option<Read>)>,
    /// Whether the service took the token.
    pub(crate) taken: bool,
}

/// Which tokens open a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opens {
    Every,
    /// Its Room tokens are those of the second key of its project.
    OfTheSecondKey,
    /// No key of today has made it.
    SdkAlone,
}

pub(crate) fn opens(room: &str) -> Opens {
    let last = [ROOMS[2], ROOMS[4], ROOMS[5], "all"];
    match room {
        _ if room == ROOMS[1] || room == ROOMS[6] => Opens::OfTheSecondKey,
        _ if last.contains(&room) => Opens::SdkAlone,
        _ => Opens::Every,
    }
}

impl Service {
    /// That of this thread, from now on.
    pub(crate) fn begin(operations: &[Operation]) -> Rc<Self> {
        let (operations, came) = (operations.to_vec(), RefCell::default());
        let service = Rc::new(Self { operations, came, answers: Cell::default() });
        CURRENT.set(Some(Rc::clone(&service)));
        service
    }

    /// What came since this was last asked.
    pub(crate) fn take(&self) -> Vec<Came> {
        self.came.take()
    }

    async fn serve(self: Rc<Self>, mut wire: DuplexStream) {
        while let Ok((head, body)) = read_message(&mut wire).await {
            let (status, answer) = self.answer(head, body);
            let cached = CACHED[self.answers.get() % CACHED.len()];
            let text = format!(
                "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\nvary: token\r\n\
                 cache-control: {cached}\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            );
            if wire.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, head: String, body: String) -> (u16, String) {
        let mut words = head.split([' ', '\n']).map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let token = head.lines().find_map(|line| line.strip_prefix("token:"));
        let shown = token.map(|text| {
            let text = text.trim().to_owned();
            let claims = read(&text, |access_key| Some(secret(access_key)));
            (text, claims)
        });
        let claims = shown.as_ref().and_then(|(_, claims)| claims.as_ref());
        let matched = find(&self.operations, &method, &path);
        let taken = matched.as_ref().is_some_and(|(row, uuid)| takes(row, uuid, claims));
        let asked = body.clone();
        let matched = matched.map(|(row, uuid)| (row.clone(), uuid));
        self.came.borrow_mut().push(Came { method, path, head, body, shown, taken });
        match matched {
            Some((row, uuid)) if taken && fails(&row, &uuid) => (400, self.echo()),
            Some((row, uuid)) if taken && matches!(row.token, Token::Gives(_)) => {
                (success(&row), self.done(&row, &uuid, &asked))
            }
            Some((row, _)) if taken => (success(&row), self.echo()),
            _ => (401, self.echo()),
        }
    }

    /// An object that says every token that was shown for a request, each time in another way.
    fn echo(&self) -> String {
        let count = self.answers.replace(self.answers.get() + 1);
        let came = self.came.borrow();
        let shown = came.iter().filter_map(|came| came.shown.as_ref());
        let echoes = shown.enumerate().map(|(index, (token, _))| echo(token, count + index));
        let echoes = echoes.collect::<Vec<_>>().join(" and ");
        format!(r#"{{"message":"shown {echoes}","trace":["{echoes}"],"{echoes}":1}}"#)
    }

    /// Tokens are minted as they were asked for: what was asked is the gateway's concern.
    fn done(&self, row: &Operation, uuid: &str, body: &str) -> String {
        let Token::Gives(kind) = row.token else { unreachable!() };
        let (role, life) = asked_for(body);
        let token = Signed {
            kind,
            access_key: CONSOLE,
            secret: &secret(CONSOLE),
            nonce: "made by the service",
            role: role.unwrap_or(Role::Admin),
            uuid: (kind != Kind::Sdk).then_some(uuid),
            end: if life == 0 { PERMANENT } else { NOW_MS + life },
        };
        format!("{:?}", token.text())
    }
}

/// The role and the life that the body of a token operation asks for; 0 for a permanent token.
pub(crate) fn asked_for(body: &str) -> (Option<Role>, u64) {
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let role = match body["role"].as_str() {
        Some("admin") => Some(Role::Admin),
        Some("writer") => Some(Role::Writer),
        Some("reader") => Some(Role::Reader),
        _ => None,
    };
    (role, body["lifespan"].as_u64().unwrap_or(0))
}

/// Whether the service refuses what it would do otherwise.
pub(crate) fn fails(row: &Operation, uuid: &str) -> bool {
    let gives = matches!(row.token, Token::Gives(_));
    !gives && (uuid == ROOMS[8] || uuid == TASKS[3])
}

/// What it would let caches do.
const CACHED: [&str; 7] = [
    "public, max-age=60",
    "no-store",
    "private=\"x, no-store\", max-age=9",
    "max-age=\"60\", s-maxage=60",
    "NO-CACHE",
    "immutable,,public",
    "",
];

/// A token in one of the ways in which it could be written down, as it stands in JSON.
fn echo(token: &str, which: usize) -> String {
    let payload = &token[token.find('_').map_or(0, |at| at + 1)..];
    match which % 7 {
        0 => token.to_owned(),
        1 => payload.to_owned(),
        2 => token.to_lowercase(),
        3 => payload.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        4 => payload.bytes().map(|byte| format!("\\u{byte:04X}")).collect(),
        5 => String::from_utf8(base64url(payload.trim_end_matches('=')).unwrap()).unwrap(),
        _ => token.replace('_', "%255F"),
    }
}

pub(crate) fn success(row: &Operation) -> u16 {
    if row.method == "POST" || row.method == "PATCH" { 201 } else { 200 }
}

/// The operation of a request at the service, and what replaces its uuid.
pub(crate) fn find<'a>(
    operations: &'a [Operation],
    method: &str,
    path: &str,
) -> Option<(&'a Operation, String)> {
    let path = path.split('?').next().unwrap_or_default();
    let uuid_in = |row: &Operation| match row.path.split_once("{uuid}") {
        None => (row.path == path).then(String::new),
        Some((before, after)) => {
            let uuid = path.strip_prefix(before)?.strip_suffix(after)?;
            let uuid = percent_encoding::percent_decode_str(uuid).decode_utf8().ok()?;
            (!uuid.is_empty() && !uuid.contains('/')).then(|| uuid.into_owned())
        }
    };
    let mut fits = operations.iter().filter(|row| row.method == method);
    fits.find_map(|row| Some((row, uuid_in(row)?)))
}

/// Whether the service takes a token for an operation, by its own matrix.
fn takes(row: &Operation, uuid: &str, claims: Option<&Read>) -> bool {
    let (kind, least) = match row.token {
        Token::ShowsNone => return true,
        Token::Shows(kind, least) => (kind, least),
        Token::Gives(_) => (Kind::Sdk, Role::Reader),
    };
    let Some(claims) = claims.filter(|claims| claims.role >= least) else { return false };
    if claims.kind == Kind::Sdk {
        return true;
    }
    let opens = match opens(uuid) {
        _ if row.target != Target::Room => true,
        Opens::Every => true,
        Opens::OfTheSecondKey => claims.access_key.ends_with("-1"),
        Opens::SdkAlone => false,
    };
    claims.kind == kind && claims.uuid.as_deref() == Some(uuid) && opens
}
