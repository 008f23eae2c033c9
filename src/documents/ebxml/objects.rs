//! Registry objects of ebRIM as messages of the model (ITI TF-3 §4.2). What has not its form is a
//! fault at its place; what the model then checks anyway (required attributes, formats of dates and
//! OIDs) is left to it.

use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::super::faults::Faults;
use super::{names, values};
use crate::xml::Element;

/// Characters of a value (ebRIM `LongName`).
const MAX_VALUE: usize = 256;

/// The order of the parts of a registry object (rim.xsd).
const ORDER: [&str; 6] = [
    "Slot",
    "Name",
    "Description",
    "VersionInfo",
    "Classification",
    "ExternalIdentifier",
];

/// One registry object.
pub(super) struct Object<'e> {
    element: &'e Element,
    /// Its id, as written.
    pub(super) id: &'e str,
    slots: Vec<Slot>,
}

struct Slot {
    name: String,
    kind: String,
    values: Vec<String>,
}

impl<'e> Object<'e> {
    /// Reads what all registry objects have.
    pub(super) fn of(element: &'e Element, faults: &mut Faults) -> Self {
        let object = Self {
            element,
            id: element.attribute("id").unwrap_or_default(),
            slots: slots(element, faults),
        };
        let places = element
            .children
            .iter()
            .filter_map(|child| ORDER.iter().position(|name| *name == child.name));
        if !places.is_sorted() {
            faults.invalid("", "has its parts in another order than the schema");
        }
        for (kind, attribute) in [
            ("Classification", "classifiedObject"),
            ("ExternalIdentifier", "registryObject"),
        ] {
            for part in element.all(kind) {
                let of = part.attribute(attribute);
                if of.is_some_and(|of| of != object.id) {
                    faults.invalid(attribute, "is not the id of the object that it is in");
                }
            }
        }
        object
    }

    pub(super) fn attribute(&self, name: &str) -> String {
        self.element.attribute(name).unwrap_or_default().to_owned()
    }

    /// The values of a slot; none if it is not there.
    fn values(&self, name: &str) -> &[String] {
        let slot = self.slots.iter().find(|slot| slot.name == name);
        slot.map_or(&[], |slot| slot.values.as_slice())
    }

    /// The value of a slot that has one.
    pub(super) fn single(&self, name: &str, faults: &mut Faults) -> String {
        match self.values(name) {
            [] => String::new(),
            [value] => value.clone(),
            _ => {
                faults.invalid(&format!("Slot[{name}]"), "has more than one value");
                String::new()
            }
        }
    }

    fn read<T>(
        &self,
        name: &str,
        faults: &mut Faults,
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Vec<T> {
        let mut found = Vec::new();
        for value in self.values(name) {
            match read(value) {
                Ok(value) => found.push(value),
                Err(why) => faults.invalid(&format!("Slot[{name}]"), why),
            }
        }
        found
    }

    fn one<T>(
        &self,
        name: &str,
        faults: &mut Faults,
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        if self.values(name).len() > 1 {
            faults.invalid(&format!("Slot[{name}]"), "has more than one value");
        }
        self.read(name, faults, read).pop()
    }

    /// Slots outside of the standard.
    fn extensions(&self) -> Vec<pb::ExtensionSlot> {
        let own =
            |slot: &&Slot| slot.name.starts_with("urn:") && !slot.name.starts_with("urn:ihe:");
        let slots = self.slots.iter().filter(own);
        slots
            .map(|slot| pb::ExtensionSlot {
                name: slot.name.clone(),
                values: slot.values.clone(),
                slot_type: slot.kind.clone(),
            })
            .collect()
    }

    /// `Name` or `Description`.
    fn text(&self, name: &str) -> Option<cpb::InternationalString> {
        let text = self.element.child(name)?;
        let values: Vec<_> = text
            .all("LocalizedString")
            .map(|one| cpb::LocalizedString {
                value: one.attribute("value").unwrap_or_default().to_owned(),
                language: one.attribute("xml:lang").unwrap_or_default().to_owned(),
            })
            .collect();
        (!values.is_empty()).then_some(cpb::InternationalString { values })
    }

    /// The identifier of this scheme.
    fn identifier(&self, scheme: &str, name: &str, faults: &mut Faults) -> String {
        let mut found = self
            .element
            .all("ExternalIdentifier")
            .filter(|one| is_scheme(one, "identificationScheme", scheme));
        let first = found.next();
        if found.next().is_some() {
            faults.invalid(name, "stands twice");
        }
        let value = first.and_then(|one| one.attribute("value"));
        value.unwrap_or_default().to_owned()
    }

    /// The patient. Without one, as with every attribute, the model says whether it must be there:
    /// limited metadata may have none (ITI TF-3 §4.3.1).
    fn patient(&self, scheme: &str, faults: &mut Faults) -> Option<cpb::Identifier> {
        let text = self.identifier(scheme, "patientId", faults);
        if text.is_empty() {
            return None;
        }
        match values::cx(&text) {
            Ok(identifier) => Some(identifier),
            Err(why) => {
                faults.invalid("patientId", why);
                None
            }
        }
    }

    fn classifications(&self, scheme: &'static str) -> impl Iterator<Item = &'e Element> + use<'e> {
        self.element
            .all("Classification")
            .filter(move |one| is_scheme(one, "classificationScheme", scheme))
    }

    /// The codes of this scheme.
    fn codes(&self, scheme: &'static str, name: &str, faults: &mut Faults) -> Vec<cpb::CodedValue> {
        self.classifications(scheme)
            .map(|one| code(one, name, faults))
            .collect()
    }

    /// The one code of this scheme; its absence is the model's fault.
    fn code(
        &self,
        scheme: &'static str,
        name: &str,
        faults: &mut Faults,
    ) -> Option<cpb::CodedValue> {
        let mut codes = self.codes(scheme, name, faults).into_iter();
        let first = codes.next();
        if codes.next().is_some() {
            faults.invalid(name, "stands twice");
        }
        first
    }

    fn authors(&self, scheme: &'static str, faults: &mut Faults) -> Vec<pb::Author> {
        let mut authors = Vec::new();
        for element in self.classifications(scheme) {
            faults.enter("author");
            if element
                .attribute("nodeRepresentation")
                .is_some_and(|node| !node.is_empty())
            {
                faults.invalid("nodeRepresentation", "is there, but an author is no code");
            }
            let author = Object {
                element,
                id: "",
                slots: slots(element, faults),
            };
            authors.push(pb::Author {
                person: author.one("authorPerson", faults, values::xcn),
                institutions: author.read("authorInstitution", faults, values::xon),
                roles: author.read("authorRole", faults, values::coded),
                specialties: author.read("authorSpecialty", faults, values::coded),
                telecoms: author.read("authorTelecommunication", faults, values::xtn),
            });
            faults.leave();
        }
        authors
    }

    fn limited(&self) -> bool {
        let mut nodes = self.element.all("Classification");
        nodes.any(|one| {
            let node = one.attribute("classificationNode").unwrap_or_default();
            names::LIMITED
                .iter()
                .any(|label| label.eq_ignore_ascii_case(node))
        })
    }

    /// Whether this object itself is labelled so.
    pub(super) fn is_labelled(&self, node: &str) -> bool {
        let mut labels = self.element.all("Classification");
        labels.any(|one| is_scheme(one, "classificationNode", node))
    }

    fn version(&self, faults: &mut Faults) -> u32 {
        let info = self.element.child("VersionInfo");
        let name = info.and_then(|info| info.attribute("versionName"));
        number(name.unwrap_or_default(), "VersionInfo", faults)
    }
}

fn is_scheme(element: &Element, attribute: &str, scheme: &str) -> bool {
    let given = element.attribute(attribute);
    given.is_some_and(|given| given.eq_ignore_ascii_case(scheme))
}

fn number(text: &str, field: &str, faults: &mut Faults) -> u32 {
    if text.is_empty() {
        return 0;
    }
    text.parse().unwrap_or_else(|_| {
        faults.invalid(field, "is not a number");
        0
    })
}

/// The slots of an element: names once, values not empty and of limited length.
fn slots(element: &Element, faults: &mut Faults) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    for slot in element.all("Slot") {
        let name = slot.attribute("name").unwrap_or_default().trim().to_owned();
        let place = format!("Slot[{name}]");
        if name.is_empty() {
            faults.missing("Slot.name");
            continue;
        }
        if slots.iter().any(|known| known.name == name) {
            faults.invalid(&place, "stands twice");
            continue;
        }
        let list = slot.child("ValueList");
        let values: Vec<String> = list
            .map_or(&[][..], |list| list.children.as_slice())
            .iter()
            .filter(|value| value.name == "Value")
            .map(|value| value.trimmed().to_owned())
            .collect();
        if list.is_none() {
            faults.invalid(&place, "has no ValueList");
        }
        if values.iter().any(String::is_empty) {
            faults.invalid(&place, "has an empty value");
        }
        if values.iter().any(|value| value.chars().count() > MAX_VALUE) {
            faults.invalid(
                &place,
                format!("has a value of more than {MAX_VALUE} characters"),
            );
        }
        slots.push(Slot {
            name,
            kind: slot.attribute("slotType").unwrap_or_default().to_owned(),
            values,
        });
    }
    slots
}

/// A code: nodeRepresentation, one codingScheme, a display name (ITI TF-3 §4.2.3.1.2).
fn code(element: &Element, name: &str, faults: &mut Faults) -> cpb::CodedValue {
    let object = Object {
        element,
        id: "",
        slots: slots(element, faults),
    };
    let code = cpb::CodedValue {
        code: object.attribute("nodeRepresentation"),
        system: object.single("codingScheme", faults),
        display_name: object
            .text("Name")
            .and_then(|text| text.values.into_iter().next())
            .map(|text| text.value)
            .unwrap_or_default(),
        ..cpb::CodedValue::default()
    };
    for (part, value) in [
        ("nodeRepresentation", &code.code),
        ("codingScheme", &code.system),
        ("Name", &code.display_name),
    ] {
        if value.is_empty() {
            faults.missing(&format!("{name}.{part}"));
        }
    }
    code
}

/// A DocumentEntry.
pub(super) fn entry(object: &Object<'_>, faults: &mut Faults) -> pb::DocumentEntry {
    let kind = object.attribute("objectType").to_ascii_lowercase();
    let object_type = match kind.as_str() {
        names::STABLE => pb::ObjectType::Stable,
        names::ON_DEMAND => pb::ObjectType::OnDemand,
        _ => {
            faults.invalid(
                "objectType",
                "is neither a stable nor an on-demand document",
            );
            pb::ObjectType::Unspecified
        }
    };
    let availability = object.one("documentAvailability", faults, |urn| {
        names::availability(urn).ok_or("is neither Online nor Offline")
    });
    let size = object.one("size", faults, |text| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let size = digits.then(|| text.parse::<u64>().ok()).flatten();
        size.ok_or("is not a number of octets")
    });
    pb::DocumentEntry {
        entry_uuid: object.id.to_owned(),
        unique_id: object.identifier(names::ENTRY_UNIQUE, "uniqueId", faults),
        patient_id: object.patient(names::ENTRY_PATIENT, faults),
        source_patient_id: object.one("sourcePatientId", faults, values::cx),
        source_patient_info: object.read("sourcePatientInfo", faults, source_patient),
        availability_status: names::status(&object.attribute("status")).into(),
        object_type: object_type.into(),
        authors: object.authors(names::AUTHOR, faults),
        legal_authenticator: object.one("legalAuthenticator", faults, values::xcn),
        class_code: object.code(names::CLASS, "classCode", faults),
        type_code: object.code(names::TYPE, "typeCode", faults),
        format_code: object.code(names::FORMAT, "formatCode", faults),
        healthcare_facility_type_code: object.code(
            names::FACILITY,
            "healthcareFacilityTypeCode",
            faults,
        ),
        practice_setting_code: object.code(names::PRACTICE, "practiceSettingCode", faults),
        confidentiality_codes: object.codes(names::CONFIDENTIALITY, "confidentialityCode", faults),
        event_codes: object.codes(names::EVENT, "eventCodeList", faults),
        title: object.text("Name"),
        comments: object.text("Description"),
        creation_time: object.single("creationTime", faults),
        service_start_time: object.single("serviceStartTime", faults),
        service_stop_time: object.single("serviceStopTime", faults),
        language_code: object.single("languageCode", faults),
        mime_type: object.attribute("mimeType"),
        hash: object.single("hash", faults),
        size,
        repository_unique_id: object.single("repositoryUniqueId", faults),
        home_community_id: object.attribute("home"),
        logical_id: object.attribute("lid"),
        version: object.version(faults),
        document_availability: availability.unwrap_or_default().into(),
        limited_metadata: object.limited(),
        reference_ids: object.read(names::REFERENCE_IDS, faults, values::cxi),
        uri: object.single("URI", faults),
        extension_slots: object.extensions(),
        ..pb::DocumentEntry::default()
    }
}

/// A value of sourcePatientInfo, `PID-5|value`.
fn source_patient(text: &str) -> Result<pb::SourcePatientField, &'static str> {
    let (field, value) = text.split_once('|').ok_or("is not `PID-n|value`")?;
    Ok(pb::SourcePatientField {
        field: field.to_owned(),
        value: value.to_owned(),
    })
}

/// A SubmissionSet.
pub(super) fn submission_set(object: &Object<'_>, faults: &mut Faults) -> pb::SubmissionSet {
    pb::SubmissionSet {
        entry_uuid: object.id.to_owned(),
        unique_id: object.identifier(names::SET_UNIQUE, "uniqueId", faults),
        source_id: object.identifier(names::SET_SOURCE, "sourceId", faults),
        patient_id: object.patient(names::SET_PATIENT, faults),
        submission_time: object.single("submissionTime", faults),
        content_type_code: object.code(names::CONTENT_TYPE, "contentTypeCode", faults),
        authors: object.authors(names::SET_AUTHOR, faults),
        intended_recipients: object.read("intendedRecipient", faults, values::recipient),
        title: object.text("Name"),
        comments: object.text("Description"),
        availability_status: names::status(&object.attribute("status")).into(),
        home_community_id: object.attribute("home"),
        limited_metadata: object.limited(),
        extension_slots: object.extensions(),
    }
}

/// A Folder.
pub(super) fn folder(object: &Object<'_>, faults: &mut Faults) -> pb::Folder {
    pb::Folder {
        entry_uuid: object.id.to_owned(),
        unique_id: object.identifier(names::FOLDER_UNIQUE, "uniqueId", faults),
        patient_id: object.patient(names::FOLDER_PATIENT, faults),
        codes: object.codes(names::FOLDER_CODE, "codeList", faults),
        title: object.text("Name"),
        comments: object.text("Description"),
        last_update_time: object.single("lastUpdateTime", faults),
        availability_status: names::status(&object.attribute("status")).into(),
        home_community_id: object.attribute("home"),
        logical_id: object.attribute("lid"),
        version: object.version(faults),
        limited_metadata: object.limited(),
        extension_slots: object.extensions(),
    }
}

/// An Association.
pub(super) fn association(object: &Object<'_>, faults: &mut Faults) -> pb::Association {
    let (kind, other_type) = names::association_type(&object.attribute("associationType"));
    let submission_set_status = match object.single("SubmissionSetStatus", faults).as_str() {
        "" => pb::SubmissionSetStatus::Unspecified,
        "Original" => pb::SubmissionSetStatus::Original,
        "Reference" => pb::SubmissionSetStatus::Reference,
        _ => {
            let message = "is neither Original nor Reference";
            faults.invalid("Slot[SubmissionSetStatus]", message);
            pb::SubmissionSetStatus::Unspecified
        }
    };
    let propagation = match object.single("AssociationPropagation", faults).as_str() {
        "" => None,
        "yes" => Some(true),
        "no" => Some(false),
        _ => {
            let field = "Slot[AssociationPropagation]";
            let reason = crate::error::Reason::UpdateOperation;
            faults.add(reason, field, "is neither yes nor no");
            None
        }
    };
    let previous = object.single("PreviousVersion", faults);
    pb::Association {
        entry_uuid: object.id.to_owned(),
        association_type: kind.into(),
        other_type,
        source_object: object.attribute("sourceObject"),
        target_object: object.attribute("targetObject"),
        submission_set_status: submission_set_status.into(),
        documentation: object.code(names::DOCUMENTATION, "documentation", faults),
        availability_status: names::status(&object.attribute("status")).into(),
        home_community_id: object.attribute("home"),
        // What is no number is no version that there is.
        previous_version: previous.parse().unwrap_or_default(),
        association_propagation: propagation,
        original_status: names::status(&object.single("OriginalStatus", faults)).into(),
        new_status: names::status(&object.single("NewStatus", faults)).into(),
        extension_slots: object.extensions(),
    }
}
