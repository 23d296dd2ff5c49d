//! A TOML file and the environment, read into the values of sections. Knows no section.

pub(crate) mod document;
pub(crate) mod files;
pub(crate) mod location;
mod one_or_more;
pub(crate) mod reader;
pub(crate) mod report;

pub(crate) use files::Files;
pub(crate) use location::{KeyPath, Location};
pub(crate) use one_or_more::OneOrMore;
pub(crate) use reader::{
    FromTree, Node, Notation, Parse, ValueError, any_of, not_among, section, word_types,
};
pub(crate) use report::Report;
