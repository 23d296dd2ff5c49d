//! From a method and a path to an operation: what is found is found again by the path that is
//! forwarded, and that path means one thing to every server.
//!
//! An input is `METHOD PATH`, and in a second line the path of an operation to add, if any.

use std::sync::LazyLock;

use super::assert_presentable;
use http::Method;
use whiteboard_gateway::api::{Operation, OperationId, Operations, TABLE, TargetKind};

static DOCUMENTED: LazyLock<Operations> = LazyLock::new(Operations::documented);

/// One input.
pub fn run(input: &str) {
    let (request, added) = input.split_once('\n').unwrap_or((input, ""));
    let (method, path) = request.split_once(' ').unwrap_or(("GET", request));
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    if added.is_empty() {
        find(&DOCUMENTED, &method, path);
        return;
    }
    let mut operations = DOCUMENTED.clone();
    if let Ok(id) = add(&mut operations, added) {
        let own = added.replacen("{uuid}", "d07bcaf0a17911ea9d7e23232cddf42d", 1);
        let matched = operations.find(&Method::GET, &own).expect("an added path is found");
        assert_eq!(matched.id, id, "{own} is found as {}", matched.operation.path);
    }
    find(&operations, &method, path);
}

fn add(operations: &mut Operations, path: &str) -> Result<OperationId, ()> {
    let target = if path.contains("{uuid}") { TargetKind::Room } else { TargetKind::Project };
    let row = Operation {
        name: "added".into(),
        path: path.to_owned().into(),
        method: Method::GET,
        target,
        ..TABLE[4].clone()
    };
    operations.add(row).map_err(|why| assert!(!why.to_string().is_empty()))
}

fn find(operations: &Operations, method: &Method, path: &str) {
    let matched = match operations.find(method, path) {
        Ok(matched) => matched,
        Err(failure) => return assert_presentable(&failure),
    };
    assert_eq!(matched.operation.method, *method, "methods are case-sensitive");
    let forwarded = matched.path();
    assert_plain(&forwarded);
    let again = operations.find(method, &forwarded).expect("what is forwarded is found");
    assert_eq!(again.id, matched.id, "{path} is forwarded as {forwarded}");
    assert_eq!(again.target, matched.target, "{path} is forwarded as {forwarded}");
    assert_eq!(again.path(), forwarded);
    assert!(matched.target.uuid().is_none_or(|uuid| (1..=256).contains(&uuid.len())));
}

/// One reading only: no dot segment or empty one, no encoded slash, nothing unprintable.
fn assert_plain(path: &str) {
    let inside = path.strip_prefix('/').expect("a path begins with a slash");
    let inside = inside.strip_suffix('/').unwrap_or(inside);
    let lower = inside.to_ascii_lowercase();
    for part in ["%2f", "%5c", "%00", "%2e", "\\", "//", "?", "#"] {
        assert!(!lower.contains(part), "{part} in {path}");
    }
    assert!(inside.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{path}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path:?}");
}
