//! Names of callers with certificates, as a configuration writes them: one form each, and nothing
//! in it that could be taken for another.
//!
//! An input is a name.

use whiteboard_gateway::certificate::{InvalidNameError, Name};

/// One input.
pub fn run(text: &str) {
    for read in [Name::spiffe, Name::dns, Name::subject] {
        match read(text) {
            Ok(name) => {
                let form = name.as_str();
                assert!(!form.is_empty() && !form.contains(char::is_control), "{form:?}");
                assert_eq!(
                    read(form).as_ref(),
                    Ok(&name),
                    "{form:?} is another name than {text:?}"
                );
            }
            Err(why) => assert!(!why.to_string().is_empty()),
        }
    }
    if let Ok(name) = Name::dns(text) {
        assert!(name.as_str().eq_ignore_ascii_case(text));
        assert!(!text.contains('*'), "a wildcard names nobody");
    }
    if let Ok(name) = Name::spiffe(text) {
        assert_eq!(name.as_str(), text);
        let (_, path) = text["spiffe://".len()..].split_once('/').expect("it has a path");
        assert!(path.split('/').all(|segment| !["", ".", ".."].contains(&segment)), "{text}");
    }
    if Name::subject(text) == Err(InvalidNameError::Spiffe) {
        panic!("a subject is refused as a subject");
    }
}
