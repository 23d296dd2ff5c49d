//! The packages of a release: installed, upgraded, removed and purged by dpkg in a root that has
//! nothing else, and what the scripts of a release refuse.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{copy, ran, read, tried};
use crate::house::{files, root};
use crate::support::binary;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What lies in `/etc/whiteboard-gateway` and `/var` when someone has used the package.
const OF_THE_OPERATOR: [&str; 2] =
    ["etc/whiteboard-gateway/secrets/classroom-sk", "var/lib/whiteboard-gateway/audit.jsonl"];

fn script(name: &str) -> Command {
    Command::new(root().join(name))
}

/// The files of a release, of the binary of the tests.
fn packed(out: &Path, version: &str, configuration: &Path) {
    let mut package = script("deploy/package");
    package.args(["--fast", "--version", version, "--binary", binary(), "--out"]).arg(out);
    ran(package.arg("--configuration").arg(configuration));
}

/// A root with nothing but dpkg and what it takes to run it.
struct CleanRoot {
    folder: tempfile::TempDir,
}

impl CleanRoot {
    fn new() -> Self {
        let clean = Self { folder: tempfile::tempdir().unwrap() };
        ran(script("tests/deploy/root/make").arg(clean.folder.path()));
        clean
    }

    fn run(&self, words: &[&str]) -> String {
        ran(script("tests/deploy/root/enter").arg(self.folder.path()).args(words))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn copy_in(&self, file: &Path) -> String {
        let inside = format!("tmp/{}", file.file_name().unwrap().to_str().unwrap());
        fs::copy(file, self.path(&inside)).unwrap();
        format!("/{inside}")
    }

    /// Every file but those of dpkg's own database, and what does not outlive a restart.
    fn files(&self) -> BTreeSet<String> {
        let names = files(self.folder.path()).into_iter().map(|path| {
            path.strip_prefix(self.folder.path()).unwrap().to_str().unwrap().to_owned()
        });
        let elsewhere = ["var/lib/dpkg/", "tmp/", "dev/", "run/"];
        names.filter(|name| !elsewhere.iter().any(|folder| name.starts_with(folder))).collect()
    }
}

/// Starts the gateway that is installed in front of its sandbox, and mints a token through it.
const MINT: &str = r#"
    # The shell in the background truncates it later than this one looks for what it says.
    rm -f /tmp/greeting
    WBG__LISTEN__ADDRESS=127.0.0.1:0 WBG__ADMIN__ADDRESS=127.0.0.1:0 WBG__LISTEN__PRE_DRAIN=1ms \
        whiteboard-gateway serve --sandbox >/tmp/greeting 2>/tmp/log & gateway=$!
    until grep -qs "Ctrl-C stops" /tmp/greeting; do kill -0 $gateway; sleep 0.1; done
    eval "$(grep "^export [A-Z_]*=[^ ]*$" /tmp/greeting)"
    room=$(curl -s $GATEWAY/v5/rooms -H "token: $KEY" -d "{}" | sed "s/.*\"uuid\":\"\([^\"]*\)\".*/\1/")
    curl -s $GATEWAY/v5/tokens/rooms/$room -H "token: $KEY" -d "{\"role\":\"reader\",\"lifespan\":60000}"
    kill -INT $gateway
    wait $gateway
"#;

#[test]
fn a_package_is_installed_upgraded_removed_and_purged() {
    let work = tempfile::tempdir().unwrap();
    let (old, new) = (work.path().join("old"), work.path().join("new"));
    let example = read("deploy/systemd/gateway.toml");
    let of_old = work.path().join("gateway.toml");
    fs::write(&of_old, format!("# The default of an older version.\n{example}")).unwrap();
    packed(&old, "0.0.9", &of_old);
    packed(&new, VERSION, &root().join("deploy/systemd/gateway.toml"));
    let architecture = ran(Command::new("dpkg").arg("--print-architecture"));
    let file = |version: &str| format!("whiteboard-gateway_{version}_{}.deb", architecture.trim());
    let clean = CleanRoot::new();
    let nothing = clean.files();
    let status = |clean: &CleanRoot| {
        clean.run(&[
            "dpkg-query",
            "--show",
            "--showformat=${Version} ${Status}",
            "whiteboard-gateway",
        ])
    };

    // Installed: the version, the unit and the manual are there, and a token is minted.
    clean.run(&["dpkg", "--install", &clean.copy_in(&old.join(file("0.0.9")))]);
    assert_eq!(status(&clean), "0.0.9 install ok installed");
    assert!(clean.run(&["whiteboard-gateway", "--version"]).contains("(commit "));
    clean.run(&["systemd-analyze", "verify", "/lib/systemd/system/whiteboard-gateway.service"]);
    for there in [
        "usr/lib/systemd/system/whiteboard-gateway.socket",
        "usr/share/man/man1/whiteboard-gateway.1.gz",
        "usr/share/bash-completion/completions/whiteboard-gateway",
        "usr/share/zsh/vendor-completions/_whiteboard-gateway",
        "usr/share/fish/vendor_completions.d/whiteboard-gateway.fish",
        "usr/share/whiteboard-gateway/gateway.schema.json",
        "usr/share/doc/whiteboard-gateway/deploy.md",
        "usr/share/doc/whiteboard-gateway/copyright",
        "usr/share/doc/whiteboard-gateway/whiteboard-gateway.cdx.json",
    ] {
        assert!(clean.path(there).is_file(), "{there}");
    }
    assert!(clean.run(&["sh", "-euc", MINT]).contains("NETLESSROOM_"));

    // Upgraded, after someone has changed the configuration: theirs stays, the new one lies beside it.
    let configuration = "etc/whiteboard-gateway/gateway.toml";
    assert!(clean.read(configuration).starts_with("# The default of an older version.\n"));
    let theirs = format!("# Ours.\n{}", clean.read(configuration));
    clean.write(configuration, &theirs);
    OF_THE_OPERATOR.iter().for_each(|path| clean.write(path, "theirs"));
    clean.run(&[
        "dpkg",
        "--force-confdef",
        "--force-confold",
        "--install",
        &clean.copy_in(&new.join(file(VERSION))),
    ]);
    assert_eq!(status(&clean), format!("{VERSION} install ok installed"));
    assert_eq!(clean.read(configuration), theirs);
    assert_eq!(clean.read(&format!("{configuration}.dpkg-dist")), example);
    assert!(clean.run(&["sh", "-euc", MINT]).contains("NETLESSROOM_"));

    // Removed: what was configured stays. Purged: only what the package has not made.
    clean.run(&["dpkg", "--remove", "whiteboard-gateway"]);
    assert!(!clean.path("usr/bin/whiteboard-gateway").exists());
    assert_eq!(clean.read(configuration), theirs);
    clean.run(&["dpkg", "--purge", "whiteboard-gateway"]);
    let after = clean.files();
    let left: Vec<&str> = after.difference(&nothing).map(String::as_str).collect();
    assert_eq!(left, OF_THE_OPERATOR);
    assert!(nothing.is_subset(&after), "it took files of others");

    the_tarball_and_the_root_of_the_image_run(&new);
}

/// Beside the package, from the same command.
fn the_tarball_and_the_root_of_the_image_run(packed: &Path) {
    let work = tempfile::tempdir().unwrap();
    let mut tarballs = files(packed);
    tarballs.retain(|path| path.to_str().unwrap().ends_with(".tar.gz"));
    assert_eq!(tarballs.len(), 2, "{tarballs:?}");
    for tarball in &tarballs {
        ran(Command::new("tar")
            .args(["--extract", "--directory"])
            .arg(work.path())
            .arg("--file")
            .arg(tarball));
    }
    let target = ran(Command::new("rustc").args(["--print", "host-tuple"]));
    let folder = work.path().join(format!("whiteboard-gateway-{VERSION}-{}", target.trim()));
    let version = ran(Command::new(folder.join("bin/whiteboard-gateway")).arg("--version"));
    assert!(version.starts_with(&format!("whiteboard-gateway {VERSION} (commit ")), "{version}");
    let bom =
        fs::read_to_string(folder.join("share/doc/whiteboard-gateway/whiteboard-gateway.cdx.json"));
    let bom: serde_json::Value = serde_json::from_str(&bom.unwrap()).unwrap();
    assert_eq!(bom["metadata"]["component"]["version"], VERSION);
    let crates = bom["components"].as_array().unwrap();
    let linked = |name: &str| crates.iter().any(|one| one["name"] == name);
    assert!(linked("hyper") && linked("aws-lc-rs"), "{} crates", crates.len());
    assert!(!linked("ring") && !linked("proptest"), "nothing that is not linked");
    assert!(crates.iter().all(|one| one["hashes"][0]["content"].as_str().unwrap().len() == 64));
    // The root of the image has what the binary loads.
    let mut inside = Command::new("unshare");
    inside.args(["--map-root-user", "chroot"]).arg(work.path());
    assert_eq!(ran(inside.args(["/usr/local/bin/whiteboard-gateway", "--version"])), version);
    assert!(!work.path().join("bin").exists(), "there is no shell");
}

/// A repository that has what `deploy/release` looks at before it builds.
struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    fn new(changelog: &str) -> Self {
        let repository = Self { folder: tempfile::tempdir().unwrap() };
        copy(&root().join("deploy"), &repository.path("deploy"));
        for name in ["Cargo.toml", "README.md"] {
            fs::copy(root().join(name), repository.path(name)).unwrap();
        }
        fs::write(repository.path("CHANGELOG.md"), changelog).unwrap();
        fs::write(repository.path(".gitignore"), "/target\n").unwrap();
        repository.git(&["init", "--quiet"]);
        repository.git(&["add", "--all"]);
        repository.git(&["commit", "--quiet", "--message", "a"]);
        repository
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).args(arguments);
        ran(git.current_dir(self.folder.path())).trim().to_owned()
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        command.env_remove("CARGO_TARGET_DIR").env_remove("PROJECT_URL");
        command
    }

    /// What it says when it refuses to make a release.
    fn refused(&self, arguments: &[&str]) -> String {
        let (output, said) = tried(self.script("deploy/release").args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        said
    }
}

fn changelog() -> String {
    format!(
        "# Changelog\n\n## [Unreleased]\n\n## [{VERSION}]\n\nIt is here.\n\n## [0.0.9]\n\nOld.\n"
    )
}

#[test]
fn a_release_is_refused_for_what_was_not_tested_or_not_told() {
    let untold = Repository::new("# Changelog\n\n## [Unreleased]\n");
    assert!(untold.refused(&["--unsigned"]).contains(&format!("has no section [{VERSION}]")));

    let repository = Repository::new(&changelog());
    let said = repository.refused(&["--unsigned"]);
    assert!(said.contains("tests/run has not passed on this tree"), "{said}");
    let tested = |tree: &str| {
        fs::create_dir_all(repository.path("target")).unwrap();
        fs::write(repository.path("target/tested"), tree).unwrap();
    };
    tested("0000000000000000000000000000000000000000\n");
    assert!(repository.refused(&["--unsigned"]).contains("tests/run has not passed"));
    tested(&repository.git(&["rev-parse", "HEAD^{tree}"]));
    assert!(repository.refused(&[]).contains("--key names no key to sign with"));
    assert!(repository.refused(&["--key", "/nowhere"]).contains("--key names no key"));
    let said = repository.refused(&["--unsigned", "--require", "m68k"]);
    assert!(said.contains("no release is made for m68k"), "{said}");
    assert!(repository.refused(&["--sign"]).contains("knows no --sign"));
    fs::write(repository.path("CHANGELOG.md"), "changed").unwrap();
    assert!(repository.refused(&["--unsigned"]).contains("changes that no commit has"));
}

#[test]
fn files_that_were_signed_and_changed_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let keygen = |arguments: &[&str]| {
        ran(Command::new("ssh-keygen").current_dir(folder.path()).args(arguments))
    };
    keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", "key"]);
    let allowed = format!("releases@example.org {}", fs::read_to_string(path("key.pub")).unwrap());
    fs::write(path("allowed"), allowed).unwrap();
    fs::create_dir(path("files")).unwrap();
    fs::write(path("files/a.deb"), "a package").unwrap();
    let sums = ran(Command::new("sha256sum").current_dir(path("files")).arg("a.deb"));
    fs::write(path("files/SHA256SUMS"), &sums).unwrap();
    keygen(&["-q", "-Y", "sign", "-f", "key", "-n", "whiteboard-gateway", "files/SHA256SUMS"]);
    let verify = || {
        let mut command = script("deploy/release");
        command.arg("verify").arg(path("files")).arg(path("allowed"));
        tried(&mut command)
    };
    let (output, said) = verify();
    assert!(output.status.success() && said.contains("a.deb: OK"), "{said}");
    fs::write(path("files/a.deb"), "another package").unwrap();
    assert!(!verify().0.status.success(), "a file has changed");
    let sums = ran(Command::new("sha256sum").current_dir(path("files")).arg("a.deb"));
    fs::write(path("files/SHA256SUMS"), sums).unwrap();
    assert!(!verify().0.status.success(), "the sums are not those that were signed");
}

#[test]
fn the_address_of_the_project_stands_where_one_is_given_and_nowhere_else() {
    let repository = Repository::new(&changelog());
    let sources = |url: Option<&str>| {
        let folder = tempfile::tempdir().unwrap();
        let mut command = repository.script("deploy/source");
        ran(command.arg(folder.path()).envs(url.map(|url| ("PROJECT_URL", url))));
        folder
    };
    let named = [
        "README.md",
        "Cargo.toml",
        "deploy/systemd/whiteboard-gateway.service",
        "deploy/systemd/whiteboard-gateway.socket",
        "deploy/helm/whiteboard-gateway/Chart.yaml",
    ];
    let url = "https://example.org/whiteboard-gateway";
    let (without, with) = (sources(None), sources(Some(url)));
    for name in named {
        let text = fs::read_to_string(without.path().join(name)).unwrap();
        assert_eq!(text, read(name), "{name}");
        let text = fs::read_to_string(with.path().join(name)).unwrap();
        assert!(text.contains(url), "{name}");
    }
    let manifest = fs::read_to_string(with.path().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    assert_eq!(manifest["package"]["repository"].as_str(), Some(url));
    assert!(manifest["package"].get("homepage").is_some());
    let chart = super::yaml(&with.path().join("deploy/helm/whiteboard-gateway/Chart.yaml"));
    assert_eq!((&chart["home"], &chart["sources"][0]), (&url.into(), &url.into()));
    let (output, _) =
        tried(repository.script("deploy/source").arg("/nowhere").env("PROJECT_URL", "a b"));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_linter_has_nothing_to_say_of_the_scripts_and_each_has_a_help() {
    let scripts = [
        "build",
        "profile",
        "load",
        "bolt",
        "bom",
        "package",
        "rootfs",
        "source",
        "reproduce",
        "release",
    ]
    .map(|name| root().join("deploy").join(name));
    let mut linter = Command::new("shellcheck");
    linter.arg("--external-sources").args(&scripts).arg(root().join("deploy/functions"));
    for folder in ["deploy/debian", "tests/deploy/root"] {
        linter.args(files(&root().join(folder)));
    }
    ran(linter.current_dir(root()));
    for script in scripts {
        let help = ran(Command::new(&script).arg("--help"));
        let name = script.file_name().unwrap().to_str().unwrap();
        assert!(help.contains(&format!("deploy/{name}")), "{help}");
    }
}
