//! Wire messages as FHIR R4 data types.

use jiff::Timestamp;

use crate::types::PartialDate;
use crate::wire::pb::common::{CodedValue, Confidentiality, NationalFlag};
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{ItemDetail, ItemValue, Quantity, SummaryItem};

use super::super::text::{self, clean};
use super::json::{Json, decimal, list, object, text as string};

const UCUM: &str = "http://unitsofmeasure.org";
const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const FLAGS: &str = "http://jpfhir.jp/fhir/clins/CodeSystem/JP_ehrshrs_indication";
const INTERPRETATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
const PROFILES: &str = "http://hl7.org/fhir/uv/ips/StructureDefinition/";

/// A uri of a code system: bare OIDs become `urn:oid:`; what is no uri is left out.
fn system(given: &str) -> Json {
    let bare_oid = given.contains('.')
        && given
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_uri = given.contains(':') && !given.chars().any(char::is_whitespace);
    match (bare_oid, is_uri) {
        (true, _) => string(format!("urn:oid:{given}")),
        (false, true) => string(given),
        (false, false) => Json::None,
    }
}

/// A Coding.
pub(super) fn coding(code: &CodedValue) -> Json {
    // A code has no spaces around or doubled within.
    let value = clean(&code.code);
    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    if value.is_empty() {
        return Json::None;
    }
    object([
        ("system", system(&code.system)),
        ("version", string(&code.system_version)),
        ("code", string(value)),
        ("display", string(&code.display_name)),
    ])
}

/// A `CodeableConcept`.
pub(super) fn concept(codes: &[CodedValue], said: &str) -> Json {
    object([
        ("coding", list(codes.iter().map(coding))),
        ("text", string(said)),
    ])
}

/// A `CodeableConcept` of one code that we know.
pub(super) fn known(system: &str, code: &str, display: &str) -> Json {
    let coding = object([
        ("system", string(system)),
        ("code", string(code)),
        ("display", string(display)),
    ]);
    object([("coding", list([coding]))])
}

/// A value as `CodeableConcept`.
pub(super) fn value_concept(value: &ItemValue) -> Json {
    match &value.value {
        Some(Value::Coded(code)) => concept(std::slice::from_ref(code), &code.display_name),
        _ => object([("text", string(text::bare(value)))]),
    }
}

/// A Quantity; none if its value is not a decimal.
pub(super) fn quantity(amount: &Quantity) -> Option<Json> {
    let ucum = clean(&amount.ucum);
    let unit = match amount.unit.as_str() {
        "" => ucum.as_str(),
        unit => unit,
    };
    Some(object([
        ("value", decimal(&amount.value)?),
        ("comparator", string(&amount.comparator)),
        ("unit", string(unit)),
        ("system", string(if ucum.is_empty() { "" } else { UCUM })),
        ("code", string(&ucum)),
    ]))
}

/// The `value[x]` of an Observation.
pub(super) fn value(value: &ItemValue) -> (&'static str, Json) {
    match &value.value {
        Some(Value::Quantity(amount)) => match quantity(amount) {
            Some(quantity) => ("valueQuantity", quantity),
            None => ("valueString", string(text::quantity(amount))),
        },
        Some(Value::Coded(_)) => ("valueCodeableConcept", value_concept(value)),
        Some(Value::Text(said)) => ("valueString", string(said)),
        None => (
            "dataAbsentReason",
            known(
                "http://terminology.hl7.org/CodeSystem/data-absent-reason",
                "unknown",
                "Unknown",
            ),
        ),
    }
}

/// `Observation.interpretation` and `referenceRange`.
pub(super) fn judged(value: &ItemValue) -> [(&'static str, Json); 2] {
    let code = clean(&value.interpretation);
    let national = matches!(
        code.as_str(),
        "H" | "L" | "HH" | "LL" | "A" | "AA" | "N" | "POS" | "NEG"
    );
    let interpretation = match national {
        true => known(INTERPRETATION, &code, ""),
        false => object([("text", string(&code))]),
    };
    let range = object([("text", string(&value.reference_range))]);
    [
        ("interpretation", list([interpretation])),
        ("referenceRange", list([range])),
    ]
}

/// A dateTime: a date as it is known, or a moment; none if `given` is neither.
pub(super) fn date_time(given: &str) -> Json {
    if let Ok(moment) = given.parse::<Timestamp>() {
        return string(moment.to_string());
    }
    match given.parse::<PartialDate>() {
        Ok(_) => string(given),
        Err(_) => Json::None,
    }
}

/// An instant of a wire time.
pub(super) fn instant(time: Option<&prost_types::Timestamp>) -> Json {
    let stamp = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    stamp.map_or(Json::None, |stamp| string(stamp.to_string()))
}

/// That a required value is not known.
pub(super) fn not_known() -> Json {
    let extension = object([
        (
            "url",
            string("http://hl7.org/fhir/StructureDefinition/data-absent-reason"),
        ),
        ("valueCode", string("unknown")),
    ]);
    object([("extension", list([extension]))])
}

/// The names of one element that may be a date, a period, or stated not to be known.
pub(super) struct Choice {
    pub(super) date: &'static str,
    pub(super) absent: &'static str,
    pub(super) period: &'static str,
}

/// When an item was: as date, as period, or that it is not known.
pub(super) fn when(choice: &Choice, item: &SummaryItem) -> (&'static str, Json) {
    let (start, end) = (date_time(&item.start), date_time(&item.end));
    match (start == Json::None, end == Json::None) {
        (true, true) => (choice.absent, not_known()),
        (false, true) => (choice.date, start),
        (_, false) => (choice.period, object([("start", start), ("end", end)])),
    }
}

/// A reference to an entry of the Bundle.
pub(super) fn reference(address: &str) -> Json {
    object([("reference", string(address))])
}

/// `meta`: profile of the IPS if there is one, confidentiality, national flags.
pub(super) fn meta(profile: &str, confidentiality: Confidentiality, flags: &[i32]) -> Json {
    let profiles = match profile {
        "" => Json::None,
        name => list([string(format!("{PROFILES}{name}"))]),
    };
    let security = object([
        ("system", string(CONFIDENTIALITY)),
        ("code", string(confidentiality_code(confidentiality))),
    ]);
    let tags = flags.iter().filter_map(|flag| {
        let code = match NationalFlag::try_from(*flag) {
            Ok(NationalFlag::LongTermStorage) => "LTS",
            Ok(NationalFlag::Uninformed) => "UNINFORMED",
            Ok(NationalFlag::Undelivered) => "UNDELIVERED",
            Ok(NationalFlag::Unspecified) | Err(_) => return None,
        };
        Some(object([("system", string(FLAGS)), ("code", string(code))]))
    });
    object([
        ("profile", profiles),
        ("security", list([security])),
        ("tag", list(tags)),
    ])
}

/// The code of a confidentiality; what is not stated is normal.
pub(super) const fn confidentiality_code(confidentiality: Confidentiality) -> &'static str {
    match confidentiality {
        Confidentiality::Unspecified | Confidentiality::Normal => "N",
        Confidentiality::Unrestricted => "U",
        Confidentiality::Low => "L",
        Confidentiality::Moderate => "M",
        Confidentiality::Restricted => "R",
        Confidentiality::VeryRestricted => "V",
    }
}

/// The details called `name`.
pub(super) fn details<'a>(
    item: &'a SummaryItem,
    name: &'a str,
) -> impl Iterator<Item = &'a ItemValue> {
    let named = move |one: &&ItemDetail| text::code_of(one) == name;
    let found = item.details.iter().filter(named);
    found.filter_map(|one| one.value.as_ref())
}

/// The first detail called `name`, in words.
pub(super) fn detail(item: &SummaryItem, name: &str) -> String {
    details(item, name)
        .next()
        .map(text::bare)
        .unwrap_or_default()
}
