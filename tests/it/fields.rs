//! The grammar of fields (RFC 9110 §5.6), as the real binary reads them: lists with empty members,
//! quoted strings, comments, parameters and weights.

use crate::support::{Setup, Upstream};

const PROBLEM: &str = "application/problem+json";

#[test]
fn a_problem_document_is_for_whoever_wants_it_and_not_rather_plain_json() {
    let gateway = Setup::new("http://127.0.0.1:9").start();
    for (lines, wanted) in [
        (&[][..], false),
        (&["*/*"], false),
        (&["application/json"], false),
        (&[PROBLEM], true),
        (&["Application/Problem+JSON"], true),
        (&["text/html, ,application/problem+json;q=0.2"], true),
        (&["application/problem+json; charset=\"utf-8\"; q=1"], true),
        (&["application/json, application/problem+json"], true),
        (&["text/html", PROBLEM], true),
        // Weights: not at all, and less than the other.
        (&["application/problem+json;q=0"], false),
        (&["application/problem+json;q=0.000, application/json"], false),
        (&["application/json, application/problem+json;q=0.5"], false),
        (&["application/json;q=0.4, application/problem+json;q=0.5"], true),
        (&["application/problem+json;q=2"], false),
        // It is named in a quoted string alone, or is a part of another name.
        (&["text/html;note=\"application/problem+json\""], false),
        (&["text/html;note=\"a, application/problem+json\""], false),
        (&["application/problem+json-seq"], false),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("accept", *line)).collect();
        let answer = gateway.client().request("GET", "/v5/rooms/a", &lines, "");
        assert_eq!(answer.status, 401);
        let expected = if wanted { PROBLEM } else { "application/json" };
        assert_eq!(answer.header("content-type"), expected, "{lines:?}");
    }
}

#[test]
fn a_connection_field_names_nothing_that_the_request_is_about() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = Setup::new(&upstream.url()).start();
    for (line, status) in [
        ("keep-alive", 200),
        (", ,keep-alive,", 200),
        ("x-tokens, my-token", 200),
        ("token", 400),
        ("close, ,Token", 400),
        ("X-API-Key", 400),
        (" ,x-request-id\t,", 400),
        // It has no quoted strings: what others separate there, we do.
        ("\"x, token, y\"", 400),
        ("\"x, token", 400),
        ("a=\"\\\", region", 400),
    ] {
        let fields = [("token", gateway.key.as_str()), ("connection", line)];
        let answer = gateway.client().request("GET", "/v5/rooms/a", &fields, "");
        assert_eq!(answer.status, status, "{line}");
    }
}

#[test]
fn a_loop_is_seen_in_entries_and_not_in_comments() {
    let upstream = Upstream::json("200 OK", "{}");
    let setup = Setup::new(&upstream.url());
    let gateway = setup.set("upstream.via", "wbg-here").start();
    for (lines, looped) in [
        (&["1.1 other"][..], false),
        (&["1.1 wbg-here"], true),
        (&["1.1 other", "1.0 wbg-here (x)"], true),
        (&["1.1 other,,\t2.0 wbg-here,"], true),
        (&["1.1 other (a, b), 1.1 wbg-here"], true),
        (&["1.1 other (a, 1.1 wbg-here), 1.1 more"], false),
        (&["1.1 other (a (b, 1.1 wbg-here) c)"], false),
        (&["1.1 other (a\\), 1.1 wbg-here)"], false),
        // Never closed: it is no comment, and hides nothing.
        (&["1.1 other (a, 1.1 wbg-here"], true),
        (&["1.1 other \"a, 1.1 wbg-here"], true),
    ] {
        let mut fields = vec![("token", gateway.key.as_str())];
        fields.extend(lines.iter().map(|line| ("via", *line)));
        let answer = gateway.client().request("GET", "/v5/rooms/a", &fields, "");
        assert_eq!(answer.status != 200, looped, "{lines:?}: {}", answer.text());
        if looped {
            assert_eq!(answer.member("code"), "loop_detected", "{lines:?}");
        }
    }
}

#[test]
fn a_strict_label_is_application_json_whatever_its_parameters() {
    let upstream = Upstream::json("201 Created", "{}");
    let gateway = Setup::new(&upstream.url()).with("[body]\ncontent_type = \"strict\"\n").start();
    for (label, taken) in [
        ("application/json", true),
        ("Application/JSON ; charset=utf-8", true),
        ("application/json;charset=\"utf-8\";", true),
        ("application/json;a=\"b;c\\\"d\"", true),
        ("application/json;charset", false),
        ("application/json;charset=\"utf-8", false),
        ("application/json, text/plain", false),
        ("application/json x", false),
        ("text/plain; application/json", false),
        ("application/jsonp", false),
    ] {
        let fields = [("token", gateway.key.as_str()), ("content-type", label)];
        let answer = gateway.client().request("POST", "/v5/rooms", &fields, "{}");
        assert_eq!(answer.status == 201, taken, "{label}: {}", answer.text());
    }
}
