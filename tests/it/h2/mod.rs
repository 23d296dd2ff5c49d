//! HTTP/2, frame by frame: what RFC 9113 and RFC 7541 say of each frame that is in order and of
//! each that is not, and what becomes of peers that mean harm.

mod case;
mod floods;
mod frames;
mod headers;
mod streams;

use std::fs;

use crate::support::{Process, Setup, Upstream};
use case::Case;

/// A gateway in front of a service that answers at once.
fn gateway() -> Process {
    Setup::new(&Upstream::json("200 OK", "[]").url()).start()
}

/// Holds the product to each case, and to the exceptions that the page has.
fn hold(cases: &[Case]) {
    let gateway = gateway();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http2.md")).unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let seen = case.run(gateway.address);
        let listed = page.contains(&format!("| {} | {} |", case.section, case.name));
        match &case.instead {
            None if case.allowed.contains(&seen) && !listed => {}
            Some(instead) if (*instead == seen || seen == case::Seen::Closed) && listed => {}
            _ => wrong.push(format!(
                "{}, {}: {seen:?} instead of {:?}, exception {:?}, on the page {listed}",
                case.section, case.name, case.allowed, case.instead
            )),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let answer = gateway.call("GET", "/v5/rooms", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn connections_and_frames_are_as_the_rfc_has_them() {
    let cases = frames::cases();
    assert!(cases.len() >= 50, "{} cases", cases.len());
    hold(&cases);
}

#[test]
fn streams_and_flow_control_are_as_the_rfc_has_them() {
    let cases = streams::cases();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    hold(&cases);
}

#[test]
fn header_blocks_and_messages_are_as_the_rfcs_have_them() {
    let cases = headers::cases();
    assert!(cases.len() >= 45, "{} cases", cases.len());
    hold(&cases);
}
