//! Configurations with holes: `{{name}}` is replaced, and a line that begins with `@word ` stands
//! only where that word is on.

use std::fmt::Write as _;

use anyhow::Context as _;

/// What fills the holes.
pub(super) struct Template<'a> {
    pub(super) words: &'a [(&'a str, bool)],
    pub(super) values: &'a [(&'a str, &'a str)],
}

impl Template<'_> {
    /// The text with its holes filled; an unknown word or name is an error.
    pub(super) fn fill(&self, text: &str) -> anyhow::Result<String> {
        let mut filled = String::new();
        for line in text.lines() {
            let Some(line) = self.stands(line)? else { continue };
            let mut rest = line;
            while let Some((before, after)) = rest.split_once("{{") {
                let (name, after) = after.split_once("}}").context("a `{{` has no `}}`")?;
                let value = self.values.iter().find(|(known, _)| *known == name);
                let (_, value) = value.with_context(|| format!("{{{{{name}}}}} is no name"))?;
                write!(filled, "{before}{value}")?;
                rest = after;
            }
            writeln!(filled, "{rest}")?;
        }
        Ok(filled)
    }

    fn stands<'t>(&self, line: &'t str) -> anyhow::Result<Option<&'t str>> {
        let Some(marked) = line.trim_start().strip_prefix('@') else { return Ok(Some(line)) };
        let (word, rest) = marked.split_once(' ').context("a line has a word and nothing else")?;
        let known = self.words.iter().find(|(known, _)| *known == word);
        let (_, on) = known.with_context(|| format!("@{word} is no word"))?;
        Ok(on.then_some(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: Template<'_> =
        Template { words: &[("tls", true), ("plain", false)], values: &[("port", "80")] };

    #[test]
    fn holes_are_filled_and_lines_stand_where_their_word_is_on() {
        let text = "a {{port}} b {{port}};\n  @tls secret;\n@plain open;\n";
        assert_eq!(TEMPLATE.fill(text).unwrap(), "a 80 b 80;\nsecret;\n");
    }

    #[test]
    fn a_misspelt_word_or_name_is_an_error() {
        assert!(TEMPLATE.fill("{{prot}}").is_err());
        assert!(TEMPLATE.fill("@tsl x").is_err());
    }
}
