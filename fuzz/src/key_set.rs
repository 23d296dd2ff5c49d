//! Key sets of identity providers: no document makes the reader fail, and what is wrong with one
//! is told in a bounded sentence.
//!
//! An input is a JWK Set or a public key in PEM form.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use whiteboard_gateway::caller::jwt::{IssuerSettings, Issuers, KeySource};

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("fuzz-key-set-{}", std::process::id())));

/// One input.
pub fn run(document: &[u8]) {
    fs::write(&*FILE, document).expect("the file is written");
    let (issuer, audience) = ("https://id.example".to_owned(), vec!["whiteboard".to_owned()]);
    let keys = KeySource::File(FILE.clone());
    let settings = IssuerSettings::new("school".to_owned(), issuer, audience, keys);
    match Issuers::new(vec![settings]) {
        Ok(issuers) => assert_eq!(issuers.status().count(), 1),
        Err(why) => {
            let why = why.to_string();
            assert!(why.len() <= 1024 && !why.contains(char::is_control), "{why:?}");
        }
    }
}
