//! Where another node listens.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not `https://host:port`, without path, query or user")]
pub struct InvalidEndpoint;

/// The address of a node's gRPC interface: `https://host:port`, nothing else, so that a directory
/// entry cannot point a gateway at a path, a user, or another scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: Box<str>,
    port: u16,
}

impl Endpoint {
    /// Host name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let authority = text.strip_prefix("https://").ok_or(InvalidEndpoint)?;
        let (host, port) = authority.rsplit_once(':').ok_or(InvalidEndpoint)?;
        let port = port.parse::<u16>().map_err(|_| InvalidEndpoint)?;
        let host = match host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(InvalidEndpoint),
            None => host,
        };
        let name_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let ipv6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        let name = host.chars().all(name_ok) && !host.split('.').any(str::is_empty);
        if host.len() > 253 || port == 0 || !(ipv6 || name) || odd_number(host) {
            return Err(InvalidEndpoint);
        }
        Ok(Self {
            host: host.into(),
            port,
        })
    }
}

/// Whether resolvers would read `host` as an IPv4 address that it does not look like: `127.1`,
/// `0x7f.0.0.1`, `0177.0.0.1`, `2130706433`. A host whose last label is a number is an address
/// (WHATWG URL §3.5), and then it must be in dotted-decimal form.
fn odd_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let hexadecimal = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()));
    let decimal = last.chars().all(|c| c.is_ascii_digit());
    (hexadecimal || decimal) && !host.contains(':') && host.parse::<std::net::Ipv4Addr>().is_err()
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}
