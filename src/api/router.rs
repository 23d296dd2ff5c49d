//! From a method and a path to an operation.

use std::borrow::Cow;

use http::Method;

use super::operation::{Operation, Target, TargetKind};
use super::path::decode_path;
use super::{RoomId, TABLE, TaskId, encode_segment};
use crate::failure::{Code, Failure};

/// The operations that this gateway serves: those of the table and those that the configuration
/// adds.
#[derive(Clone, Debug)]
pub struct Operations {
    rows: Vec<Operation>,
    routes: Vec<Route>,
}

/// The place of an operation in [`Operations`]: small enough to index tables of counters and
/// grants with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(u16);

impl OperationId {
    /// Any one, for tests of what keeps something by operation.
    #[cfg(test)]
    pub(crate) const fn of_test(index: u16) -> Self {
        Self(index)
    }

    /// The index, below [`Operations::len`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A request's operation, found.
#[derive(Clone, Debug)]
pub struct Matched<'a> {
    /// Its place.
    pub id: OperationId,
    /// Its row.
    pub operation: &'a Operation,
    /// What it is about.
    pub target: Target,
}

impl Matched<'_> {
    /// The path to forward: the table's form, with the id encoded.
    pub fn path(&self) -> Cow<'_, str> {
        match self.target.uuid() {
            None => Cow::Borrowed(&self.operation.path),
            Some(uuid) => {
                let template = &*self.operation.path;
                // `add` takes no other brace.
                let at = template.bytes().position(|byte| byte == b'{').unwrap_or(template.len());
                let (before, after) = template.split_at(at);
                let after = after.strip_prefix(UUID).unwrap_or_default();
                let uuid = encode_segment(uuid);
                let mut path = String::with_capacity(before.len() + uuid.len() + after.len());
                path.push_str(before);
                path.push_str(&uuid);
                path.push_str(after);
                Cow::Owned(path)
            }
        }
    }
}

/// The variable segment of a path template.
const UUID: &str = "{uuid}";

/// Why an added operation cannot be taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TableError {
    /// Two rows of that name.
    #[error("there is an operation of that name already")]
    Name,
    /// Two rows for the same method and path.
    #[error("`{0}` answers to that method and path already")]
    Route(String),
    /// A path that no request could have.
    #[error(
        "a path begins with `/`, holds letters, digits and `-._~`, has no empty or dot segments, \
         and at most one `{{uuid}}`"
    )]
    Path,
    /// A `{uuid}` that names nothing, or a target without `{uuid}`.
    #[error(
        "a path with `{{uuid}}` is about a room or a task, a path without is about the project"
    )]
    Target,
}

/// The operations of one path, by method.
#[derive(Clone, Debug)]
struct Route {
    template: Template,
    methods: Vec<(Method, OperationId)>,
}

/// The path of a route, less the slash at either end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Template {
    Fixed(Box<str>),
    /// What stands before `{uuid}` and after it.
    Variable(Box<str>, Box<str>),
}

impl Operations {
    /// The documented operations alone.
    pub fn documented() -> Self {
        let mut operations = Self { rows: Vec::new(), routes: Vec::new() };
        for row in TABLE.iter() {
            // The table's own rows collide with nothing: a test adds each of them with `?`.
            _ = operations.add(row.clone());
        }
        operations
    }

    /// Adds an operation that the table does not know.
    ///
    /// # Errors
    /// [`TableError`] when it collides with a row or its path cannot be.
    pub fn add(&mut self, row: Operation) -> Result<OperationId, TableError> {
        if self.rows.iter().any(|other| other.name == row.name) {
            return Err(TableError::Name);
        }
        let template = Template::of(&row)?;
        let id = OperationId(u16::try_from(self.rows.len()).map_err(|_| TableError::Name)?);
        match self.routes.iter_mut().find(|route| route.template == template) {
            None => {
                // A fixed path comes before one in which its last word could be an id.
                let fixed = matches!(template, Template::Fixed(_));
                let place = if fixed { 0 } else { self.routes.len() };
                let route = Route { template, methods: vec![(row.method.clone(), id)] };
                self.routes.insert(place, route);
            }
            Some(route) => {
                if let Some((_, taken)) = route.methods.iter().find(|(m, _)| *m == row.method) {
                    return Err(TableError::Route(self.rows[taken.index()].name.to_string()));
                }
                route.methods.push((row.method.clone(), id));
            }
        }
        self.rows.push(row);
        Ok(id)
    }

    /// Finds the operation of a request.
    ///
    /// # Errors
    /// `malformed_request` for a path that has no normal form, `not_found` for one that no
    /// operation has, `method_not_allowed` (with `Allow`) for a method that this path does not take.
    pub fn find(&self, method: &Method, path: &str) -> Result<Matched<'_>, Failure> {
        let path = decode_path(path)?;
        let (route, uuid) = self.route(&path)?;
        let Some((_, id)) = route.methods.iter().find(|(taken, _)| taken == method) else {
            let allow = route.methods();
            return Err(match self.meant(route, method) {
                None => Failure::method_not_allowed(&allow),
                Some(path) => Failure::method_not_allowed(&allow)
                    .saying(format!("this path takes {allow}; {method} is for {path}")),
            });
        };
        let operation = &self.rows[id.index()];
        let target = match (operation.target, uuid) {
            (TargetKind::Room, Some(uuid)) => Target::Room(RoomId::new(uuid)?),
            (TargetKind::Task, Some(uuid)) => Target::Task(TaskId::new(uuid)?),
            _ => Target::Project,
        };
        Ok(Matched { id: *id, operation, target })
    }

    /// The methods that a path takes, with commas between, as headers list them.
    ///
    /// # Errors
    /// `malformed_request` and `not_found`, as for [`Operations::find`].
    pub fn methods(&self, path: &str) -> Result<String, Failure> {
        Ok(self.route(&decode_path(path)?)?.0.methods())
    }

    /// The route of a decoded path, and the segment that stands for `{uuid}`.
    fn route<'a>(&self, path: &'a str) -> Result<(&Route, Option<&'a str>), Failure> {
        let found =
            self.routes.iter().find_map(|route| Some((route, route.template.matches(path)?)));
        let why = if path == "v5" || path.starts_with("v5/") {
            "no operation of the whiteboard API has this path; paths are case-sensitive"
        } else {
            "no operation of the whiteboard API has this path: paths begin with /v5"
        };
        found.ok_or_else(|| Failure::fixed(Code::NotFound, why))
    }

    /// The path below that of a route which takes this method, if there is one: where the request
    /// was meant to go.
    fn meant(&self, route: &Route, method: &Method) -> Option<&str> {
        let below = |other: &&Operation| {
            let rest = match (&route.template, Template::of(other).ok()?) {
                (Template::Fixed(fixed), Template::Fixed(path)) => {
                    path.strip_prefix(&**fixed)?.len()
                }
                (Template::Variable(before, after), Template::Variable(start, end))
                    if *before == start =>
                {
                    end.strip_prefix(&**after)?.len()
                }
                _ => 0,
            };
            (rest > 0 && other.method == *method).then_some(())
        };
        let found = self.rows.iter().find(|other| below(other).is_some());
        found.map(|operation| &*operation.path)
    }

    /// Every operation, in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (OperationId, &Operation)> {
        // `add` keeps the number of rows within u16.
        #[allow(clippy::cast_possible_truncation, reason = "add() bounds the number of rows")]
        self.rows.iter().enumerate().map(|(index, row)| (OperationId(index as u16), row))
    }

    /// The row of an id.
    pub fn get(&self, id: OperationId) -> &Operation {
        &self.rows[id.index()]
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none; there are always some.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Route {
    fn methods(&self) -> String {
        let methods: Vec<&str> = self.methods.iter().map(|(taken, _)| taken.as_str()).collect();
        methods.join(", ")
    }
}

impl Template {
    fn of(row: &Operation) -> Result<Self, TableError> {
        let variables = row.path.matches(UUID).count();
        let plain = row.path.replacen(UUID, "x", 1);
        let decoded = decode_path(&plain).map_err(|_| TableError::Path)?;
        if variables > 1 || decoded.is_empty() {
            return Err(TableError::Path);
        }
        if (variables == 1) == (row.target == TargetKind::Project) {
            return Err(TableError::Target);
        }
        let path = row.path.strip_prefix('/').unwrap_or(&row.path);
        let path = path.strip_suffix('/').unwrap_or(path);
        // A segment that is not in normal form would be compared with one that is.
        let normal = |segment: &str| segment == UUID || encode_segment(segment) == segment;
        if !path.split('/').all(normal) {
            return Err(TableError::Path);
        }
        Ok(match path.split_once(UUID) {
            None => Self::Fixed(path.into()),
            Some((before, after)) => Self::Variable(before.into(), after.into()),
        })
    }

    /// Whether a decoded path is of this form, and then the segment that stands for `{uuid}`.
    fn matches<'a>(&self, path: &'a str) -> Option<Option<&'a str>> {
        match self {
            Self::Fixed(fixed) => (**fixed == *path).then_some(None),
            // From the end: all paths begin alike.
            Self::Variable(before, after) => {
                let uuid = path.strip_suffix(&**after)?.strip_prefix(&**before)?;
                (!uuid.is_empty() && !uuid.as_bytes().contains(&b'/')).then_some(Some(uuid))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &str, path: &str) -> Result<(String, Option<String>, String), String> {
        let operations = Operations::documented();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let matched = operations.find(&method, path).map_err(|f| f.code().name().to_owned())?;
        Ok((
            matched.operation.name.to_string(),
            matched.target.uuid().map(str::to_owned),
            matched.path().into_owned(),
        ))
    }

    #[test]
    fn every_row_is_found_by_its_own_method_and_path() {
        let mut operations = Operations { rows: Vec::new(), routes: Vec::new() };
        for row in TABLE.iter() {
            operations.add(row.clone()).unwrap();
        }
        for row in TABLE.iter() {
            let path = row.path.replace("{uuid}", "d07bcaf0a17911ea9d7e23232cddf42d");
            let matched = operations.find(&row.method, &path).unwrap();
            assert_eq!(matched.operation.name, row.name);
            assert_eq!(matched.path(), path);
            let slash = format!("{path}/");
            assert_eq!(operations.find(&row.method, &slash).unwrap().path(), path);
        }
    }

    #[test]
    fn a_path_is_forwarded_in_the_form_in_which_it_was_matched() {
        let (name, uuid, path) = find("GET", "/v5/%72ooms/%41b%2c%20c").unwrap();
        assert_eq!((name.as_str(), uuid.as_deref()), ("rooms.get", Some("Ab, c")));
        assert_eq!(path, "/v5/rooms/Ab%2C%20c");
    }

    #[test]
    fn an_id_may_look_like_something_else() {
        for (path, id) in [
            ("/v5/rooms/.a", ".a"),
            ("/v5/rooms/%2Ea", ".a"),
            ("/v5/rooms/a.", "a."),
            ("/v5/rooms/scenes", "scenes"),
            ("/v5/rooms/rooms/", "rooms"),
        ] {
            let (name, uuid, _) = find("GET", path).unwrap();
            assert_eq!((name.as_str(), uuid.as_deref()), ("rooms.get", Some(id)), "{path}");
        }
        let (name, uuid, _) = find("GET", "/v5/rooms/scenes/scenes").unwrap();
        assert_eq!((name.as_str(), uuid.as_deref()), ("scenes.list", Some("scenes")));
    }

    #[test]
    fn what_two_servers_could_read_differently_is_refused() {
        for path in [
            "/v5/rooms/a%2Fb",
            "/v5/rooms/a%2fb",
            "/v5/rooms/a%5Cb",
            "/v5/rooms/%00",
            "/v5//rooms",
            "/v5/rooms//",
            "/v5/./rooms",
            "/v5/rooms/..",
            "/v5/rooms/%2e%2e",
            "/v5/rooms/%2E",
            "/v5/rooms/%",
            "/v5/rooms/%zz",
            "/v5/rooms/%f",
            "/v5/rooms/%ff",
            "v5/rooms",
            "*",
            "//",
            "/v5/rooms/%0d%0a",
            "/v5/rooms/a\\b",
        ] {
            assert_eq!(find("GET", path), Err("malformed_request".to_owned()), "{path}");
        }
    }

    #[test]
    fn paths_are_case_sensitive_and_closed() {
        for path in
            ["/v5/Rooms", "/V5/rooms", "/v5", "/v5/rooms/a/b", "/v5/users", "/v6/rooms", "/"]
        {
            assert_eq!(find("GET", path), Err("not_found".to_owned()), "{path}");
        }
        for (method, path) in [
            ("DELETE", "/v5/rooms/a"),
            ("HEAD", "/v5/rooms"),
            ("OPTIONS", "/v5/rooms"),
            ("get", "/v5/rooms"),
        ] {
            assert_eq!(find(method, path), Err("method_not_allowed".to_owned()), "{method}");
        }
    }

    #[test]
    fn the_methods_of_a_path_are_those_of_its_rows() {
        let operations = Operations::documented();
        for (path, methods) in [
            ("/v5/rooms", "POST, GET"),
            ("/v5/rooms/a/", "GET, PATCH"),
            ("/v5/tokens/rooms/a", "POST"),
        ] {
            assert_eq!(operations.methods(path).ok().as_deref(), Some(methods), "{path}");
        }
        assert_eq!(operations.methods("/v5").unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn an_added_operation_collides_with_none() {
        let mut operations = Operations::documented();
        let row = |name: &'static str, path: &'static str, target| Operation {
            name: name.into(),
            path: path.into(),
            target,
            ..TABLE[5].clone()
        };
        let export = row("scenes.export", "/v5/rooms/{uuid}/scenes-export/", TargetKind::Room);
        operations.add(export.clone()).unwrap();
        let matched = operations.find(&Method::GET, "/v5/rooms/a/scenes-export").unwrap();
        assert_eq!(matched.path(), "/v5/rooms/a/scenes-export/", "the table's form is forwarded");
        let all = operations.add(row("rooms.all", "/v5/rooms/all", TargetKind::Project)).unwrap();
        assert_eq!(operations.find(&Method::GET, "/v5/rooms/all").unwrap().id, all, "no id is all");
        assert_eq!(operations.add(export), Err(TableError::Name));
        for (name, path, target, why) in [
            ("a", "/v5/rooms/{uuid}", TargetKind::Room, TableError::Route("rooms.get".into())),
            ("a", "/v5/x/{uuid}", TargetKind::Project, TableError::Target),
            ("a", "/v5/x", TargetKind::Room, TableError::Target),
            ("a", "/v5/{uuid}/{uuid}", TargetKind::Room, TableError::Path),
            ("a", "/v5/x{uuid}", TargetKind::Room, TableError::Path),
            ("a", "/v5/{id}", TargetKind::Project, TableError::Path),
            ("a", "v5/x", TargetKind::Project, TableError::Path),
            ("a", "/v5/a%20b", TargetKind::Project, TableError::Path),
            ("a", "/v5/x?y", TargetKind::Project, TableError::Path),
            ("a", "/v5/ü", TargetKind::Project, TableError::Path),
        ] {
            assert_eq!(operations.add(row(name, path, target)), Err(why), "{path}");
        }
    }
}
