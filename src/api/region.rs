//! Data centre regions: the value of the `region` header.

use std::fmt;
use std::sync::Arc;

use super::schema::nearest;

/// A region that the gateway knows, such as `us-sv`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(Arc<str>);

impl Region {
    /// The header value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A text that is none of the known regions, with what would be right.
#[derive(Debug, thiserror::Error)]
#[error("the regions are {known}{hint}")]
pub struct RegionError {
    known: String,
    hint: String,
}

/// The regions that are accepted, and the one that is meant when a request names none.
///
/// The service has changed its set before (`gb-lon` became `eu`), so it is configuration.
#[derive(Clone, Debug)]
pub struct Regions {
    known: Vec<Region>,
    default: Region,
}

impl Regions {
    /// The regions of the API's pages, and `gb-lon`, which older SDKs still send.
    pub const DOCUMENTED: [&'static str; 6] = ["us-sv", "sg", "in-mum", "eu", "cn-hz", "gb-lon"];

    /// The documented regions, `more` ones, and the default, which must be among them.
    ///
    /// # Errors
    /// [`RegionError`] when `default` is none of them.
    pub fn new<'a>(
        more: impl IntoIterator<Item = &'a str>,
        default: &str,
    ) -> Result<Self, RegionError> {
        let mut known: Vec<Region> =
            Self::DOCUMENTED.iter().map(|name| Region(Arc::from(*name))).collect();
        for name in more {
            if !known.iter().any(|region| region.as_str() == name) {
                known.push(Region(Arc::from(name)));
            }
        }
        let default = find(&known, default)?.clone();
        Ok(Self { known, default })
    }

    /// The region that is meant when a request names none.
    pub const fn default_region(&self) -> &Region {
        &self.default
    }

    /// The region of that name. Names are case-sensitive; the short names of the web SDK (`cn`,
    /// `us`) are not documented for the header and not taken.
    ///
    /// # Errors
    /// [`RegionError`], which lists the known ones and the nearest.
    pub fn parse(&self, name: &str) -> Result<&Region, RegionError> {
        find(&self.known, name)
    }

    /// All known regions.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.known.iter()
    }
}

fn find<'a>(known: &'a [Region], name: &str) -> Result<&'a Region, RegionError> {
    known.iter().find(|region| region.as_str() == name).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(Region::as_str).collect();
        let hint = nearest(name, names.iter().copied())
            .map(|near| format!("; did you mean {near}?"))
            .unwrap_or_default();
        RegionError { known: names.join(", "), hint }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_one_of_the_known_and_can_be_added() {
        let regions = Regions::new(["jp-tyo"], "us-sv").unwrap();
        assert_eq!(regions.default_region().as_str(), "us-sv");
        assert!(regions.parse("gb-lon").is_ok() && regions.parse("jp-tyo").is_ok());
        let error = regions.parse("us-sw").unwrap_err().to_string();
        assert!(error.ends_with("did you mean us-sv?"), "{error}");
        assert!(regions.parse("US-SV").is_err());
        assert!(Regions::new([], "mars").is_err());
    }
}
