//! Callers with client certificates, over real TLS.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType};
use rustls::AlertDescription;
use time::{Duration, OffsetDateTime};

use crate::docs::Page;
use crate::support::{
    Answer, Authority, Client, Identity, Process, SHELLS, Secured, Setup, Shell, TlsClient,
    Upstream, binary, pasted, subject, wait_until,
};

const ROOM: &str = "/v5/rooms/a";

/// A gateway in front of an upstream, an authority of servers and one of clients.
pub(crate) struct House {
    pub(crate) servers: Authority,
    pub(crate) clients: Authority,
    /// Goes on for as long as the gateway needs it.
    _upstream: Upstream,
}

impl House {
    pub(crate) fn new() -> Self {
        let [servers, clients] = ["servers", "clients"].map(Authority::new);
        Self { servers, clients, _upstream: Upstream::json("200 OK", "{}") }
    }

    /// The configuration, with more lines in `[listen.tls]`, and callers for each kind of name.
    pub(crate) fn setup(&self, more: &str) -> Setup {
        let setup = Setup::new(&self._upstream.url());
        let server = self.servers.server();
        let write = |name: &str, text: &str| {
            fs::write(setup.folder.path().join(name), text).unwrap();
        };
        write("server.pem", &server.pem);
        write("server-key.pem", &server.key);
        write("ca.pem", &self.clients.pem);
        let callers: String = [
            ("by-spiffe", "spiffe = \"spiffe://example.org/app\""),
            ("by-dns", "dns = \"App.example.org\""),
            ("by-subject", "subject = \"cn=app, o=Example\""),
        ]
        .iter()
        .map(|(name, kind)| {
            format!("[callers.{name}]\nprofile = \"backend\"\ncertificates = [{{ {kind} }}]\n")
        })
        .collect();
        setup.with(&format!(
            "{callers}[listen.tls]\ncertificate = \"server.pem\"\nkey = \"server-key.pem\"\n{more}"
        ))
    }

    fn start(&self, more: &str) -> Process {
        self.setup(&format!("client_ca = \"ca.pem\"\n{more}")).start()
    }

    pub(crate) fn client(&self, identity: &Identity) -> TlsClient {
        TlsClient::new(&self.servers, Some(identity))
    }

    /// One request with a certificate alone, on a connection of its own.
    pub(crate) fn ask(&self, gateway: &Process, identity: &Identity) -> Answer {
        get(&mut self.client(identity).connect(gateway.address))
    }
}

pub(crate) fn get(client: &mut Client<Secured>) -> Answer {
    client.request("GET", ROOM, &[], "")
}

pub(crate) fn spiffe(one: &mut CertificateParams, ids: &[&str]) {
    one.subject_alt_names = ids.iter().map(|id| SanType::URI((*id).try_into().unwrap())).collect();
}

pub(crate) fn dns(one: &mut CertificateParams, names: &[&str]) {
    one.subject_alt_names =
        names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect();
}

fn rewrite(gateway: &Process, name: &str, text: &str) {
    fs::write(gateway.folder.path().join(name), text).unwrap();
    gateway.reload(&fs::read_to_string(gateway.config_path()).unwrap());
}

#[track_caller]
pub(crate) fn assert_told(
    gateway: &Process,
    answer: &Answer,
    code: &str,
    message: &str,
    detail: &str,
) {
    let status = if code == "auth_unavailable" { 500 } else { 401 };
    answer.assert_envelope(status, code);
    assert!(answer.member("message").contains(message), "{}", answer.text());
    let line = gateway.access_line(&answer.member("requestId"));
    let said = line["detail"].as_str().unwrap_or_default();
    assert!(said.contains(detail), "{line}");
    assert!(line["caller"].is_null(), "{line}");
}

#[test]
fn a_caller_is_known_by_each_kind_of_name() {
    let house = House::new();
    let gateway = house.start("");
    let by_spiffe = house.clients.issue(|one| spiffe(one, &["spiffe://example.org/app"]));
    let by_dns = house.clients.issue(|one| dns(one, &["other.example.org", "app.EXAMPLE.org"]));
    let by_subject = house.clients.issue(|one| one.distinguished_name = subject("app"));
    let twice = house.clients.issue(|one| {
        one.distinguished_name = subject("somebody");
        dns(one, &["app.example.org"]);
    });
    for (identity, caller) in [
        (&by_spiffe, "by-spiffe"),
        (&by_dns, "by-dns"),
        (&by_subject, "by-subject"),
        (&twice, "by-dns"),
    ] {
        let answer = house.ask(&gateway, identity);
        assert_eq!(answer.status, 200, "{caller}: {}", answer.text());
        let line = gateway.access_line(answer.header("x-request-id"));
        assert_eq!((&line["caller"], &line["credential"]), (&caller.into(), &"certificate".into()));
    }
}

#[test]
fn tls_1_2_does_as_well() {
    let house = House::new();
    let gateway = house.start("");
    let identity = house.clients.client("app.example.org");
    let versions = [&rustls::version::TLS12];
    let client = TlsClient::speaking(&house.servers, Some(&identity), &versions);
    assert_eq!(get(&mut client.connect(gateway.address)).status, 200);
    let stranger = Authority::new("strangers").client("app.example.org");
    let client = TlsClient::speaking(&house.servers, Some(&stranger), &versions);
    let answer = get(&mut client.connect(gateway.address));
    assert_told(&gateway, &answer, "invalid_token", "no authority", "UnknownIssuer");
}

#[test]
fn an_authority_in_between_is_sent_along() {
    let house = House::new();
    let gateway = house.start("");
    let identity = house.clients.below("department").client("app.example.org");
    assert_eq!(house.ask(&gateway, &identity).status, 200);
}

#[test]
fn without_a_certificate_the_answer_says_what_to_send() {
    let house = House::new();
    let gateway = house.start("");
    let mut client = TlsClient::new(&house.servers, None).connect(gateway.address);
    let answer = get(&mut client);
    assert_told(&gateway, &answer, "unauthenticated", "present a client certificate", "no cred");
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"whiteboard-gateway\"");
    // And a key on the same connection is all that is missing.
    let with_key = client.request("GET", ROOM, &[("token", &gateway.key)], "");
    assert_eq!(with_key.status, 200);
    let line = gateway.access_line(with_key.header("x-request-id"));
    assert_eq!(line["credential"], "key");
}

#[test]
fn a_certificate_that_does_not_do_is_told_why() {
    let house = House::new();
    let gateway = house.start("");
    let name = "app.example.org";
    let now = OffsetDateTime::now_utc();
    let issue = |from: &Authority, change: &dyn Fn(&mut CertificateParams)| {
        from.issue(|one| {
            dns(one, &[name]);
            change(one);
        })
    };
    let expired: &dyn Fn(&mut CertificateParams) = &|one| {
        one.not_before = now - Duration::days(3);
        one.not_after = now - Duration::DAY;
    };
    let early: &dyn Fn(&mut CertificateParams) = &|one| one.not_before = now + Duration::DAY;
    let purpose: &dyn Fn(&mut CertificateParams) =
        &|one| one.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let ca: &dyn Fn(&mut CertificateParams) =
        &|one| one.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let nobody: &dyn Fn(&mut CertificateParams) = &|one| {
        dns(one, &["*.example.org", "nobody.example.org"]);
        one.distinguished_name = subject("nobody");
    };
    let two: &dyn Fn(&mut CertificateParams) = &|one| one.distinguished_name = subject("app");
    let two_uris: &dyn Fn(&mut CertificateParams) =
        &|one| spiffe(one, &["spiffe://example.org/app", "spiffe://example.org/other"]);
    let ours = &house.clients;
    // The same name, and another key.
    let forged = Authority::new("clients");
    let unlimited = &|_: &mut CertificateParams| {};
    for (identity, code, message, detail) in [
        (issue(&Authority::new("other"), unlimited), "invalid_token", "no authority", "UnknownIss"),
        (issue(&forged, unlimited), "invalid_token", "no authority", ""),
        (issue(ours, expired), "expired_token", "has expired", "expired"),
        (issue(ours, early), "invalid_token", "not valid yet", "not valid yet"),
        // That it is expired is nothing that an unknown authority can say.
        (issue(&forged, expired), "invalid_token", "no authority", ""),
        (issue(&forged, early), "invalid_token", "no authority", ""),
        (issue(ours, purpose), "invalid_token", "another purpose", "purpose"),
        (issue(ours, ca), "invalid_token", "no authority", "CaUsedAsEndEntity"),
        (
            issue(ours, nobody),
            "invalid_token",
            "no caller that is known",
            "dns nobody.example.org; subject CN=nobody,O=Example",
        ),
        (issue(ours, two), "invalid_token", "different callers", "subject CN=app,O=Example"),
        (issue(ours, two_uris), "invalid_token", "no caller that is known", "no name"),
    ] {
        let answer = house.ask(&gateway, &identity);
        assert_told(&gateway, &answer, code, message, detail);
        let challenge = answer.header("www-authenticate");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        // The connection is good for another credential.
        let mut client = house.client(&identity).connect(gateway.address);
        assert_eq!(client.request("GET", ROOM, &[("token", &gateway.key)], "").status, 200);
    }
}

#[test]
fn who_does_not_have_the_key_gets_no_connection() {
    let house = House::new();
    let gateway = house.start("");
    let known = house.clients.client("app.example.org");
    let thief = known.with_key_of(&house.clients.client("thief.example.org"));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = TlsClient::speaking(&house.servers, Some(&thief), &[version]);
        assert_eq!(refused_with(&client, &gateway), Some(AlertDescription::DecryptError));
    }
}

/// The alert that ends a handshake, or comes right after it; `None` when there is none.
fn refused_with(client: &TlsClient, gateway: &Process) -> Option<AlertDescription> {
    let told = client.try_connect(gateway.address).and_then(|mut shown| {
        shown.stream.write_all(b"GET /v5/rooms/a HTTP/1.1\r\nhost: a\r\n\r\n")?;
        shown.stream.read(&mut [0; 16])
    });
    let error = told.err()?;
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        other => panic!("{other}"),
    }
}

#[test]
fn whoever_prefers_it_gets_the_alert() {
    let house = House::new();
    let gateway = house.start("client_auth = \"require\"\n");
    let known = house.client(&house.clients.client("app.example.org"));
    // No session is resumed: a resumed one would show no certificate to the handshake.
    for _ in 0..2 {
        let mut shown = known.try_connect(gateway.address).unwrap();
        assert!(!shown.is_resumed());
        shown.stream.write_all(b"GET /v5/rooms/a HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut status = [0; 12];
        shown.stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    let stranger = Authority::new("strangers").client("app.example.org");
    let expired = house.clients.issue(|one| {
        dns(one, &["app.example.org"]);
        one.not_after = OffsetDateTime::now_utc() - Duration::DAY;
    });
    for (identity, alert) in [
        (None, AlertDescription::CertificateRequired),
        (Some(&stranger), AlertDescription::UnknownCA),
        (Some(&expired), AlertDescription::CertificateExpired),
    ] {
        let client = TlsClient::new(&house.servers, identity);
        assert_eq!(refused_with(&client, &gateway), Some(alert));
    }
}

#[test]
fn a_revoked_certificate_counts_for_nothing_on_open_connections_too() {
    let house = House::new();
    let setup = house.setup("client_ca = \"ca.pem\"\nclient_crl = \"crl.pem\"\n");
    let list = setup.folder.path().join("crl.pem");
    fs::write(list, house.clients.revoked(&[], Duration::DAY)).unwrap();
    let gateway = setup.start();
    let [kept, revoked] = [(); 2].map(|()| house.clients.client("app.example.org"));
    let mut open = house.client(&revoked).connect(gateway.address);
    assert_eq!(get(&mut open).status, 200);

    rewrite(&gateway, "crl.pem", &house.clients.revoked(&[&revoked], Duration::DAY));
    assert_told(&gateway, &get(&mut open), "invalid_token", "was revoked", "revoked");
    let answer = house.ask(&gateway, &revoked);
    assert_told(&gateway, &answer, "invalid_token", "was revoked", "revoked");
    assert_eq!(house.ask(&gateway, &kept).status, 200);
}

#[test]
fn what_no_list_tells_is_the_fault_of_the_gateway() {
    let house = House::new();
    let setup = house.setup("client_ca = \"ca.pem\"\nclient_crl = [\"crl.pem\"]\n");
    let list = setup.folder.path().join("crl.pem");
    fs::write(list, house.clients.revoked(&[], -Duration::HOUR)).unwrap();
    let gateway = setup.start();
    gateway.until_logged("out of date");
    let identity = house.clients.client("app.example.org");
    let message = "cannot be found out";
    let answer = house.ask(&gateway, &identity);
    assert_told(&gateway, &answer, "auth_unavailable", message, "expired");

    // Of an authority in between there is none, and `check` cannot know that.
    rewrite(&gateway, "crl.pem", &house.clients.revoked(&[], Duration::DAY));
    assert_eq!(house.ask(&gateway, &identity).status, 200);
    let answer = house.ask(&gateway, &house.clients.below("department").client("app.example.org"));
    assert_told(&gateway, &answer, "auth_unavailable", message, "UnknownRevocationStatus");
}

#[test]
fn a_resumed_session_is_judged_like_any() {
    let house = House::new();
    let setup = house.setup("client_ca = \"ca.pem\"\nclient_crl = \"crl.pem\"\n");
    let list = setup.folder.path().join("crl.pem");
    fs::write(list, house.clients.revoked(&[], Duration::DAY)).unwrap();
    let gateway = setup.start();
    let identities = [(); 2].map(|()| house.clients.client("app.example.org"));
    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    let clients: Vec<TlsClient> = identities
        .iter()
        .zip(versions)
        .map(|(identity, version)| TlsClient::speaking(&house.servers, Some(identity), &[version]))
        .collect();
    for client in &clients {
        assert_eq!(get(&mut client.connect(gateway.address)).status, 200);
        let again = client.try_connect(gateway.address).unwrap();
        assert!(again.is_resumed());
        assert_eq!(get(&mut Client::over(again.stream)).status, 200);
    }
    let both: Vec<&Identity> = identities.iter().collect();
    rewrite(&gateway, "crl.pem", &house.clients.revoked(&both, Duration::DAY));
    for client in &clients {
        let again = client.try_connect(gateway.address).unwrap();
        assert!(again.is_resumed(), "tickets outlive a reload");
        let answer = get(&mut Client::over(again.stream));
        assert_told(&gateway, &answer, "invalid_token", "was revoked", "revoked");
    }
}

#[test]
fn a_session_of_before_certificates_were_asked_for_is_not_resumed() {
    let house = House::new();
    let gateway = house.setup("").start();
    let client = house.client(&house.clients.client("app.example.org"));
    get(&mut client.connect(gateway.address)).assert_envelope(401, "unauthenticated");
    gateway.reload(&gateway.configuration().set("listen.tls.client_ca", "ca.pem"));
    assert_eq!(get(&mut client.connect(gateway.address)).status, 200);
}

#[test]
fn another_authority_counts_at_once() {
    let house = House::new();
    let gateway = house.start("");
    let old = house.client(&house.clients.client("app.example.org"));
    let other = Authority::new("others");
    let new = house.client(&other.client("app.example.org"));
    let mut open = [&old, &new].map(|client| client.connect(gateway.address));
    assert_eq!(open.each_mut().map(|client| get(client).status), [200, 401]);
    rewrite(&gateway, "ca.pem", &format!("{}{}", house.clients.pem, other.pem));
    assert_eq!(open.each_mut().map(|client| get(client).status), [200, 200]);
    rewrite(&gateway, "ca.pem", &other.pem);
    assert_eq!(open.each_mut().map(|client| get(client).status), [401, 200]);
    // What cannot be used changes nothing.
    rewrite(&gateway, "ca.pem", "nothing");
    assert_eq!(open.each_mut().map(|client| get(client).status), [401, 200]);
    gateway.until_logged("client_ca` names a file without a certificate");
}

#[test]
fn a_credential_in_a_header_decides_alone() {
    let house = House::new();
    let gateway = house.start("");
    let identity = house.clients.client("app.example.org");
    let mut client = house.client(&identity).connect(gateway.address);
    let answer = client.request("GET", ROOM, &[("token", &gateway.key)], "");
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!((&line["caller"], &line["credential"]), (&"lessons".into(), &"key".into()));
    let answer = client.request("GET", ROOM, &[("token", "wbg_live_wrong")], "");
    answer.assert_envelope(401, "invalid_token");
    assert_eq!(get(&mut client).status, 200);
}

#[test]
fn a_page_cannot_use_the_certificate_of_a_browser() {
    let house = House::new();
    let gateway = house.start("");
    let identity = house.clients.client("app.example.org");
    let mut client = house.client(&identity).connect(gateway.address);
    for header in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let answer = client.request("POST", "/v5/rooms", &[header], "{}");
        assert_told(&gateway, &answer, "unauthenticated", "browser", "");
    }
}

#[test]
fn a_certificate_that_expires_stops_counting_on_an_open_connection() {
    let house = House::new();
    let gateway = house.start("");
    let end = OffsetDateTime::now_utc() + Duration::seconds(3);
    let identity = house.clients.issue(|one| {
        dns(one, &["app.example.org"]);
        one.not_after = end;
    });
    let mut client = house.client(&identity).connect(gateway.address);
    assert_eq!(get(&mut client).status, 200);
    let mut last = None;
    wait_until("it has expired", || {
        let before = OffsetDateTime::now_utc();
        let answer = get(&mut client);
        // The second in which it ends is its last.
        assert!(answer.status != 200 || before < end + Duration::SECOND, "it outlives its end");
        last = Some(answer);
        last.as_ref().is_some_and(|answer| answer.status != 200)
    });
    assert!(OffsetDateTime::now_utc() >= end.replace_nanosecond(0).unwrap() + Duration::SECOND);
    assert_told(&gateway, &last.unwrap(), "expired_token", "has expired", "expired");
}

/// The statuses of two requests on one HTTP/2 connection, with something done between them.
async fn over_http2(client: &TlsClient, gateway: &Process, between: impl FnOnce()) -> [u16; 2] {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(client.of_http2());
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, socket).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut ask = async || {
        let request = http::Request::get(format!("https://localhost{ROOM}"));
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        sender.send_request(request).await.unwrap().status().as_u16()
    };
    let first = ask().await;
    between();
    [first, ask().await]
}

#[tokio::test]
async fn http_2_is_no_different() {
    let house = House::new();
    let gateway = house.start("");
    let known = house.client(&house.clients.client("app.example.org"));
    let other = Authority::new("others");
    let change = || rewrite(&gateway, "ca.pem", &other.pem);
    assert_eq!(over_http2(&known, &gateway, change).await, [200, 401]);
    let nobody = TlsClient::new(&house.servers, None);
    assert_eq!(over_http2(&nobody, &gateway, || {}).await, [401, 401]);
}

/// Runs commands as the page gives them; gives what they wrote.
fn paste(shell: Shell, folder: &Path, commands: &str) -> String {
    let done = pasted(shell.command(folder).env("CLASSROOM_SK", "secret"), commands);
    let wrote = String::from_utf8_lossy(&done.stdout).into_owned();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {commands}\n{wrote}\n{said}", shell.name);
    wrote
}

#[test]
fn the_example_of_the_page_works_as_it_stands() {
    SHELLS.into_iter().for_each(works_in);
}

fn works_in(shell: Shell) {
    let page = Page::read("docs/mtls.md");
    let blocks = |language| page.blocks().into_iter().filter(move |block| block.info == language);
    let upstream = Upstream::json("200 OK", "[{\"uuid\":\"a\"}]");
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_owned();
    fs::write(here.join("gateway.toml"), blocks("toml").next().unwrap().text).unwrap();
    let commands: Vec<&str> = blocks("sh").map(|block| block.text).collect();
    let place = |part: &str| commands.iter().position(|one| one.contains(part)).unwrap();
    let (calls, revocation) = (place("curl"), place("-revoke"));
    let wrote: Vec<String> =
        commands[..calls].iter().map(|commands| paste(shell, &here, commands)).collect();
    assert!(wrote[place("RFC2253")].contains("CN=scheduler,O=Example"), "{wrote:?}");
    assert!(wrote[place("check")].contains("is good"), "{wrote:?}");

    let mut serve = Command::new(binary());
    serve.args(["serve", "--config"]).arg(here.join("gateway.toml"));
    serve.env("CLASSROOM_SK", "secret").env("WBG__UPSTREAM__URL", upstream.url());
    for (key, value) in [
        ("LISTEN__ADDRESS", "127.0.0.1:0"),
        ("ADMIN__ADDRESS", "127.0.0.1:0"),
        ("LOG__FORMAT", "json"),
    ] {
        serve.env(format!("WBG__{key}"), value);
    }
    let gateway = Process::of(serve, folder, String::new());
    let port = gateway.address.port().to_string();
    let call = || paste(shell, &here, &commands[calls].replace("8443", &port));
    let answers = call();
    assert!(answers.starts_with("[{\"uuid\":\"a\"}]"), "{answers}");
    assert!(answers.contains("no credential came: present a client certificate"), "{answers}");
    wait_until("the access lines are written", || gateway.access_lines().len() == 2);
    let lines = gateway.access_lines();
    let known = lines.iter().find(|line| line["caller"] == "scheduler").unwrap();
    assert_eq!(known["credential"], "certificate");
    paste(shell, &here, commands[revocation]);
    wait_until("the list is read", || gateway.stderr().contains("the configuration was reloaded"));
    assert!(call().contains("the client certificate was revoked"));
}
