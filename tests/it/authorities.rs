//! Whose word counts for a name in a client certificate, which lists of revoked ones count, and
//! certificates that only secure the transport.

use std::fs;
use std::process::Command;

use rcgen::{
    CrlDistributionPoint, CrlIssuingDistributionPoint, DnType, GeneralSubtree, NameConstraints,
    SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::mtls::{House, assert_told, dns, get, spiffe};
use crate::support::{Authority, Identity, Process, Setup, finished, subject, value};

const OURS: &str = "spiffe://example.org/app";

/// The configuration with two authorities, ours and a partner's, whose caller is known as well.
fn federated(house: &House, partner: &Authority, more: &str, authority: [&str; 2]) -> Setup {
    let setup = house
        .setup(&format!("client_ca = {{ ours = \"ca.pem\", partner = \"partner.pem\" }}\n{more}"));
    fs::write(setup.folder.path().join("partner.pem"), &partner.pem).unwrap();
    let [ours, partner] = authority;
    setup
        .set("callers.by-spiffe.certificates.0", value(ours))
        .with(&format!("[callers.partner]\nprofile = \"backend\"\ncertificates = [{partner}]\n"))
}

#[test]
fn a_name_is_believed_from_the_authority_that_it_belongs_to() {
    let house = House::new();
    let partner = Authority::new("partner");
    let named = [
        "{ spiffe = \"spiffe://example.org/app\", authority = \"ours\" }",
        "{ spiffe = \"spiffe://partner.net/app\", authority = \"partner\" }",
    ];
    let unnamed =
        ["{ spiffe = \"spiffe://example.org/app\" }", "{ spiffe = \"spiffe://partner.net/app\" }"];
    let domains = "trust_domains = { \"example.org\" = \"ours\", \"partner.net\" = \"partner\" }\n";
    for (more, entries) in [("", named), (domains, unnamed)] {
        let gateway = federated(&house, &partner, more, entries).start();
        let good = house.clients.issue(|one| spiffe(one, &[OURS]));
        assert_eq!(house.ask(&gateway, &good).status, 200);
        let theirs = partner.issue(|one| spiffe(one, &["spiffe://partner.net/app"]));
        let answer = house.ask(&gateway, &theirs);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(gateway.access_line(answer.header("x-request-id"))["caller"], "partner");
        // The partner can issue our caller's name, and it is not taken for it.
        let forged = partner.issue(|one| spiffe(one, &[OURS]));
        let answer = house.ask(&gateway, &forged);
        assert_told(&gateway, &answer, "invalid_token", "no caller that is known", OURS);
        let below = partner.below("department").issue(|one| spiffe(one, &[OURS]));
        let answer = house.ask(&gateway, &below);
        assert_told(&gateway, &answer, "invalid_token", "no caller that is known", OURS);
    }
}

#[test]
fn check_warns_where_it_is_not_said_whose_word_counts() {
    let house = House::new();
    let unnamed =
        ["{ spiffe = \"spiffe://example.org/app\" }", "{ spiffe = \"spiffe://partner.net/app\" }"];
    let partner = Authority::new("partner");
    let output = finished(federated(&house, &partner, "", unnamed).command("check"));
    let told = String::from_utf8_lossy(&output.stdout);
    for caller in ["by-spiffe", "by-dns", "by-subject", "partner"] {
        let told_of = format!("`callers.{caller}.certificates[0]` does not say which authority");
        assert!(told.contains(&told_of), "{told}");
    }
    assert_eq!(output.status.code(), Some(1), "{told}");
}

/// An authority below ours that is held to names of some forms.
fn constrained(
    house: &House,
    permitted: &[GeneralSubtree],
    excluded: &[GeneralSubtree],
) -> Authority {
    house.clients.below_as("constrained", |one| {
        one.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted.to_vec(),
            excluded_subtrees: excluded.to_vec(),
        });
    })
}

#[test]
fn who_is_held_to_names_of_one_form_gives_none_of_another() {
    let house = House::new();
    let gateway = house.setup("client_ca = \"ca.pem\"\n").start();
    let team = || GeneralSubtree::DnsName("team.example.org".to_owned());
    let wide = || GeneralSubtree::DnsName("example.org".to_owned());
    let email = || GeneralSubtree::Rfc822Name("team.example.org".to_owned());
    let mut directory = rcgen::DistinguishedName::new();
    directory.push(DnType::OrganizationName, "Team");
    let directory = || GeneralSubtree::DirectoryName(directory.clone());
    let by_spiffe = |from: &Authority| from.issue(|one| spiffe(one, &[OURS]));
    let by_dns = |from: &Authority| from.issue(|one| dns(one, &["app.example.org"]));
    let by_subject = |from: &Authority| {
        from.issue(|one| {
            one.distinguished_name = subject("app");
            dns(one, &["a.team.example.org"]);
        })
    };
    let bare_subject = |from: &Authority| from.issue(|one| one.distinguished_name = subject("app"));
    for (permitted, excluded) in [
        (vec![team()], vec![]),
        (vec![email()], vec![]),
        (vec![directory()], vec![]),
        (vec![team(), email()], vec![]),
        (vec![], vec![email()]),
        (vec![], vec![wide()]),
    ] {
        let from = constrained(&house, &permitted, &excluded);
        for identity in [by_spiffe(&from), by_dns(&from), by_subject(&from), bare_subject(&from)] {
            let answer = house.ask(&gateway, &identity);
            assert_eq!(answer.status, 401, "{permitted:?} {excluded:?}: {}", answer.text());
        }
    }
    // What it may give counts, below another authority too.
    let from = constrained(&house, &[wide()], &[]);
    for from in [&from, &from.below("team")] {
        let answer = house.ask(&gateway, &by_dns(from));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(house.ask(&gateway, &by_spiffe(from)).status, 401);
    }
    // An authority with a SPIFFE id of its own gives ids of its trust domain alone.
    for (id, status) in [("spiffe://example.org", 200), ("spiffe://team.example.org", 401)] {
        let from = house.clients.below_as("spiffe", |one| spiffe(one, &[id]));
        assert_eq!(house.ask(&gateway, &by_spiffe(&from)).status, status, "{id}");
    }
}

#[test]
fn an_empty_credential_never_lets_a_certificate_speak() {
    let house = House::new();
    let gateway = house.setup("client_ca = \"ca.pem\"\n").start();
    let proxy = house.clients.client("app.example.org");
    let mut client = house.client(&proxy).connect(gateway.address);
    for fields in [
        [("token", "")],
        [("Authorization", "")],
        [("Authorization", "Bearer ")],
        [("X-API-Key", "  ")],
        [("Authorization", "Basic dXNlcjp3b3Jk")],
    ] {
        let answer = client.request("GET", "/v5/rooms/a", &fields, "");
        answer.assert_envelope(401, "invalid_token");
    }
    assert_eq!(get(&mut client).status, 200);
}

#[test]
fn a_certificate_that_secures_the_transport_identifies_nobody() {
    let house = House::new();
    let proxy = house.clients.issue(|one| {
        one.distinguished_name = subject("app");
        dns(one, &["proxy.example.org"]);
    });
    let service = house.clients.client("app.example.org");
    for (switch, service_status) in [("[{ dns = \"Proxy.example.org\" }]", 200), ("\"all\"", 401)] {
        let text = format!(
            "client_ca = \"ca.pem\"\nclient_auth = \"require\"\ntransport_certificates = {switch}\n"
        );
        let gateway = house.setup(&text).start();
        let mut client = house.client(&proxy).connect(gateway.address);
        let answer = get(&mut client);
        answer.assert_envelope(401, "unauthenticated");
        client
            .request("GET", "/v5/rooms/a", &[("token", "")], "")
            .assert_envelope(401, "invalid_token");
        let answer = client.request("GET", "/v5/rooms/a", &[("token", &gateway.key)], "");
        assert_eq!(answer.status, 200);
        let line = gateway.access_line(answer.header("x-request-id"));
        assert_eq!((&line["caller"], &line["credential"]), (&"lessons".into(), &"key".into()));
        assert_eq!(house.ask(&gateway, &service).status, service_status, "{switch}");
    }
}

/// A gateway whose lists of revoked certificates are these, in this order.
fn with_lists(house: &House, lists: &[&str]) -> Setup {
    let names: Vec<_> = (0..lists.len()).map(|index| format!("\"crl-{index}.pem\"")).collect();
    let setup =
        house.setup(&format!("client_ca = \"ca.pem\"\nclient_crl = [{}]\n", names.join(", ")));
    for (index, list) in lists.iter().enumerate() {
        fs::write(setup.folder.path().join(format!("crl-{index}.pem")), list).unwrap();
    }
    setup
}

fn assert_revoked(house: &House, gateway: &Process, identity: &Identity) {
    let answer = house.ask(gateway, identity);
    assert_told(gateway, &answer, "invalid_token", "was revoked", "revoked");
}

#[test]
fn the_newest_list_of_an_authority_counts_wherever_it_stands() {
    let house = House::new();
    let [kept, revoked] = [(); 2].map(|()| house.clients.client("app.example.org"));
    let now = OffsetDateTime::now_utc();
    let older =
        |good| house.clients.list(&[], good, |list| list.this_update = now - Duration::WEEK);
    let newer = house.clients.list(&[&revoked], Duration::DAY, |list| {
        list.crl_number = SerialNumber::from(2);
    });
    for old in [older(Duration::DAY), older(-Duration::HOUR)] {
        for lists in [[&*old, &*newer], [&*newer, &*old]] {
            let gateway = with_lists(&house, &lists).start();
            assert!(!gateway.stderr().contains("out of date"), "{}", gateway.stderr());
            assert_revoked(&house, &gateway, &revoked);
            assert_eq!(house.ask(&gateway, &kept).status, 200);
        }
    }
    // One file holds both; and what a later list has taken back counts again.
    let both = older(Duration::DAY) + &newer;
    assert_revoked(&house, &with_lists(&house, &[&both]).start(), &revoked);
    let back = house.clients.list(&[], Duration::DAY, |list| {
        list.crl_number = SerialNumber::from(300);
    });
    assert_eq!(house.ask(&with_lists(&house, &[&newer, &back]).start(), &revoked).status, 200);
}

#[test]
fn a_list_of_another_scope_is_looked_at_as_well() {
    let house = House::new();
    let [kept, revoked] = [(); 2].map(|()| house.clients.client("app.example.org"));
    let whole = house.clients.revoked(&[], Duration::DAY);
    let part = house.clients.list(&[&revoked], Duration::DAY, |list| {
        let uris = vec!["http://crl.example.org/part".to_owned()];
        let distribution_point = CrlDistributionPoint { uris };
        list.issuing_distribution_point =
            Some(CrlIssuingDistributionPoint { distribution_point, scope: None });
    });
    for lists in [[&*whole, &*part], [&*part, &*whole]] {
        let gateway = with_lists(&house, &lists).start();
        assert_revoked(&house, &gateway, &revoked);
        assert_eq!(house.ask(&gateway, &kept).status, 200);
    }
}

#[test]
fn an_authority_that_changed_its_key_has_a_list_by_each() {
    let mut house = House::new();
    let [old, new] = [(); 2].map(|()| Authority::new("clients"));
    house.clients.pem = format!("{}{}", old.pem, new.pem);
    let of = |from: &Authority| [(); 2].map(|()| from.client("app.example.org"));
    let ([old_kept, old_revoked], [new_kept, new_revoked]) = (of(&old), of(&new));
    let lists = [
        old.list(&[&old_revoked], Duration::DAY, |_| {}),
        new.list(&[&new_revoked], Duration::DAY, |list| list.crl_number = SerialNumber::from(7)),
    ];
    for order in [[0, 1], [1, 0]] {
        let gateway = with_lists(&house, &order.map(|index| lists[index].as_str())).start();
        for kept in [&old_kept, &new_kept] {
            assert_eq!(house.ask(&gateway, kept).status, 200);
        }
        for revoked in [&old_revoked, &new_revoked] {
            assert_revoked(&house, &gateway, revoked);
        }
    }
}

fn check_fails(setup: &Setup) -> String {
    let output = finished(setup.command("check"));
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_authority_without_a_list_is_an_error_where_others_have_one() {
    let mut house = House::new();
    let other = Authority::new("others");
    let list = house.clients.revoked(&[], Duration::DAY);
    house.clients.pem += &other.pem;
    let told = check_fails(&with_lists(&house, &[&list]));
    assert!(
        told.contains("client_crl` has no list of certificate 2 of listen.tls.client_ca"),
        "{told}"
    );
    let named = "client_ca = { ours = \"ca.pem\", others = \"others.pem\" }\n\
                 client_crl = \"crl.pem\"\n";
    let setup = house.setup(named);
    let write = |name: &str, text: &str| fs::write(setup.folder.path().join(name), text).unwrap();
    write("crl.pem", &list);
    write("others.pem", &other.pem);
    let told = check_fails(&setup);
    assert!(
        told.contains("has no list of the authority `ours`") || told.contains("`others`"),
        "{told}"
    );
    // With one of each, all is well.
    let lists = [list, other.revoked(&[], Duration::DAY)].concat();
    let gateway = with_lists(&house, &[&lists]).start();
    for from in [&house.clients, &other] {
        assert_eq!(house.ask(&gateway, &from.client("app.example.org")).status, 200);
    }
}

/// What openssl makes of an authority of its own: a list with this extension.
fn list_with(extension: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[ca]\ndefault_ca = clients\n[clients]\ncertificate = ca.pem\nprivate_key = key.pem\n\
         database = index\ncrlnumber = number\ndefault_md = sha256\ndefault_crl_days = 30\n\
         crl_extensions = list\n[list]\nauthorityKeyIdentifier = keyid:always\n{extension}\n"
    );
    for (name, text) in [("ca.conf", &*config), ("index", ""), ("number", "02\n")] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    for arguments in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=lists \
         -keyout key.pem -out ca.pem",
        "ca -config ca.conf -gencrl -out crl.pem",
    ] {
        let mut openssl = Command::new("openssl");
        openssl.args(arguments.split_whitespace()).current_dir(folder.path());
        let output = openssl.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    (read("ca.pem"), read("crl.pem"))
}

#[test]
fn a_list_that_cannot_be_taken_is_named_for_what_it_is() {
    for (extension, told) in [
        ("2.5.29.27 = critical,DER:020101", "a delta list"),
        ("2.5.29.28 = critical,DER:30038401FF", "an indirect list"),
        ("2.5.29.28 = critical,DER:300483020640", "revoked for some reasons alone"),
        ("1.2.3.4 = critical,DER:0500", "a critical extension"),
    ] {
        let mut house = House::new();
        let (authority, list) = list_with(extension);
        house.clients.pem = authority;
        let said = check_fails(&with_lists(&house, &[&list]));
        assert!(said.contains("client_crl` names a file with") && said.contains(told), "{said}");
    }
}
