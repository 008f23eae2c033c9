//! The model in its ebXML form (ITI TF-3 §4.2).

use std::fmt::Write as _;

use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::{LCM, RIM, names, values};
use crate::xml::Element;

/// A `lcm:SubmitObjectsRequest` with the objects of a submission.
pub fn submit_objects_request(submission: &pb::Submission) -> String {
    let mut list = element(RIM, "RegistryObjectList");
    list.children
        .extend(submission.submission_set.as_ref().map(submission_set));
    list.children.extend(submission.entries.iter().map(entry));
    list.children.extend(submission.folders.iter().map(folder));
    list.children
        .extend(submission.associations.iter().map(association));
    let mut request = element(LCM, "SubmitObjectsRequest");
    request.children.push(list);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let declared = format!(" xmlns:lcm=\"{LCM}\" xmlns:rim=\"{RIM}\"");
    write(&mut out, &request, &declared);
    out
}

fn write(out: &mut String, element: &Element, declared: &str) {
    let prefix = if element.namespace == LCM {
        "lcm"
    } else {
        "rim"
    };
    let _infallible = write!(out, "<{prefix}:{}{declared}", element.name);
    for (name, value) in &element.attributes {
        let _infallible = write!(out, " {name}=\"{}\"", escaped(value));
    }
    if element.children.is_empty() && element.text.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    out.push_str(&escaped(&element.text));
    for child in &element.children {
        // As deep as the model: seven levels.
        write(out, child, "");
    }
    let _infallible = write!(out, "</{prefix}:{}>", element.name);
}

/// Text of XML, whitespace kept in attributes too. What XML cannot say becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => {
                let _infallible = write!(out, "&#{};", u32::from(letter));
            }
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

fn element(namespace: &str, name: &str) -> Element {
    Element {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..Element::default()
    }
}

fn rim(name: &str, attributes: &[(&str, &str)]) -> Element {
    let attributes = attributes.iter().filter(|(_, value)| !value.is_empty());
    Element {
        attributes: attributes
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..element(RIM, name)
    }
}

/// A slot; none if it has no values.
fn slot(name: &str, slot_type: &str, values: &[String]) -> Option<Element> {
    if values.is_empty() {
        return None;
    }
    let mut list = element(RIM, "ValueList");
    list.children = values
        .iter()
        .map(|value| Element {
            text: value.clone(),
            ..element(RIM, "Value")
        })
        .collect();
    let mut slot = rim("Slot", &[("name", name), ("slotType", slot_type)]);
    slot.children.push(list);
    Some(slot)
}

fn single(name: &str, value: &str) -> Option<Element> {
    let values: Vec<String> = Some(value.to_owned())
        .filter(|value| !value.is_empty())
        .into_iter()
        .collect();
    slot(name, "", &values)
}

fn many<T>(name: &str, values: &[T], print: impl Fn(&T) -> String) -> Option<Element> {
    slot(name, "", &values.iter().map(print).collect::<Vec<_>>())
}

fn extensions(slots: &[pb::ExtensionSlot]) -> impl Iterator<Item = Element> {
    slots
        .iter()
        .filter_map(|one| slot(&one.name, &one.slot_type, &one.values))
}

fn text(name: &str, text: Option<&cpb::InternationalString>) -> Option<Element> {
    let text = text.filter(|text| !text.values.is_empty())?;
    let mut made = element(RIM, name);
    made.children = text
        .values
        .iter()
        .map(|one| {
            let attributes = [
                ("xml:lang", one.language.as_str()),
                ("value", one.value.as_str()),
            ];
            rim("LocalizedString", &attributes)
        })
        .collect();
    Some(made)
}

fn named(value: &str) -> Element {
    let mut made = element(RIM, "Name");
    made.children
        .push(rim("LocalizedString", &[("value", value)]));
    made
}

fn version(version: u32) -> Option<Element> {
    let number = version.to_string();
    (version > 0).then(|| rim("VersionInfo", &[("versionName", &number)]))
}

fn code(of: &str, scheme: &str, code: &cpb::CodedValue) -> Element {
    let mut made = rim(
        "Classification",
        &[
            ("classifiedObject", of),
            ("classificationScheme", scheme),
            ("nodeRepresentation", &code.code),
        ],
    );
    made.children.extend(single("codingScheme", &code.system));
    made.children.push(named(&code.display_name));
    made
}

fn author(of: &str, scheme: &str, author: &pb::Author) -> Element {
    let attributes = [("classifiedObject", of), ("classificationScheme", scheme)];
    let mut made = rim("Classification", &attributes);
    let person: Vec<_> = author.person.iter().collect();
    let slots = [
        many("authorPerson", &person, |person| values::print_xcn(person)),
        many("authorInstitution", &author.institutions, values::print_xon),
        many("authorRole", &author.roles, values::print_coded),
        many("authorSpecialty", &author.specialties, values::print_coded),
        many(
            "authorTelecommunication",
            &author.telecoms,
            values::print_xtn,
        ),
    ];
    made.children.extend(slots.into_iter().flatten());
    made
}

fn label(of: &str, node: &str) -> Element {
    let attributes = [("classifiedObject", of), ("classificationNode", node)];
    rim("Classification", &attributes)
}

/// The label of an object with limited metadata; none if it has all that is required.
fn limited(of: &str, node: &str, is_limited: bool) -> Option<Element> {
    is_limited.then(|| label(of, node))
}

fn identifier(of: &str, scheme: &str, name: &str, value: &str) -> Element {
    let attributes = [
        ("registryObject", of),
        ("identificationScheme", scheme),
        ("value", value),
    ];
    let mut made = rim("ExternalIdentifier", &attributes);
    made.children.push(named(name));
    made
}

fn patient(of: &str, scheme: &str, name: &str, id: Option<&cpb::Identifier>) -> Option<Element> {
    id.map(|id| identifier(of, scheme, name, &values::print_cx(id)))
}

fn entry_slots(entry: &pb::DocumentEntry) -> Vec<Element> {
    let authenticator: Vec<_> = entry.legal_authenticator.iter().collect();
    let source: Vec<_> = entry.source_patient_id.iter().collect();
    let size = entry.size.map_or_else(String::new, |size| size.to_string());
    let slots = [
        single("creationTime", &entry.creation_time),
        single("serviceStartTime", &entry.service_start_time),
        single("serviceStopTime", &entry.service_stop_time),
        single("languageCode", &entry.language_code),
        single("hash", &entry.hash),
        single("size", &size),
        single("repositoryUniqueId", &entry.repository_unique_id),
        single("URI", &entry.uri),
        single(
            "documentAvailability",
            names::availability_urn(entry.document_availability()),
        ),
        many("legalAuthenticator", &authenticator, |one| {
            values::print_xcn(one)
        }),
        many("sourcePatientId", &source, |one| values::print_cx(one)),
        many("sourcePatientInfo", &entry.source_patient_info, |one| {
            format!("{}|{}", one.field, one.value)
        }),
        many(
            names::REFERENCE_IDS,
            &entry.reference_ids,
            values::print_cxi,
        ),
    ];
    let mut slots: Vec<Element> = slots.into_iter().flatten().collect();
    slots.extend(extensions(&entry.extension_slots));
    slots
}

fn entry(entry: &pb::DocumentEntry) -> Element {
    let id = entry.entry_uuid.as_str();
    let kind = match entry.object_type() {
        pb::ObjectType::OnDemand => names::ON_DEMAND,
        _ => names::STABLE,
    };
    let mut made = rim(
        "ExtrinsicObject",
        &[
            ("id", id),
            ("lid", &entry.logical_id),
            ("home", &entry.home_community_id),
            ("mimeType", &entry.mime_type),
            ("objectType", kind),
            ("status", names::status_urn(entry.availability_status())),
        ],
    );
    let parts = &mut made.children;
    parts.extend(entry_slots(entry));
    parts.extend(text("Name", entry.title.as_ref()));
    parts.extend(text("Description", entry.comments.as_ref()));
    parts.extend(version(entry.version));
    parts.extend(limited(id, names::LIMITED_ENTRY, entry.limited_metadata));
    parts.extend(
        entry
            .authors
            .iter()
            .map(|one| author(id, names::AUTHOR, one)),
    );
    for (scheme, one) in [
        (names::CLASS, &entry.class_code),
        (names::TYPE, &entry.type_code),
        (names::FORMAT, &entry.format_code),
        (names::FACILITY, &entry.healthcare_facility_type_code),
        (names::PRACTICE, &entry.practice_setting_code),
    ] {
        parts.extend(one.as_ref().map(|one| code(id, scheme, one)));
    }
    let confidentiality = entry.confidentiality_codes.iter();
    parts.extend(confidentiality.map(|one| code(id, names::CONFIDENTIALITY, one)));
    parts.extend(
        entry
            .event_codes
            .iter()
            .map(|one| code(id, names::EVENT, one)),
    );
    let of = entry.patient_id.as_ref();
    parts.extend(patient(
        id,
        names::ENTRY_PATIENT,
        "XDSDocumentEntry.patientId",
        of,
    ));
    let name = "XDSDocumentEntry.uniqueId";
    parts.push(identifier(id, names::ENTRY_UNIQUE, name, &entry.unique_id));
    made
}

fn submission_set(set: &pb::SubmissionSet) -> Element {
    let id = set.entry_uuid.as_str();
    let mut made = rim(
        "RegistryPackage",
        &[
            ("id", id),
            ("home", &set.home_community_id),
            ("status", names::status_urn(set.availability_status())),
        ],
    );
    let parts = &mut made.children;
    parts.extend(single("submissionTime", &set.submission_time));
    parts.extend(many(
        "intendedRecipient",
        &set.intended_recipients,
        values::print_recipient,
    ));
    parts.extend(extensions(&set.extension_slots));
    parts.extend(text("Name", set.title.as_ref()));
    parts.extend(text("Description", set.comments.as_ref()));
    parts.push(label(id, names::SET));
    parts.extend(limited(id, names::LIMITED_SET, set.limited_metadata));
    parts.extend(
        set.authors
            .iter()
            .map(|one| author(id, names::SET_AUTHOR, one)),
    );
    let content = set.content_type_code.as_ref();
    parts.extend(content.map(|one| code(id, names::CONTENT_TYPE, one)));
    let of = set.patient_id.as_ref();
    parts.extend(patient(
        id,
        names::SET_PATIENT,
        "XDSSubmissionSet.patientId",
        of,
    ));
    for (scheme, name, value) in [
        (
            names::SET_SOURCE,
            "XDSSubmissionSet.sourceId",
            &set.source_id,
        ),
        (
            names::SET_UNIQUE,
            "XDSSubmissionSet.uniqueId",
            &set.unique_id,
        ),
    ] {
        parts.push(identifier(id, scheme, name, value));
    }
    made
}

fn folder(folder: &pb::Folder) -> Element {
    let id = folder.entry_uuid.as_str();
    let mut made = rim(
        "RegistryPackage",
        &[
            ("id", id),
            ("lid", &folder.logical_id),
            ("home", &folder.home_community_id),
            ("status", names::status_urn(folder.availability_status())),
        ],
    );
    let parts = &mut made.children;
    parts.extend(single("lastUpdateTime", &folder.last_update_time));
    parts.extend(extensions(&folder.extension_slots));
    parts.extend(text("Name", folder.title.as_ref()));
    parts.extend(text("Description", folder.comments.as_ref()));
    parts.extend(version(folder.version));
    parts.push(label(id, names::FOLDER));
    parts.extend(limited(id, names::LIMITED_FOLDER, folder.limited_metadata));
    parts.extend(
        folder
            .codes
            .iter()
            .map(|one| code(id, names::FOLDER_CODE, one)),
    );
    let of = folder.patient_id.as_ref();
    parts.extend(patient(
        id,
        names::FOLDER_PATIENT,
        "XDSFolder.patientId",
        of,
    ));
    let name = "XDSFolder.uniqueId";
    parts.push(identifier(
        id,
        names::FOLDER_UNIQUE,
        name,
        &folder.unique_id,
    ));
    made
}

fn association(one: &pb::Association) -> Element {
    let id = one.entry_uuid.as_str();
    let mut made = rim(
        "Association",
        &[
            ("id", id),
            ("home", &one.home_community_id),
            ("status", names::status_urn(one.availability_status())),
            (
                "associationType",
                names::association_urn(one.association_type(), &one.other_type),
            ),
            ("sourceObject", &one.source_object),
            ("targetObject", &one.target_object),
        ],
    );
    let status = match one.submission_set_status() {
        pb::SubmissionSetStatus::Unspecified => "",
        pb::SubmissionSetStatus::Original => "Original",
        pb::SubmissionSetStatus::Reference => "Reference",
    };
    let previous = Some(one.previous_version).filter(|version| *version > 0);
    let previous = previous.map_or_else(String::new, |version| version.to_string());
    let propagation = match one.association_propagation {
        None => "",
        Some(true) => "yes",
        Some(false) => "no",
    };
    for (name, value) in [
        ("SubmissionSetStatus", status),
        ("PreviousVersion", previous.as_str()),
        ("AssociationPropagation", propagation),
        ("OriginalStatus", names::status_urn(one.original_status())),
        ("NewStatus", names::status_urn(one.new_status())),
    ] {
        made.children.extend(single(name, value));
    }
    made.children.extend(extensions(&one.extension_slots));
    let documentation = one.documentation.as_ref();
    let documentation = documentation.map(|one| code(id, names::DOCUMENTATION, one));
    made.children.extend(documentation);
    made
}
