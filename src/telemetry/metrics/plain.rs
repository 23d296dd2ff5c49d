//! The metrics in the older text format of Prometheus (version 0.0.4), which every reader knows.
//!
//! The samples are the same; what is said about a family names its samples there, and there are no
//! units and no end.

/// What is written as OpenMetrics, in the older format.
#[must_use]
pub fn plain(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ');
        } else if let Some((family, kind)) =
            line.strip_prefix("# TYPE ").and_then(|text| text.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            if let Some((_, text)) = help.take().filter(|(name, _)| *name == family) {
                push(&mut out, &["# HELP ", family, suffix, " ", text]);
            }
            push(&mut out, &["# TYPE ", family, suffix, " ", kind]);
        } else if !line.starts_with('#') {
            push(&mut out, &[line]);
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    out.extend(parts.iter().copied());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_as_their_samples_are() {
        let openmetrics = "# HELP wbg_requests Requests.\n# TYPE wbg_requests counter\n\
                           wbg_requests_total{code=\"ok\"} 2\n# HELP wbg_build What is running.\n\
                           # TYPE wbg_build info\nwbg_build_info{version=\"1\"} 1\n\
                           # HELP wbg_age Age.\n# TYPE wbg_age gauge\n# UNIT wbg_age seconds\n\
                           wbg_age 1.5\n# TYPE wbg_took histogram\nwbg_took_bucket{le=\"1\"} 1\n# EOF\n";
        let expected = "# HELP wbg_requests_total Requests.\n# TYPE wbg_requests_total counter\n\
                        wbg_requests_total{code=\"ok\"} 2\n# HELP wbg_build_info What is running.\n\
                        # TYPE wbg_build_info gauge\nwbg_build_info{version=\"1\"} 1\n\
                        # HELP wbg_age Age.\n# TYPE wbg_age gauge\nwbg_age 1.5\n\
                        # TYPE wbg_took histogram\nwbg_took_bucket{le=\"1\"} 1\n";
        assert_eq!(plain(openmetrics), expected);
    }
}
