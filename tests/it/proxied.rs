//! The PROXY protocol: whom a named proxy of TCP names becomes the client, and nobody else may.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::mtls::House;
use crate::support::{Answer, Client, Process, Setup, Upstream, ended, scenario_delay, wait_until};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// One that names this IPv4 address, with more behind it.
fn naming(address: [u8; 4], more: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[&address[..], &[10, 0, 0, 1, 0x30, 0x39, 0, 80], more].concat())
}

fn request(gateway: &Process) -> String {
    format!("GET /v5/rooms HTTP/1.1\r\nhost: a\r\ntoken: {}\r\n\r\n", gateway.key)
}

/// A gateway whose only listener takes headers from these.
fn taking(proxies: &str, more: &str) -> Process {
    Setup::new(&Upstream::json("200 OK", "[]").url())
        .with(&format!("[listen]\nproxy_protocol = [\"{proxies}\"]\n{more}"))
        .start()
}

/// What is answered to these bytes with a request behind them.
fn sent(gateway: &Process, bytes: &[u8]) -> Option<Answer> {
    let mut client = gateway.client();
    // A peer that refuses early may have closed already.
    _ = client.try_send(&[bytes, request(gateway).as_bytes()].concat());
    client.answer("GET")
}

fn client_of(gateway: &Process, answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = gateway.access_line(answer.header("x-request-id"));
    line["client"].as_str().unwrap().to_owned()
}

#[test]
fn a_header_of_a_named_proxy_names_the_client() {
    let gateway = taking("127.0.0.1", "");
    let value = [0xE0, 0, 2, 1, 2];
    for (header, client) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 12345 80\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 12345 80\r\n".to_vec(), "192.0.2.7"),
        (naming([192, 0, 2, 8], &[]), "192.0.2.8"),
        (naming([192, 0, 2, 9], &value), "192.0.2.9"),
        // Of itself, or of somebody without an address, it says nothing.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (binary(0x20, 0, &[]), "127.0.0.1"),
        (binary(0x21, 0, b"x"), "127.0.0.1"),
        (binary(0x21, 0x31, &[b'x'; 216]), "127.0.0.1"),
    ] {
        let answer = sent(&gateway, &header).unwrap();
        assert_eq!(client_of(&gateway, &answer), client, "{}", header.escape_ascii());
    }
    // However it comes.
    let mut client = gateway.client();
    for byte in naming([192, 0, 2, 10], &value) {
        client.send(&[byte]);
    }
    client.send(request(&gateway).as_bytes());
    assert_eq!(client_of(&gateway, &client.answer("GET").unwrap()), "192.0.2.10");
    assert_eq!(gateway.metric("wbg_connections_cut_total{reason=\"proxy_header\"}"), 0.0);
}

#[test]
fn what_a_named_proxy_may_not_send_is_told_and_counted() {
    let gateway = taking("127.0.0.1", "");
    let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n";
    let cases: [(Vec<u8>, &str); 10] = [
        (Vec::new(), "none came"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 80\r\n".to_vec(), "version 1 is not valid"),
        (b"PROXY TCP4 192.0.2.7\r\n".to_vec(), "version 1 is not valid"),
        ([b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(), "version 1 is not valid"),
        (binary(0x21, 0x11, &[1; 11]), "version 2 is not valid"),
        (naming([192, 0, 2, 7], &[4, 0, 9, 1]), "version 2 is not valid"),
        (binary(0x21, 0x12, &[1; 12]), "datagrams"),
        (naming([192, 0, 2, 7], &vec![0; 65_000]), "more than 4096 bytes"),
        ([&line[..], line].concat(), "came twice"),
        ([&line[..], &naming([192, 0, 2, 7], &[])].concat(), "came twice"),
    ];
    for (number, (bytes, why)) in cases.iter().enumerate() {
        let shown = bytes[..bytes.len().min(60)].escape_ascii();
        let answer = sent(&gateway, bytes).unwrap_or_else(|| panic!("no answer to {shown}"));
        answer.assert_envelope(400, "malformed_request");
        assert!(answer.member("message").contains(why), "{shown}: {}", answer.text());
        let count = gateway.metric("wbg_connections_cut_total{reason=\"proxy_header\"}");
        assert_eq!(count, (number + 1) as f64, "{shown}");
    }
}

#[test]
fn a_header_that_ends_midway_is_no_connection_and_one_that_stops_is_cut_at_its_deadline() {
    let gateway = taking("127.0.0.1", "head_timeout = \"500ms\"\n");
    let header = naming([192, 0, 2, 7], &[]);
    for half in [&header[..20], b"PROXY TCP4 192.0."] {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.write_all(half).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty(), "{}", answer.escape_ascii());
    }
    wait_until("both are counted", || {
        gateway.metric("wbg_connections_cut_total{reason=\"proxy_header\"}") == 2.0
    });
    let mut late = gateway.client();
    late.send(&header[..20]);
    let answer = late.answer("GET").unwrap();
    assert!(answer.member("message").contains("did not arrive in time"), "{}", answer.text());
}

#[test]
fn a_stranger_is_served_without_a_header_and_refused_with_one() {
    let gateway = taking("192.0.2.0/24", "");
    assert_eq!(client_of(&gateway, &sent(&gateway, b"").unwrap()), "127.0.0.1");
    for header in [&b"PROXY TCP4 192.0.2.7 10.0.0.1 1 80\r\n"[..], &naming([192, 0, 2, 7], &[])] {
        let answer = sent(&gateway, header).unwrap();
        answer.assert_envelope(400, "malformed_request");
        assert!(answer.member("message").contains("of which none is taken"), "{}", answer.text());
        let line = gateway.access_line(&answer.member("requestId"));
        assert_eq!(line["client"], "127.0.0.1", "{line}");
    }
}

#[test]
fn connections_are_counted_by_the_address_that_is_named() {
    let gateway = taking("127.0.0.1", "max_connections_per_address = 2\n");
    let connect = |address: [u8; 4]| {
        let mut client = gateway.client();
        client.send(&[&naming(address, &[])[..], request(&gateway).as_bytes()].concat());
        let answer = client.answer("GET").unwrap();
        (client, answer.status)
    };
    let kept: Vec<_> = [[192, 0, 2, 1], [192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]]
        .into_iter()
        .map(connect)
        .collect();
    assert!(kept.iter().all(|(_, status)| *status == 200), "others are not in the way");
    let (_, refused) = connect([192, 0, 2, 1]);
    assert_ne!(refused, 200, "the third of one address");
    gateway.until_metric("wbg_connections_cut_total{reason=\"address_full\"}", 1.0);
    drop(kept);
    wait_until("its place is free again", || connect([192, 0, 2, 1]).1 == 200);
}

#[test]
fn a_proxy_of_http_behind_one_of_tcp_is_trusted_by_its_own_address() {
    let gateway = taking("127.0.0.1", "trusted_proxies = [\"192.0.2.7\"]\n");
    for (named, client) in [([192, 0, 2, 7], "198.51.100.1"), ([192, 0, 2, 8], "192.0.2.8")] {
        let mut connection = gateway.client();
        connection.send(&naming(named, &[]));
        let fields = [("token", gateway.key.as_str()), ("x-forwarded-for", "198.51.100.1")];
        let answer = connection.request("GET", "/v5/rooms", &fields, "");
        assert_eq!(client_of(&gateway, &answer), client);
    }
}

#[test]
fn a_network_of_everyone_is_no_list_of_proxies() {
    for (network, section) in [("0.0.0.0/0", "listen"), ("::/0", "listeners.b")] {
        let setup = Setup::new("http://127.0.0.1:1")
            .with("[listeners.b]\naddress = \"127.0.0.1:0\"\n")
            .with(&format!("[{section}]\nproxy_protocol = [\"10.0.0.1\", \"{network}\"]\n"));
        let output = ended(setup.command("check"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("`{section}.proxy_protocol[1]` names everyone")), "{said}");
    }
}

// Real ones.

/// A proxy of TCP, killed with the test.
struct TcpProxy {
    child: Child,
    ports: Vec<u16>,
    _folder: tempfile::TempDir,
}

impl TcpProxy {
    /// HAProxy in front of each of these, with this option of its servers.
    fn haproxy(backends: &[(SocketAddr, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = "global\n maxconn 200\ndefaults\n mode tcp\n timeout connect 5s\n \
                          timeout client 30s\n timeout server 30s\n"
            .to_owned();
        let ports: Vec<u16> = backends.iter().map(|_| free_port()).collect();
        for ((address, option), port) in backends.iter().zip(&ports) {
            config.push_str(&format!(
                "listen l{port}\n bind 127.0.0.1:{port}\n server g {address} {option}\n"
            ));
        }
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, config).unwrap();
        let mut haproxy = Command::new("haproxy");
        haproxy.args(["-db", "-q", "-f"]).arg(&path);
        Self::started(haproxy, ports, folder)
    }

    /// nginx, which has version 1 alone.
    fn nginx(address: SocketAddr) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\npid nginx.pid;\n\
             error_log stderr;\nevents {{}}\nstream {{ server {{ listen 127.0.0.1:{port};\n\
             proxy_pass {address}; proxy_protocol on; }} }}\n"
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config).unwrap();
        let mut nginx = Command::new("nginx");
        nginx.arg("-p").arg(folder.path()).arg("-c").arg(&path);
        Self::started(nginx, vec![port], folder)
    }

    fn started(mut command: Command, ports: Vec<u16>, folder: tempfile::TempDir) -> Self {
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a proxy; tests/run installs it");
        for port in &ports {
            wait_until("the proxy listens", || TcpStream::connect(("127.0.0.1", *port)).is_ok());
        }
        Self { child, ports, _folder: folder }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A connection from another address of this machine.
fn from(ip: Ipv4Addr, port: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn haproxy_names_its_clients_in_both_versions_and_checks_the_gateway_itself() {
    let gateway = taking("127.0.0.1", "");
    let proxies = TcpProxy::haproxy(&[
        (gateway.address, "send-proxy check inter 200ms"),
        (gateway.address, "send-proxy-v2 check check-send-proxy inter 200ms"),
        (gateway.address, "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
    ]);
    for (number, port) in proxies.ports.iter().enumerate() {
        let ip = Ipv4Addr::new(127, 0, 0, 20 + u8::try_from(number).unwrap());
        let mut client = Client::over(from(ip, *port));
        for _ in 0..2 {
            let answer = client.request("GET", "/v5/rooms", &[("token", &gateway.key)], "");
            assert_eq!(client_of(&gateway, &answer).parse::<IpAddr>().unwrap(), ip);
        }
    }
    // Its checks, which connect and go, or say LOCAL and go, are no errors.
    scenario_delay(Duration::from_millis(600));
    assert_eq!(gateway.metric("wbg_connections_cut_total{reason=\"proxy_header\"}"), 0.0);
}

#[test]
fn nginx_names_its_clients() {
    let gateway = taking("127.0.0.1", "");
    let nginx = TcpProxy::nginx(gateway.address);
    let ip = Ipv4Addr::new(127, 0, 0, 40);
    let mut client = Client::over(from(ip, nginx.ports[0]));
    let answer = client.request("GET", "/v5/rooms", &[("token", &gateway.key)], "");
    assert_eq!(client_of(&gateway, &answer).parse::<IpAddr>().unwrap(), ip);
}

#[test]
fn tls_passes_through_haproxy_and_the_caller_keeps_its_certificate_and_its_address() {
    let house = House::new();
    let gateway = house
        .setup("client_ca = \"ca.pem\"\n")
        .with("[listen]\nproxy_protocol = [\"127.0.0.0/8\"]\n")
        .start();
    let proxies =
        TcpProxy::haproxy(&[(gateway.address, "send-proxy"), (gateway.address, "send-proxy-v2")]);
    let identity = house.clients.client("app.example.org");
    for port in &proxies.ports {
        let through = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        let answer = crate::mtls::get(&mut house.client(&identity).connect(through));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let line = gateway.access_line(answer.header("x-request-id"));
        assert_eq!(line["caller"], "by-dns", "{line}");
    }
    // curl, which speaks TLS from another address.
    let mut curl = Command::new("curl");
    let url = format!("https://127.0.0.1:{}/v5/rooms", proxies.ports[1]);
    curl.args(["-sk", "--interface", "127.0.0.31", "-H"]).arg(format!("token: {}", gateway.key));
    assert!(curl.arg(url).stdout(Stdio::null()).status().unwrap().success());
    wait_until("its line names where it came from", || {
        gateway.access_lines().iter().any(|line| line["client"] == "127.0.0.31")
    });
    // curl, which says itself who it is.
    let mut curl = Command::new("curl");
    let url = format!("https://{}/v5/rooms", gateway.address);
    curl.args(["-sk", "--haproxy-protocol", "--interface", "127.0.0.44", "-H"]);
    curl.arg(format!("token: {}", gateway.key));
    assert!(curl.arg(url).stdout(Stdio::null()).status().unwrap().success());
    wait_until("its line names what it said", || {
        gateway.access_lines().iter().any(|line| line["client"] == "127.0.0.44")
    });
    // Who leaves the header out is told so in the clear, as the header would have been.
    let answer = crate::support::exchange(gateway.address, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(answer.member("message").contains("none came"), "{}", answer.text());
}
