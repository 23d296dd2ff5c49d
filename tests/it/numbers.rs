//! A number is its value, however it is written, wherever one comes in: through the built binary.

use serde_json::json;

use crate::support::{AUDIENCE, Setup, Signer, Upstream, claims, ended};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_whole_number_of_a_query_goes_on_in_digits() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url()).start();
    for written in ["10", "10.0", "1e1", "100E-1"] {
        let answer = gateway.call("GET", &format!("/v5/rooms?limit={written}"), "");
        assert_eq!(answer.status, 200, "{written}: {}", answer.text());
    }
    for request in upstream.received() {
        assert!(request.line.contains("/v5/rooms?limit=10 "), "{request:?}");
    }
    for written in ["1.5", "0", "1e9", "1e999", "ten", "0x10"] {
        let answer = gateway.call("GET", &format!("/v5/rooms?limit={written}"), "");
        answer.assert_envelope(400, "malformed_request");
    }
}

#[test]
fn the_numbers_of_a_token_are_their_values() {
    let upstream = Upstream::json("200 OK", "[]");
    let issuer = format!(
        "[issuers.school]\nissuer = \"school\"\naudience = \"{AUDIENCE}\"\nsecret = \"{SECRET}\"\n\
         profile = \"backend\"\nmax_lifespan = {{ claim = \"life\" }}\n"
    );
    let gateway = Setup::new(&upstream.url())
        .set("profiles.backend.max_lifespan", "permanent")
        .with(&issuer)
        .start();
    let signer = Signer::hs256("any", SECRET);
    let mint = |life: &str, lifespan: &str| {
        // Written as they are here, whatever a serializer would make of them.
        let mut claims = claims("school", &json!({}));
        claims.as_object_mut().unwrap().remove("exp");
        let (text, end) = (claims.to_string(), jiff::Timestamp::now().as_second() + 600);
        let text = text.trim_end_matches('}');
        let text = format!("{text},\"exp\":{end}.0,\"life\":{life}}}");
        let token = signer.sign_raw(signer.header().to_string(), text);
        let body = format!(r#"{{"role":"reader","lifespan":{lifespan}}}"#);
        let headers = [("token", token.as_str())];
        gateway.client().request("POST", "/v5/tokens/rooms/a1b2", &headers, &body)
    };
    for (life, lifespan, granted) in [
        ("60.0", "3600000", "lifespan=60000"),
        ("6e1", "3.6e6", "lifespan=60000"),
        ("3600", "60000.0", ""),
        // Whoever says so means a life without an end, and the profile allows one.
        ("9007199254740991", "0", ""),
        ("1e300", "0.0", ""),
        ("18446744073709551615", "9223372036854775807", ""),
    ] {
        let answer = mint(life, lifespan);
        assert_eq!(answer.status, 201, "{life}, {lifespan}: {}", answer.text());
        let said = answer.header("whiteboard-granted");
        assert!(said.contains(granted) && said.is_empty() == granted.is_empty(), "{life}: {said}");
    }
    mint("1.5", "60000").assert_envelope(403, "forbidden");
}

#[test]
fn a_whole_number_of_the_configuration_may_have_a_point() {
    for (written, loads) in [("1000.0", true), ("1e3", true), ("1000.5", false)] {
        let setup = Setup::new("http://127.0.0.1:1")
            .with(&format!("[upstream]\nmax_in_flight = {written}\n"));
        let output = ended(setup.command("check"));
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(output.status.code() == Some(1), loads, "{written}: {}", said.concat());
        let named = said.concat().contains("`upstream.max_in_flight`");
        assert_eq!(named, !loads, "{written}: {}", said.concat());
    }
}
