//! Prose: pages, comments for users and comments of the code say things in the words of the field, so
//! that they are read once and found by grep. A short list of words that had crept in does not come
//! back.

use std::fs;
use std::path::Path;

use super::{files, root};
use crate::docs::Page;

/// What is not written, and what is written instead.
const WORDS: &[(&str, &str)] = &[
    ("anybody", "anyone"),
    ("back end", "backend"),
    ("back ends", "backends"),
    ("befell", "happened to"),
    ("build by profile", "PGO build"),
    ("everybody", "everyone"),
    ("for ever", "forever"),
    ("for want of", "because there is no"),
    ("handed out", "issued"),
    ("hands out", "issues"),
    ("in the place of", "instead of"),
    ("left out", "omitted"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("nobody", "no one"),
    ("sent once more", "retried"),
    ("somebody", "someone"),
    ("tried again", "retried"),
    ("tries again", "retries"),
    ("try again", "retry"),
    ("wins over", "overrides"),
];

/// The endings of files in `config/` and `deploy/` whose comments users read, or their names.
const COMMENTED: &[&str] =
    &["Dockerfile", "cfg", "prepare", "service", "socket", "toml", "tpl", "txt", "yaml", "yml"];

/// A page without its blocks and its words of code.
fn without_code(page: &str) -> String {
    let blocks = page.split("\n```").step_by(2);
    blocks.flat_map(|text| text.split('`').step_by(2)).collect::<Vec<_>>().join(" ` ")
}

/// Its words in a row, in lower case, without marks of comments and line ends.
fn words(text: &str) -> String {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '\''));
    let words = words.filter(|word| !word.is_empty()).map(str::to_lowercase);
    format!(" {} ", words.collect::<Vec<_>>().join(" "))
}

/// The comments of a source file, without words of code and what they quote. What `clap` prints of
/// them is not among them: commands say it to users, and it changes as messages do.
fn comments(path: &Path, text: &str) -> String {
    let printed = path.starts_with(root().join("src/cli"));
    let lines = text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
    let lines = lines.filter(|line| !(printed && line.starts_with("///")));
    lines.flat_map(|line| line.split(['`', '"']).step_by(2)).fold(String::new(), |all, part| {
        let mark = if part.starts_with("//") { "" } else { " ` " };
        all + mark + part + " "
    })
}

/// What a file should not say.
fn found(path: &Path, text: &str) -> Vec<String> {
    let words = words(text);
    let listed = WORDS.iter().filter(|(word, _)| words.contains(&format!(" {word} ")));
    let said = |(word, better): &(&str, &str)| {
        format!("{}: `{word}`: write `{better}`", path.strip_prefix(root()).unwrap().display())
    };
    listed.map(said).collect()
}

#[test]
fn pages_and_comments_for_users_use_the_words_of_the_field() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for file in files(&root()) {
        let ending =
            file.extension().or_else(|| file.file_name()).and_then(|ending| ending.to_str());
        let ending = ending.unwrap_or_default();
        let users = ["config", "deploy"].iter().any(|folder| file.starts_with(root().join(folder)));
        let page = ending == "md";
        if page || (users && COMMENTED.contains(&ending)) {
            let text = fs::read_to_string(&file).unwrap();
            wrong.extend(found(&file, &if page { without_code(&text) } else { text }));
            read += 1;
        }
    }
    assert!(read > 50, "only {read} files were found");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn comments_of_the_code_use_the_words_of_the_field() {
    let sources = files(&root().join("src")).into_iter();
    let sources = sources.filter(|path| path.extension() == Some("rs".as_ref()));
    let wrong: Vec<String> = sources
        .flat_map(|path| found(&path, &comments(&path, &fs::read_to_string(&path).unwrap())))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_index_of_the_documentation_leads_to_every_page() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    let pages = files(&root().join("docs")).into_iter();
    let names = pages.filter(|page| page.extension() == Some("md".as_ref()));
    let names = names.map(|page| page.file_name().unwrap().to_str().unwrap().to_owned());
    let links = |name: &String| index.contains(&format!("({name}"));
    let is_list = |name: &String| name == "README.md" || name == "SUMMARY.md";
    let lost: Vec<String> = names.filter(|name| !is_list(name) && !links(name)).collect();
    assert!(lost.is_empty(), "docs/README.md has no link to {lost:?}");
}

/// The chapters of the book are the pages, under the same headings as in the index.
#[test]
fn the_book_has_every_page() {
    let chapters = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let names = files(&root().join("docs")).into_iter().filter(|page| {
        page.extension() == Some("md".as_ref()) && page.file_name() != Some("SUMMARY.md".as_ref())
    });
    let names = names.map(|page| page.file_name().unwrap().to_str().unwrap().to_owned());
    let lost: Vec<String> = names.filter(|name| !chapters.contains(&format!("({name})"))).collect();
    assert!(lost.is_empty(), "docs/SUMMARY.md has no line for {lost:?}");
}

/// Questions of readers, where the index sends them, and what stands there.
const ANSWERS: &[(&str, &str, &str, &str)] = &[
    (
        "How do I rotate an API key?",
        "production.md#replacing-an-api-key",
        "\n## Replacing an API key\n",
        "set an end for the old one",
    ),
    (
        "How do I rotate an access key and secret key?",
        "production.md#replacing-an-ak-and-sk",
        "\n## Replacing an AK and SK\n",
        "Put it **first**",
    ),
    (
        "A whiteboard token leaked.",
        "audit.md#who-got-this-token",
        "\n## Who got this token?\n",
        "token inspect --audit",
    ),
    (
        "A whiteboard token leaked.",
        "callers.md#a-token-that-leaked",
        "\n## A token that leaked\n",
        "[[denied]]",
    ),
    (
        "My calls get 403.",
        "policy.md#the-order-of-checks",
        "\n## The order of checks\n",
        "`profiles.NAME.role`",
    ),
];

#[test]
fn what_readers_ask_is_one_click_from_the_index() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    for (question, link, heading, answer) in ANSWERS {
        let row = index.lines().find(|line| line.starts_with(&format!("| {question} |")));
        let row = row.unwrap_or_else(|| panic!("the index has no row for {question}"));
        assert!(row.contains(&format!("]({link})")), "{row}");
        let page = Page::read(&format!("docs/{}", link.split('#').next().unwrap()));
        assert!(page.section(heading).contains(answer), "{link} does not say {answer:?}");
    }
}

#[test]
fn a_word_is_found_across_lines_and_comments_and_not_in_code() {
    let path = root().join("page");
    let text = "# It waits for\n# ever. Nobody's, `left out`, recommend.\n";
    assert_eq!(
        found(&path, text),
        ["page: `for ever`: write `forever`", "page: `left out`: write `omitted`"]
    );
    assert_eq!(found(&path, &without_code(text)), ["page: `for ever`: write `forever`"]);
    assert!(found(&path, &without_code("a\n```sh\nmend\n```\nb")).is_empty());
    let code = "let nobody = \"mend\"; // Not\n    /// It waits for\n    // ever: \"nobody\" and `mend`.\n";
    assert_eq!(found(&path, &comments(&path, code)), ["page: `for ever`: write `forever`"]);
}
