//! Where a listener is: the one parser of addresses that are listened on, and of Unix sockets
//! wherever they stand.
//!
//! An address is an IP address with a port, `localhost` with a port, a port alone (all addresses of
//! both families), or the path of a Unix socket (`unix:/run/gateway.sock`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest path that the name of a Unix socket takes on Linux and macOS alike: 104 bytes there,
/// with the zero at the end.
const LONGEST_PATH: usize = 103;

/// Where to listen, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// `localhost:8080`: loopback, of both families.
    Localhost(u16),
    /// `:8080`: all addresses, of both families.
    Any(u16),
    /// `unix:/run/gateway.sock`.
    Unix(UnixPath),
}

/// The absolute path of a Unix socket, short enough for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnixPath(PathBuf);

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A host alone.
    #[error("the port is missing")]
    NoPort,
    /// Not 0 to 65535.
    #[error("its port is no number from 0 to 65535")]
    Port,
    /// A name, which may have other addresses tomorrow.
    #[error(
        "found another string (an IP address, localhost, or nothing for all addresses stands before \
         the port; another name is not taken)"
    )]
    Host,
    /// `*:8080`.
    #[error("all addresses are written as nothing before the port, as in \":8080\"")]
    Star,
    /// An IPv6 address without brackets is ambiguous.
    #[error("an IPv6 address stands in brackets, as in \"[::1]:8080\"")]
    Brackets,
    /// A path of a Unix socket that is none.
    #[error("{0}")]
    Unix(#[from] UnixPathError),
}

/// Why a text is no path of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnixPathError {
    /// `unix:` and a name.
    #[error("the path of a Unix socket is absolute, as in \"unix:/run/gateway.sock\"")]
    Relative,
    /// The kernel has room for no more.
    #[error("the path of a Unix socket has at most {LONGEST_PATH} bytes, and this one has {0}")]
    Long(usize),
    /// A directory, or a control character.
    #[error("it ends with a slash or has a control character: it names no socket")]
    Form,
    /// `unix:@name`: whoever is on the machine may bind and dial it.
    #[error(
        "an abstract Unix socket has no owner and no mode, so it is not taken: write a path, as in \
         \"unix:/run/gateway.sock\""
    )]
    Abstract,
}

impl ListenAddress {
    /// What to bind; nothing for a Unix socket. Of the two of [`Self::Localhost`] and [`Self::Any`],
    /// a machine without one of the families has one alone.
    pub fn sockets(&self) -> Vec<SocketAddr> {
        let both = |v4: Ipv4Addr, v6: Ipv6Addr, port: u16| {
            vec![SocketAddr::from((v4, port)), SocketAddr::from((v6, port))]
        };
        match self {
            Self::Ip(address) => vec![*address],
            Self::Localhost(port) => both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, *port),
            Self::Any(port) => both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, *port),
            Self::Unix(_) => Vec::new(),
        }
    }

    /// The port; none of a Unix socket.
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Ip(address) => Some(address.port()),
            Self::Localhost(port) | Self::Any(port) => Some(*port),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this machine reaches it.
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
            Self::Localhost(_) | Self::Unix(_) => true,
            Self::Any(_) => false,
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = UnixPath::of_address(text) {
            return Ok(Self::Unix(path?));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(AddressError::Brackets);
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| match text {
            _ if text.eq_ignore_ascii_case("localhost") || text.parse::<IpAddr>().is_ok() => {
                AddressError::NoPort
            }
            _ => AddressError::Host,
        })?;
        let known = match host {
            "" => Self::Any as fn(u16) -> Self,
            "*" => return Err(AddressError::Star),
            _ if host.eq_ignore_ascii_case("localhost") => Self::Localhost,
            _ if host.parse::<Ipv4Addr>().is_ok() => return Err(AddressError::Port),
            _ if host.starts_with('[') && host.ends_with(']') => return Err(AddressError::Port),
            _ => return Err(AddressError::Host),
        };
        // Digits alone: `parse` takes a sign as well.
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or(AddressError::Port)?;
        Ok(known(port))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(out),
            Self::Localhost(port) => write!(out, "localhost:{port}"),
            Self::Any(port) => write!(out, ":{port}"),
            Self::Unix(path) => path.fmt(out),
        }
    }
}

impl UnixPath {
    /// That of a text that begins with `unix:`, as `unix:/run/x` or `unix:///run/x`; `None` for
    /// every other text.
    pub fn of_address(text: &str) -> Option<Result<Self, UnixPathError>> {
        let path = text.strip_prefix("unix:")?;
        Some(Self::new(path.strip_prefix("//").unwrap_or(path)))
    }

    /// Reads a path.
    ///
    /// # Errors
    /// [`UnixPathError`].
    pub fn new(path: &str) -> Result<Self, UnixPathError> {
        match path {
            _ if path.starts_with(['@', '\0']) => Err(UnixPathError::Abstract),
            _ if !path.starts_with('/') => Err(UnixPathError::Relative),
            _ if path.ends_with('/') || path.chars().any(char::is_control) => {
                Err(UnixPathError::Form)
            }
            _ if path.len() > LONGEST_PATH => Err(UnixPathError::Long(path.len())),
            _ => Ok(Self(path.into())),
        }
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for UnixPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "unix:{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ListenAddress, AddressError> {
        text.parse()
    }

    #[test]
    fn an_address_is_read_as_people_write_it() {
        for (text, sockets, local) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("0.0.0.0:0", "0.0.0.0:0", false),
            ("[::1]:80", "[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80", true),
            ("localhost:8080", "127.0.0.1:8080 [::1]:8080", true),
            ("LocalHost:0", "127.0.0.1:0 [::1]:0", true),
            (":8080", "0.0.0.0:8080 [::]:8080", false),
            ("unix:/run/wbg.sock", "", true),
        ] {
            let address = read(text).unwrap();
            let bound: Vec<_> = address.sockets().iter().map(ToString::to_string).collect();
            assert_eq!((bound.join(" ").as_str(), address.is_local()), (sockets, local), "{text}");
            assert_eq!(address.to_string(), text.replace("LocalHost", "localhost"));
            let port = (!text.starts_with("unix:")).then(|| text.rsplit(':').next().unwrap());
            assert_eq!(address.port().map(|port| port.to_string()).as_deref(), port, "{text}");
        }
        assert_eq!(read("unix:///run/wbg.sock"), read("unix:/run/wbg.sock"));
    }

    #[test]
    fn what_is_no_address_is_told_what_it_lacks() {
        use AddressError as E;
        let long = format!("unix:/{}", "x".repeat(199));
        for (text, why) in [
            ("", E::Host),
            ("127.0.0.1", E::NoPort),
            ("localhost", E::NoPort),
            ("gateway.example", E::Host),
            ("gateway.example:80", E::Host),
            ("*:80", E::Star),
            ("::1", E::Brackets),
            ("::1:8080", E::Brackets),
            (":", E::Port),
            (":+1", E::Port),
            (":65536", E::Port),
            ("localhost:", E::Port),
            ("127.0.0.1:http", E::Port),
            ("[::1]:65536", E::Port),
            ("http://localhost:80", E::Host),
            ("unix:", E::Unix(UnixPathError::Relative)),
            ("unix:run/wbg.sock", E::Unix(UnixPathError::Relative)),
            ("unix://run/wbg.sock", E::Unix(UnixPathError::Relative)),
            ("unix:@wbg", E::Unix(UnixPathError::Abstract)),
            ("unix:/run/", E::Unix(UnixPathError::Form)),
            ("unix:/run/a\nb", E::Unix(UnixPathError::Form)),
            (long.as_str(), E::Unix(UnixPathError::Long(200))),
        ] {
            assert_eq!(read(text), Err(why), "{text}");
        }
        let longest = format!("unix:/{}", "x".repeat(LONGEST_PATH - 1));
        assert!(read(&longest).is_ok());
    }
}
