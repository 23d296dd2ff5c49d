//! One value, or a list of them.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::reader::{FromTree, Node, Notation, Parse, ValueError, any_of};
use super::report::Report;

/// One value or a list of them; in a text, with commas between.
pub(crate) struct OneOrMore<T>(pub(crate) Vec<T>);

impl<T: Parse> FromTree for OneOrMore<T> {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match node.form() {
            Notation::Text(text) => {
                let values: Result<_, _> = text.split(',').map(|one| T::text(one.trim())).collect();
                values
                    .or_else(|why: ValueError| node.refuse(&T::allowed(), &why, report).ok_or(()))
                    .map(Self)
                    .ok()
            }
            Notation::List(_) => Vec::read(node, report).map(Self),
            other => {
                node.refuse(&format!("{}, or a list of such", T::allowed()), other.found(), report)
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mut list = Vec::<T>::schema(generator);
        list.insert("minItems".to_owned(), 1.into());
        let one = T::PATTERN.trim_start_matches('^').trim_end_matches('$');
        let several = format!("^({one})\\s*(,\\s*({one})\\s*)+$");
        any_of([T::schema(generator), list, json_schema!({ "type": "string", "pattern": several })])
    }
}
