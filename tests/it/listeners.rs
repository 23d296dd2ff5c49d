//! Several listeners of one process: each with its own TLS, its own proxies and its own status, and
//! all of them in the log, in the metrics, in `check` and at a reload.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use crate::mtls::House;
use crate::support::{
    Answer, Authority, Client, Process, Setup, TlsClient, Upstream, activated, ended, handshake,
    wait_until,
};

/// The address of a listener by its name.
fn at(gateway: &Process, listener: &str) -> SocketAddr {
    gateway.listener(listener).unwrap_or_else(|| panic!("no {listener}: {}", gateway.stderr()))
}

fn list(address: SocketAddr, headers: &[(&str, &str)]) -> Answer {
    Client::connect(address).request("GET", "/v5/rooms", headers, "")
}

fn said(output: &std::process::Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// What `check` says of a configuration, and its exit code.
fn checked(setup: &Setup) -> (Option<i32>, String) {
    let output = ended(setup.command("check"));
    (output.status.code(), said(&output))
}

#[test]
fn a_caller_is_known_by_certificate_only_where_the_listener_asks_for_one() {
    let house = House::new();
    let setup = house.setup("").with(
        "[listeners.plain]\naddress = \"127.0.0.1:0\"\n\
         [listeners.internal]\naddress = \"127.0.0.1:0\"\n\
         [listeners.internal.tls]\ncertificate = \"server.pem\"\nkey = \"server-key.pem\"\n\
         client_ca = \"ca.pem\"\nclient_auth = \"require\"\n",
    );
    let gateway = setup.start();
    let (public, internal) = (gateway.address, at(&gateway, "internal"));
    let identity = house.clients.client("app.example.org");

    let answer = crate::mtls::get(&mut house.client(&identity).connect(internal));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!((&line["caller"], &line["listener"]), (&"by-dns".into(), &"internal".into()));

    // The public port of the same process asks for none: whoever shows one is nobody.
    let answer = crate::mtls::get(&mut house.client(&identity).connect(public));
    answer.assert_envelope(401, "unauthenticated");
    assert!(!answer.member("message").contains("certificate"), "{}", answer.text());
    let line = gateway.access_line(&answer.member("requestId"));
    assert_eq!(line["listener"], "listen");

    // Plain beside TLS.
    let answer = list(at(&gateway, "plain"), &[("token", &gateway.key)]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!((&line["caller"], &line["listener"]), (&"lessons".into(), &"plain".into()));
    // The client of TLS 1.3 finishes first, and learns of it when it reads.
    let nobody = TlsClient::new(&house.servers, None).try_connect(internal);
    let cut = nobody.map(|mut shown| shown.stream.read(&mut [0; 1]));
    assert!(!matches!(cut, Ok(Ok(1))), "without a certificate there is no handshake");

    for (metric, least) in [
        ("wbg_listener_connections_accepted_total{listener=\"listen\"}", 1.0),
        ("wbg_listener_connections_accepted_total{listener=\"internal\"}", 2.0),
        ("wbg_listener_connections_accepted_total{listener=\"plain\"}", 1.0),
        ("wbg_certificate_end_time_seconds{listener=\"internal\"}", 1.0),
        ("wbg_certificate_end_time_seconds{listener=\"listen\"}", 1.0),
    ] {
        gateway.until_metric_reaches(metric, least);
    }
    let metrics = gateway.admin("/metrics").text();
    let labelled = metrics.lines().filter(|line| line.contains("listener=\""));
    assert_eq!(
        labelled.count(),
        3 + 3 + 2,
        "a series a listener and metric, and no more: {metrics}"
    );
}

#[test]
fn without_further_listeners_no_line_names_one() {
    let gateway = Setup::new(&Upstream::json("200 OK", "[]").url()).start();
    let answer = gateway.call("GET", "/v5/rooms", "");
    assert!(gateway.access_line(answer.header("x-request-id"))["listener"].is_null());
}

#[test]
fn each_listener_says_a_limit_by_its_own_status() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url())
        .with(
            "[listeners.new]\naddress = \"127.0.0.1:0\"\nrate_limit_status = 429\n\
             [listeners.usual]\naddress = \"127.0.0.1:0\"\n",
        )
        .set("profiles.backend.limit", crate::support::value("{ rate = \"1/h\", burst = 1 }"))
        .start();
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
    for (listener, status) in [("listen", 403), ("new", 429), ("usual", 403), ("new", 429)] {
        let answer = list(at(&gateway, listener), &[("token", &gateway.key)]);
        assert_eq!(answer.member("code"), "rate_limited", "{}", answer.text());
        assert_eq!(answer.status, status, "{listener}");
    }
}

/// The client of a request by this listener with these fields, as the access line has it.
fn client(gateway: &Process, listener: &str, fields: &[(&str, &str)]) -> String {
    let fields = [&[("token", gateway.key.as_str())], fields].concat();
    let answer = list(at(gateway, listener), &fields);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = gateway.access_line(answer.header("x-request-id"));
    line["client"].as_str().unwrap().to_owned()
}

const PROXIED: &str = "[listeners.edge]\naddress = \"127.0.0.1:0\"\n\
    trusted_proxies = [\"127.0.0.1\"]\nclient_address = \"forwarded\"\n\
    [listeners.mesh]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n";

#[test]
fn the_proxies_of_one_listener_are_not_those_of_another() {
    let gateway = Setup::new(&Upstream::json("200 OK", "[]").url()).with(PROXIED).start();
    let fields = [("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "192.0.2.2")];
    for (listener, expected) in
        [("listen", "127.0.0.1"), ("edge", "192.0.2.1"), ("mesh", "192.0.2.2")]
    {
        assert_eq!(client(&gateway, listener, &fields), expected, "{listener}");
    }
}

#[test]
fn a_reload_changes_what_is_believed_by_each_listener_and_names_what_waits_for_a_restart() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url()).with(PROXIED).start();
    let fields = [("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "192.0.2.2")];
    // `edge` is not in it any more, another one is, and `mesh` trusts nobody.
    let later = gateway
        .configuration()
        .without("listeners.edge")
        .without("listeners.mesh.trusted_proxies")
        .with("[listeners.alpha]\naddress = \"127.0.0.1:0\"\n");
    gateway.reload(&later);
    for (listener, expected) in
        [("listen", "127.0.0.1"), ("edge", "192.0.2.1"), ("mesh", "127.0.0.1")]
    {
        assert_eq!(client(&gateway, listener, &fields), expected, "{listener}");
    }
    assert!(gateway.listener("alpha").is_none());
    gateway.until_logged("[listeners] or [admin] has changed");
    gateway.reload(
        &later
            .set("listeners.mesh.client_address", "forwarded")
            .set("listeners.mesh.trusted_proxies", crate::support::value("[\"127.0.0.0/8\"]")),
    );
    assert_eq!(client(&gateway, "mesh", &fields), "192.0.2.1");
}

#[test]
fn addresses_that_two_would_listen_on_are_an_error_of_check() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = |host: &str| format!("{host}:{free}");
    for (listen, other, admin, key, why) in [
        (
            at("127.0.0.1"),
            at("127.0.0.1"),
            "off".to_owned(),
            "listeners.b.address",
            "is an address of listen.address as well",
        ),
        (at("0.0.0.0"), at("127.0.0.1"), "off".to_owned(), "listeners.b.address", "every address"),
        (at("127.0.0.1"), at(""), "off".to_owned(), "listeners.b.address", "every address"),
        (at("localhost"), at("[::1]"), "off".to_owned(), "listeners.b.address", "connections of"),
        (
            "127.0.0.1:0".to_owned(),
            at("127.0.0.1"),
            at("127.0.0.1"),
            "admin.address",
            "is an address of listeners.b.address as well",
        ),
        (
            "127.0.0.1:0".to_owned(),
            at("127.0.0.1"),
            at("0.0.0.0"),
            "admin.address",
            "every address",
        ),
    ] {
        let setup = Setup::new("http://127.0.0.1:1")
            .set("listen.address", listen.as_str())
            .set("admin.address", admin.as_str())
            .with(&format!("[listeners.b]\naddress = \"{other}\"\n"));
        let (code, said) = checked(&setup);
        assert_eq!(code, Some(2), "{listen} {other} {admin}: {said}");
        let line = said.lines().find(|line| line.contains(&format!("`{key}`")));
        assert!(line.is_some_and(|line| line.contains(why)), "{listen} {other} {admin}: {said}");
    }
    // What differs is no collision.
    let setup = Setup::new("http://127.0.0.1:1")
        .set("listen.address", at("0.0.0.0"))
        .set("admin.address", "127.0.0.1:0")
        .with(&format!(
            "[listeners.b]\naddress = \"[::1]:{free}\"\n[listeners.c]\naddress = \"127.0.0.1:0\"\n"
        ));
    let (code, said) = checked(&setup);
    assert_ne!(code, Some(2), "{said}");
}

#[test]
fn what_a_listener_cannot_be_is_told_by_its_key() {
    for (sections, key, why) in [
        ("[listeners.b]\n", "listeners.b.address", "is missing"),
        ("[listeners.b]\naddress = []\n", "listeners.b.address", "empty list"),
        (
            "[listeners.http]\naddress = \"127.0.0.1:0\"\n",
            "listeners.http",
            "means another listener",
        ),
        ("[listeners.listen]\naddress = \"127.0.0.1:0\"\n", "listeners.listen", "means another"),
        ("[listeners.B]\naddress = \"127.0.0.1:0\"\n", "listeners.B", "small letter"),
        (
            "[listeners.b]\naddress = \"127.0.0.1:0\"\nmax_connections = 7\n",
            "listeners.b.max_connections",
            "is not a key here",
        ),
        (
            "[listeners.b]\naddress = \"127.0.0.1:0\"\nrate_limit_status = 500\n",
            "listeners.b.rate_limit_status",
            "must be 403 or 429",
        ),
        (
            "[listeners.b.tls]\ncertificate = \"no.pem\"\nkey = \"no.pem\"\n",
            "listeners.b.tls.certificate",
            "cannot be read",
        ),
    ] {
        let (code, said) = checked(&Setup::new("http://127.0.0.1:1").with(sections));
        assert_eq!(code, Some(2), "{sections}: {said}");
        let line = said.lines().find(|line| line.contains(&format!("`{key}`")));
        assert!(line.is_some_and(|line| line.contains(why)), "{sections}: {said}");
    }
}

#[test]
fn one_name_of_an_authority_is_one_authority() {
    let house = House::new();
    let authority = |listener: &str, ca: &str| {
        format!(
            "[{listener}]\ncertificate = \"server.pem\"\nkey = \"server-key.pem\"\nclient_ca = {ca}\n"
        )
    };
    let setup = |first: &str, second: &str| {
        let setup = house.setup(&format!("client_ca = {first}\n"));
        fs::write(setup.folder.path().join("other.pem"), &house.servers.pem).unwrap();
        setup
            .with("[listeners.b]\naddress = \"127.0.0.1:0\"\n")
            .with(&authority("listeners.b.tls", second))
    };
    let (code, said) = checked(&setup("{ ours = \"ca.pem\" }", "{ ours = \"other.pem\" }"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("`listeners.b.tls.client_ca.ours` is another file"), "{said}");
    // Two of them can each issue any name: whoever has a caller's certificates says which may.
    let (code, said) = checked(&setup("\"ca.pem\"", "\"other.pem\""));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not say which authority it is believed from"), "{said}");
    let (_, said) = checked(&setup("\"ca.pem\"", "\"ca.pem\""));
    assert!(!said.contains("does not say which authority"), "{said}");
}

#[test]
fn a_variable_reaches_each_listener() {
    let setup = Setup::new(&Upstream::json("200 OK", "[]").url());
    let mut command = setup.command("serve");
    command.env("WBG__LISTENERS__EXTRA__ADDRESS", "127.0.0.1:0");
    command.env("WBG__LISTEN__RATE_LIMIT_STATUS", "429");
    let Setup { folder, key, .. } = setup;
    let gateway = Process::of(command, folder, key);
    assert_eq!(list(at(&gateway, "extra"), &[("token", &gateway.key)]).status, 200);
}

#[test]
fn a_socket_that_is_named_as_a_listener_is_served_by_it() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url())
        .with("[listeners.internal]\naddress = \"127.0.0.1:1\"\nrate_limit_status = 429\n");
    let key = setup.key.clone();
    let gateway = setup.activated(&socket, "internal");
    assert_eq!(gateway.listener("internal"), socket.local_addr().ok());
    assert_ne!(gateway.address, socket.local_addr().unwrap());
    let answer = list(socket.local_addr().unwrap(), &[("token", &key)]);
    assert_eq!(gateway.access_line(answer.header("x-request-id"))["listener"], "internal");
    let nobodys = Setup::new("http://127.0.0.1:1");
    let named = activated(&nobodys.command("serve"), &socket, "unknown");
    let output = crate::support::finished(named);
    assert!(said(&output).contains("as one of [listeners]"), "{}", said(&output));
}

// Certificates by name.

/// A gateway with a certificate for each of these names besides `localhost`.
fn with_names(authority: &Authority, names: &[&str]) -> Setup {
    let mut setup = Setup::new(&Upstream::json("200 OK", "[]").url())
        .with("[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n");
    authority.certify("localhost").write(setup.folder.path());
    for (index, name) in names.iter().enumerate() {
        let identity = authority.certify(name);
        write(setup.folder.path(), &index.to_string(), &identity.pem, &identity.key);
        setup = setup.with(&format!(
            "[[listen.tls.certificates]]\ncertificate = \"{index}.pem\"\nkey = \"{index}.key\"\n"
        ));
    }
    setup
}

fn write(folder: &Path, name: &str, certificate: &str, key: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(folder.join(format!("{name}.pem")), certificate).unwrap();
    let file = folder.join(format!("{name}.key"));
    fs::write(&file, key).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The names of the certificate that openssl is shown, when it asks for this name.
fn shown(address: SocketAddr, asked: Option<&str>) -> String {
    let asked =
        asked.map_or_else(|| "-noservername".to_owned(), |name| format!("-servername {name}"));
    let script = format!(
        "openssl s_client -connect {address} {asked} </dev/null 2>/dev/null | \
         openssl x509 -noout -ext subjectAltName | tail -1"
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_that_it_asks_for() {
    let authority = Authority::new("authority");
    let gateway = with_names(&authority, &["a.example.org", "*.example.org"]).start();
    for (asked, names) in [
        (None, "DNS:localhost"),
        (Some("localhost"), "DNS:localhost"),
        (Some("elsewhere.example"), "DNS:localhost"),
        (Some("a.example.org"), "DNS:a.example.org"),
        (Some("A.Example.ORG"), "DNS:a.example.org"),
        (Some("b.example.org"), "DNS:*.example.org"),
        (Some("x.b.example.org"), "DNS:localhost"),
    ] {
        assert_eq!(shown(gateway.address, asked), names, "{asked:?}");
    }
    // curl and rustls verify what they are shown.
    let file = authority.write(gateway.folder.path());
    for (name, trusted) in
        [("a.example.org", true), ("b.example.org", true), ("x.y.example.org", false)]
    {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "--cacert"]).arg(&file);
        curl.args(["--resolve", &format!("{name}:{}:127.0.0.1", gateway.address.port())]);
        curl.arg(format!("https://{name}:{}/v5/rooms", gateway.address.port()));
        assert_eq!(curl.status().unwrap().success(), trusted, "{name}");
    }
    assert!(handshake(gateway.address, &authority, &["h2"]).is_ok());
    // Another certificate for one of the names is shown after a reload.
    let renewed = authority.certify("c.example.org");
    write(gateway.folder.path(), "0", &renewed.pem, &renewed.key);
    gateway.reload(&gateway.configuration());
    wait_until("the certificate has changed", || {
        shown(gateway.address, Some("c.example.org")) == "DNS:c.example.org"
    });
    assert_eq!(shown(gateway.address, Some("a.example.org")), "DNS:*.example.org");
}

#[test]
fn two_certificates_of_one_name_are_an_error_that_says_which() {
    let authority = Authority::new("authority");
    for (names, key) in [
        (&["localhost"][..], "`listen.tls.certificate`"),
        (&["a.example.org", "a.example.org"], "`listen.tls.certificates[0].certificate`"),
    ] {
        let (code, said) = checked(&with_names(&authority, names));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("and so does") && said.contains(key), "{said}");
    }
    // A reload keeps the old ones then.
    let gateway = with_names(&authority, &["a.example.org", "b.example.org"]).start();
    let same = authority.certify("a.example.org");
    write(gateway.folder.path(), "1", &same.pem, &same.key);
    gateway.reload(&gateway.configuration());
    gateway.until_logged("the configuration was not reloaded");
    assert_eq!(shown(gateway.address, Some("b.example.org")), "DNS:b.example.org");
}
