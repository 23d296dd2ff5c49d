//! The tokens of a source file, as far as the rules of the house need them.

/// Words, `::`, and every other character by itself; no comments, no literals.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = literal(rest) {
            length
        } else {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match rest.find(|c| !word(c)).unwrap_or(rest.len()) {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                length => length,
            };
            if !first.is_whitespace() {
                found.push(rest[..length].to_owned());
            }
            length
        };
        rest = &rest[length..];
    }
    found
}

/// How long the literal of a text or a character is that begins here.
fn literal(text: &str) -> Option<usize> {
    let quote = text.strip_prefix('b').unwrap_or(text);
    let offset = text.len() - quote.len();
    if let Some(raw) = quote.strip_prefix('r') {
        let marks = raw.len() - raw.trim_start_matches('#').len();
        if let Some(inside) = raw[marks..].strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(marks));
            let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
            return Some(offset + 2 + marks + length);
        }
        return None;
    }
    let quoted = |quote: char, inside: &str| {
        let mut escaped = false;
        inside.find(|c| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })
    };
    match quote.chars().next()? {
        '"' => Some(offset + 2 + quoted('"', &quote[1..])?),
        '\'' => {
            let end = quoted('\'', &quote[1..])?;
            let inside = &quote[1..=end];
            // Else it is a lifetime.
            let one = inside.starts_with('\\') || inside.chars().count() == 1;
            one.then_some(offset + 2 + end)
        }
        _ => None,
    }
}

/// Without the items that only tests have.
pub(super) fn without_tests(tokens: &[String]) -> Vec<String> {
    const ONLY: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().take(ONLY.len()).eq(ONLY.iter()) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        at += ONLY.len();
        while let Some(token) = tokens.get(at) {
            depth += i32::from(token == "{") - i32::from(token == "}");
            at += 1;
            if depth == 0 && (token == ";" || token == "}") {
                break;
            }
        }
    }
    kept
}

pub(super) fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphanumeric() || first == '_')
}
