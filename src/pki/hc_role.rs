//! hcRole (ISO 17090-2 `HCActorData`) in subjectDirectoryAttributes: decoding, and encoding for
//! development certificates.
//!
//! The double SET: `Attribute.values` is a SET holding one `HCActorData`, itself a SET OF `HCActor`;
//! `CodedData` is a SET too, not a SEQUENCE. Tags are EXPLICIT, as issued certificates have them.

use super::der::{self, Element, NotDer, tag};
use super::profile::RoleScheme;
use super::refusal::Refusal;

fn malformed(what: &'static str) -> impl Fn(NotDer) -> Refusal {
    move |_| Refusal::HcRoleMalformed { what }
}

/// The `codeDataFreeText` of every actor whose coding scheme is `scheme`'s, from the value of a
/// subjectDirectoryAttributes extension. Actors of other schemes are ignored.
///
/// # Errors
/// [`Refusal::HcRoleMalformed`], [`Refusal::HcRoleDuplicate`].
pub(crate) fn decode(extension: &[u8], scheme: &RoleScheme) -> Result<Vec<String>, Refusal> {
    let attributes = der::whole(extension)
        .and_then(|outer| outer.expect(tag::SEQUENCE)?.children())
        .map_err(malformed("subjectDirectoryAttributes"))?;
    let mut values = None;
    for attribute in attributes {
        let (kind, set) = read_attribute(attribute).map_err(malformed("attribute"))?;
        if kind == *scheme.attribute && values.replace(set).is_some() {
            return Err(Refusal::HcRoleDuplicate);
        }
    }
    let Some(values) = values else {
        return Ok(Vec::new());
    };
    let actor_data = values
        .only_child()
        .and_then(|data| data.expect(tag::SET))
        .map_err(malformed(
            "the attribute does not hold exactly one SET of actors",
        ))?;
    let actors = actor_data.children().map_err(malformed("actors"))?;
    if actors.is_empty() || actors.len() > scheme.max_actors {
        return Err(Refusal::HcRoleMalformed {
            what: "number of actors",
        });
    }
    let mut roles = Vec::new();
    for actor in actors {
        if let Some(role) = decode_actor(actor, scheme)? {
            if roles.contains(&role) {
                return Err(Refusal::HcRoleDuplicate);
            }
            roles.push(role);
        }
    }
    Ok(roles)
}

fn read_attribute(attribute: Element<'_>) -> Result<(String, Element<'_>), NotDer> {
    match attribute.expect(tag::SEQUENCE)?.children()?.as_slice() {
        [kind, values] => Ok((
            der::oid_text(kind.expect(tag::OID)?.content)?,
            values.expect(tag::SET)?,
        )),
        _ => Err(NotDer),
    }
}

/// One `HCActor`; `None` if its coding scheme is another. `regionalHCActorData` is not used in
/// Japan: it is allowed and ignored.
pub(crate) fn decode_actor(
    actor: Element<'_>,
    scheme: &RoleScheme,
) -> Result<Option<String>, Refusal> {
    let parts = actor
        .expect(tag::SEQUENCE)
        .and_then(Element::children)
        .map_err(malformed("an actor is not a SEQUENCE"))?;
    let coded = match parts.as_slice() {
        [coded] => coded,
        [coded, regional] if regional.tag == tag::constructed(1) => coded,
        _ => {
            return Err(Refusal::HcRoleMalformed {
                what: "parts of an actor",
            });
        }
    };
    let fields = coded
        .expect(tag::constructed(0))
        .and_then(Element::only_child)
        .and_then(|data| data.expect(tag::SET))
        .and_then(Element::children)
        .map_err(malformed("codedData is not a SET"))?;
    let (reference, text) = read_coded_data(&fields).map_err(malformed("codedData"))?;
    if reference == *scheme.coding_scheme {
        Ok(Some(text))
    } else {
        Ok(None)
    }
}

fn read_coded_data(fields: &[Element<'_>]) -> Result<(String, String), NotDer> {
    let (mut reference, mut text, mut value) = (None, None, None);
    for field in fields {
        let inner = field.only_child()?;
        let before = match field.tag {
            0xa0 => reference.replace(der::oid_text(inner.expect(tag::OID)?.content)?),
            0xa1 => value.replace(directory_string(inner, &[tag::NUMERIC_STRING])?),
            0xa2 => text.replace(directory_string(
                inner,
                &[tag::UTF8_STRING, tag::PRINTABLE_STRING],
            )?),
            _ => return Err(NotDer),
        };
        if before.is_some() {
            return Err(NotDer);
        }
    }
    Ok((reference.ok_or(NotDer)?, text.ok_or(NotDer)?))
}

fn directory_string(element: Element<'_>, tags: &[u8]) -> Result<String, NotDer> {
    if !tags.contains(&element.tag) {
        return Err(NotDer);
    }
    std::str::from_utf8(element.content)
        .map(str::to_owned)
        .map_err(|_| NotDer)
}

/// The value of a subjectDirectoryAttributes extension with hcRole `roles`: DER, SETs sorted,
/// `UTF8String`.
pub(crate) fn encode<'a>(roles: impl IntoIterator<Item = &'a str>, scheme: &RoleScheme) -> Vec<u8> {
    let actors = roles.into_iter().map(|role| {
        let coded = der::set_of(vec![
            der::element(tag::constructed(0), &der::oid(&scheme.coding_scheme)),
            der::element(
                tag::constructed(2),
                &der::element(tag::UTF8_STRING, role.as_bytes()),
            ),
        ]);
        der::sequence([der::element(tag::constructed(0), &coded)])
    });
    let values = der::set_of(vec![der::set_of(actors.collect())]);
    der::sequence([der::sequence([der::oid(&scheme.attribute), values])])
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;
    use crate::pki::Profiles;

    const DOCTOR: &str = "303430320606288185420001312831263024a0223120a00c060a2a830886910f01060101a2100c0e4d65646963616c20446f63746f72";
    const PHARMACIST: &str = "3030302e0606288185420001312431223020a01e311ca00c060a2a830886910f01060101a20c0c0a506861726d6163697374";
    const DIRECTOR: &str = "303a30380606288185420001312e312c302aa0283126a00c060a2a830886910f01060101a2160c144469726563746f72206f6620486f73706974616c";
    const TWO: &str = "305e305c0606288185420001315231503024a0223120a00c060a2a830886910f01060101a2100c0e4d65646963616c20446f63746f723028a0263124a00c060a2a830886910f01060101a2140c124469726563746f72206f6620436c696e6963";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
            .collect()
    }

    fn scheme() -> RoleScheme {
        Profiles::hpki().unwrap().role_scheme().clone()
    }

    #[test]
    fn vectors_of_issued_certificates_decode_and_encode_to_the_same_bytes() {
        let vectors: [(&str, &[&str]); 4] = [
            (DOCTOR, &["Medical Doctor"]),
            (PHARMACIST, &["Pharmacist"]),
            (DIRECTOR, &["Director of Hospital"]),
            (TWO, &["Medical Doctor", "Director of Clinic"]),
        ];
        for (hex, roles) in vectors {
            assert_eq!(decode(&bytes(hex), &scheme()).unwrap(), roles);
            assert_eq!(
                encode(roles.iter().copied(), &scheme()),
                bytes(hex),
                "{roles:?}"
            );
        }
    }

    #[test]
    fn actors_with_a_code_or_empty_regional_data_decode() {
        for text in [
            "MCegJTEjoAwGCiqDCIaRDwEGAQGhBRIDMTIzogwMClBoYXJtYWNpc3Q=",
            "MCugJTEjoAwGCiqDCIaRDwEGAQGhBRIDMTIzogwMClBoYXJtYWNpc3ShAjAA",
        ] {
            let actor = base64::engine::general_purpose::STANDARD
                .decode(text)
                .unwrap();
            let role = decode_actor(der::whole(&actor).unwrap(), &scheme()).unwrap();
            assert_eq!(role.as_deref(), Some("Pharmacist"));
        }
    }

    #[test]
    fn a_single_set_a_foreign_scheme_and_duplicates_are_told_apart() {
        let actor = |reference: &str, role: &str| {
            let coded = der::set_of(vec![
                der::element(0xa0, &der::oid(reference)),
                der::element(0xa2, &der::element(tag::UTF8_STRING, role.as_bytes())),
            ]);
            der::sequence([der::element(0xa0, &coded)])
        };
        let wrap =
            |values: Vec<u8>| der::sequence([der::sequence([der::oid("1.0.17090.0.1"), values])]);
        let own = "1.2.392.100495.1.6.1.1";
        let single = wrap(der::set_of(vec![actor(own, "Midwife")]));
        assert_eq!(
            decode(&single, &scheme()).unwrap_err().rule(),
            "hc-role-malformed"
        );
        let foreign = wrap(der::set_of(vec![der::set_of(vec![actor(
            "1.2.3", "Midwife",
        )])]));
        assert!(decode(&foreign, &scheme()).unwrap().is_empty());
        let twice = wrap(der::set_of(vec![der::set_of(vec![
            actor(own, "Midwife"),
            actor(own, "Midwife"),
        ])]));
        assert_eq!(
            decode(&twice, &scheme()).unwrap_err(),
            Refusal::HcRoleDuplicate
        );
        let many = (0..17).map(|n| actor(own, &format!("role {n}"))).collect();
        let many = wrap(der::set_of(vec![der::set_of(many)]));
        assert_eq!(
            decode(&many, &scheme()).unwrap_err().rule(),
            "hc-role-malformed"
        );
    }

    #[test]
    fn every_truncation_is_refused_without_a_panic() {
        let vector = bytes(TWO);
        for end in 0..vector.len() {
            assert!(decode(&vector[..end], &scheme()).is_err());
        }
        for index in 0..vector.len() {
            let mut damaged = vector.clone();
            damaged[index] ^= 0x55;
            drop(decode(&damaged, &scheme()));
        }
    }
}
