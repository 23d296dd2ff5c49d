//! What must hold of each request: the decision is the oracle's, a token that is given is within what
//! its caller has, and a token that is shown is the row of the table and no more.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use whiteboard_gateway::api::{self, Lifespan, Object, TokenKind, TokenRequest};
use whiteboard_gateway::gateway::Snapshot;

use crate::ask::{Named, PathIs, Request, Seen};
use crate::fixture::{NOW, NOW_MS};
use crate::gateway::Answer;
use crate::oracle::{
    Asked, Decision, FORBIDDEN, Kind, Life, PERMANENT, Profile, Read, Role, SHOWN_FOR, Token,
    UNKNOWN, base64url, decide, minted, read,
};
use crate::upstream::{Came, Opens, asked_for, fails, find, opens, success};
use crate::world::{CONSOLE, Project, World, end, secret};

/// What is known of the requests of one configuration so far.
#[derive(Default)]
pub(crate) struct Checked {
    /// What was wrong.
    pub(crate) broken: Vec<String>,
    /// Each time that more was shown than the row says, by the reason for it.
    pub(crate) exceptions: BTreeMap<&'static str, u32>,
    pub(crate) seen: Seen,
    /// Rooms of a project that an SDK token has opened instead of a Room token.
    fallen_back: BTreeSet<(usize, String)>,
}

/// One request, and all that is known of it.
struct Case<'a> {
    world: &'a World,
    request: &'a Request,
    answer: &'a Answer,
    came: &'a [Came],
    checked: &'a mut Checked,
}

/// What must come of a request.
pub(crate) fn expected(world: &World, request: &Request) -> Decision {
    match &request.credential.person {
        Err((status, code)) => Decision::Refused(*status, code),
        Ok(_) if request.path_is == PathIs::Malformed => {
            Decision::Refused(400, "malformed_request")
        }
        Ok(_) if request.path_is == PathIs::Unknown => UNKNOWN,
        Ok(person) => {
            let Request { operation, uuid, asked, .. } = request;
            decide(&world.profiles, person, operation, uuid, asked)
        }
    }
}

/// Keeps the token that a caller got.
pub(crate) fn given(answer: &Answer, checked: &mut Checked) {
    let token: Option<String> = serde_json::from_str(&answer.body).ok();
    checked.seen.given.extend(token.filter(|_| answer.status == 201));
}

/// Compares what came of a request with what must.
pub(crate) fn check(
    world: &World,
    snapshot: &Snapshot,
    request: &Request,
    answer: &Answer,
    came: &[Came],
    checked: &mut Checked,
) {
    let decision = expected(world, request);
    let mut case = Case { world, request, answer, came, checked };
    case.explained(snapshot, decision);
    let must = Case::must;
    case.hides_what_was_shown();
    if !matches!(decision, Decision::Refused(..)) {
        case.is_for_one_caller();
    }
    match decision {
        Decision::Refused(status, code) => {
            must(&mut case, came.is_empty(), "what is refused is shown to the service");
            let says = case.answer.code();
            let right = case.answer.status == status && says.as_deref() == Some(code);
            must(&mut case, right, &format!("it must be refused with {status} {code}"));
            let kept = case.answer.fields("cache-control") == ["no-store"];
            must(&mut case, kept, "a refusal may be kept by caches");
        }
        Decision::Given(role, life) => case.given(role, life),
        Decision::Passed { named } => {
            let (status, code) = case.outcome();
            let right = case.answer.status == status && case.answer.code().as_deref() == code;
            must(&mut case, right, &format!("it must be passed on, with {status} in the end"));
            must(&mut case, !came.is_empty(), "it never came to the service");
            for index in 0..came.len() {
                case.shown(index, named);
            }
        }
    }
}

impl Answer {
    fn code(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        body.get("code")?.as_str().map(str::to_owned)
    }

    /// The values of a field.
    fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(field, _)| *field == name).map(|(_, value)| value.trim()).collect()
    }
}

impl Case<'_> {
    fn is_broken(&mut self, what: &str) {
        let Self { request, answer, came, .. } = self;
        let shown = came.iter().map(|came| {
            let token = came.shown.as_ref().map(|(_, token)| token.as_ref());
            let says = match token {
                None => "no token".to_owned(),
                Some(None) => "what is no token".to_owned(),
                Some(Some(token)) => format!("{:?} {:?} {:?}", token.kind, token.role, token.uuid),
            };
            format!("{} {} with {says}, taken: {}", came.method, came.path, came.taken)
        });
        let Request { credential, operation, path, body, .. } = request;
        let lines = [
            what.to_owned(),
            format!("asked: {} {path} {body}, which is {}", operation.method, operation.name),
            format!("by: {:?}, {:?}", credential.class, credential.person),
            format!("answered: {} {}", answer.status, answer.body),
            format!("shown: {:#?}", shown.collect::<Vec<_>>()),
        ];
        self.checked.broken.push(lines.join("\n    "));
    }

    fn must(&mut self, holds: bool, what: &str) {
        if !holds {
            self.is_broken(what);
        }
    }

    /// Nothing that the service was shown can be made out in the answer.
    fn hides_what_was_shown(&mut self) {
        let body = serde_json::from_str::<serde_json::Value>(&self.answer.body);
        let mut plain = body.map_or_else(|_| self.answer.body.clone(), |body| body.to_string());
        for _ in 0..3 {
            plain = percent_encoding::percent_decode_str(&plain).decode_utf8_lossy().into_owned();
        }
        let plain = plain.to_lowercase();
        let seen = self.came.iter().filter_map(|came| came.shown.as_ref()).any(|(token, _)| {
            let payload = token.split_once('_').map_or("", |(_, payload)| payload);
            let decoded = base64url(payload).and_then(|text| String::from_utf8(text).ok());
            let fields = decoded.as_deref().unwrap_or_default().split('&');
            let mut signature = fields.filter_map(|pair| pair.strip_prefix("sig="));
            plain.contains(&payload.to_lowercase())
                || signature.any(|signature| plain.contains(signature))
        });
        self.must(!seen, "a token that the service was shown comes back");
    }

    /// No cache may give the answer to anyone else.
    fn is_for_one_caller(&mut self) {
        let kept = self.answer.fields("cache-control");
        let right = matches!(kept[..], ["private" | "private, no-cache" | "no-store"]);
        let varies = self.answer.fields("vary").join(",").to_ascii_lowercase();
        let names = ["authorization", "token", "x-api-key"];
        let all = names.iter().all(|name| varies.split(',').any(|one| one.trim() == *name));
        let failed = self.answer.status >= 400 && kept == ["no-store"];
        self.must(failed || right && all, "caches may give the answer to somebody else");
    }

    fn profile(&self) -> &Profile {
        let person = self.request.credential.person.as_ref().expect("somebody who was granted it");
        &self.world.profiles[person.profile.expect("and has a profile")]
    }

    fn project(&self) -> &Project {
        &self.world.projects[self.profile().project]
    }

    /// A token that a caller gets is what it asked for, within what it has.
    fn given(&mut self, role: Role, life: Life) {
        let Token::Gives(kind) = self.request.operation.token else { unreachable!() };
        let (project, asked) = (self.project(), &self.request.asked);
        let by_service = project.sdk_token.is_some();
        let signers: Vec<String> = project.active().map(str::to_owned).collect();
        let secret = |access_key: &str| {
            let signs = signers.iter().any(|one| one == access_key);
            (signs || by_service && access_key == CONSOLE).then(|| secret(access_key))
        };
        let token: Option<String> = serde_json::from_str(&self.answer.body).ok();
        let uuid = (kind != Kind::Sdk).then(|| self.request.uuid.clone());
        let right = token.as_ref().and_then(|token| read(token, secret)).is_some_and(|token| {
            let key = asked.access_key.as_ref().is_none_or(|(name, _)| *name == token.access_key);
            let nonce = minted(&token.nonce).is_none_or(|says| says == (kind, NOW as u32));
            nonce
                && (token.kind, token.role, token.end) == (kind, role, end(life))
                && token.uuid == uuid
                && key
        });
        let clamped = role < asked.role || life < asked.life;
        let says = self.answer.head.contains("\nwhiteboard-granted:");
        self.must(self.answer.status == 201 && right, "it must be given this token");
        self.must(says == clamped, "whoever gets less than it asked for is told so");
        if by_service {
            self.must(self.came.len() == 1, "the service must be asked for the token, once");
            let lifespan = if life == PERMANENT { 0 } else { life };
            let same = self.came.iter().all(|came| asked_for(&came.body) == (Some(role), lifespan));
            self.must(same, "the service is asked for more or less than is granted");
            (0..self.came.len()).for_each(|index| self.shown(index, false));
        } else {
            self.must(self.came.is_empty(), "the service is asked for a token that we can mint");
            self.checked.seen.given.extend(token);
        }
    }

    /// What the service is shown is the row of the operation.
    fn shown(&mut self, index: usize, named: bool) {
        let came = &self.came[index];
        let Request { operation, uuid, credential, .. } = self.request;
        let at = find(std::slice::from_ref(operation), &came.method, &came.path);
        let same = at.is_some_and(|(_, at)| at == *uuid);
        let leaks = credential.text.as_ref().is_some_and(|text| {
            came.head.contains(text.as_str()) || came.body.contains(text.as_str())
        });
        let names = ["\nauthorization:", "\nx-api-key:", "\ncookie:"];
        let foreign = names.iter().any(|name| came.head.contains(name));
        self.must(same, "another operation or another uuid came to the service");
        self.must(!leaks && !foreign, "the credential of a caller came to the service");
        let (kind, least) = match operation.token {
            Token::ShowsNone => {
                return self.must(came.shown.is_none(), "a token is shown where none is needed");
            }
            Token::Shows(kind, least) => (kind, least),
            Token::Gives(_) => (Kind::Sdk, Role::Reader),
        };
        let Some((text, token)) = &came.shown else {
            return self.is_broken("no token is shown");
        };
        if let Some(fixed) = &self.project().sdk_token {
            let right = fixed == text;
            self.count("an SDK token of a project that has nothing else");
            return self.must(right, "not the SDK token of the project is shown");
        }
        let Some(token) = token else { return self.is_broken("what is shown is no token") };
        let signs = self.project().active().any(|key| key == token.access_key);
        let least = token.role == least && token.end == NOW_MS + SHOWN_FOR;
        self.must(signs && least, "not the least token that lives ten minutes is shown");
        let own = (kind != Kind::Sdk).then(|| uuid.clone());
        if token.kind == kind {
            self.must(token.uuid == own, "the token is that of another room or task");
            let narrow = credential.person.as_ref().is_ok_and(|one| one.is_narrow(self.profile()));
            if kind == Kind::Sdk && narrow {
                self.count("an SDK token for an operation that a narrow caller's `allow` names");
                self.must(named, "an SDK token for a narrow caller whose `allow` has the family");
            }
        } else {
            let allowed = kind == Kind::Room && self.falls_back(index, token);
            self.count("an SDK token for a room that no Room token opens");
            self.must(allowed, "a token of another kind than the row's is shown");
        }
    }

    /// Whether an SDK token may replace a Room token: for a real uuid, after the
    /// service has taken no Room token for it.
    fn falls_back(&mut self, index: usize, token: &Read) -> bool {
        let key = (self.profile().project, self.request.uuid.clone());
        let before = &self.came[..index];
        let refused = !before.is_empty() && before.iter().all(|came| !came.taken);
        let known = self.checked.fallen_back.contains(&key);
        if self.came[index].taken {
            self.checked.fallen_back.insert(key);
        }
        let may = is_uuid(&self.request.uuid) && self.may_fall_back();
        token.kind == Kind::Sdk && may && (refused || known)
    }

    /// An added operation is unread, so whoever is narrow has it by an SDK token only by its name.
    fn may_fall_back(&self) -> bool {
        let Request { operation, credential, .. } = self.request;
        let narrow = credential.person.as_ref().is_ok_and(|one| one.is_narrow(self.profile()));
        let named = self.profile().allow.iter().any(|entry| entry == operation.name);
        !operation.added || !narrow || named
    }

    /// The status of a request that is passed on, and the code where that is a failure.
    fn outcome(&self) -> (u16, Option<&'static str>) {
        let Request { operation, uuid, .. } = self.request;
        let room = matches!(operation.token, Token::Shows(Kind::Room, _));
        let falls_back = is_uuid(uuid) && self.may_fall_back();
        let taken = match opens(uuid) {
            _ if !room || self.project().sdk_token.is_some() => true,
            Opens::Every => true,
            Opens::OfTheSecondKey if self.project().active().any(|key| key.ends_with("-1")) => true,
            Opens::OfTheSecondKey | Opens::SdkAlone => falls_back,
        };
        match taken {
            false => (500, Some("upstream_credential")),
            true if fails(operation, uuid) => (400, Some("upstream_refused")),
            true => (success(operation), None),
        }
    }

    fn count(&mut self, exception: &'static str) {
        *self.checked.exceptions.entry(exception).or_default() += 1;
    }

    /// `policy explain` says what the gateway does: by the functions behind the command.
    fn explained(&mut self, snapshot: &Snapshot, decision: Decision) {
        let caller = match &self.request.credential.named {
            Named::Nobody => return,
            Named::Caller(name) => snapshot.callers.of_name(name),
            Named::Claims(issuer, claims) => {
                let place = snapshot.callers.issuers.place(issuer).expect("an issuer");
                match snapshot.callers.of_claims(place, &Object::from(claims)) {
                    Ok(caller) => Some(caller.into()),
                    Err(_) => {
                        let refused = decision == FORBIDDEN;
                        return self.must(refused, "`policy explain` refuses these claims");
                    }
                }
            }
        };
        let Some(caller) = caller else {
            return self.is_broken("`policy explain` knows no such caller");
        };
        let Ok(person) = &self.request.credential.person else {
            // That a key's time is over is not asked of a name.
            let by_name = matches!(self.request.credential.named, Named::Caller(_));
            return self.must(by_name, "`policy explain` takes claims that must be refused");
        };
        let Request { operation, path, uuid, asked, path_is, .. } = self.request;
        let method = Method::from_bytes(operation.method.as_bytes()).expect("a method");
        let path = path.split('?').next().unwrap_or_default();
        let Ok(matched) = snapshot.describes().operations.find(&method, path) else {
            let unknown = *path_is != PathIs::Right;
            return self.must(unknown, "`policy explain` knows no such operation");
        };
        let reasons = snapshot.policy.explain(&caller.rights, &matched);
        let (entries, rest): (Vec<_>, Vec<_>) =
            reasons.iter().partition(|reason| reason.rule.contains(".allow"));
        let passes = entries.iter().any(|one| one.holds) && rest.iter().all(|one| one.holds);
        let permit = snapshot.policy.authorize(&caller.rights, &matched);
        let told = match (permit, operation.token) {
            (Err(failure), _) => {
                let status = if failure.code().name() == "not_found" { 404 } else { 403 };
                Decision::Refused(status, failure.code().name())
            }
            (Ok(permit), Token::Gives(kind)) => match permit.grant(&token_request(kind, asked)) {
                Err(failure) => Decision::Refused(403, failure.code().name()),
                Ok(grant) => {
                    Decision::Given(role_of(grant.request.role), life_of(grant.request.lifespan))
                }
            },
            (Ok(_), _) => Decision::Passed { named: false },
        };
        // Which keys there are is no policy's business.
        let asked = Asked { access_key: None, ..asked.clone() };
        let must = decide(&self.world.profiles, person, operation, uuid, &asked);
        let must = match must {
            Decision::Passed { .. } => Decision::Passed { named: false },
            other => other,
        };
        self.must(told == must, &format!("`policy explain` says {told:?}, and {must:?} is right"));
        if !matches!(operation.token, Token::Gives(_)) {
            let right = passes == (must == Decision::Passed { named: false });
            self.must(right, &format!("`policy explain` gives these reasons: {reasons:#?}"));
        }
    }
}

/// 32 hex digits, or 8-4-4-4-12 of them.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    let digits = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    digits && (parts == [32] || parts == [8, 4, 4, 4, 12])
}

fn token_request(kind: Kind, asked: &Asked) -> TokenRequest {
    let kind = match kind {
        Kind::Sdk => TokenKind::Sdk,
        Kind::Room => TokenKind::Room,
        Kind::Task => TokenKind::Task,
    };
    let role = match asked.role {
        Role::Reader => api::Role::Reader,
        Role::Writer => api::Role::Writer,
        Role::Admin => api::Role::Admin,
    };
    let wire = if asked.life == PERMANENT { 0 } else { asked.life };
    TokenRequest { kind, role, lifespan: Lifespan::from_wire(wire), access_key: None }
}

fn role_of(role: api::Role) -> Role {
    match role {
        api::Role::Reader => Role::Reader,
        api::Role::Writer => Role::Writer,
        api::Role::Admin => Role::Admin,
    }
}

fn life_of(lifespan: Lifespan) -> Life {
    match lifespan.to_wire() {
        0 => PERMANENT,
        millis => millis,
    }
}
