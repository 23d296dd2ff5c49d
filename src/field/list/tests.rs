//! Lists, quoted strings, parameters and weights, by example and by property.

use proptest::prelude::*;

use super::*;

fn shown(members: Members<'_>) -> Vec<String> {
    members.map(|member| member.escape_ascii().to_string()).collect()
}

#[test]
fn what_is_empty_between_commas_is_no_member() {
    for (line, expected) in [
        (&b""[..], &[][..]),
        (b" , ,,\t", &[]),
        (b"a", &["a"]),
        (b",a ,\tb,, c d ,", &["a", "b", "c d"]),
        (b"a;b=c, d", &["a;b=c", "d"]),
    ] {
        for members in
            [Members::of_tokens(line), Members::of_parameterized(line), Members::of_commented(line)]
        {
            assert_eq!(shown(members), expected, "{}", line.escape_ascii());
        }
    }
}

#[test]
fn a_comma_in_a_quoted_string_separates_nothing() {
    for (line, expected) in [
        (r#"a="x,y", b"#, &[r#"a="x,y""#, "b"][..]),
        (r#"a="x\",y", b"#, &[r#"a="x\",y""#, "b"]),
        (r#"a="x\\", b"#, &[r#"a="x\\""#, "b"]),
        (r#"a="", b"#, &[r#"a="""#, "b"]),
        // Never closed: it opens nothing.
        (r#"a="x, b"#, &[r#"a="x"#, "b"]),
        (r#"a="x\", b"#, &[r#"a="x\""#, "b"]),
        ("a=(x, b)", &["a=(x", "b)"]),
    ] {
        let members: Vec<_> = Members::of_parameterized(line.as_bytes()).collect();
        let expected: Vec<_> = expected.iter().map(|text| text.as_bytes()).collect();
        assert_eq!(members, expected, "{line}");
    }
    assert_eq!(shown(Members::of_tokens(br#"a="x,y""#)), [r#"a=\"x"#, r#"y\""#]);
}

#[test]
fn a_comma_in_a_comment_separates_nothing() {
    for (line, expected) in [
        ("1.1 a (b, c), 1.1 d", &["1.1 a (b, c)", "1.1 d"][..]),
        ("1.1 a (b (c, d), e), f", &["1.1 a (b (c, d), e)", "f"]),
        (r"1.1 a (b\), c), d", &[r"1.1 a (b\), c)", "d"]),
        // Never closed: what stands behind it is not hidden.
        ("1.1 a (b, 1.1 d", &["1.1 a (b", "1.1 d"]),
        ("1.1 a ((b), 1.1 d", &["1.1 a ((b)", "1.1 d"]),
        ("1.1 a), 1.1 d", &["1.1 a)", "1.1 d"]),
        ("a \"(\", b", &["a \"(\"", "b"]),
    ] {
        let members: Vec<_> = Members::of_commented(line.as_bytes()).collect();
        let expected: Vec<_> = expected.iter().map(|text| text.as_bytes()).collect();
        assert_eq!(members, expected, "{line}");
    }
}

#[test]
fn parameters_are_pairs_of_a_name_and_a_token_or_a_quoted_string() {
    let of = |text: &'static str| {
        let (value, parameters) = parameterized(text.as_bytes());
        let pairs: Result<Vec<_>, _> = parameters.collect();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let pairs = pairs.map(|pairs| {
            pairs.iter().map(|(name, value)| (text(name), text(value))).collect::<Vec<_>>()
        });
        (text(value), pairs)
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for (member, value, pairs) in [
        ("a/b", "a/b", Some(vec![])),
        ("a/b ; ; c=d;", "a/b", Some(vec![pair("c", "d")])),
        ("a;b=\"c;\\\"d\" ; e=f", "a", Some(vec![pair("b", "c;\"d"), pair("e", "f")])),
        ("a;b=\"\"", "a", Some(vec![pair("b", "")])),
        ("a;b", "a", None),
        ("a;b=", "a", None),
        ("a;=b", "a", None),
        ("a;b =c", "a", None),
        ("a;b= c", "a", None),
        ("a;b=\"c", "a", None),
        ("a;b=c d", "a", None),
        ("a;b=\"c\"d", "a", None),
    ] {
        assert_eq!(of(member), (value.to_owned(), pairs.ok_or(MalformedElementError)), "{member}");
    }
}

#[test]
fn a_weight_is_from_0_to_1_with_three_digits() {
    for (text, expected) in [
        ("a", Some(1000)),
        ("a;q=1", Some(1000)),
        ("a;q=1.000", Some(1000)),
        ("a;q=0", Some(0)),
        ("a;q=0.", Some(0)),
        ("a;Q=0.5", Some(500)),
        ("a;b=c;q=0.123", Some(123)),
        ("a;q=\"0.5\"", Some(500)),
        ("a;q=1.001", None),
        ("a;q=0.1234", None),
        ("a;q=.5", None),
        ("a;q=2", None),
        ("a;q=-1", None),
        ("a;q=", None),
        ("a;b;q=1", None),
    ] {
        assert_eq!(weight(parameterized(text.as_bytes()).1), expected, "{text}");
    }
}

#[test]
fn a_media_type_is_wanted_as_much_as_its_weight_says() {
    for (line, expected) in [
        ("text/html, application/problem+json", 1000),
        ("Application/Problem+JSON;q=0.3", 300),
        ("application/problem+json;q=0", 0),
        ("application/problem+json;q=x", 0),
        ("application/problem+json; charset=\"utf-8\" ;q=0.7", 700),
        ("text/html; note=\"application/problem+json, application/problem+json\"", 0),
        ("application/problem+json-seq", 0),
        ("*/*", 0),
        ("", 0),
    ] {
        assert_eq!(accepted(line.as_bytes(), "application/problem+json"), expected, "{line}");
    }
}

#[test]
fn a_media_type_has_two_parts_and_good_parameters() {
    for (value, expected) in [
        ("application/json", Some("application/json")),
        (" application/json ;charset=utf-8", Some("application/json")),
        ("a/b;c=\"d;e\"", Some("a/b")),
        ("a/b;", Some("a/b")),
        ("a/b;c", None),
        ("a", None),
        ("a/", None),
        ("/b", None),
        ("a/b/c", None),
        ("a/b c", None),
        ("a/b, c/d", None),
        ("", None),
    ] {
        assert_eq!(media_type(value.as_bytes()), expected.map(str::as_bytes), "{value}");
    }
}

proptest! {
    #[test]
    fn quoted_strings_are_read_as_they_were_written(text: Vec<u8>, rest: Vec<u8>) {
        let mut written = vec![b'"'];
        for byte in &text {
            if matches!(byte, b'"' | b'\\') {
                written.push(b'\\');
            }
            written.push(*byte);
        }
        written.push(b'"');
        written.extend_from_slice(&rest);
        prop_assert_eq!(quoted(&written), Some((Cow::Borrowed(&text[..]), &rest[..])));
    }

    #[test]
    fn members_that_were_joined_are_the_same_when_they_are_separated(
        members in prop::collection::vec("[a-z]{1,3}(;[a-z]=\"([a-z, ;()]|\\\\[\"\\\\])*\")?", 0..5)
    ) {
        let line = members.join(" ,, ");
        let separated: Vec<_> = Members::of_parameterized(line.as_bytes()).collect();
        let members: Vec<_> = members.iter().map(String::as_bytes).collect();
        prop_assert_eq!(separated, members);
    }

    #[test]
    fn whatever_is_read_is_a_part_of_the_line_and_nothing_but_separators_is_left_out(line: Vec<u8>) {
        for members in [
            Members::of_tokens(&line),
            Members::of_parameterized(&line),
            Members::of_commented(&line),
        ] {
            let all: Vec<u8> = members.flatten().copied().collect();
            let solid = |bytes: &[u8]| -> Vec<u8> {
                let bytes = bytes.iter().filter(|byte| **byte != b',' && !byte.is_ascii_whitespace());
                bytes.copied().collect()
            };
            prop_assert_eq!(solid(&all), solid(&line));
        }
    }
}

/// A line of what is never closed costs what its length says, not its square: that would be hours.
#[test]
fn an_open_end_is_looked_for_once() {
    let begun = std::time::Instant::now();
    for part in ["\"\\", "("] {
        let line = part.repeat(1_000_000);
        assert_eq!(Members::of_parameterized(line.as_bytes()).count(), 1);
        assert_eq!(Members::of_commented(line.as_bytes()).count(), 1);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(60));
}
