//! Whose an end entity is: hcRole and the subject.

use super::{EVERY, ORGANISATIONS, PERSON, Variant, broken, kept};
use crate::pki::certificate::oid;
use crate::pki::der::{self, tag};
use crate::pki::dev::DevError;
use crate::pki::dev::corpus::{id, remove, set};
use crate::pki::dev::template::{Extension, Template, extension, name};
use crate::pki::{Profiles, hc_role};

/// hcRole with these names.
fn role_list(list: &[&str]) -> Result<Extension, DevError> {
    let profiles = Profiles::test().map_err(|error| DevError::Profile(error.to_string().into()))?;
    let value = hc_role::encode(list.iter().copied(), profiles.role_scheme());
    Ok(extension::directory_attributes(value))
}

#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
pub(super) fn roles() -> Result<Vec<Variant>, DevError> {
    let has = |list: &[&str]| -> Result<_, DevError> {
        let extension = role_list(list)?;
        Ok(move |t: &mut Template| set(t, extension.clone()))
    };
    let raw = |value: Vec<u8>| {
        move |t: &mut Template| set(t, extension::directory_attributes(value.clone()))
    };
    let none = |t: &mut Template| remove(t, id::SUBJECT_DIRECTORY_ATTRIBUTES);
    let other = der::sequence([der::sequence([
        der::oid("1.3.6.1.5.5.7.9.1"),
        der::set_of(vec![]),
    ])]);
    let many: Vec<String> = (0..17).map(|n| format!("role {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    Ok(vec![
        broken("role/missing", ORGANISATIONS, "hc-role-missing", none),
        kept("role/missing", PERSON, none),
        broken(
            "role/another-attribute-only",
            ORGANISATIONS,
            "hc-role-missing",
            raw(other),
        ),
        broken(
            "role/unknown",
            EVERY,
            "hc-role-unknown",
            has(&["Space Port"])?,
        ),
        broken(
            "role/other-case",
            PERSON,
            "hc-role-unknown",
            has(&["medical doctor"])?,
        ),
        kept(
            "role/two",
            PERSON,
            has(&["Medical Doctor", "Director of Clinic"])?,
        ),
        broken(
            "role/twice",
            PERSON,
            "hc-role-duplicate",
            has(&["Dentist", "Dentist"])?,
        ),
        broken(
            "role/of-a-person",
            ORGANISATIONS,
            "hc-role-kind",
            has(&["Medical Doctor"])?,
        ),
        broken(
            "role/of-an-institution",
            PERSON,
            "hc-role-kind",
            has(&["Insurance Pharmacy"])?,
        ),
        broken("role/seventeen", EVERY, "hc-role-malformed", has(&many)?),
        broken(
            "role/no-attribute",
            EVERY,
            "hc-role-malformed",
            raw(vec![0x30, 2, 5, 0]),
        ),
        broken(
            "role/cut-short",
            EVERY,
            "hc-role-malformed",
            raw(vec![0x30, 3, 0x30, 1, 6]),
        ),
    ])
}

#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
pub(super) fn subjects() -> Vec<Variant> {
    const TEXT: &str = "subject-text";
    const AMBIGUOUS: &str = "subject-ambiguous";
    // The Japanese name speaks of the subscriber number too, so it goes with the subject.
    let named = |list: Vec<(&'static str, String)>| {
        move |t: &mut Template| {
            t.subject = name(list.iter().map(|(oid, value)| (*oid, value.as_str())));
            if t.extensions
                .iter()
                .any(|known| known.oid == id::ALTERNATIVE_NAMES)
            {
                remove(t, id::ALTERNATIVE_NAMES);
            }
        }
    };
    let text = |value: &str| named(vec![(oid::COMMON_NAME, value.to_owned())]);
    let unit = |value: &str| (oid::ORGANISATIONAL_UNIT, value.to_owned());
    let common = || (oid::COMMON_NAME, "a".to_owned());
    let directory = |serial: &str| {
        let name = name([(oid::COUNTRY, "JP"), (oid::SERIAL_NUMBER, serial)]);
        der::element(tag::constructed(4), &name)
    };
    let named_twice = der::sequence([directory("RD00000077"), directory("RD00000077")]);
    let of_another = der::sequence([directory("RD00000078")]);
    let alternative = |value: Vec<u8>| {
        move |t: &mut Template| {
            set(
                t,
                Extension::new(id::ALTERNATIVE_NAMES, false, value.clone()),
            );
        }
    };
    let dns = |name: &str| {
        let names = der::sequence([der::element(tag::primitive(2), name.as_bytes())]);
        alternative(names)
    };
    let bmp = der::sequence([der::oid(oid::COMMON_NAME), der::element(0x1e, &[0x4e, 0])]);
    let bmp = der::sequence([der::set_of(vec![bmp])]);
    vec![
        kept("subject/common-name-only", EVERY, text("a")),
        kept("subject/japanese", EVERY, text("連携病院　内科")),
        broken("subject/nul", EVERY, TEXT, text("a\0b")),
        broken("subject/bidi-override", EVERY, TEXT, text("a\u{202e}b")),
        broken("subject/bidi-isolate", EVERY, TEXT, text("a\u{2066}b")),
        broken("subject/zero-width", EVERY, TEXT, text("a\u{200b}b")),
        broken("subject/line-feed", EVERY, TEXT, text("a\nb")),
        broken(
            "subject/257-characters",
            EVERY,
            TEXT,
            text(&"x".repeat(257)),
        ),
        kept("subject/256-characters", EVERY, text(&"x".repeat(256))),
        broken("subject/bmp-string", EVERY, TEXT, move |t| {
            t.subject.clone_from(&bmp);
        }),
        broken(
            "subject/nul-in-dns-name",
            EVERY,
            TEXT,
            dns("a.example\0.jp"),
        ),
        broken(
            "subject/two-common-names",
            EVERY,
            AMBIGUOUS,
            named(vec![common(), common()]),
        ),
        broken(
            "subject/two-codes",
            EVERY,
            AMBIGUOUS,
            named(vec![unit("1312345678"), unit("1312345679"), common()]),
        ),
        kept(
            "subject/two-units",
            EVERY,
            named(vec![unit("1312345678"), unit("Surgery"), common()]),
        ),
        broken(
            "subject/two-japanese-names",
            EVERY,
            AMBIGUOUS,
            alternative(named_twice),
        ),
        broken(
            "subject/japanese-name-of-another",
            EVERY,
            AMBIGUOUS,
            alternative(of_another),
        ),
        broken(
            "subject/no-common-name",
            EVERY,
            "subject-incomplete",
            named(vec![unit("1312345678")]),
        ),
        broken("subject/empty", EVERY, "subject-incomplete", named(vec![])),
    ]
}
