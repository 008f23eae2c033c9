//! A care record as a FHIR R4 document Bundle, as `extract` reads it back.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use uuid::Uuid;

use crate::types::PersonRole;
use crate::wire::pb::common as cpb;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::emergency::item_value::Value;

use super::Draft;
use crate::emergency::forms::json::{Json, decimal, list, object, text};
use crate::identity::identifier_message;

/// Days are those of Japan.
const JST: Offset = Offset::constant(9);
const UCUM: &str = "http://unitsofmeasure.org";

/// Whether a value can be written as a FHIR decimal.
pub(super) fn is_decimal(value: &str) -> bool {
    decimal(value).is_some()
}

/// Resources with the addresses that others refer to them by.
#[derive(Default)]
struct Entries(Vec<Json>);

impl Entries {
    /// Adds a resource; gives the reference to it.
    fn add(&mut self, resource: Json) -> Json {
        self.at(&new_address(), resource)
    }

    fn at(&mut self, address: &str, resource: Json) -> Json {
        self.0
            .push(object([("fullUrl", text(address)), ("resource", resource)]));
        reference(address)
    }
}

fn new_address() -> String {
    Uuid::new_v4().urn().to_string()
}

fn reference(address: &str) -> Json {
    object([("reference", text(address))])
}

fn moment(time: Timestamp) -> Json {
    text(
        time.to_zoned(TimeZone::fixed(JST))
            .strftime("%Y-%m-%dT%H:%M:%S+09:00")
            .to_string(),
    )
}

fn day(time: Timestamp) -> String {
    let zoned = time.to_zoned(TimeZone::fixed(JST));
    zoned.strftime("%Y-%m-%d").to_string()
}

/// Writes the document.
pub(super) fn write(draft: &Draft<'_>) -> String {
    let record = draft.record;
    let mut entries = Entries::default();
    let (composition, patient) = (new_address(), new_address());
    let subject = reference(&patient);
    let author = author(record, &subject, &mut entries);
    let attester = approval(record, &mut entries);
    let head = object([
        ("resourceType", text("Composition")),
        ("status", text("final")),
        ("type", concept_of(&loinc("18776-5", "医療的ケア情報"))),
        ("subject", subject.clone()),
        ("date", moment(draft.now)),
        ("author", list([author])),
        ("title", text("医療的ケア情報")),
        ("confidentiality", text("N")),
        ("attester", list([attester])),
    ]);
    let mut whole = Entries::default();
    whole.at(&composition, head);
    whole.at(&patient, patient_resource(draft));
    for device in &record.devices {
        self::device(draft, device, &subject, &mut entries);
    }
    for item in &record.items {
        let plan = item_plan(draft, item, &subject);
        entries.add(plan);
    }
    for instruction in &record.instructions {
        let plan = instruction_plan(draft, instruction, &subject);
        entries.add(plan);
    }
    if !record.care_team.is_empty() {
        entries.add(team(record, &subject));
    }
    whole.0.extend(entries.0);
    let identifier = object([
        ("system", text("urn:ietf:rfc:3986")),
        ("value", text(new_address())),
    ]);
    let bundle = object([
        ("resourceType", text("Bundle")),
        ("identifier", identifier),
        ("type", text("document")),
        ("timestamp", moment(draft.now)),
        ("entry", list(whole.0)),
    ]);
    let mut out = String::new();
    bundle.write(&mut out);
    out
}

/// Who wrote it: a practitioner if the role is one, else the family.
fn author(record: &pb::CareRecord, subject: &Json, entries: &mut Entries) -> Json {
    let author = record.author.clone().unwrap_or_default();
    let name = list([object([("text", text(&author.display_name))])]);
    let professional = author.role.parse::<PersonRole>().is_ok();
    entries.add(match professional {
        true => object([("resourceType", text("Practitioner")), ("name", name)]),
        false => object([
            ("resourceType", text("RelatedPerson")),
            ("patient", subject.clone()),
            ("name", name),
        ]),
    })
}

fn approval(record: &pb::CareRecord, entries: &mut Entries) -> Json {
    let Some(approval) = &record.approval else {
        return Json::None;
    };
    let by = approval.approved_by.clone().unwrap_or_default();
    let party = entries.add(object([
        ("resourceType", text("Practitioner")),
        ("name", list([object([("text", text(&by.display_name))])])),
    ]));
    let when = approval.approved.as_ref();
    let when = when.and_then(crate::wire::from_timestamp);
    object([
        ("mode", text("professional")),
        ("time", when.map_or(Json::None, moment)),
        ("party", party),
    ])
}

fn patient_resource(draft: &Draft<'_>) -> Json {
    let mut contacts: Vec<_> = draft.record.contacts.iter().collect();
    // Who has no rank is called last.
    contacts.sort_by_key(|contact| {
        if contact.rank == 0 {
            u32::MAX
        } else {
            contact.rank
        }
    });
    let contacts = contacts.into_iter().map(|contact| {
        let telecoms = contact
            .telecoms
            .iter()
            .map(|one| object([("system", text("phone")), ("value", text(&one.value))]));
        let relation = contact.relationship.as_ref();
        object([
            (
                "relationship",
                list([relation.map_or(Json::None, concept_of)]),
            ),
            ("name", object([("text", text(&contact.name))])),
            ("telecom", list(telecoms)),
        ])
    });
    let identifier = identifier_message(draft.patient);
    let identifier = object([
        (
            "system",
            text(format!("urn:oid:{}", identifier.assigning_authority)),
        ),
        ("value", text(identifier.value)),
    ]);
    object([
        ("resourceType", text("Patient")),
        ("identifier", list([identifier])),
        ("contact", list(contacts)),
    ])
}

fn device(draft: &Draft<'_>, device: &pb::CareDevice, subject: &Json, entries: &mut Entries) {
    let kind = device.device.as_ref();
    let settings = device.settings.iter().map(setting);
    let supplier = object([
        ("system", text("phone")),
        ("value", text(&device.supplier_telephone)),
    ]);
    let supplier = match device.supplier_telephone.trim().is_empty() {
        true => Json::None,
        false => supplier,
    };
    let of = entries.add(object([
        ("resourceType", text("Device")),
        ("status", text("active")),
        ("modelNumber", text(&device.model)),
        ("type", kind.map_or(Json::None, concept_of)),
        ("patient", subject.clone()),
        ("property", list(settings)),
        ("contact", list([supplier])),
    ]));
    entries.add(object([
        ("resourceType", text("DeviceUseStatement")),
        ("status", text("active")),
        ("subject", subject.clone()),
        ("timingPeriod", object([("start", text(&device.since))])),
        ("recordedOn", moment(draft.now)),
        ("device", of),
    ]));
}

/// A setting with its unit, its code, or its words.
fn setting(detail: &pb::ItemDetail) -> Json {
    let name = detail.name.as_ref().map_or(Json::None, concept_of);
    let value = detail.value.as_ref().and_then(|value| value.value.as_ref());
    let (quantity, coded) = match value {
        Some(Value::Quantity(of)) => (quantity(of), Json::None),
        Some(Value::Coded(code)) => (Json::None, concept_of(code)),
        Some(Value::Text(said)) => (Json::None, object([("text", text(said))])),
        None => (Json::None, Json::None),
    };
    object([
        ("type", name),
        ("valueQuantity", list([quantity])),
        ("valueCode", list([coded])),
    ])
}

fn quantity(of: &pb::Quantity) -> Json {
    let system = match of.ucum.is_empty() {
        true => Json::None,
        false => text(UCUM),
    };
    object([
        ("value", decimal(&of.value).unwrap_or(Json::None)),
        ("comparator", text(&of.comparator)),
        ("unit", text(&of.unit)),
        ("system", system),
        ("code", text(&of.ucum)),
    ])
}

fn plan(draft: &Draft<'_>, subject: &Json, more: Vec<(&'static str, Json)>) -> Json {
    let until = draft.record.valid_to.as_ref();
    let until = until.and_then(crate::wire::from_timestamp);
    let period = object([("end", until.map_or(Json::None, |until| text(day(until))))]);
    let head = [
        ("resourceType", text("CarePlan")),
        ("status", text("active")),
        ("intent", text("plan")),
        ("subject", subject.clone()),
        ("created", moment(draft.now)),
        ("period", period),
    ];
    object(head.into_iter().chain(more))
}

fn item_plan(draft: &Draft<'_>, item: &pb::SummaryItem, subject: &Json) -> Json {
    let coding = item.codes.iter().map(coding);
    let category = object([("coding", list(coding)), ("text", text(&item.display))]);
    let activities = item.details.iter().map(|detail| {
        let name = detail.name.clone().unwrap_or_default().display_name;
        let value = detail.value.as_ref().map(said).unwrap_or_default();
        let told = format!("{name} {value}");
        object([(
            "detail",
            object([
                ("status", text("in-progress")),
                ("description", text(told.trim())),
            ]),
        )])
    });
    let description = item.value.as_ref().map(said).unwrap_or_default();
    plan(
        draft,
        subject,
        vec![
            ("category", list([category])),
            ("title", text(&item.display)),
            ("description", text(description)),
            ("activity", list(activities)),
        ],
    )
}

/// A value in words.
fn said(value: &pb::ItemValue) -> String {
    match &value.value {
        Some(Value::Quantity(of)) => {
            let unit = if of.unit.is_empty() {
                &of.ucum
            } else {
                &of.unit
            };
            format!("{}{} {unit}", of.comparator, of.value)
                .trim()
                .to_owned()
        }
        Some(Value::Coded(code)) => code.display_name.clone(),
        Some(Value::Text(text)) => text.clone(),
        None => String::new(),
    }
}

fn instruction_plan(draft: &Draft<'_>, one: &pb::CareInstruction, subject: &Json) -> Json {
    let by = one.instructed_by.as_ref().map(|by| by.display_name.trim());
    let by = by.filter(|name| !name.is_empty());
    let note = by.map_or(Json::None, |name| {
        object([("text", text(format!("指示: {name}")))])
    });
    plan(
        draft,
        subject,
        vec![
            ("title", text(&one.situation)),
            ("description", text(&one.action)),
            ("note", list([note])),
        ],
    )
}

fn team(record: &pb::CareRecord, subject: &Json) -> Json {
    let members = record
        .care_team
        .iter()
        .map(|member| object([("member", object([("display", text(&member.name))]))]));
    object([
        ("resourceType", text("CareTeam")),
        ("status", text("active")),
        ("subject", subject.clone()),
        ("participant", list(members)),
    ])
}

fn loinc(code: &str, display: &str) -> cpb::CodedValue {
    cpb::CodedValue {
        code: code.to_owned(),
        system: super::LOINC.to_owned(),
        display_name: display.to_owned(),
        ..cpb::CodedValue::default()
    }
}

/// A code as a Coding; systems that are OIDs become URIs.
fn coding(code: &cpb::CodedValue) -> Json {
    let is_oid = code
        .system
        .starts_with(|first: char| first.is_ascii_digit());
    let system = match is_oid {
        true => format!("urn:oid:{}", code.system),
        false => code.system.clone(),
    };
    match code.code.is_empty() {
        true => Json::None,
        false => object([
            ("system", text(system)),
            ("version", text(&code.system_version)),
            ("code", text(&code.code)),
            ("display", text(&code.display_name)),
        ]),
    }
}

fn concept_of(code: &cpb::CodedValue) -> Json {
    object([
        ("coding", list([coding(code)])),
        ("text", text(&code.display_name)),
    ])
}
