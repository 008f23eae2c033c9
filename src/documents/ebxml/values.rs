//! HL7 v2 values in metadata (ITI TF-3 §4.2.3.1.7): CX, `CXi`, XCN, XON, XTN and coded strings, with
//! the escapes of HL7 v2.

use crate::types::Oid;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

/// `\F\ \S\ \R\ \T\ \E\` stand for `| ^ ~ & \`.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let letter = ["\\F\\", "\\S\\", "\\R\\", "\\T\\", "\\E\\"]
            .iter()
            .zip(['|', '^', '~', '&', '\\'])
            .find(|(escape, _)| from.starts_with(**escape));
        if let Some((escape, letter)) = letter {
            out.push(letter);
            rest = from.get(escape.len()..).unwrap_or_default();
        } else {
            out.push('\\');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

/// The inverse of [`unescape`].
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' => out.push_str("\\F\\"),
            '^' => out.push_str("\\S\\"),
            '~' => out.push_str("\\R\\"),
            '&' => out.push_str("\\T\\"),
            '\\' => out.push_str("\\E\\"),
            other => out.push(other),
        }
    }
    out
}

/// The components of a value.
struct Parts<'a>(Vec<&'a str>);

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        Self(text.split('^').collect())
    }

    /// The component with this number, from 1, as written.
    fn raw(&self, number: usize) -> &'a str {
        self.0.get(number - 1).copied().unwrap_or_default()
    }

    fn get(&self, number: usize) -> String {
        unescape(self.raw(number))
    }

    /// The OID of an assigning authority `&OID&ISO`; empty if there is none.
    fn authority(&self, number: usize) -> Result<String, &'static str> {
        let raw = self.raw(number);
        if raw.is_empty() {
            return Ok(String::new());
        }
        let sub: Vec<&str> = raw.split('&').collect();
        match sub.as_slice() {
            [_, oid, "ISO"] if oid.parse::<Oid>().is_ok() => Ok((*oid).to_owned()),
            _ => Err("has an assigning authority that is not `&OID&ISO`"),
        }
    }

    /// Whether all components but these are empty.
    fn only(&self, numbers: &[usize]) -> bool {
        (1..)
            .zip(&self.0)
            .all(|(number, part)| part.is_empty() || numbers.contains(&number))
    }
}

/// CX, `ID^^^&OID&ISO`: no other component, no namespace.
pub(super) fn cx(text: &str) -> Result<cpb::Identifier, &'static str> {
    let wrong = "is not `ID^^^&OID&ISO`";
    let parts = Parts::of(text);
    if !parts.only(&[1, 4]) || !parts.raw(4).starts_with('&') {
        return Err(wrong);
    }
    // Whether the authority is an OID is the model's question, as of every identifier.
    let sub: Vec<&str> = parts.raw(4).split('&').collect();
    let (value, [_, authority, "ISO"]) = (parts.get(1), sub.as_slice()) else {
        return Err(wrong);
    };
    if value.is_empty() || authority.is_empty() {
        return Err(wrong);
    }
    Ok(cpb::Identifier {
        assigning_authority: (*authority).to_owned(),
        value,
        ..cpb::Identifier::default()
    })
}

/// `CXi`, `ID^^^&OID&ISO^type` or with a namespace, or with no authority at all.
pub(super) fn cxi(text: &str) -> Result<pb::ReferenceId, &'static str> {
    let parts = Parts::of(text);
    let authority = parts.raw(4);
    let assigning_authority = if authority.contains('&') {
        parts.authority(4)?
    } else {
        unescape(authority)
    };
    let made = pb::ReferenceId {
        id: parts.get(1),
        assigning_authority,
        type_code: parts.get(5),
        home_community_id: parts
            .raw(6)
            .split('&')
            .nth(1)
            .filter(|oid| !oid.is_empty())
            .map_or_else(String::new, |oid| format!("urn:oid:{oid}")),
    };
    if made.id.is_empty() || made.type_code.is_empty() {
        return Err("is not `ID^^^authority^type`");
    }
    Ok(made)
}

/// XCN.
pub(super) fn xcn(text: &str) -> Result<pb::MetadataPerson, &'static str> {
    let parts = Parts::of(text);
    let made = pb::MetadataPerson {
        id: parts.get(1),
        assigning_authority: parts.authority(9)?,
        family: parts.get(2),
        given: parts.get(3),
        middle: parts.get(4),
        suffix: parts.get(5),
        prefix: parts.get(6),
        degree: parts.get(7),
    };
    if made.id.is_empty() && made.family.is_empty() {
        return Err("is a person with neither id nor family name");
    }
    Ok(made)
}

/// XON.
pub(super) fn xon(text: &str) -> Result<pb::MetadataOrganization, &'static str> {
    let parts = Parts::of(text);
    let made = pb::MetadataOrganization {
        name: parts.get(1),
        id: parts.get(10),
        assigning_authority: parts.authority(6)?,
    };
    if made.name.is_empty() {
        return Err("is an organisation without a name");
    }
    if !parts.only(&[1, 6, 10]) {
        return Err("has components that an organisation in metadata has not");
    }
    if !made.id.is_empty() && made.assigning_authority.is_empty() && made.id.parse::<Oid>().is_err()
    {
        return Err("has an id that is neither an OID nor in an assigning authority");
    }
    Ok(made)
}

/// XTN.
pub(super) fn xtn(text: &str) -> Result<pb::MetadataTelecom, &'static str> {
    let parts = Parts::of(text);
    let made = pb::MetadataTelecom {
        r#use: parts.get(2),
        equipment: parts.get(3),
        email: parts.get(4),
        country_code: parts.get(5),
        area_code: parts.get(6),
        local_number: parts.get(7),
        extension: parts.get(8),
        text: parts.get(12),
    };
    let empty = [
        &made.email,
        &made.country_code,
        &made.area_code,
        &made.local_number,
        &made.text,
    ];
    if empty.iter().all(|part| part.is_empty()) {
        return Err("has neither number nor address");
    }
    Ok(made)
}

/// A text, or a code with its system, `Code^^^&OID&ISO`.
pub(super) fn coded(text: &str) -> Result<cpb::CodedValue, &'static str> {
    let parts = Parts::of(text);
    if parts.0.len() == 1 {
        return Ok(cpb::CodedValue {
            display_name: unescape(text),
            ..cpb::CodedValue::default()
        });
    }
    Ok(cpb::CodedValue {
        code: parts.get(1),
        system: parts.authority(4)?,
        ..cpb::CodedValue::default()
    })
}

/// intendedRecipient, `XON|XCN|XTN`.
pub(super) fn recipient(text: &str) -> Result<pb::IntendedRecipient, &'static str> {
    let mut parts = text.split('|');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let made = pb::IntendedRecipient {
        organization: next().map(xon).transpose()?,
        person: next().map(xcn).transpose()?,
        telecom: next().map(xtn).transpose()?,
    };
    if made == pb::IntendedRecipient::default() {
        return Err("names no recipient");
    }
    Ok(made)
}

fn joined(parts: &[String]) -> String {
    parts.join("^").trim_end_matches('^').to_owned()
}

fn authority(oid: &str) -> String {
    if oid.is_empty() {
        String::new()
    } else {
        format!("&{oid}&ISO")
    }
}

/// CX as text.
pub(super) fn print_cx(identifier: &cpb::Identifier) -> String {
    format!(
        "{}^^^&{}&ISO",
        escape(&identifier.value),
        identifier.assigning_authority
    )
}

/// `CXi` as text.
pub(super) fn print_cxi(reference: &pb::ReferenceId) -> String {
    let named = &reference.assigning_authority;
    let domain = if named.parse::<Oid>().is_ok() {
        authority(named)
    } else {
        escape(named)
    };
    let home = reference.home_community_id.strip_prefix("urn:oid:");
    joined(&[
        escape(&reference.id),
        String::new(),
        String::new(),
        domain,
        escape(&reference.type_code),
        home.map_or_else(String::new, authority),
    ])
}

/// XCN as text.
pub(super) fn print_xcn(person: &pb::MetadataPerson) -> String {
    joined(&[
        escape(&person.id),
        escape(&person.family),
        escape(&person.given),
        escape(&person.middle),
        escape(&person.suffix),
        escape(&person.prefix),
        escape(&person.degree),
        String::new(),
        authority(&person.assigning_authority),
    ])
}

/// XON as text.
pub(super) fn print_xon(organization: &pb::MetadataOrganization) -> String {
    let mut parts = vec![String::new(); 10];
    for (place, text) in [
        (0, escape(&organization.name)),
        (5, authority(&organization.assigning_authority)),
        (9, escape(&organization.id)),
    ] {
        if let Some(part) = parts.get_mut(place) {
            *part = text;
        }
    }
    joined(&parts)
}

/// XTN as text.
pub(super) fn print_xtn(telecom: &pb::MetadataTelecom) -> String {
    let mut parts = vec![String::new(); 12];
    let texts = [
        (1, &telecom.r#use),
        (2, &telecom.equipment),
        (3, &telecom.email),
        (4, &telecom.country_code),
        (5, &telecom.area_code),
        (6, &telecom.local_number),
        (7, &telecom.extension),
        (11, &telecom.text),
    ];
    for (place, text) in texts {
        if let Some(part) = parts.get_mut(place) {
            *part = escape(text);
        }
    }
    joined(&parts)
}

/// A coded string as text.
pub(super) fn print_coded(code: &cpb::CodedValue) -> String {
    if code.system.is_empty() {
        let text = if code.display_name.is_empty() {
            &code.code
        } else {
            &code.display_name
        };
        return escape(text);
    }
    format!("{}^^^&{}&ISO", escape(&code.code), code.system)
}

/// intendedRecipient as text.
pub(super) fn print_recipient(recipient: &pb::IntendedRecipient) -> String {
    let parts = [
        recipient.organization.as_ref().map(print_xon),
        recipient.person.as_ref().map(print_xcn),
        recipient.telecom.as_ref().map(print_xtn),
    ];
    let text: Vec<String> = parts.into_iter().map(Option::unwrap_or_default).collect();
    text.join("|").trim_end_matches('|').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cx_is_strict() {
        let read = cx("0001^^^&1.2.3&ISO").unwrap();
        assert_eq!(
            (read.value.as_str(), read.assigning_authority.as_str()),
            ("0001", "1.2.3")
        );
        for bad in [
            "",
            "0001",
            "0001^^^name&1.2.3&ISO",
            "0001^^^&1.2.3&UUID",
            "^^^&1.2.3&ISO",
            "0001^^^&&ISO",
            "0001^^^&1.2.3&ISO^PI",
            "0001^x^^&1.2.3&ISO",
        ] {
            assert!(cx(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn people_and_places_have_what_they_need() {
        let person = xcn("11375^Welby^Marcus^J^Jr.^MD^Dr^^&1.2.840.113619.6.197&ISO").unwrap();
        assert_eq!(
            (person.id.as_str(), person.family.as_str()),
            ("11375", "Welby")
        );
        assert_eq!(person.assigning_authority, "1.2.840.113619.6.197");
        assert!(xcn("^^^").is_err());
        assert!(xcn("1^^^^^^^^&x&ISO").is_err());
        assert_eq!(xon("東京病院").unwrap().name, "東京病院");
        let full = xon("Some Hospital^^^^^&1.2.3.9&ISO^^^^45").unwrap();
        assert_eq!(
            (full.id.as_str(), full.assigning_authority.as_str()),
            ("45", "1.2.3.9")
        );
        for bad in ["", "^^^^^&1.2&ISO^^^^45", "A^B", "A^^^^^^^^^notoid"] {
            assert!(xon(bad).is_err(), "{bad}");
        }
        assert_eq!(xtn("^^Internet^a@b.example").unwrap().email, "a@b.example");
        assert!(xtn("^^PH").is_err());
    }

    fn texts() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9 |^~&\\\\あ]{0,12}"
    }

    proptest! {
        #[test]
        fn escapes_come_back(text in "\\PC{0,30}") {
            prop_assert_eq!(unescape(&escape(&text)), text);
        }

        #[test]
        fn people_come_back(id in texts(), family in "[a-z^|]{1,8}", given in texts(), degree in texts()) {
            let person = pb::MetadataPerson { id, family, given, degree, ..Default::default() };
            prop_assert_eq!(xcn(&print_xcn(&person)).unwrap(), person);
        }

        #[test]
        fn recipients_come_back(name in "[a-z|^]{1,8}", family in "[a-z|]{1,8}", email in "[a-z@|]{1,8}") {
            let recipient = pb::IntendedRecipient {
                organization: Some(pb::MetadataOrganization { name, ..Default::default() }),
                person: Some(pb::MetadataPerson { family, ..Default::default() }),
                telecom: Some(pb::MetadataTelecom { equipment: "Internet".into(), email, ..Default::default() }),
            };
            prop_assert_eq!(super::recipient(&print_recipient(&recipient)).unwrap(), recipient);
        }

        #[test]
        fn nothing_panics(text in "[0-9.&^|~\\\\ISOa-z]{0,40}") {
            drop((cx(&text), cxi(&text), xcn(&text), xon(&text), xtn(&text), coded(&text), recipient(&text)));
        }
    }
}
