//! From a demographics message to what matching compares, and the checks on the way in.

use crate::error::{Error, Reason, Result};
use crate::types::{PartialDate, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::identity as pb;

use super::compare::{Sex, Traits};
use super::matching::chosen;
use super::matching::normalize::{date, number};
use super::matching::record::Script;

/// Values in one record: more than any person has, few enough to compare in microseconds.
const MAX_VALUES: usize = 32;
/// Bytes of one text value.
const MAX_TEXT: usize = 1024;
/// Zeros before a number that tell that it was filled up to a length.
const PADDING: usize = 4;

/// Parses an identifier message.
///
/// # Errors
/// [`Reason::MissingField`], [`Reason::InvalidOid`] or [`Reason::InvalidField`], naming the field.
pub fn identifier(
    message: Option<&cpb::Identifier>,
    field: &'static str,
) -> Result<PatientIdentifier> {
    let message = message.ok_or_else(|| Error::missing(field))?;
    if message.assigning_authority.is_empty() {
        return Err(Error::missing(format!("{field}.assigning_authority")));
    }
    if message.value.is_empty() {
        return Err(Error::missing(format!("{field}.value")));
    }
    if says_my_number(&message.type_code) {
        return Err(my_number(field));
    }
    let authority =
        message
            .assigning_authority
            .parse()
            .map_err(|error: crate::types::InvalidId| {
                Error::field(
                    Reason::InvalidOid,
                    format!("{field}.assigning_authority"),
                    error.to_string(),
                )
            })?;
    let id = message
        .value
        .parse()
        .map_err(|error: crate::types::InvalidId| {
            Error::field(
                Reason::InvalidField,
                format!("{field}.value"),
                error.to_string(),
            )
        })?;
    Ok(PatientIdentifier { authority, id })
}

/// Whether a type of identifier is the My Number, however it is written.
fn says_my_number(type_code: &str) -> bool {
    let letters = type_code.chars().filter(|c| c.is_alphanumeric());
    let code: String = letters.flat_map(char::to_uppercase).collect();
    matches!(code.as_str(), "MYNUMBER" | "個人番号" | "マイナンバー")
}

/// Whether an insured person's number can only be a My Number: twelve digits and the right check digit.
/// No insurer's numbers are as long; one that is filled up with zeros is not.
fn is_my_number(number: &str) -> bool {
    let zeros = number.chars().take_while(|c| matches!(c, '0' | '０'));
    let padded = zeros.count() >= PADDING;
    !padded && !number.chars().any(char::is_alphabetic) && number::looks_like_my_number(number)
}

/// Remarks on a record's data for the people who feed it; without any of its values. What has the form
/// of a My Number where any number may be is told, not refused: one in eleven has so by chance.
pub(super) fn warnings(patient: &pb::Patient) -> Vec<String> {
    let mut warnings = Vec::new();
    let id = patient.identifier.as_ref();
    if id.is_some_and(|id| number::looks_like_my_number(&id.value)) {
        let text =
            "patient.identifier.value has the form of a My Number; if it is one, withdraw it";
        warnings.push(text.to_owned());
    }
    let coverages = patient.demographics.iter().flat_map(|one| &one.coverages);
    for (at, coverage) in coverages.enumerate() {
        let insurer = &coverage.insurer_number;
        if !insurer.is_empty() && !number::insurer_is_valid(insurer) {
            let field = format!("patient.demographics.coverages[{at}].insurer_number");
            warnings.push(format!("{field} does not end in its check digit"));
        }
    }
    warnings
}

fn my_number(field: &str) -> Error {
    Error::field(
        Reason::MyNumberRefused,
        field.to_owned(),
        "is a My Number; it must not be sent, and was not stored",
    )
}

/// The identifier as a message.
pub fn identifier_message(identifier: &PatientIdentifier) -> cpb::Identifier {
    cpb::Identifier {
        assigning_authority: identifier.authority.to_string(),
        value: identifier.id.as_str().to_owned(),
        ..cpb::Identifier::default()
    }
}

/// Checks demographics: sizes, the form of the birth date, that there is a name, that no My Number
/// stands for an insured person's.
///
/// # Errors
/// [`Reason::MissingField`], [`Reason::InvalidField`] or [`Reason::MyNumberRefused`], naming the field
/// under `field`.
pub(super) fn check(demographics: &pb::Demographics, field: &str) -> Result<()> {
    let path = |name: &str| format!("{field}.{name}");
    if demographics.names.is_empty() {
        return Err(Error::missing(path("names")));
    }
    let lists = [
        ("names", demographics.names.len()),
        ("addresses", demographics.addresses.len()),
        ("telecoms", demographics.telecoms.len()),
        ("coverages", demographics.coverages.len()),
    ];
    if let Some((name, _)) = lists.iter().find(|(_, length)| *length > MAX_VALUES) {
        let message = format!("has more than {MAX_VALUES} values");
        return Err(Error::field(Reason::InvalidField, path(name), message));
    }
    if texts(demographics).any(|text| text.len() > MAX_TEXT) {
        let message = format!("has a value of more than {MAX_TEXT} bytes");
        return Err(Error::field(
            Reason::InvalidField,
            field.to_owned(),
            message,
        ));
    }
    if !demographics.birth_date.is_empty() {
        demographics
            .birth_date
            .parse::<PartialDate>()
            .map_err(|error| {
                Error::field(Reason::InvalidField, path("birth_date"), error.to_string())
            })?;
    }
    let mut coverages = demographics.coverages.iter();
    if let Some(at) = coverages.position(|one| is_my_number(&one.number)) {
        return Err(my_number(&path(&format!("coverages[{at}].number"))));
    }
    Ok(())
}

fn texts(demographics: &pb::Demographics) -> impl Iterator<Item = &str> {
    let names = demographics.names.iter().flat_map(|name| {
        [name.family.as_str(), name.text.as_str()]
            .into_iter()
            .chain(name.given.iter().map(String::as_str))
    });
    let addresses = demographics.addresses.iter().flat_map(|address| {
        [
            address.state.as_str(),
            &address.city,
            &address.text,
            &address.postal_code,
        ]
        .into_iter()
        .chain(address.lines.iter().map(String::as_str))
    });
    let coverages = demographics.coverages.iter().flat_map(|coverage| {
        [
            coverage.insurer_number.as_str(),
            &coverage.symbol,
            &coverage.number,
            &coverage.branch,
        ]
    });
    names
        .chain(addresses)
        .chain(coverages)
        .chain(
            demographics
                .telecoms
                .iter()
                .map(|telecom| telecom.value.as_str()),
        )
        .chain([demographics.birth_date_text.as_str()])
}

/// What matching compares, computed from demographics as received.
pub fn traits(demographics: &pb::Demographics) -> Traits {
    let mut traits = Traits::default();
    for name in &demographics.names {
        add_name(&mut traits, name);
    }
    traits.set_birth_date(match demographics.birth_date.is_empty() {
        true => &demographics.birth_date_text,
        false => &demographics.birth_date,
    });
    traits.sex = sex(demographics.administrative_gender());
    for telecom in &demographics.telecoms {
        traits.add_phone(&telecom.value);
    }
    for address in &demographics.addresses {
        traits.add_address(&address_text(address), &address.postal_code);
    }
    for coverage in &demographics.coverages {
        let pb::InsuranceCoverage {
            insurer_number,
            symbol,
            number,
            branch,
            ..
        } = coverage;
        traits.add_policy(insurer_number, symbol, number, branch);
    }
    traits.as_of = stated(demographics);
    traits
}

/// The latest day a value was stated to be true at (`ValueSource.as_of`).
fn stated(demographics: &pb::Demographics) -> i32 {
    let names = demographics.names.iter().map(|name| &name.source);
    let addresses = demographics.addresses.iter().map(|address| &address.source);
    let telecoms = demographics.telecoms.iter().map(|telecom| &telecom.source);
    let coverages = demographics
        .coverages
        .iter()
        .map(|coverage| &coverage.source);
    let sources = names
        .chain(addresses)
        .chain(telecoms)
        .chain(coverages)
        .flatten();
    sources
        .map(|source| date::days(&source.as_of))
        .max()
        .unwrap_or(0)
}

/// The sex that can agree or contradict; other and unknown do neither.
pub(super) fn sex(gender: pb::AdministrativeGender) -> Option<Sex> {
    match gender {
        pb::AdministrativeGender::Female => Some(Sex::Female),
        pb::AdministrativeGender::Male => Some(Sex::Male),
        pb::AdministrativeGender::Other
        | pb::AdministrativeGender::Unknown
        | pb::AdministrativeGender::Unspecified => None,
    }
}

/// An address on one line: prefecture, municipality and the rest, or its text.
pub(super) fn address_text(address: &pb::Address) -> String {
    if address.city.is_empty() {
        address.text.clone()
    } else {
        format!(
            "{}{}{}",
            address.state,
            address.city,
            address.lines.concat()
        )
    }
}

fn add_name(traits: &mut Traits, name: &pb::PersonName) {
    // A name in one piece is split where it is compared.
    let (family, given) = match name.family.is_empty() && name.given.is_empty() {
        true => (name.text.clone(), String::new()),
        false => (name.family.clone(), name.given.concat()),
    };
    let script = match name.representation() {
        pb::NameRepresentation::Syllabic => Script::Syllabic,
        pb::NameRepresentation::Alphabetic => Script::Alphabetic,
        pb::NameRepresentation::Ideographic | pb::NameRepresentation::Unspecified => {
            Script::Ideographic
        }
    };
    traits.add_name(script, &family, &given, &|name| {
        chosen::model().is_family(name)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> pb::PersonName {
        pb::PersonName {
            text: text.into(),
            ..pb::PersonName::default()
        }
    }

    #[test]
    fn names_go_to_their_script() {
        let demographics = pb::Demographics {
            names: vec![
                name("髙橋 花子"),
                name("ﾀｶﾊｼ ﾊﾅｺ"),
                name("Takahashi Hanako"),
            ],
            birth_date: "1900-01-01".into(),
            ..pb::Demographics::default()
        };
        let traits = traits(&demographics);
        assert_eq!(&*traits.kanji[0].family, "高橋");
        assert_eq!(&*traits.kana[0].given, "ハナコ");
        assert_eq!(&*traits.romaji[0].family, "TAKAHASI");
        assert!(traits.birth.is_none());
    }

    #[test]
    fn newborns_have_no_given_name() {
        let demographics = pb::Demographics {
            names: vec![name("山田 ベビー")],
            ..pb::Demographics::default()
        };
        let traits = traits(&demographics);
        assert!(traits.placeholder_given && traits.kanji[0].given.is_empty());
    }

    fn insured(insurer: &str, number: &str) -> pb::Demographics {
        pb::Demographics {
            names: vec![name("山田 花子")],
            coverages: vec![pb::InsuranceCoverage {
                insurer_number: insurer.into(),
                number: number.into(),
                ..pb::InsuranceCoverage::default()
            }],
            ..pb::Demographics::default()
        }
    }

    #[test]
    fn a_my_number_is_no_insured_number() {
        for number in ["123456789018", "１２３４５６７８９０１８", "1234-5678-9018"] {
            let error = check(&insured("06139463", number), "demographics").unwrap_err();
            let field = Some("demographics.coverages[0].number");
            let expected = (Reason::MyNumberRefused, field);
            assert_eq!((error.reason(), error.wrong_field()), expected, "{number}");
        }
        // Another check digit, another length, filled up, with letters.
        for number in ["123456789012", "12345678", "000000010006", "A123456789018"] {
            check(&insured("06139463", number), "demographics").unwrap();
        }
        assert!(number::looks_like_my_number("000000010006"));
    }

    #[test]
    fn remarks_name_fields_and_no_values() {
        let patient = |id: &str, insurer: &str| pb::Patient {
            identifier: Some(cpb::Identifier {
                assigning_authority: "1.2".into(),
                value: id.into(),
                ..cpb::Identifier::default()
            }),
            demographics: Some(insured(insurer, "187")),
            ..pb::Patient::default()
        };
        assert!(warnings(&patient("12345678", "06139463")).is_empty());
        let told = warnings(&patient("123456789018", "06139464"));
        let [id, insurer] = told.as_slice() else {
            panic!("two remarks: {told:?}");
        };
        assert!(id.starts_with("patient.identifier.value "));
        assert!(insurer.starts_with("patient.demographics.coverages[0].insurer_number "));
        assert!(!id.contains("1234") && !insurer.contains("0613"));
    }

    #[test]
    fn bad_identifiers_name_the_field() {
        let id = |authority: &str, value: &str, kind: &str| cpb::Identifier {
            assigning_authority: authority.into(),
            value: value.into(),
            type_code: kind.into(),
            ..cpb::Identifier::default()
        };
        for (message, reason, field) in [
            (
                id("1.02", "1", ""),
                Reason::InvalidOid,
                "patient.assigning_authority",
            ),
            (
                id("", "1", ""),
                Reason::MissingField,
                "patient.assigning_authority",
            ),
            (id("1.2", "", ""), Reason::MissingField, "patient.value"),
            (id("1.2", "a^b", ""), Reason::InvalidField, "patient.value"),
            (
                id("1.2", "1", "MyNumber"),
                Reason::MyNumberRefused,
                "patient",
            ),
            (
                id("1.2", "1", "my_number"),
                Reason::MyNumberRefused,
                "patient",
            ),
            (
                id("1.2", "1", "マイナンバー"),
                Reason::MyNumberRefused,
                "patient",
            ),
        ] {
            let error = identifier(Some(&message), "patient").unwrap_err();
            assert_eq!((error.reason(), error.wrong_field()), (reason, Some(field)));
        }
    }
}
