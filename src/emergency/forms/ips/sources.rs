//! Patient, institutions, regions, documents: whom the summary is of and where it is from.

use crate::wire::pb::common::{Confidentiality, PersonRef};
use crate::wire::pb::emergency::{ItemSource, ListedDocument, SummaryItem, SummarySection};
use crate::wire::pb::identity::{
    Address, AddressUse, AdministrativeGender, NameRepresentation, NameUse, PersonName, Telecom,
    TelecomSystem, TelecomUse,
};

use super::super::Whole;
use super::super::text::{self, clean};
use super::URI;
use super::elements::{
    coding, concept, date_time, details, instant, known, meta, not_known, reference, value_concept,
};
use super::json::{Json, list, object, text as string};

const INSTITUTION: &str =
    "http://jpfhir.jp/fhir/core/mhlw/IdSystem/insurance-medical-institution-no";
const REPRESENTATION: &str = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation";
const LINKAGE: &str = "urn:renkei:linkage-id";

/// The Patient, with whom to call.
pub(super) fn patient(whole: &Whole<'_>) -> Json {
    let header = whole.summary.patient.clone().unwrap_or_default();
    let linkage = match whole.summary.linkage_id.as_str() {
        "" => Json::None,
        id => object([("system", string(LINKAGE)), ("value", string(id))]),
    };
    let gender = match header.administrative_gender() {
        AdministrativeGender::Male => "male",
        AdministrativeGender::Female => "female",
        AdministrativeGender::Other => "other",
        AdministrativeGender::Unspecified | AdministrativeGender::Unknown => "unknown",
    };
    let born = match date_time(&header.birth_date) {
        Json::None => ("_birthDate", not_known()),
        date => ("birthDate", date),
    };
    let names: Vec<_> = header.names.iter().map(name).collect();
    let mut names: Vec<_> = names.into_iter().filter(|one| *one != Json::None).collect();
    if names.is_empty() {
        // ips-pat-1 asks for a name.
        names.push(object([("text", string("氏名不明 / name not known"))]));
    }
    let contacts = whole
        .items()
        .filter(|item| item.section() == SummarySection::Contact && !item.needs_confirmation);
    let languages = header.languages.iter().map(|tag| {
        let language = known("urn:ietf:bcp:47", tag, "");
        object([("language", language)])
    });
    object([
        ("resourceType", string("Patient")),
        (
            "meta",
            meta("Patient-uv-ips", Confidentiality::Unspecified, &[]),
        ),
        ("identifier", list([linkage])),
        ("name", list(names)),
        ("telecom", list(header.telecoms.iter().map(telecom))),
        ("gender", string(gender)),
        born,
        (
            "deceasedBoolean",
            header.deceased.map_or(Json::None, Json::Bool),
        ),
        ("address", list(header.addresses.iter().map(address))),
        ("contact", list(contacts.map(contact))),
        ("communication", list(languages)),
    ])
}

fn name(name: &PersonName) -> Json {
    if text::name(name).is_empty() {
        return Json::None;
    }
    let used = match name.r#use() {
        NameUse::Unspecified => "",
        NameUse::Official => "official",
        NameUse::Usual => "usual",
        NameUse::Maiden => "maiden",
        NameUse::Old => "old",
        NameUse::Nickname => "nickname",
        NameUse::Temporary => "temp",
        NameUse::Anonymous => "anonymous",
    };
    let written = match name.representation() {
        NameRepresentation::Unspecified => "",
        NameRepresentation::Ideographic => "IDE",
        NameRepresentation::Syllabic => "SYL",
        NameRepresentation::Alphabetic => "ABC",
    };
    let extension = match written {
        "" => Json::None,
        code => object([("url", string(REPRESENTATION)), ("valueCode", string(code))]),
    };
    object([
        ("extension", list([extension])),
        ("use", string(used)),
        ("text", string(text::name(name))),
        ("family", string(&name.family)),
        ("given", list(name.given.iter().map(string))),
    ])
}

fn telecom(telecom: &Telecom) -> Json {
    if clean(&telecom.value).is_empty() {
        return Json::None;
    }
    let system = match telecom.system() {
        TelecomSystem::Unspecified | TelecomSystem::Phone => "phone",
        TelecomSystem::Fax => "fax",
        TelecomSystem::Email => "email",
        TelecomSystem::Other => "other",
    };
    let used = match telecom.r#use() {
        TelecomUse::Unspecified => "",
        TelecomUse::Home => "home",
        TelecomUse::Work => "work",
        TelecomUse::Mobile => "mobile",
        TelecomUse::Old => "old",
    };
    object([
        ("system", string(system)),
        ("value", string(&telecom.value)),
        ("use", string(used)),
    ])
}

fn address(address: &Address) -> Json {
    let used = match address.r#use() {
        AddressUse::Unspecified => "",
        AddressUse::Home => "home",
        AddressUse::Work => "work",
        AddressUse::Temporary => "temp",
        AddressUse::Old => "old",
    };
    object([
        ("use", string(used)),
        ("text", string(text::address(address))),
        ("line", list(address.lines.iter().map(string))),
        ("city", string(&address.city)),
        ("state", string(&address.state)),
        ("postalCode", string(&address.postal_code)),
        ("country", string(&address.country)),
    ])
}

/// `Patient.contact` of an emergency contact.
fn contact(item: &SummaryItem) -> Json {
    let phones = details(item, "telephone").map(|value| {
        object([
            ("system", string("phone")),
            ("value", string(text::bare(value))),
        ])
    });
    let related = details(item, "relationship").map(value_concept);
    object([
        ("relationship", list(related)),
        ("name", object([("text", string(&item.display))])),
        ("telecom", list(phones)),
    ])
}

/// The software that put the document together: nobody read it over.
pub(super) fn author() -> Json {
    let name = object([("name", string("Renkei")), ("type", string("model-name"))]);
    object([
        ("resourceType", string("Device")),
        ("deviceName", list([name])),
    ])
}

/// Who approved a care record.
pub(super) fn practitioner(person: &PersonRef) -> Json {
    let name = match clean(&person.display_name) {
        none if none.is_empty() => "氏名不明 / name not known".to_owned(),
        name => name,
    };
    object([
        ("resourceType", string("Practitioner")),
        (
            "meta",
            meta("Practitioner-uv-ips", Confidentiality::Unspecified, &[]),
        ),
        ("name", list([object([("text", string(name))])])),
    ])
}

/// An institution.
pub(super) fn organization(name: &str, code: &str) -> Json {
    let identifier = match code {
        "" => Json::None,
        code => object([("system", string(INSTITUTION)), ("value", string(code))]),
    };
    named_organization(name, identifier)
}

/// A region.
pub(super) fn region(name: &str, home: &str) -> Json {
    let identifier = object([("system", string(URI)), ("value", string(home))]);
    named_organization(name, identifier)
}

fn named_organization(name: &str, identifier: Json) -> Json {
    let name = if name.is_empty() {
        "不明 / not known"
    } else {
        name
    };
    object([
        ("resourceType", string("Organization")),
        (
            "meta",
            meta("Organization-uv-ips", Confidentiality::Unspecified, &[]),
        ),
        ("identifier", list([identifier])),
        ("name", string(name)),
    ])
}

/// Where `target` comes from: who recorded it when, for which region, out of which document, and
/// when it was asked for.
pub(super) fn provenance(
    target: &str,
    source: &ItemSource,
    institution: &str,
    region: Option<String>,
    composed: Option<&prost_types::Timestamp>,
) -> Json {
    let asked = instant(source.as_of.as_ref().or(composed));
    let kind = known(
        "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
        "author",
        "Author",
    );
    let agent = object([
        ("type", kind),
        ("who", reference(institution)),
        (
            "onBehalfOf",
            region.map_or(Json::None, |region| reference(&region)),
        ),
    ]);
    let document = source.document.clone().unwrap_or_default();
    let entity = match document.document_unique_id.as_str() {
        "" => Json::None,
        id => object([
            ("role", string("source")),
            ("what", object([("identifier", identifier(id))])),
        ]),
    };
    object([
        ("resourceType", string("Provenance")),
        ("target", list([reference(target)])),
        ("occurredDateTime", date_time(&source.recorded)),
        ("recorded", asked),
        ("agent", list([agent])),
        ("entity", list([entity])),
    ])
}

/// A document's uniqueId; an OID, mostly.
fn identifier(id: &str) -> Json {
    if id.is_empty() {
        return Json::None;
    }
    let bare = id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value = if bare {
        format!("urn:oid:{id}")
    } else {
        id.to_owned()
    };
    object([("system", string(URI)), ("value", string(value))])
}

/// A document that is listed.
pub(super) fn document(listed: &ListedDocument, patient: &str) -> Json {
    let reference_of = listed.document.clone().unwrap_or_default();
    let title = clean(&listed.title);
    let kind = match &listed.type_code {
        Some(code) if coding(code) != Json::None => concept(std::slice::from_ref(code), ""),
        Some(_) | None => Json::None,
    };
    let described = text::join([title.as_str(), &clean(&listed.reason)], ": ");
    let attachment = object([
        ("contentType", string(&listed.mime_type)),
        ("title", string(&title)),
    ]);
    let attachment = match attachment {
        Json::Object(members) if members.is_empty() => {
            object([("title", string("文書 / document"))])
        }
        said => said,
    };
    object([
        ("resourceType", string("DocumentReference")),
        (
            "masterIdentifier",
            identifier(&reference_of.document_unique_id),
        ),
        ("status", string("current")),
        ("type", kind),
        ("subject", reference(patient)),
        ("description", string(described)),
        ("content", list([object([("attachment", attachment)])])),
    ])
}
