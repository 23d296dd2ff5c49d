//! The path of a claim: which one a configuration means. What stands there, `caller` reads.

use std::fmt;

/// A claim by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimPath {
    /// `roles`, or `realm_access.roles`: a claim of this whole name, or a member of a member. A
    /// token that has both, and says different things there, is refused.
    Dotted(Box<str>),
    /// The names one by one, which may hold dots themselves: `["resource_access",
    /// "app.example.org", "roles"]` is that member of a member, and nothing else.
    Names(Box<[Box<str>]>),
    /// The names of the members of the object there, as Zitadel writes roles: `{"teacher": {…}}`.
    KeysOf(Box<Self>),
}

impl ClaimPath {
    /// The bytes of the heap that it takes, about.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Dotted(text) => text.len(),
            Self::KeysOf(path) => size_of_val(&**path) + path.heap_bytes(),
            Self::Names(names) => names.iter().map(|name| name.len() + size_of_val(name)).sum(),
        }
    }
}

impl From<&str> for ClaimPath {
    fn from(text: &str) -> Self {
        Self::Dotted(text.into())
    }
}

/// As messages name it.
impl fmt::Display for ClaimPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dotted(text) => out.write_str(text),
            Self::Names(names) => write!(out, "{names:?}"),
            Self::KeysOf(path) => path.fmt(out),
        }
    }
}
