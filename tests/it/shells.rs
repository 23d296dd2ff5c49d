//! What shells complete, what `man` reads, and what editors check a configuration by.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::binary;

fn printed(arguments: &[&str]) -> String {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a script in a shell prints, line by line.
fn said(shell: &str, script: &str, file: &Path) -> Vec<String> {
    let mut command = Command::new(shell);
    command.args(["-c", script, shell]).arg(file).env("HOME", file.parent().unwrap());
    let Output { status, stdout, stderr } = command.output().expect("tests/run brings the shells");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success() && stderr.is_empty(), "{shell}: {stderr}");
    String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn each_shell_completes_commands_and_their_options() {
    let folder = tempfile::tempdir().unwrap();
    let bash = "source \"$1\"
        by=$(complete -p whiteboard-gateway)
        by=${by##*-F }
        for line in 'pol' 'check --onl' 'token mint --ro'; do
            COMP_WORDS=(whiteboard-gateway $line)
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            at=${COMP_WORDS[COMP_CWORD]}
            ${by%% *} whiteboard-gateway \"$at\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
            printf '%s\\n' \"${COMPREPLY[@]}\"
        done";
    let fish = "source $argv[2]
        for line in 'pol' 'check --onl' 'token mint --ro'
            complete -C \"whiteboard-gateway $line\" | string split --fields 1 \\t
        end";
    for (shell, script) in [("bash", bash), ("fish", fish)] {
        let file = folder.path().join(shell);
        fs::write(&file, printed(&["completions", shell])).unwrap();
        assert_eq!(said(shell, script, &file), ["policy", "--online", "--role"], "{shell}");
    }
    // zsh completes on a terminal alone; without one it shows for which command it would.
    let file = folder.path().join("_whiteboard-gateway");
    fs::write(&file, printed(&["completions", "zsh"])).unwrap();
    let zsh = "fpath=($1:h $fpath); autoload -Uz compinit; compinit -u -D
        print $_comps[whiteboard-gateway]; source $1; whence -w _whiteboard-gateway";
    let expected = ["_whiteboard-gateway", "_whiteboard-gateway: function"];
    assert_eq!(said("zsh", zsh, &file), expected);
}

#[test]
fn there_is_a_page_of_the_manual_for_each_command() {
    let folder = tempfile::tempdir().unwrap();
    printed(&["man", "--directory", folder.path().to_str().unwrap()]);
    let mut pages: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort_unstable();
    for page in ["", "-check", "-key-new", "-serve", "-token-mint"] {
        let page = format!("whiteboard-gateway{page}.1");
        assert!(pages.contains(&page), "{page}: {pages:?}");
    }
    assert!(!pages.iter().any(|page| page.contains("-help")), "{pages:?}");
    for page in pages {
        let mut mandoc = Command::new("mandoc");
        mandoc.args(["-T", "lint", "-W", "error"]).arg(folder.path().join(&page));
        let output = mandoc.output().expect("tests/run brings mandoc");
        assert!(output.status.success(), "{page}: {}", String::from_utf8_lossy(&output.stdout));
    }
    assert!(printed(&["man"]).contains(".SH NAME"));
}

#[test]
fn an_editor_checks_a_configuration_by_the_schema_that_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.schema.json");
    printed(&["schema", "--output", path.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&path).unwrap(), printed(&["schema"]));
    let (mut compiler, mut schemas) = (boon::Compiler::new(), boon::Schemas::new());
    let schema = compiler.compile(path.to_str().unwrap(), &mut schemas).unwrap();
    for (config, valid) in [
        ("[listen]\nworkers = 4", true),
        ("[listen]\nworkers = 2000", false),
        ("[lisen]\nworkers = 4", false),
        ("[log]\nlevel = \"loud\"", false),
    ] {
        let value: serde_json::Value = toml::from_str(config).unwrap();
        assert_eq!(schemas.validate(&value, schema).is_ok(), valid, "{config}");
        let file = folder.path().join("gateway.toml");
        fs::write(&file, config).unwrap();
        let check =
            Command::new(binary()).arg("check").arg("--config").arg(&file).output().unwrap();
        assert_eq!(check.status.code(), Some(if valid { 1 } else { 2 }), "{config}");
    }
}

#[test]
fn help_is_a_word_too() {
    assert_eq!(printed(&["help", "check"]), printed(&["check", "--help"]));
    assert_eq!(printed(&["help"]), printed(&["--help"]));
}
