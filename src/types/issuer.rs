//! Issuer and serial number: the name a CA gave a certificate.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

/// Why a text does not name a certificate by issuer and serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNumber {
    /// Not a distinguished name in the string form of RFC 4514.
    #[error("is not a distinguished name (RFC 4514), such as `CN=Issuing CA,O=Example,C=JP`")]
    Issuer,
    /// Not hexadecimal digits.
    #[error("is not a serial number in hexadecimal digits")]
    Serial,
}

/// The attribute names that a text may use instead of an OID (RFC 4514 §3, and serialNumber).
const NAMES: [(&str, &str); 11] = [
    ("CN", "2.5.4.3"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("C", "2.5.4.6"),
    ("STREET", "2.5.4.9"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("SN", "2.5.4.4"),
];

/// A distinguished name, compared attribute by attribute, values byte for byte; the order of RDNs
/// counts, that of attributes inside one does not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerName(Vec<Vec<(Box<str>, Box<str>)>>);

impl IssuerName {
    /// From RDNs in certificate order (the country mostly first): OID and text of each attribute.
    pub fn from_rdns(rdns: Vec<Vec<(&str, &str)>>) -> Self {
        let mut rdns: Vec<Vec<(Box<str>, Box<str>)>> = rdns
            .into_iter()
            .map(|rdn| {
                let mut rdn: Vec<_> = rdn
                    .into_iter()
                    .map(|(oid, value)| (oid.into(), value.into()))
                    .collect();
                rdn.sort();
                rdn
            })
            .collect();
        rdns.shrink_to_fit();
        Self(rdns)
    }

    /// From text as RFC 4514 has it: last RDN first, `,` between RDNs, `+` inside one, `\` before
    /// what is special.
    ///
    /// # Errors
    /// [`InvalidNumber::Issuer`].
    pub fn parse(text: &str) -> Result<Self, InvalidNumber> {
        let mut rdns = Vec::new();
        for rdn in split(text, ',')? {
            let attributes = split(&rdn, '+')?;
            let attributes = attributes.iter().map(|one| attribute(one));
            rdns.push(attributes.collect::<Result<Vec<_>, _>>()?);
        }
        rdns.reverse();
        let borrowed = rdns.iter().map(|rdn| {
            rdn.iter()
                .map(|(oid, value)| (oid.as_str(), value.as_str()))
                .collect()
        });
        Ok(Self::from_rdns(borrowed.collect()))
    }
}

impl fmt::Display for IssuerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rdns = self.0.iter().rev().map(|rdn| {
            let attributes = rdn.iter().map(|(oid, value)| {
                let known = NAMES.iter().find(|(_, known)| known == &&**oid);
                let name = known.map_or(&**oid, |(name, _)| name);
                format!("{name}={}", escape(value))
            });
            attributes.collect::<Vec<_>>().join("+")
        });
        f.write_str(&rdns.collect::<Vec<_>>().join(","))
    }
}

/// Splits at unescaped `at`; the parts keep their escapes.
fn split(text: &str, at: char) -> Result<Vec<String>, InvalidNumber> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == at && !escaped {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    match escaped || parts.iter().any(|part| part.trim().is_empty()) {
        true => Err(InvalidNumber::Issuer),
        false => Ok(parts),
    }
}

fn attribute(text: &str) -> Result<(String, String), InvalidNumber> {
    let (name, value) = text.split_once('=').ok_or(InvalidNumber::Issuer)?;
    let name = name.trim().to_ascii_uppercase();
    let known = NAMES.iter().find(|(known, _)| *known == name);
    let oid = if let Some((_, oid)) = known {
        (*oid).to_owned()
    } else {
        let oid = name.parse::<super::Oid>();
        oid.map_err(|_| InvalidNumber::Issuer)?.to_string()
    };
    let value = unescape(value.trim_start())?;
    match value.is_empty() {
        true => Err(InvalidNumber::Issuer),
        false => Ok((oid, value)),
    }
}

/// Takes `\` and a special character, or `\` and two hexadecimal digits, for what they stand for.
fn unescape(text: &str) -> Result<String, InvalidNumber> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let hex = rest
            .get(..2)
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        let next = rest.chars().next().ok_or(InvalidNumber::Issuer)?;
        match hex {
            Some(byte) => {
                bytes.push(byte);
                rest = rest.get(2..).unwrap_or_default();
            }
            None if " \"#+,;<=>\\".contains(next) => {
                bytes.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
                rest = rest.get(next.len_utf8()..).unwrap_or_default();
            }
            None => return Err(InvalidNumber::Issuer),
        }
    }
    String::from_utf8(bytes).map_err(|_| InvalidNumber::Issuer)
}

fn escape(value: &str) -> String {
    let mut out = String::new();
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let at_edge = (index == 0 && matches!(c, ' ' | '#')) || (index == last && c == ' ');
        if at_edge || "\"+,;<>\\".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Issuer and serial number of a certificate. A renewed certificate has another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateNumber {
    issuer: IssuerName,
    /// Big-endian, without leading zeros.
    serial: Vec<u8>,
}

impl CertificateNumber {
    /// From an issuer and the content octets of a serial number.
    pub fn new(issuer: IssuerName, serial: &[u8]) -> Self {
        let zeros = serial.iter().take_while(|octet| **octet == 0).count();
        Self {
            issuer,
            serial: serial.get(zeros..).unwrap_or_default().to_vec(),
        }
    }

    /// From text: an RFC 4514 name and hexadecimal digits, `:` between them allowed.
    ///
    /// # Errors
    /// [`InvalidNumber`].
    pub fn parse(issuer: &str, serial: &str) -> Result<Self, InvalidNumber> {
        let digits: String = serial.chars().filter(|c| *c != ':').collect();
        let padded = match digits.len() % 2 {
            0 => digits,
            _ => format!("0{digits}"),
        };
        let bytes = HEXLOWER_PERMISSIVE.decode(padded.as_bytes());
        let bytes = bytes.map_err(|_| InvalidNumber::Serial)?;
        if bytes.is_empty() || bytes.len() > 21 {
            return Err(InvalidNumber::Serial);
        }
        Ok(Self::new(IssuerName::parse(issuer)?, &bytes))
    }

    /// The issuer.
    pub fn issuer(&self) -> &IssuerName {
        &self.issuer
    }

    /// The serial number, lower-case hexadecimal without leading zeros.
    pub fn serial(&self) -> String {
        HEXLOWER.encode(&self.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_from_text_and_from_a_certificate() {
        let certificate = IssuerName::from_rdns(vec![
            vec![("2.5.4.6", "JP")],
            vec![("2.5.4.10", "Ministry of Health, Labour and Welfare")],
            vec![("2.5.4.11", "A"), ("2.5.4.3", "連携 CA")],
        ]);
        for text in [
            r"CN=連携 CA+OU=A,O=Ministry of Health\, Labour and Welfare,C=JP",
            r"OU=A+CN=\E9\80\A3\E6\90\BA CA, 2.5.4.10=Ministry of Health\2C Labour and Welfare, c=JP",
        ] {
            assert_eq!(IssuerName::parse(text).unwrap(), certificate, "{text}");
        }
        let printed = certificate.to_string();
        assert_eq!(
            IssuerName::parse(&printed).unwrap(),
            certificate,
            "{printed}"
        );
        let other_order = IssuerName::parse("C=JP,O=A").unwrap();
        assert_ne!(other_order, IssuerName::parse("O=A,C=JP").unwrap());
    }

    #[test]
    fn what_is_no_name_or_number_is_refused() {
        for text in [
            "",
            "CN",
            "CN=",
            "=a",
            "CN=a,",
            r"CN=a\",
            r"CN=a\q",
            "XX=a",
            "CN=a,,O=b",
        ] {
            assert_eq!(
                IssuerName::parse(text),
                Err(InvalidNumber::Issuer),
                "{text}"
            );
        }
        for serial in ["", "xyz", "0x12", &"ab".repeat(22)] {
            let number = CertificateNumber::parse("CN=a", serial);
            assert_eq!(number, Err(InvalidNumber::Serial), "{serial}");
        }
        let short = CertificateNumber::parse("CN=a", "1f").unwrap();
        assert_eq!(short, CertificateNumber::parse("CN=a", "00:1F").unwrap());
        assert_eq!(short.serial(), "1f");
    }
}
