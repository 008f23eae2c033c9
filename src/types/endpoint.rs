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
        if host.is_empty() || host.len() > 253 || port == 0 || !(ipv6 || host.chars().all(name_ok))
        {
            return Err(InvalidEndpoint);
        }
        Ok(Self {
            host: host.into(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}
