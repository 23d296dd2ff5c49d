//! The documentation is true: its examples run, print and load what it says, its tables have
//! every code, metric and field and no other, and its links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use whiteboard_gateway::api::{Role, TokenKind, host};
use whiteboard_gateway::caller;
use whiteboard_gateway::failure::{Code, Failure, RenderOptions, Settings, StatusProfile};
use whiteboard_gateway::token::{KeyPair, Secret, TokenFields};

use crate::house::{files, root};
use crate::support::{Authority, Issuer, Process, SHELLS, Setup, Signer, binary, pasted, slot};

/// A page of the documentation.
pub(crate) struct Page {
    path: PathBuf,
    text: String,
}

/// A fenced block: what stands after the opening fence, and what is inside.
pub(crate) struct Block<'a> {
    pub(crate) info: &'a str,
    pub(crate) text: &'a str,
}

impl Page {
    /// A page by its path from the root.
    pub(crate) fn read(path: &str) -> Self {
        let path = root().join(path);
        Self { text: fs::read_to_string(&path).unwrap(), path }
    }

    /// Every page of the repository.
    fn all() -> Vec<Self> {
        let markdown = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "md");
        let pages = files(&root()).into_iter().filter(markdown);
        pages.map(|path| Self { text: fs::read_to_string(&path).unwrap(), path }).collect()
    }

    pub(crate) fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut rest = self.text.as_str();
        while let Some((_, fence)) = rest.split_once("\n```") {
            let (info, inside) = fence.split_once('\n').unwrap();
            let end = inside.find("```").unwrap_or_else(|| panic!("{:?}: no end", self.path));
            blocks.push(Block { info, text: &inside[..end] });
            rest = &inside[end + 3..];
        }
        blocks
    }

    /// The text without its fenced blocks.
    fn prose(&self) -> String {
        self.text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
    }

    /// The rows of its tables whose first cell is a word of code: the cells, without backquotes.
    fn rows(&self) -> Vec<Vec<String>> {
        let rows = self.text.lines().filter(|line| line.starts_with("| `"));
        let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
        rows.map(|row| row.trim_matches('|').split('|').map(cell).collect()).collect()
    }

    pub(crate) fn contains(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// What stands under a heading.
    pub(crate) fn section(&self, heading: &str) -> Self {
        let (_, rest) = self.text.split_once(heading).unwrap_or_else(|| panic!("no {heading}"));
        let text = rest.split("\n## ").next().unwrap().to_owned();
        Self { path: self.path.clone(), text }
    }

    /// The blocks of that language.
    pub(crate) fn texts(&self, language: &str) -> Vec<&str> {
        let blocks = self.blocks().into_iter();
        blocks.filter(|block| block.info == language).map(|block| block.text).collect()
    }

    /// The rows of the table after a heading.
    pub(crate) fn rows_of(&self, heading: &str) -> Vec<Vec<String>> {
        self.section(heading).rows()
    }

    /// The rows of the table that begins so, without its rule.
    pub(crate) fn table(&self, begin: &str) -> Vec<Vec<String>> {
        let (_, rest) = self.text.split_once(begin).unwrap_or_else(|| panic!("no {begin}"));
        let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
        let cells =
            |row: &str| row.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect();
        rows.map(cells).collect()
    }

    /// The anchors that links can name: its headings, as they are made of them on GitHub.
    fn anchors(&self) -> BTreeSet<String> {
        let prose = self.prose();
        let headings =
            prose.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
        let kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
        let anchor = |text: &str| text.to_lowercase().chars().filter(kept).collect::<String>();
        headings.map(|heading| anchor(heading).replace(' ', "-")).collect()
    }

    /// Where its links lead.
    fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| target.to_owned()).collect()
    }
}

/// Whether a text is what a page shows of it, where `…` stands for anything within a line.
pub(crate) fn shows(shown: &str, text: &str) -> bool {
    let Some((first, parts)) = shown.split_once('…') else { return shown == text };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.split('…').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[track_caller]
pub(crate) fn assert_shows(page: &Page, shown: &str, text: &str) {
    let lines = |text: &str| text.trim_end().lines().map(str::to_owned).collect::<Vec<_>>();
    let (shown, text) = (lines(shown), lines(text));
    let same = shown.len() == text.len()
        && shown.iter().zip(&text).all(|(shown, line)| shows(shown, line.trim_end()));
    let (shown, text) = (shown.join("\n"), text.join("\n"));
    assert!(same, "{}\n--- says:\n{shown}\n--- is:\n{text}", page.path.display());
}

#[test]
fn the_readmes_table_is_the_generated_one() {
    let output = Command::new(binary()).args(["operations", "--markdown"]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let there = Page::read("README.md").text.contains(&table);
    assert!(there, "put what `operations --markdown` prints into the README:\n{table}");
}

#[test]
fn the_greeting_is_what_the_readme_shows() {
    let readme = Page::read("README.md");
    let gateway = Process::sandbox();
    let blocks = readme.blocks();
    let greeting = blocks.iter().find(|block| block.info == "text greeting").unwrap();
    let printed = gateway.stdout();
    let begun: Vec<&str> = printed.lines().take(greeting.text.lines().count()).collect();
    assert_shows(&readme, greeting.text, &begun.join("\n"));
    let lines = blocks.iter().find(|block| block.info == "sh run").unwrap();
    assert!(printed.contains(lines.text), "{printed}\n--- does not have:\n{}", lines.text);
}

/// Runs the marked blocks of a page in one shell after the other, and compares what each prints.
#[test]
fn the_marked_blocks_of_shell_run_and_print_what_the_page_says() {
    const END: &str = "--- the block ends";
    let readme = Page::read("README.md");
    let blocks = readme.blocks();
    let configuration = blocks.iter().find(|block| block.info == "toml gateway.toml").unwrap();
    let mut ran = 0;
    for page in Page::all() {
        let blocks = page.blocks();
        let runs: Vec<usize> =
            (0..blocks.len()).filter(|at| blocks[*at].info == "sh run").collect();
        if runs.is_empty() {
            continue;
        }
        // The README shows what is said of its own placeholders; behind it, they are filled in.
        let configuration = if page.path == readme.path {
            configuration.text.to_owned()
        } else {
            filled(configuration.text)
        };
        let block = |at: &usize| format!("{}\necho '{END}'\n", blocks[*at].text.trim_end());
        let script: String = runs.iter().map(block).collect();
        for shell in SHELLS {
            let folder = tempfile::tempdir().unwrap();
            let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
            let gateway = Process::sandbox_with(&[
                ("WBG__LOG__ACCESS", &file("access.jsonl")),
                ("WBG__AUDIT__FILE", &file("audit.jsonl")),
            ]);
            fs::write(folder.path().join("gateway.toml"), &configuration).unwrap();
            let mut command = shell.command(folder.path());
            for name in ["GATEWAY", "ADMIN", "SANDBOX", "KEY", "STUDENT_KEY", "WBG_ADMIN_KEY"] {
                command.env(name, gateway.exported(name));
            }
            let output = pasted(command.env("CLASSROOM_SK", "secret"), &script);
            let printed = String::from_utf8(output.stdout).unwrap();
            let name = format!("{} in {}", page.path.display(), shell.name);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {printed}\n{errors}");
            for (at, printed) in runs.iter().zip(printed.split(&format!("{END}\n"))) {
                ran += 1;
                if let Some(shown) = blocks.get(at + 1).filter(|next| next.info == "text prints") {
                    assert_shows(&page, shown.text, printed);
                }
            }
        }
    }
    assert!(ran >= 3 * 5, "only {ran} blocks are marked");
}

/// What is shown to be pasted: an interactive zsh takes no comments.
#[test]
fn every_block_of_shell_is_one_in_every_shell_and_has_no_comment() {
    let mut wrong = Vec::new();
    for page in Page::all() {
        for block in page.blocks().into_iter().filter(|block| block.info.starts_with("sh")) {
            let comment = |line: &str| line.starts_with('#') || line.contains(" #");
            if let Some(line) = block.text.lines().find(|line| comment(line)) {
                wrong.push(format!("{}: a comment: {line}", page.path.display()));
            }
            for shell in SHELLS {
                let read = shell.reads(block.text);
                if !read.status.success() {
                    let why = String::from_utf8_lossy(&read.stderr).into_owned();
                    wrong.push(format!("{} in {}: {why}", page.path.display(), shell.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A configuration of the documentation with values of somebody's own.
fn filled(text: &str) -> String {
    let (before, rest) = text.split_once("{ id = ").unwrap();
    let (_, after) = rest.split_once('}').unwrap();
    let key = caller::generate(false).unwrap();
    let text = [before, &slot(key.expose()), after].concat();
    text.replace("your-access-key", "MmWsWx4s")
}

/// The values of a key in a block of TOML: what stands in quotes after `key = `.
fn values<'a>(text: &'a str, key: &str) -> BTreeSet<&'a str> {
    let start = format!("{key} = \"");
    let found = text.match_indices(&start).filter(|(at, _)| {
        let before = text[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    });
    found.filter_map(|(at, _)| text[at + start.len()..].split('"').next()).collect()
}

/// A block with what it refers to and lacks.
fn completed(block: &str) -> String {
    let mut text = block.to_owned();
    for profile in values(block, "profile") {
        let part_of_errors = ["documented", "extended"].contains(&profile);
        if !part_of_errors && !block.contains(&format!("[profiles.{profile}]")) {
            text += &format!("[profiles.{profile}]\nproject = \"classroom\"\n");
        }
    }
    for project in values(&text, "project") {
        if !block.contains(&format!("[projects.{project}]")) {
            let keys = "keys = [{ access_key = \"a\", secret_key = { env = \"SUPPLIED\" } }]";
            return completed(&format!("{text}[projects.{project}]\n{keys}\n"));
        }
    }
    text
}

/// Long enough for every kind of secret.
const SECRET: &str = "a secret of more than thirty-two bytes";

#[test]
fn every_example_of_the_configuration_loads() {
    let clients = Authority::new("clients");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut loaded = 0;
    for page in Page::all() {
        for block in page.blocks() {
            if !block.info.starts_with("toml") {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            let text = completed(block.text);
            for file in values(&text, "file") {
                write(file, "NETLESSSDK_x\n");
            }
            for key in ["certificate", "ca"] {
                for file in values(&text, key) {
                    write(file, &certified.cert.pem());
                }
            }
            for key in ["client_ca", "ours", "partner"] {
                for file in values(&text, key) {
                    write(file, &clients.pem);
                }
            }
            for file in values(&text, "client_crl") {
                write(file, &clients.revoked(&[], time::Duration::DAY));
            }
            for file in values(&text, "key") {
                write(file, &certified.signing_key.serialize_pem());
            }
            for file in values(&text, "key_file") {
                write(file, &Signer::es256("a").pem());
            }
            write("gateway.toml", &text);
            let mut command = Command::new(binary());
            command.args(["check", "--config", "gateway.toml"]).current_dir(folder.path());
            command.envs(values(&text, "env").into_iter().map(|name| (name, SECRET)));
            let output = command.output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            // 1 is a warning: an example need not be all of a configuration.
            let loads = matches!(output.status.code(), Some(0 | 1));
            assert!(loads, "{}: {errors}\n---\n{text}", page.path.display());
            loaded += 1;
        }
    }
    assert!(loaded >= 10, "only {loaded} examples were found");
}

/// The worked example of a backend: the README's configuration and key, in front of a sandbox.
#[test]
fn a_backend_works_with_the_configuration_of_the_readme() {
    let readme = Page::read("README.md");
    let blocks = readme.blocks();
    let text = blocks.iter().find(|block| block.info == "toml gateway.toml").unwrap().text;
    let mut sandbox = Command::new(binary());
    sandbox.args(["sandbox", "--listen", "127.0.0.1:0", "--access-key", "your-access-key"]);
    let sandbox = Process::of_sandbox(sandbox);
    let key = caller::generate(false).unwrap().expose().to_owned();
    let (before, rest) = text.split_once("{ id = ").unwrap();
    let (_, after) = rest.split_once('}').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    fs::write(&path, format!("{before}{}{after}", slot(&key))).unwrap();
    let mut command = Command::new(binary());
    command.args(["serve", "--config"]).arg(path);
    command.env("CLASSROOM_SK", "sandbox-secret-key");
    command.env("WBG__LISTEN__ADDRESS", "127.0.0.1:0").env("WBG__ADMIN__ADDRESS", "127.0.0.1:0");
    command.env("WBG__UPSTREAM__URL", format!("http://{}", sandbox.address));
    command.env("WBG__LOG__FORMAT", "json");
    let gateway = Process::of(command, folder, key);
    let room = gateway.call("POST", "/v5/rooms", "").member("uuid");
    let got = gateway.call("GET", &format!("/v5/rooms/{room}"), "");
    assert_eq!((got.status, got.member("uuid")), (200, room.clone()), "{}", got.text());
    let asked = r#"{"role":"reader","lifespan":3600000}"#;
    let token = gateway.call("POST", &format!("/v5/tokens/rooms/{room}"), asked);
    assert_eq!(token.status, 201, "{}", token.text());
    assert!(token.json().as_str().unwrap().starts_with("NETLESSROOM_"));
}

#[test]
fn the_page_of_failures_has_every_code_with_its_statuses() {
    let profiles = [StatusProfile::Documented, StatusProfile::Extended].map(Settings::of);
    let row = |code: Code| {
        let [documented, extended] =
            profiles.map(|settings| code.status(&settings).as_str().to_owned());
        let options = RenderOptions {
            settings: &profiles[0],
            request_id: "r",
            problem: false,
            titled: false,
        };
        let answer = Failure::fixed(code, "x").answer(&options);
        let status = answer.headers()["proxy-status"].to_str().unwrap();
        let error = status.split("error=").nth(1).unwrap().split(';').next().unwrap();
        vec![code.name().to_owned(), documented, extended, error.to_owned()]
    };
    let mut codes: Vec<Vec<String>> = Code::all().map(row).collect();
    let page = Page::read("docs/failures.md");
    let mut rows = page.rows_of("\n## Codes\n");
    rows.iter_mut().for_each(|row| row.truncate(4));
    codes.sort();
    rows.sort();
    assert_eq!(rows, codes);
}

/// The keys that bound something: times, and the most of what can grow.
fn is_bound(key: &str) -> bool {
    let sections = ["listen.", "body.", "upstream.", "store."];
    let last = key.rsplit('.').next().unwrap();
    let kinds = ["timeout", "max_", "drain", "_bytes", "attempts", "budget"];
    sections.iter().any(|section| key.starts_with(section))
        && kinds.iter().any(|kind| last.contains(kind))
}

#[test]
fn the_page_of_bounds_has_every_key_that_is_one_with_its_default() {
    let keys = Page::read("docs/configuration.md").rows_of("\n## Keys\n");
    let defaults: BTreeMap<String, String> =
        keys.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    // What no key sets is no word of code.
    let rows = Page::read("docs/bounds.md").rows();
    for row in &rows {
        assert_eq!(Some(row[2].as_str()), defaults.get(&row[0]).map(String::as_str), "{row:?}");
    }
    let there: BTreeSet<&String> = rows.iter().map(|row| &row[0]).collect();
    let missing: Vec<&String> =
        defaults.keys().filter(|key| is_bound(key) && !there.contains(key)).collect();
    assert!(missing.is_empty(), "docs/bounds.md does not have {missing:?}");
}

/// The metrics that a process has, by the names that queries use.
pub(crate) fn metrics(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name = |(name, kind): (&str, &str)| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    };
    types.map(name).collect()
}

/// A gateway with all that has metrics, and its identity provider.
pub(crate) fn of_every_part() -> (Issuer, Process) {
    // Those of identity providers are there where one is.
    let issuer = Issuer::serving(&[Arc::new(Signer::es256("a"))]);
    let setup = Setup::new("http://127.0.0.1:9");
    let section = issuer.section("school", setup.folder.path(), "profile = \"backend\"");
    // And those of a store, whether it answers or not.
    let store = "[store]\nurl = \"redis://127.0.0.1:9\"\n";
    // And those of what ends: a certificate, and the fixed token of a project.
    let pair = KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()));
    let token = pair.mint(
        TokenFields {
            kind: TokenKind::Sdk,
            role: Role::Admin.digit(),
            uuid: None,
            lifespan_ms: 1,
            nonce: "nonce".to_owned(),
        },
        0,
    );
    fs::write(setup.folder.path().join("console"), token.token.expose()).unwrap();
    Authority::new("authority").certify("localhost").write(setup.folder.path());
    let ends = "[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n\
                [projects.console]\nsdk_token = { file = \"console\" }\n";
    // And those of a collector.
    let collector = "[otlp]\nendpoint = \"http://127.0.0.1:9\"\n";
    let gateway = setup.with(&section).with(store).with(ends).with(collector).start();
    (issuer, gateway)
}

#[test]
fn the_page_of_production_has_every_metric_and_no_other() {
    let (_issuer, gateway) = of_every_part();
    let there = metrics(&gateway.admin("/metrics").text());
    assert!(there.len() > 8, "{there:?}");
    let page = Page::read("docs/production.md");
    let rows = page.rows_of("\n## What to monitor\n");
    let named: BTreeSet<String> = rows.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(named, there);
    for page in Page::all() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for name in page.text.split(|c| !word(c)).filter(|name| name.starts_with("wbg_")) {
            let key = ["wbg_live", "wbg_test", "wbg_admin"].iter().any(|key| name.starts_with(key));
            let ending =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let known = there.contains(name) || ending.is_some_and(|name| there.contains(name));
            assert!(name == "wbg_" || key || known, "{}: {name}", page.path.display());
        }
    }
}

#[test]
fn the_page_of_production_has_every_field_of_the_access_line_and_no_other() {
    // With traces, whoever they would be sent to.
    let gateway = Process::sandbox_with(&[
        ("WBG__OTLP__ENDPOINT", "http://127.0.0.1:9"),
        ("WBG__PROJECTS__SANDBOX__TOKEN_PROFILE", "student"),
        ("WBG__LISTENERS__OTHER__ADDRESS", "127.0.0.1:0"),
        ("WBG__LOG__DECISION", "true"),
        ("WBG__PROFILES__BACKEND__SHADOW", "student"),
        ("WBG__PROFILES__STUDENT__LIMIT__RATE", "200/s"),
        ("WBG__PROFILES__STUDENT__LIMIT__BURST", "400"),
    ]);
    let student = gateway.exported("STUDENT_KEY");
    let forwarded = gateway.call("POST", "/v5/rooms", "");
    let refused = gateway.client().request("GET", "/v5/rooms", &[("token", &student)], "");
    let token = r#"{"role":"reader","lifespan":1000}"#;
    let token = gateway.call("POST", "/v5/tokens/rooms/a1b2", token).json();
    let token = token.as_str().unwrap().to_owned();
    let own = gateway.client().request("GET", "/v5/rooms", &[("token", &token)], "");
    assert_eq!((forwarded.status, refused.status, own.status), (201, 403, 403));
    let asked = r#"{"role":"reader","lifespan":86400000}"#;
    let shadowed = gateway.call("POST", "/v5/tokens/rooms/a1b2", asked);
    let lines = [forwarded, refused, own, shadowed]
        .map(|one| gateway.access_line(one.header("x-request-id")));
    let fields = lines.iter().flat_map(|line| line.as_object().unwrap().keys().cloned());
    let mut there: BTreeSet<String> = fields.collect();
    // These only come with a failure in which the service says them.
    there.extend(["upstream_request_id", "upstream_region"].map(str::to_owned));
    let rows = Page::read("docs/production.md").rows_of("\n## The access log\n");
    let named: BTreeSet<String> = rows.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(named, there);
}

#[test]
fn the_page_of_the_audit_has_every_member_of_a_record_and_no_other() {
    let gateway = Setup::new("http://127.0.0.1:9")
        .with("[audit]\nfile = \"./audit.jsonl\"\nmode = \"required\"\n")
        .start();
    let asked = r#"{"role":"reader","lifespan":3600000}"#;
    for path in ["/v5/tokens/teams", "/v5/tokens/rooms/a", "/v5/tokens/tasks/a"] {
        assert_eq!(gateway.call("POST", path, asked).status, 201);
    }
    let records = fs::read_to_string(gateway.folder.path().join("audit.jsonl")).unwrap();
    let records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let there: BTreeSet<String> = records
        .flat_map(|one| one.as_object().unwrap().keys().cloned().collect::<Vec<_>>())
        .collect();
    let page = Page::read("docs/audit.md");
    let rows = page.rows_of("\n## A record\n");
    let named: BTreeSet<String> = rows.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(named, there);
    let shown = page.blocks().into_iter().find(|block| block.info == "json").unwrap().text;
    let shown: Value = serde_json::from_str(shown).unwrap();
    assert!(shown.as_object().unwrap().keys().all(|member| there.contains(member)), "{shown}");
}

#[test]
fn the_page_has_the_names_of_the_service_with_their_regions() {
    let page = Page::read("docs/production.md");
    let rows = page.rows_of("\n## The name of the service\n");
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[0][0], host::HOST);
    for row in &rows[1..] {
        let regions = row[1].replace('`', "");
        let known = host::regions_of(&row[0]).unwrap_or_default();
        assert_eq!(regions.split(", ").collect::<Vec<_>>(), known, "{}", row[0]);
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in Page::all() {
        for link in page.links() {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = match path {
                "" => page.path.clone(),
                path => page.path.parent().unwrap().join(path),
            };
            let there = path.exists()
                && (anchor.is_empty() || {
                    let text = fs::read_to_string(&path).unwrap();
                    Page { path, text }.anchors().contains(anchor)
                });
            if !there {
                broken.push(format!("{}: {link}", page.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn a_page_shows_a_line_when_all_but_its_gaps_are_the_same() {
    for (shown, text, same) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a…", "abc", true),
        ("…c", "abc", true),
        ("a…c…", "abcd", true),
        ("a…d…", "abc", false),
        ("a…b", "ba", false),
        ("b…", "ab", false),
    ] {
        assert_eq!(shows(shown, text), same, "{shown} {text}");
    }
}
