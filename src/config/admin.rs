//! `[admin]`: where the second listener is.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::build::Build;
use super::file::{KeyPath, Parse, ValueError, any_of, section};
use super::socket_file::{SocketMode, SocketOwner};
use super::tls::TlsSection;
use crate::admin::{AdminListenerSettings, HostName};
use crate::net::ListenAddress;
use crate::server::SocketFile;

section! {
    pub(super) struct AdminSection {
        /// Where health, metrics and the admin API are. `"off"` or `false` for no listener.
        /// Without [operators](operators.md) it asks no one who they are, so `check` warns if it is
        /// not loopback; with operators it must be loopback, a Unix socket, or speak TLS.
        address: AdminAddress = "127.0.0.1:9090";
        /// As `listen.socket_mode`.
        socket_mode: SocketMode = "0660";
        /// As `listen.socket_owner`.
        socket_owner: Option<SocketOwner> => "that of the process";
        /// The names and addresses of hosts, without ports, under which it answers operators.
        hosts: Option<Vec<HostName>> => "those of loopback and of its certificate";
        /// Whether the keys of operators may cross a network in the clear.
        insecure: bool = false;
        tls: Option<TlsSection>;
    }
}

/// The address of the admin listener, or none.
pub(super) struct AdminAddress(Option<ListenAddress>);

impl Parse for AdminAddress {
    const ALLOWED: &'static str = "an address such as \"127.0.0.1:9090\", or \"off\"";

    fn text(text: &str) -> Result<Self, ValueError> {
        match text {
            // What a variable can say of `false`.
            "off" | "false" => Ok(Self(None)),
            _ => ListenAddress::text(text).map(|address| Self(Some(address))),
        }
    }

    fn boolean(value: bool) -> Result<Self, ValueError> {
        if value { Err("found true".into()) } else { Ok(Self(None)) }
    }

    fn integer(number: i64) -> Result<Self, ValueError> {
        ListenAddress::integer(number).map(|address| Self(Some(address)))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let off = json_schema!({ "enum": ["off", "false", false] });
        any_of([<ListenAddress as Parse>::schema(generator), off])
    }
}

impl Build<'_> {
    pub(super) fn admin(
        &mut self,
        section: &AdminSection,
        listen: &[(KeyPath, ListenAddress)],
    ) -> AdminListenerSettings {
        let path = section.path.key("address");
        let AdminAddress(address) = &section.address;
        if let Some(address) = address {
            self.check_collision(&path, address, listen);
        }
        let owner =
            self.socket_owner(&section.path.key("socket_owner"), section.socket_owner.as_ref());
        let socket = SocketFile { mode: section.socket_mode.0, ..owner };
        let tls = section.tls.as_ref().and_then(|tls| self.listen_tls(tls));
        AdminListenerSettings { address: address.clone(), socket, tls }
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
