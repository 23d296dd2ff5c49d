//! Origins of pages: a pattern admits origins alone, and none of another owner.
//!
//! An input is a pattern, and in the second line what a browser sends.

use whiteboard_gateway::edge::OriginPattern;

/// One input.
pub fn run(input: &str) {
    let (pattern, sent) = input.split_once('\n').unwrap_or((input, ""));
    let read = match OriginPattern::parse(pattern) {
        Ok(read) => read,
        Err(why) => {
            assert!(!why.to_string().is_empty());
            return;
        }
    };
    assert!(!read.admits("null") && !read.admits("") && !read.admits("*"));
    let lower = pattern.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").expect("a pattern has a scheme");
    if !read.admits(sent) {
        return;
    }
    let sent = sent.to_ascii_lowercase();
    let (sent_scheme, sent_rest) = sent.split_once("://").expect("an origin has a scheme");
    assert_eq!(sent_scheme, scheme);
    assert!(!sent_rest.contains(['/', '\\', '?', '#', '@', '*', ' ']), "{sent:?} is no origin");
    match rest.strip_prefix("*.") {
        // Ports may be omitted, and addresses be written shorter.
        None => assert_eq!(OriginPattern::parse(&sent).as_ref(), Ok(&read), "{sent} for {pattern}"),
        Some(domain) => {
            let domain = domain.split(':').next().unwrap_or(domain);
            let host = sent_rest.split(':').next().unwrap_or(sent_rest);
            let below = host.strip_suffix(domain).expect("it ends with the domain");
            assert!(below.len() > 1 && below.ends_with('.'), "{sent} for {pattern}");
        }
    }
}
