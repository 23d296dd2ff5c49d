//! The names under which the whiteboard service is reached, and the regions that each is for.
//!
//! The pages of the RESTful API name `api.netless.link` alone, for all regions. The others are those
//! of Agora's page on firewalls; which regions they are for, the release notes of its web SDK say.

/// The name that the pages of the API have.
pub const HOST: &str = "api.netless.link";

const ASIA: &[&str] = &["cn-hz", "in-mum", "sg"];
const AMERICA_AND_EUROPE: &[&str] = &["us-sv", "eu", "gb-lon"];
const CHINA: &[&str] = &["cn-hz"];

/// The other names, each with its regions.
const OTHERS: [(&str, &[&str]); 4] = [
    ("api.whiteboard.agora.io", AMERICA_AND_EUROPE),
    ("api.whiteboard.rtelink.com", AMERICA_AND_EUROPE),
    ("api.whiteboard.sd-rtn.com", ASIA),
    ("api.baiban.shengwang.cn", CHINA),
];

/// The regions that a name of the service is for; `None` for one that is for all, or is none of the
/// service's.
pub fn regions_of(host: &str) -> Option<Vec<&'static str>> {
    if let Some((_, regions)) = OTHERS.iter().find(|(name, _)| *name == host) {
        return Some(regions.to_vec());
    }
    // Not on any page, and called by public code.
    let region = host.strip_prefix("api-")?.strip_suffix(".netless.link")?;
    let documented = super::Regions::DOCUMENTED;
    documented.into_iter().find(|known| *known == region).map(|region| vec![region])
}

/// Why a name is that of another interface of the service; `None` for every other name.
pub fn other_interface(host: &str) -> Option<&'static str> {
    match host {
        "cloudcapiv4.herewhite.com" => Some("v4 of the API, whose paths and answers are others"),
        "shunt-api.netless.link" => Some("the API's before 2021"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_for_its_regions() {
        for (host, regions) in [
            (HOST, None),
            ("api.whiteboard.sd-rtn.com", Some(ASIA)),
            ("api.baiban.shengwang.cn", Some(&["cn-hz"][..])),
            ("api-sg.netless.link", Some(&["sg"])),
            ("api-mars.netless.link", None),
            ("localhost", None),
        ] {
            assert_eq!(regions_of(host).as_deref(), regions, "{host}");
        }
        let known = super::super::Regions::DOCUMENTED;
        for (host, regions) in OTHERS {
            assert!(regions.iter().all(|region| known.contains(region)), "{host}");
        }
    }
}
