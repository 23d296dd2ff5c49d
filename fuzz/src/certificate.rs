//! Client certificates and those of authorities: none makes the reader fail, and every name that is
//! read is one that a configuration can hold.
//!
//! An input is DER.

use whiteboard_gateway::certificate::{IssuableNames, Kind, Name, Names};

/// One input.
pub fn run(der: &[u8]) {
    let reach = IssuableNames::read(der);
    let Ok(names) = Names::read(der) else { return };
    let mut count = 0;
    for name in names.iter() {
        let text = name.as_str();
        let written = match name.kind() {
            Kind::Spiffe => Name::spiffe(text),
            Kind::Dns => Name::dns(text),
            Kind::Subject => Name::subject(text),
        };
        _ = reach.covers(name);
        assert_eq!(written.as_ref(), Ok(name), "a caller can be given this name");
        count += 1;
    }
    assert!(count <= 65, "{count} names");
}
