//! Query strings: the normal form is its own normal form, and holds known parameters alone.
//!
//! An input is the query, without the `?`; every operation reads it.

use super::assert_presentable;
use whiteboard_gateway::api::{Query, Shape, TABLE};

/// One input.
pub fn run(raw: &str) {
    for operation in TABLE.iter() {
        let Query::Known(known) = operation.query else { continue };
        let normal = match operation.query.normalize(Some(raw)) {
            Ok(Some(normal)) => normal,
            Ok(None) => continue,
            Err(failure) => {
                assert_presentable(&failure);
                continue;
            }
        };
        let mut names: Vec<&str> = Vec::new();
        for pair in normal.split('&') {
            let (name, value) = pair.split_once('=').expect("every parameter has a value");
            let parameter = known.iter().find(|parameter| parameter.name == name);
            let parameter = parameter.expect("every parameter is known");
            if let Shape::Integer { min, max } = parameter.shape {
                let number: i64 = value.parse().expect("a whole number is nothing but digits");
                assert!((min..=max).contains(&number));
            }
            assert!(!names.contains(&name), "{name} stands twice");
            assert!(value.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~%".contains(&c)));
            names.push(name);
        }
        let again = operation.query.normalize(Some(&normal)).expect("the normal form is taken");
        assert_eq!(again.as_deref(), Some(&*normal), "the normal form of {raw:?}");
    }
    let opaque = Query::Opaque.normalize(Some(raw)).expect("what is passed is not looked at");
    assert_eq!(opaque.as_deref(), Some(raw));
}
