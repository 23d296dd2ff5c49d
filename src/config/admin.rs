//! `[admin]`: the second listener.

use std::net::SocketAddr;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::build::Build;
use super::file::{Parse, ValueError, any_of, section};
use crate::admin::Settings;

section! {
    pub(super) struct AdminSection {
        /// Where health, metrics and the OpenAPI document are. `"off"` or `false` for no listener.
        /// It has no authentication, so `check` warns if it is not loopback.
        address: AdminAddress = "127.0.0.1:9090";
    }
}

/// The address of the admin listener, or none.
pub(super) struct AdminAddress(Option<SocketAddr>);

impl Parse for AdminAddress {
    const ALLOWED: &'static str = "an address such as \"127.0.0.1:9090\", or \"off\"";

    fn text(text: &str) -> Result<Self, ValueError> {
        match text {
            // What a variable can say of `false`.
            "off" | "false" => Ok(Self(None)),
            _ => SocketAddr::text(text).map(|address| Self(Some(address))),
        }
    }

    fn boolean(value: bool) -> Result<Self, ValueError> {
        if value { Err("found true".into()) } else { Ok(Self(None)) }
    }

    fn integer(number: i64) -> Result<Self, ValueError> {
        SocketAddr::integer(number).map(|address| Self(Some(address)))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let off = json_schema!({ "enum": ["off", "false", false] });
        any_of([<SocketAddr as Parse>::schema(generator), off])
    }
}

impl Build<'_> {
    pub(super) fn admin(&mut self, section: &AdminSection, listen: &[SocketAddr]) -> Settings {
        let path = section.path.key("address");
        let AdminAddress(address) = section.address;
        if let Some(address) = address {
            let why = "is reachable from other machines, and asks nobody who they are: \
                       see that only your operators' network reaches it";
            self.warn_if(!address.ip().is_loopback(), &path, why);
            let same = address.port() != 0 && listen.contains(&address);
            self.wrong_if(same, &path, "is an address of listen.address as well");
        }
        Settings { address }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_listener_can_be_left_out() {
        assert!(matches!(AdminAddress::boolean(false), Ok(AdminAddress(None))));
        assert!(matches!(AdminAddress::text("off"), Ok(AdminAddress(None))));
        assert!(AdminAddress::boolean(true).is_err());
    }
}
