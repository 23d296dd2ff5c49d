//! What no one means to write: no text brings the gateway down, and no message tells a secret.

use proptest::prelude::*;

use super::reference::keys;
use super::*;

const PLANTED: &str = "hunter2-PLANTED";

/// Whatever is said, in errors or in warnings.
fn said(text: &str, environment: &[(&str, &str)]) -> String {
    match Project::with(text).load(environment) {
        Ok(loaded) => {
            let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
            warnings.join("\n")
        }
        Err(errors) => errors,
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_never_repeated() {
    let quoted = format!("\"{PLANTED}\"");
    let shapes = [
        quoted.clone(),
        format!("[{quoted}]"),
        format!("[[{quoted}]]"),
        format!("{{ a = {quoted} }}"),
        format!("{{ env = {quoted} }}"),
        format!("{{ file = {quoted} }}"),
        format!("[{{ a = {quoted} }}]"),
        // No TOML at all.
        format!("\"{PLANTED}"),
        PLANTED.to_owned(),
        format!("'{PLANTED}\" # {PLANTED}"),
        format!("\"{PLANTED}\\x\""),
        format!("{quoted} {quoted}"),
    ];
    let keys = keys();
    let wrong = ["nothing", "listen", "projects", "projects.NAME", "profiles", "operations"];
    for key in keys.iter().map(String::as_str).chain(wrong) {
        for shape in &shapes {
            // `a.NAME.b[].c = v` is `a.name.b = [{ c = v }]`.
            let mut parts = key.rsplit("[].");
            let mut text = format!("{} = {shape}", parts.next().unwrap());
            for part in parts {
                text = format!("{part} = [{{ {text} }}]");
            }
            let text = text.replace("NAME", "name");
            let said = said(&text, &[]);
            assert!(!said.contains(PLANTED), "{text}\n{said}");
        }
        let variable = format!("WBG__{}", key.replace("[]", "").replace('.', "__").to_uppercase());
        let said = said("", &[(&variable, PLANTED)]);
        assert!(!said.contains(PLANTED), "{variable}\n{said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nothing that can be written makes the gateway panic.
    #[test]
    fn any_text_loads_or_is_refused(text in "(?s).{0,200}") {
        let _ = Project::with(&text).load(&[]);
    }

    /// The same for what is nearly right: a piece of the reference, cut and pasted over another.
    #[test]
    fn a_mangled_file_loads_or_is_refused(
        from in 0_usize..8000, to in 0_usize..8000, long in 0_usize..200, odd in "[\\[\\]{}=\".,#a-z0-9\n]{0,6}",
    ) {
        let reference = include_str!("../../../config/sandbox.toml");
        let mut bytes: Vec<u8> = reference.bytes().collect();
        let (from, to) = (from % bytes.len(), to % bytes.len());
        let piece: Vec<u8> = bytes[from..(from + long).min(bytes.len())].to_vec();
        let end = (to + piece.len()).min(bytes.len());
        bytes.splice(to..end, piece.into_iter().chain(odd.into_bytes()));
        let text = String::from_utf8_lossy(&bytes);
        let _ = Project::with(&text).load(&[]);
    }

    /// And for any variable.
    #[test]
    fn any_variable_is_taken_or_refused(name in "WBG__[A-Z_0-9\\[\\].-]{0,30}", value in ".{0,30}") {
        let _ = Project::with("").load(&[(&name, &value)]);
    }
}
