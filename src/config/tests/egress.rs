//! `[egress]` and the proxy of the environment.

use super::{Loaded, Project};
use crate::net::Egress;

const CREDENTIALS: &str = "proxy:3128 with credentials";

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, String> {
    Project::with(text).load(environment)
}

/// The proxy on the way to a host, and whether it is told who we are.
fn way(egress: &Egress, host: &str) -> String {
    match egress.proxy_of(host, 443) {
        None => "straight".to_owned(),
        Some(proxy) if format!("{proxy:?}").contains("Sensitive") => {
            format!("{proxy} with credentials")
        }
        Some(proxy) => proxy.to_string(),
    }
}

#[test]
fn the_file_comes_before_the_environment_and_small_letters_before_great_ones() {
    let used = "[egress]\nfrom_environment = true\n";
    let filed = "[egress]\nproxy = \"http://file:1\"\nfrom_environment = true\n";
    let excepted = "[egress]\nno_proxy = [\"b.internal\"]\nfrom_environment = true\n";
    for (text, environment, a, b) in [
        ("", &[][..], "straight", "straight"),
        ("", &[("HTTPS_PROXY", "http://env:1")], "straight", "straight"),
        (used, &[("HTTPS_PROXY", "http://env:1")], "env:1", "env:1"),
        (used, &[("HTTPS_PROXY", "env:1")], "env:1", "env:1"),
        (used, &[("HTTPS_PROXY", "http://us:pw@proxy:3128")], CREDENTIALS, CREDENTIALS),
        (used, &[("HTTPS_PROXY", "big:1"), ("https_proxy", "small:1")], "small:1", "small:1"),
        (used, &[("HTTPS_PROXY", "big:1"), ("https_proxy", "")], "big:1", "big:1"),
        (used, &[("HTTP_PROXY", "http://env:1")], "straight", "straight"),
        (used, &[("HTTPS_PROXY", "env:1"), ("NO_PROXY", "x, b.internal")], "env:1", "straight"),
        (used, &[("HTTPS_PROXY", "env:1"), ("no_proxy", "*")], "straight", "straight"),
        (filed, &[("HTTPS_PROXY", "env:1")], "file:1", "file:1"),
        (filed, &[("NO_PROXY", "b.internal")], "file:1", "straight"),
        (excepted, &[("https_proxy", "env:1"), ("NO_PROXY", "a.internal")], "env:1", "straight"),
        ("[egress]\nproxy = \"file:1\"\n", &[("NO_PROXY", "*")], "file:1", "file:1"),
    ] {
        let loaded = load(text, environment).unwrap_or_else(|errors| panic!("{text}: {errors}"));
        let egress = &loaded.settings.gateway.upstream.egress;
        let ways = (way(egress, "a.internal"), way(egress, "b.internal"));
        assert_eq!(ways, (a.to_owned(), b.to_owned()), "{text}{environment:?}");
    }
}

#[test]
fn a_proxy_of_the_environment_that_is_not_used_is_warned_about_unless_it_is_not_wanted() {
    let set = [("HTTPS_PROXY", "http://me:secret@env:1")];
    for (text, environment, warned) in [
        ("", &set[..], "the proxy that HTTPS_PROXY in the environment names is not used"),
        ("", &[("all_proxy", "x")], "the proxy that all_proxy in the environment names"),
        ("", &[("NO_PROXY", "*")], ""),
        ("", &[("HTTPS_PROXY", "")], ""),
        ("[egress]\nfrom_environment = false\n", &set, ""),
        ("[egress]\nproxy = \"file:1\"\n", &set, ""),
        ("[egress]\nfrom_environment = true\n", &set, ""),
        ("[egress]\nfrom_environment = true\n", &[("HTTP_PROXY", "x")], "finds HTTP_PROXY, which"),
        ("[egress]\nfrom_environment = true\n", &[], "finds no HTTPS_PROXY"),
        (
            "[egress]\nfrom_environment = true\n",
            &[("HTTPS_PROXY", "env:1"), ("NO_PROXY", "a,192.168.*")],
            "NO_PROXY: its entry 2 is none that is known here",
        ),
    ] {
        let loaded = load(text, environment).unwrap();
        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        let warnings = warnings.join("\n");
        let about = warnings.contains("PROXY") || warnings.contains("_proxy");
        assert_eq!(about, !warned.is_empty(), "{text}{environment:?}: {warnings}");
        assert!(warnings.contains(warned), "{text}{environment:?}: {warnings}");
        assert!(!warnings.contains("secret"), "{warnings}");
    }
}

#[test]
fn what_is_wrong_with_a_proxy_is_told_without_the_text() {
    let proxied = "[egress]\nproxy = \"http://proxy:3128\"\n";
    let env: &[(&str, &str)] = &[("HTTPS_PROXY", "socks5://me:secret@env:1")];
    for (text, environment, said) in [
        ("proxy = \"https://secret@proxy\"".to_owned(), &[][..], "plain HTTP"),
        ("proxy = \"socks5://secret:1\"".to_owned(), &[], "a proxy is one that takes CONNECT"),
        ("proxy = \"http://proxy/secret\"".to_owned(), &[], "a path"),
        ("proxy = \"\"".to_owned(), &[], "host is missing"),
        ("proxy = 3128".to_owned(), &[], "found an integer"),
        ("username = \"me\"".to_owned(), &[], "means nothing without egress.proxy"),
        ("password = \"secret\"".to_owned(), &[], "means nothing without egress.proxy"),
        ("no_proxy = [\"a\"]".to_owned(), &[], "means nothing without egress.proxy"),
        (format!("{proxied}no_proxy = [\"sec ret\"]"), &[], "`egress.no_proxy[0]` must be a name"),
        (format!("{proxied}no_proxy = [\"10.0.0.0/33\"]"), &[], "`egress.no_proxy[0]` must be"),
        (format!("{proxied}password = \"secret\""), &[], "is without egress.username"),
        (format!("{proxied}username = \"a:secret\""), &[], "holds a colon"),
        ("proxy = \"http://me:secret@proxy\"\nusername = \"me\"".to_owned(), &[], "given twice"),
        ("from_environment = true".to_owned(), env, "HTTPS_PROXY: must be the URL of a proxy"),
        (
            "from_environment = true\nusername = \"me\"".to_owned(),
            &[("HTTPS_PROXY", "env:1")],
            "is for egress.proxy",
        ),
    ] {
        let text = if text.starts_with('[') { text } else { format!("[egress]\n{text}") };
        let errors = load(&text, environment).err().unwrap_or_else(|| panic!("it loads: {text}"));
        assert!(errors.contains(said), "{text}: {errors}");
        assert!(!errors.contains("secret"), "{errors}");
    }
}

#[test]
fn a_password_in_the_url_and_what_the_proxy_would_look_for_at_home_are_warned_about() {
    for (text, warned) in [
        ("[egress]\nproxy = \"http://me:secret@proxy:1\"\n", "has a password in it"),
        (
            "[egress]\nproxy = \"proxy:1\"\n[upstream]\nurl = \"http://127.0.0.1:1\"\n",
            "`upstream.url` is on this machine, and the proxy would look for it on its own",
        ),
        (
            "[egress]\nproxy = \"proxy:1\"\n[otlp]\nendpoint = \"http://localhost:4318\"\n",
            "`otlp.endpoint` is on this machine",
        ),
        (
            "[egress]\nproxy = \"http://proxy.example.org:3128\"\n",
            "`egress.proxy` is a placeholder",
        ),
    ] {
        let warnings = Project::with(text).warnings().join("\n");
        assert!(warnings.contains(warned), "{text}: {warnings}");
        assert!(!warnings.contains("secret"), "{warnings}");
    }
    for text in [
        "[egress]\nproxy = \"localhost:1\"\n[upstream]\nurl = \"http://127.0.0.1:1\"\n",
        "[egress]\nproxy = \"p:1\"\nno_proxy = [\"127.0.0.1\"]\n[upstream]\nurl = \"http://127.0.0.1:1\"\n",
    ] {
        let warnings = Project::with(text).warnings().join("\n");
        assert!(!warnings.contains("on this machine"), "{text}: {warnings}");
    }
}
