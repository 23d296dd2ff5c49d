//! `usage` over access lines that a gateway has written, and over what else may stand among them.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Client, Setup, Upstream, binary, wait_until};

fn usage(words: &[&str]) -> Output {
    let mut command = Command::new(binary());
    // Its answer can be longer than a pipe holds.
    command.arg("usage").args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn usage_counts_each_request_that_a_gateway_has_served() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url()).with("[log]\naccess = \"./access.jsonl\"\n").start();
    let file = gateway.folder.path().join("access.jsonl");
    let mut client = Client::connect(gateway.address);
    for _ in 0..3 {
        let answer = client.request("GET", "/v5/rooms", &[("token", &gateway.key)], "");
        assert_eq!(answer.status, 200);
    }
    assert_eq!(client.request("GET", "/v5/rooms", &[("token", "x")], "").status, 401);
    wait_until("four lines are there", || {
        fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 4)
    });
    let file = file.to_str().unwrap();
    let said = usage(&["--log", file, "--csv"]);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said.stderr));
    let rows: Vec<&str> = text(&said.stdout).split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(rows[0], "caller,operation,requests,ok,refused,failed,gone,bytes");
    assert_eq!(rows[1], "lessons,rooms.list,3,3,0,0,0,6");
    assert!(rows[2].starts_with("-,-,1,0,1,0,0,"), "{}", rows[2]);
    let said = usage(&["--log", file, "--by", "code", "--json"]);
    let json: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(json["lines"]["access"], 4);
    let codes: Vec<&str> =
        json["rows"].as_array().unwrap().iter().map(|row| row["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["ok", "invalid_token"]);
}

fn line(month: &str, caller: &str, code: &str) -> String {
    format!(
        "{{\"time\":\"2026-{month}-03T00:00:00.000Z\",\"log\":\"access\",\"caller\":\"{caller}\",\
         \"operation\":\"rooms.get\",\"status\":200,\"code\":\"{code}\",\"bytes\":10}}\n"
    )
}

#[test]
fn a_month_is_counted_alone_and_what_cannot_be_read_is_said_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let old = write("old", &[line("10", "a", "ok"), line("11", "a", "ok")].concat());
    let whole = [line("11", "a", "upstream_error"), line("11", "b,\\\"c", "forbidden")].concat();
    let new = write("new", &format!("{whole}{}", &line("11", "a", "ok")[..50]));
    let said = usage(&["--by", "caller", "--month", "2026-11", "--csv", "--log", &old, &new]);
    assert_eq!(said.status.code(), Some(1));
    assert_eq!(
        text(&said.stdout),
        "caller,requests,ok,refused,failed,gone,bytes\r\na,2,1,0,1,0,20\r\n\"b,\"\"c\",1,0,1,0,0,10\r\n"
    );
    let said = usage(&["--by", "caller", "--log", &old, &new]);
    let said = text(&said.stdout);
    assert!(said.contains("lines that are not counted: 1 no JSON"), "{said}");
    for wrong in ["2026-13", "11", "2026"] {
        assert_eq!(usage(&["--month", wrong, "--log", &old]).status.code(), Some(2), "{wrong}");
    }
    let said = usage(&["--log", "/nowhere/access.jsonl"]);
    assert_eq!(said.status.code(), Some(2));
    assert!(text(&said.stderr).contains("/nowhere/access.jsonl"), "{}", text(&said.stderr));
}

#[test]
fn more_callers_than_there_are_rows_are_counted_as_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many");
    let mut lines = String::new();
    for index in 0..100_005 {
        _ = write!(lines, "{}", line("11", &format!("c{index}"), "ok"));
    }
    fs::write(&path, lines).unwrap();
    let said = usage(&["--by", "caller", "--csv", "--log", path.to_str().unwrap()]);
    let said = text(&said.stdout);
    assert_eq!(said.lines().count(), 100_002);
    assert!(said.ends_with("(others),5,5,0,0,0,50\r\n"), "{}", said.lines().last().unwrap());
}
