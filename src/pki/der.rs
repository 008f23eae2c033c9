//! The little DER (X.690) that the certificate parser does not do: reading hcRole strictly, and
//! writing development certificates byte for byte as the HPKI profile has them.

/// Universal and context tags in use.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const ENUMERATED: u8 = 0x0a;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const NUMERIC_STRING: u8 = 0x12;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const IA5_STRING: u8 = 0x16;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// `[n]` constructed, context class.
    pub(crate) const fn constructed(number: u8) -> u8 {
        0xa0 | number
    }

    /// `[n]` primitive, context class.
    pub(crate) const fn primitive(number: u8) -> u8 {
        0x80 | number
    }
}

/// Not DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDer;

/// One element: its tag and its content octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
}

impl<'a> Element<'a> {
    /// The elements inside, all of them or an error.
    pub(crate) fn children(self) -> Result<Vec<Element<'a>>, NotDer> {
        let mut rest = self.content;
        let mut children = Vec::new();
        while !rest.is_empty() {
            let (element, after) = split(rest)?;
            children.push(element);
            rest = after;
        }
        Ok(children)
    }

    /// The single element inside, as an EXPLICIT tag has it.
    pub(crate) fn only_child(self) -> Result<Element<'a>, NotDer> {
        whole(self.content)
    }

    /// This element if it has tag `expected`.
    pub(crate) fn expect(self, expected: u8) -> Result<Element<'a>, NotDer> {
        if self.tag == expected {
            Ok(self)
        } else {
            Err(NotDer)
        }
    }
}

/// The one element that `bytes` is, with nothing after it.
pub(crate) fn whole(bytes: &[u8]) -> Result<Element<'_>, NotDer> {
    match split(bytes)? {
        (element, []) => Ok(element),
        _ => Err(NotDer),
    }
}

/// Reads the outside of a certificate or revocation list (what is signed, an algorithm, a
/// signature), of which the certificate parser takes tags lightly although no signature covers
/// them. Whether the algorithm outside is, octet for octet, the one inside: in both structures the
/// first SEQUENCE of what is signed.
pub(crate) fn algorithms_agree(bytes: &[u8]) -> Result<bool, NotDer> {
    match whole(bytes)?.expect(tag::SEQUENCE)?.children()?.as_slice() {
        [signed, outside, signature] => {
            signature.expect(tag::BIT_STRING)?;
            outside.expect(tag::SEQUENCE)?;
            let parts = signed.expect(tag::SEQUENCE)?.children()?;
            Ok(parts.iter().find(|part| part.tag == tag::SEQUENCE) == Some(outside))
        }
        _ => Err(NotDer),
    }
}

/// The first element of `bytes`, and what follows. Definite minimal lengths and low tags only.
fn split(bytes: &[u8]) -> Result<(Element<'_>, &[u8]), NotDer> {
    let (&tag, rest) = bytes.split_first().ok_or(NotDer)?;
    let (&first, rest) = rest.split_first().ok_or(NotDer)?;
    if tag & 0x1f == 0x1f {
        return Err(NotDer);
    }
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let octets = usize::from(first & 0x7f);
        let (digits, rest) = rest.split_at_checked(octets).ok_or(NotDer)?;
        if !(1..=4).contains(&octets) || digits.first() == Some(&0) {
            return Err(NotDer);
        }
        let length = digits
            .iter()
            .fold(0usize, |sum, digit| (sum << 8) | usize::from(*digit));
        if length < 0x80 {
            return Err(NotDer);
        }
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length).ok_or(NotDer)?;
    Ok((Element { tag, content }, rest))
}

/// An OID's content octets as dotted text.
pub(crate) fn oid_text(content: &[u8]) -> Result<String, NotDer> {
    let mut arcs: Vec<u64> = Vec::new();
    let mut value: u64 = 0;
    let mut started = false;
    for octet in content {
        if (!started && *octet == 0x80) || value >> 57 != 0 {
            return Err(NotDer);
        }
        value = (value << 7) | u64::from(octet & 0x7f);
        started = octet & 0x80 != 0;
        if !started {
            if arcs.is_empty() {
                let top = (value / 40).min(2);
                arcs.push(top);
                arcs.push(value - top * 40);
            } else {
                arcs.push(value);
            }
            value = 0;
        }
    }
    if started || arcs.is_empty() {
        return Err(NotDer);
    }
    Ok(arcs
        .iter()
        .map(u64::to_string)
        .collect::<Vec<_>>()
        .join("."))
}

/// An element with `content`.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if let Ok(short @ 0..0x80) = u8::try_from(length) {
        out.push(short);
    } else {
        let digits: Vec<u8> = length
            .to_be_bytes()
            .into_iter()
            .skip_while(|digit| *digit == 0)
            .collect();
        out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
        out.extend(digits);
    }
    out.extend_from_slice(content);
    out
}

/// A constructed element of `parts` in order.
pub(crate) fn nest<P: AsRef<[u8]>>(tag: u8, parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut content = Vec::new();
    for part in parts {
        content.extend_from_slice(part.as_ref());
    }
    element(tag, &content)
}

/// SEQUENCE of `parts`.
pub(crate) fn sequence<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    nest(tag::SEQUENCE, parts)
}

/// SET OF `parts`, sorted as DER wants.
pub(crate) fn set_of(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    nest(tag::SET, parts)
}

/// OBJECT IDENTIFIER from dotted text; arcs that are no numbers are left out.
pub(crate) fn oid(text: &str) -> Vec<u8> {
    let arcs: Vec<u64> = text.split('.').filter_map(|arc| arc.parse().ok()).collect();
    let mut content = Vec::new();
    if let [first, second, rest @ ..] = arcs.as_slice() {
        push_base128(&mut content, first * 40 + second);
        for arc in rest {
            push_base128(&mut content, *arc);
        }
    }
    element(tag::OID, &content)
}

fn push_base128(out: &mut Vec<u8>, value: u64) {
    let mut shift = 63;
    while shift > 0 {
        if value >> shift != 0 {
            out.push(0x80 | low_seven(value >> shift));
        }
        shift -= 7;
    }
    out.push(low_seven(value));
}

fn low_seven(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or(0)
}

/// INTEGER from unsigned big-endian octets.
pub(crate) fn unsigned(octets: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = octets
        .iter()
        .copied()
        .skip_while(|octet| *octet == 0)
        .collect();
    if content.first().is_none_or(|octet| octet & 0x80 != 0) {
        content.insert(0, 0);
    }
    element(tag::INTEGER, &content)
}

/// BIT STRING with no unused bits.
pub(crate) fn bit_string(octets: &[u8]) -> Vec<u8> {
    let mut content = vec![0];
    content.extend_from_slice(octets);
    element(tag::BIT_STRING, &content)
}

/// BIT STRING of named bits (bit 0 first), trailing zeros removed.
pub(crate) fn named_bits(bits: &[u8]) -> Vec<u8> {
    let highest = bits.iter().copied().max().unwrap_or(0);
    let mut octets = vec![0u8; usize::from(highest / 8) + 1];
    for bit in bits {
        if let Some(octet) = octets.get_mut(usize::from(bit / 8)) {
            *octet |= 0x80 >> (bit % 8);
        }
    }
    let mut content = vec![7 - highest % 8];
    content.extend(octets);
    element(tag::BIT_STRING, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oids_are_written_and_read_as_the_fact_sheet_has_them() {
        assert_eq!(oid("1.0.17090.0.1"), [6, 6, 0x28, 0x81, 0x85, 0x42, 0, 1]);
        let scheme = oid("1.2.392.100495.1.6.1.1");
        assert_eq!(
            scheme,
            [6, 0x0a, 0x2a, 0x83, 8, 0x86, 0x91, 0x0f, 1, 6, 1, 1]
        );
        assert_eq!(oid_text(&scheme[2..]).unwrap(), "1.2.392.100495.1.6.1.1");
    }

    #[test]
    fn lengths_that_are_not_minimal_and_trailing_octets_are_not_der() {
        assert!(whole(&[0x04, 0x81, 0x01, 0x00]).is_err());
        assert!(whole(&[0x30, 0x80, 0x00, 0x00]).is_err());
        assert!(whole(&[0x05, 0x00, 0x00]).is_err());
        assert!(whole(&element(tag::OCTET_STRING, &[7; 300])).is_ok());
    }

    #[test]
    fn named_bits_drop_trailing_zeros() {
        assert_eq!(named_bits(&[1]), [3, 2, 6, 0x40]);
        assert_eq!(named_bits(&[0]), [3, 2, 7, 0x80]);
        assert_eq!(named_bits(&[5, 6]), [3, 2, 1, 0x06]);
    }
}
