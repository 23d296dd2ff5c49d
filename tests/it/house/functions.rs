//! How long functions are, by the shape that `rustfmt` gives them: a function ends where a line
//! closes at the depth at which it began.

use super::Source;

/// A function of the library.
pub(super) struct Function {
    pub(super) name: String,
    /// Its lines, without comments and empty ones.
    pub(super) lines: usize,
}

/// The functions of a file.
pub(super) fn of(source: &Source) -> Vec<Function> {
    let lines: Vec<&str> = source.code.lines().map(str::trim_end).collect();
    let begun = lines.iter().enumerate().filter_map(|(at, line)| Some((at, name(line)?)));
    begun.map(|(at, name)| Function { name, lines: length(&lines[at..]) }).collect()
}

/// The name of the function that a line begins.
fn name(line: &str) -> Option<String> {
    let (before, rest) = line.trim_start().split_once("fn ")?;
    let words = ["pub", "pub(crate)", "pub(super)", "const", "async", "extern"];
    let begins = before.split_whitespace().all(|word| words.contains(&word));
    let end = rest.find(['(', '<'])?;
    begins.then(|| rest[..end].to_owned())
}

fn length(lines: &[&str]) -> usize {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = indent(lines[0]);
    let ends =
        |line: &&&str| !line.is_empty() && indent(line) == depth && line.ends_with(['}', ';']);
    let end = lines.iter().position(|line| ends(&line)).unwrap_or(lines.len() - 1);
    lines[..=end].iter().filter(|line| !line.is_empty()).count()
}

#[test]
fn a_function_is_measured_from_its_name_to_its_brace() {
    let text = "pub(super) async fn a<T>(\n    b: T,\n) -> C\nwhere\n    T: D,\n{\n    // Why.\n\n    e();\n}\n\
                trait F {\n    fn g(&self);\n    fn h() -> u8 { 1 }\n}\n";
    let found = of(&Source::new("a.rs".to_owned(), text));
    let found: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.lines)).collect();
    assert_eq!(found, [("a", 8), ("g", 1), ("h", 1)]);
}
