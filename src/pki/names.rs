//! Names in certificates: general names, name constraints (RFC 5280 §4.2.1.10), server names.

use std::net::IpAddr;

use rustls_pki_types::ServerName;
use x509_parser::extensions::GeneralName;

use super::certificate::Certificate;
use super::der::{self, Element, NotDer, tag};

/// A `GeneralName`, owned. Directory names are compared by their DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Dns(String),
    Ip(Vec<u8>),
    Directory(Vec<u8>),
    Uri(String),
    /// Any other form, by its context tag number and content.
    Other(u8, Vec<u8>),
}

impl Name {
    pub(crate) fn read(name: &GeneralName<'_>) -> Self {
        match name {
            GeneralName::DNSName(dns) => Self::Dns((*dns).to_owned()),
            GeneralName::IPAddress(ip) => Self::Ip(ip.to_vec()),
            GeneralName::DirectoryName(directory) => Self::Directory(directory.as_raw().to_vec()),
            GeneralName::URI(uri) => Self::Uri((*uri).to_owned()),
            GeneralName::OtherName(oid, value) => Self::Other(0, [oid.as_bytes(), value].concat()),
            GeneralName::RFC822Name(mail) => Self::Other(1, mail.as_bytes().to_vec()),
            GeneralName::X400Address(any) => Self::Other(3, any.data.to_vec()),
            GeneralName::EDIPartyName(any) => Self::Other(5, any.data.to_vec()),
            GeneralName::RegisteredID(oid) => Self::Other(8, oid.as_bytes().to_vec()),
            GeneralName::Invalid(tag, data) => {
                Self::Other(u8::try_from(tag.0).unwrap_or(u8::MAX), data.to_vec())
            }
        }
    }

    /// The name in a `GeneralName` element.
    pub(crate) fn from_element(element: Element<'_>) -> Result<Self, NotDer> {
        let text = || {
            let ascii = element.content.is_ascii();
            let text = std::str::from_utf8(element.content).map_err(|_| NotDer)?;
            if ascii {
                Ok(text.to_owned())
            } else {
                Err(NotDer)
            }
        };
        Ok(match element.tag {
            0x82 => Self::Dns(text()?),
            0x86 => Self::Uri(text()?),
            0x87 => Self::Ip(element.content.to_vec()),
            0xa4 => {
                element.only_child()?.expect(tag::SEQUENCE)?;
                Self::Directory(element.content.to_vec())
            }
            other => Self::Other(other & 0x1f, element.content.to_vec()),
        })
    }

    /// For messages.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Dns(text) | Self::Uri(text) => text.chars().take(120).collect(),
            Self::Ip(octets) => ip_text(octets),
            Self::Directory(_) => "directory name".to_owned(),
            Self::Other(number, _) => format!("name of form {number}"),
        }
    }
}

/// An iPAddress as text.
pub(crate) fn ip_text(octets: &[u8]) -> String {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        IpAddr::from(four).to_string()
    } else if let Ok(sixteen) = <[u8; 16]>::try_from(octets) {
        IpAddr::from(sixteen).to_string()
    } else {
        "address".to_owned()
    }
}

/// The nameConstraints of a CA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Constraints {
    permitted: Vec<Name>,
    excluded: Vec<Name>,
}

impl Constraints {
    /// Reads the extension value. `minimum` and `maximum` must be absent, as RFC 5280 wants.
    pub(crate) fn read(value: &[u8]) -> Result<Self, NotDer> {
        let mut constraints = Self::default();
        for part in der::whole(value)?.expect(tag::SEQUENCE)?.children()? {
            let names = part
                .children()?
                .into_iter()
                .map(|subtree| Name::from_element(subtree.expect(tag::SEQUENCE)?.only_child()?))
                .collect::<Result<Vec<_>, _>>()?;
            match part.tag {
                0xa0 => constraints.permitted.extend(names),
                0xa1 => constraints.excluded.extend(names),
                _ => return Err(NotDer),
            }
        }
        Ok(constraints)
    }

    /// The first name of `certificate` outside these constraints.
    ///
    /// Forms this gateway does not compare (e-mail, registered id, …) are outside whenever they are
    /// constrained at all, as RFC 5280 allows.
    pub(crate) fn violated_by(&self, certificate: &Certificate) -> Option<Name> {
        let subject = Name::Directory(certificate.subject.der.clone());
        let mail = certificate
            .subject
            .values("1.2.840.113549.1.9.1")
            .map(|mail| Name::Other(1, mail.as_bytes().to_vec()));
        let names = certificate.extensions.alternative_names.iter().cloned();
        names
            .chain([subject])
            .chain(mail)
            .find(|name| !self.allows(name))
    }

    fn allows(&self, name: &Name) -> bool {
        let same_form =
            |base: &&Name| std::mem::discriminant(*base) == std::mem::discriminant(name);
        let mut permitted = self.permitted.iter().filter(same_form).peekable();
        let within = permitted.peek().is_none() || permitted.any(|base| contains(base, name));
        within
            && !self
                .excluded
                .iter()
                .filter(same_form)
                .any(|base| touches(base, name))
    }
}

/// Whether all of `name` lies in subtree `base` of the same form.
fn contains(base: &Name, name: &Name) -> bool {
    match (base, name) {
        (Name::Dns(base), Name::Dns(name)) => {
            dns_within(name.strip_prefix("*.").unwrap_or(name), base)
        }
        (Name::Ip(base), Name::Ip(name)) => ip_within(name, base),
        (Name::Uri(base), Name::Uri(name)) => {
            uri_host(name).is_some_and(|host| host_within(host, base))
        }
        (Name::Directory(base), Name::Directory(name)) => directory_within(name, base),
        _ => false,
    }
}

/// Whether any of `name` can lie in subtree `base`: a wildcard touches what is below it, and a form
/// that is not compared touches always.
fn touches(base: &Name, name: &Name) -> bool {
    match (base, name) {
        (Name::Dns(base), Name::Dns(name)) => match name.strip_prefix("*.") {
            Some(parent) => dns_within(parent, base) || dns_within(base, parent),
            None => dns_within(name, base),
        },
        // A URI without a host that can be compared is refused, permitted or excluded.
        (Name::Uri(base), Name::Uri(name)) => {
            uri_host(name).is_none_or(|host| host_within(host, base))
        }
        (Name::Ip(_), Name::Ip(_)) | (Name::Directory(_), Name::Directory(_)) => {
            contains(base, name)
        }
        _ => true,
    }
}

fn dns_within(name: &str, base: &str) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    if base.is_empty() {
        return true;
    }
    match base.strip_prefix('.') {
        Some(parent) => name.ends_with(&base) && name.len() > parent.len() + 1,
        None => name == base || name.ends_with(&format!(".{base}")),
    }
}

/// The host of a URI, if it is a name and not an address.
fn uri_host(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name = host.contains(|c: char| c.is_ascii_alphabetic()) && host.chars().all(label);
    name.then_some(host)
}

/// A URI's base is one host, or with a leading dot everything below it (RFC 5280 §4.2.1.10): not, as
/// for DNS names, both.
fn host_within(host: &str, base: &str) -> bool {
    match base.starts_with('.') {
        true => dns_within(host, base),
        false => host.eq_ignore_ascii_case(base),
    }
}

fn ip_within(name: &[u8], base: &[u8]) -> bool {
    let Some((network, mask)) = base.split_at_checked(name.len()) else {
        return false;
    };
    mask.len() == name.len()
        && name
            .iter()
            .zip(network)
            .zip(mask)
            .all(|((name, net), mask)| name & mask == net & mask)
}

/// RDN-wise prefix: both are SEQUENCEs, so a prefix of the content octets ends at an RDN.
fn directory_within(name: &[u8], base: &[u8]) -> bool {
    match (der::whole(name), der::whole(base)) {
        (Ok(name), Ok(base)) => name.content.starts_with(base.content),
        _ => false,
    }
}

/// Whether the certificate is for `server`: a DNS name of subjectAltName exactly (no wildcards; the
/// common name is no server name), or an IP address of it.
pub(crate) fn is_for_server(certificate: &Certificate, server: &ServerName<'_>) -> bool {
    let names = certificate.extensions.alternative_names.iter();
    match server {
        ServerName::DnsName(wanted) => names
            .filter_map(|name| match name {
                Name::Dns(dns) => Some(dns),
                _ => None,
            })
            .any(|dns| dns.eq_ignore_ascii_case(wanted.as_ref())),
        ServerName::IpAddress(wanted) => {
            let octets = match IpAddr::from(*wanted) {
                IpAddr::V4(four) => four.octets().to_vec(),
                IpAddr::V6(six) => six.octets().to_vec(),
            };
            names.clone().any(|name| *name == Name::Ip(octets.clone()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(text: &str) -> Name {
        Name::Dns(text.to_owned())
    }

    #[test]
    fn dns_subtrees_hold_the_name_and_what_is_below_it() {
        assert!(contains(&dns("example.jp"), &dns("example.jp")));
        assert!(contains(&dns("example.jp"), &dns("GW.example.JP")));
        assert!(!contains(&dns("example.jp"), &dns("badexample.jp")));
        assert!(!contains(&dns(".example.jp"), &dns("example.jp")));
        assert!(contains(&dns("example.jp"), &dns("*.example.jp")));
        assert!(touches(&dns("a.example.jp"), &dns("*.example.jp")));
        assert!(!touches(&dns("a.example.jp"), &dns("*.other.jp")));
    }

    #[test]
    fn addresses_need_the_right_family_and_network() {
        let base = Name::Ip(vec![10, 0, 0, 0, 255, 0, 0, 0]);
        assert!(contains(&base, &Name::Ip(vec![10, 9, 8, 7])));
        assert!(!contains(&base, &Name::Ip(vec![11, 0, 0, 1])));
        assert!(!contains(&base, &Name::Ip(vec![0; 16])));
    }

    #[test]
    fn a_uri_is_compared_by_its_host_and_refused_without_one() {
        let uri = |text: &str| Name::Uri(text.to_owned());
        let permits = |base: &str, name: &str| {
            let constraints = Constraints {
                permitted: vec![uri(base)],
                excluded: vec![],
            };
            constraints.allows(&uri(name))
        };
        let excludes = |base: &str, name: &str| {
            let constraints = Constraints {
                permitted: vec![],
                excluded: vec![uri(base)],
            };
            !constraints.allows(&uri(name))
        };
        for (base, name, within) in [
            ("gw.example.jp", "https://gw.example.jp/a", true),
            ("gw.example.jp", "https://user@GW.example.jp:443/a?b", true),
            ("gw.example.jp", "https://a.gw.example.jp/", false),
            (".example.jp", "https://gw.example.jp", true),
            (".example.jp", "https://example.jp", false),
            (".example.jp", "https://badexample.jp", false),
        ] {
            assert_eq!(permits(base, name), within, "{base} {name}");
            assert_eq!(excludes(base, name), within, "{base} {name}");
        }
        for hostless in [
            "https://10.0.0.1/",
            "urn:oid:1.2.3",
            "https:///a",
            "https://[::1]/",
        ] {
            assert!(!permits(".example.jp", hostless), "{hostless}");
            assert!(excludes(".example.jp", hostless), "{hostless}");
        }
        let constraints = Constraints {
            permitted: vec![uri("example.jp")],
            excluded: vec![],
        };
        assert!(constraints.allows(&dns("anything.jp")), "another form");
    }
}
