//! Networks, hosts and addresses that a node may connect to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a network: address/bits, such as 10.0.0.0/8, without bits behind the prefix")]
pub struct InvalidNetwork;

/// A network in CIDR form (RFC 4632, RFC 4291 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: u128,
    mask: u128,
}

/// The address as 128 bits, an IPv4 address in its mapped form.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u128::from(four.to_ipv6_mapped()),
        IpAddr::V6(six) => u128::from(six),
    }
}

impl Network {
    /// Whether it holds `address`; an IPv4-mapped IPv6 address is its IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        bits(address) & self.mask == self.address
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = text.split_once('/').ok_or(InvalidNetwork)?;
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let prefix: u32 = prefix.parse().map_err(|_| InvalidNetwork)?;
        let prefix = match address {
            IpAddr::V4(_) if prefix <= 32 => prefix + 96,
            IpAddr::V6(_) if prefix <= 128 => prefix,
            _ => return Err(InvalidNetwork),
        };
        let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
        let address = bits(address);
        if address & mask == address {
            Ok(Self { address, mask })
        } else {
            Err(InvalidNetwork)
        }
    }
}

/// Whether an address is one of the public Internet: none of those that the IANA special-purpose
/// registries (RFC 6890 and its updates) keep for a host, a link, private use, documentation,
/// tests, multicast or the future; and none that hides an IPv4 address in an IPv6 one, since what it
/// leads to cannot be judged.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(four) => is_public_v4(four),
        IpAddr::V6(six) => is_public_v6(six),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // Shared address space of carriers (RFC 6598).
        || (a == 100 && (64..128).contains(&b))
        // Protocol assignments (RFC 6890), 6to4 relays (RFC 7526), benchmarks (RFC 2544).
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Global unicast is 2000::/3 so far; out of it: protocol assignments with Teredo and ORCHID
    // (2001::/23), documentation (2001:db8::/32, 3fff::/20), 6to4 (2002::/16).
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && b < 0x0200)
        && (a, b) != (0x2001, 0x0db8)
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}

/// Why a text is not a pattern for hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a host: a name, *.name, or an address")]
pub struct InvalidHostPattern;

/// A host by name or address, or every host below a name (`*.example.jp`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    below: bool,
    name: Box<str>,
}

impl HostPattern {
    /// Whether it holds `host`, without regard to case.
    pub fn matches(&self, host: &str) -> bool {
        if !self.below {
            return self.name.eq_ignore_ascii_case(host);
        }
        let Some(at) = host.len().checked_sub(self.name.len()) else {
            return false;
        };
        host.split_at_checked(at).is_some_and(|(front, end)| {
            end.eq_ignore_ascii_case(&self.name) && front.len() > 1 && front.ends_with('.')
        })
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, InvalidHostPattern> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        if name.is_empty() || !name.chars().all(fits) {
            return Err(InvalidHostPattern);
        }
        Ok(Self {
            below,
            name: name.into(),
        })
    }
}

/// Why a text is not the address of a revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not `http://host[:port][/path]`, without user, query or fragment")]
pub struct InvalidListUrl;

/// Where a revocation list is fetched, or a proxy is: `http://host[:port][/path]` (RFC 5280
/// §4.2.1.13 with RFC 2585).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListUrl {
    host: Box<str>,
    port: u16,
    path: Box<str>,
}

impl ListUrl {
    /// Host name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 80 if none is given.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path; `/` if none is given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `host:port`, an IPv6 address in brackets; without the port if it is 80.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.to_string()
        };
        match self.port {
            80 => host,
            port => format!("{host}:{port}"),
        }
    }
}

impl FromStr for ListUrl {
    type Err = InvalidListUrl;

    fn from_str(text: &str) -> Result<Self, InvalidListUrl> {
        let rest = text.strip_prefix("http://").ok_or(InvalidListUrl)?;
        let (endpoint, path) = host_and_path(rest, 80).ok_or(InvalidListUrl)?;
        Ok(Self {
            host: endpoint.host().into(),
            port: endpoint.port(),
            path: path.into(),
        })
    }
}

/// What comes after the scheme: `host[:port][/path]`, without user, query or fragment.
fn host_and_path(rest: &str, default_port: u16) -> Option<(super::Endpoint, &str)> {
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let printable = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@' | '\\');
    if !path.chars().all(printable) {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, default_port),
    };
    let endpoint = format!("https://{host}:{port}").parse().ok()?;
    Some((endpoint, path))
}

/// Why a text is not an address over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not `https://host[:port][/path]`, without user, query or fragment")]
pub struct InvalidHttpsUrl;

/// Where something is posted: `https://host[:port][/path]` (RFC 9110 §4.2.2). The port is 443 if none
/// is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpsUrl {
    endpoint: super::Endpoint,
    path: Box<str>,
}

impl HttpsUrl {
    /// Host and port.
    pub fn endpoint(&self) -> &super::Endpoint {
        &self.endpoint
    }

    /// The path; `/` if none is given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `host:port`, an IPv6 address in brackets; without the port if it is 443.
    pub fn authority(&self) -> String {
        let authority = self.endpoint.authority();
        match authority.strip_suffix(":443") {
            Some(host) => host.to_owned(),
            None => authority,
        }
    }
}

impl FromStr for HttpsUrl {
    type Err = InvalidHttpsUrl;

    fn from_str(text: &str) -> Result<Self, InvalidHttpsUrl> {
        let rest = text.strip_prefix("https://").ok_or(InvalidHttpsUrl)?;
        let (endpoint, path) = host_and_path(rest, 443).ok_or(InvalidHttpsUrl)?;
        Ok(Self {
            endpoint,
            path: path.into(),
        })
    }
}

impl fmt::Display for ListUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_its_addresses_only() {
        let private: Network = "10.0.0.0/8".parse().unwrap();
        assert!(private.contains(ip("10.255.0.1")) && private.contains(ip("::ffff:10.0.0.1")));
        assert!(!private.contains(ip("11.0.0.1")) && !private.contains(ip("a00::1")));
        let one: Network = "fd00::1/128".parse().unwrap();
        assert!(one.contains(ip("fd00::1")) && !one.contains(ip("fd00::2")));
        let all: Network = "::/0".parse().unwrap();
        assert!(all.contains(ip("192.0.2.1")) && all.contains(ip("2001:db8::1")));
        for bad in [
            "10.0.0.1/8",
            "10.0.0.0",
            "10.0.0.0/33",
            "x/8",
            "10.0.0.0/-1",
            "::/129",
        ] {
            assert_eq!(bad.parse::<Network>(), Err(InvalidNetwork), "{bad}");
        }
    }

    /// Bars: F-26.
    #[test]
    fn special_addresses_are_not_public() {
        for special in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fec0::1",
        ] {
            assert!(!is_public(ip(special)), "{special}");
        }
        for public in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2400:cb00::1",
            "2001:4860::1",
        ] {
            assert!(is_public(ip(public)), "{public}");
        }
    }

    #[test]
    fn hosts_match_by_name_or_below_it() {
        let below: HostPattern = "*.example.jp".parse().unwrap();
        assert!(below.matches("a.example.jp") && below.matches("a.b.EXAMPLE.jp"));
        for not in [
            "example.jp",
            ".example.jp",
            "badexample.jp",
            "example.jp.evil",
            "jp",
        ] {
            assert!(!below.matches(not), "{not}");
        }
        let one: HostPattern = "gateway.example.jp".parse().unwrap();
        assert!(one.matches("Gateway.example.jp") && !one.matches("a.gateway.example.jp"));
        for bad in ["", "*.", "*", "a b", "http://a"] {
            assert_eq!(bad.parse::<HostPattern>(), Err(InvalidHostPattern), "{bad}");
        }
    }

    #[test]
    fn addresses_over_tls_have_no_user_query_or_fragment() {
        let url: HttpsUrl = "https://audit.example.jp/fhir".parse().unwrap();
        assert_eq!(url.endpoint().port(), 443);
        assert_eq!(
            (url.authority().as_str(), url.path()),
            ("audit.example.jp", "/fhir")
        );
        let url: HttpsUrl = "https://[fd00::1]:8443".parse().unwrap();
        assert_eq!(
            (url.authority().as_str(), url.path()),
            ("[fd00::1]:8443", "/")
        );
        for bad in [
            "http://a/b",
            "https://",
            "https://u@a/b",
            "https://a/b?c",
            "https://a/b#c",
            "https://a:0/",
            "https://a/b c",
        ] {
            assert_eq!(bad.parse::<HttpsUrl>(), Err(InvalidHttpsUrl), "{bad}");
        }
    }

    #[test]
    fn list_addresses_are_plain_http() {
        let url: ListUrl = "http://crl.example.jp/a/b.crl".parse().unwrap();
        assert_eq!(
            (url.host(), url.port(), url.path()),
            ("crl.example.jp", 80, "/a/b.crl")
        );
        let url: ListUrl = "http://[fd00::1]:8080".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.path()), ("fd00::1", 8080, "/"));
        assert_eq!(url.to_string(), "http://[fd00::1]:8080/");
        for bad in [
            "https://a/b",
            "http://",
            "http:///x",
            "http://u@h/x",
            "http://h/x?q",
            "http://h/x#f",
            "http://h:0/x",
            "http://h/ x",
            "ldap://h/x",
        ] {
            assert_eq!(bad.parse::<ListUrl>(), Err(InvalidListUrl), "{bad}");
        }
    }
}
