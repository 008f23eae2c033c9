//! The UUIDs and URNs of ebRIM metadata (ITI TF-3 §4.2, tables 4.2.3.2-1 and 4.2.5-1).

use crate::wire::pb::documents as pb;

use pb::AssociationType as Type;

pub(super) const STABLE: &str = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1";
pub(super) const ON_DEMAND: &str = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248";

pub(super) const SET: &str = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd";
pub(super) const FOLDER: &str = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2";
/// Labels of limited metadata: of an entry, a submission set, a folder.
pub(super) const LIMITED: [&str; 3] = [LIMITED_ENTRY, LIMITED_SET, LIMITED_FOLDER];
pub(super) const LIMITED_ENTRY: &str = "urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85";
pub(super) const LIMITED_SET: &str = "urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707";
pub(super) const LIMITED_FOLDER: &str = "urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03";

pub(super) const AUTHOR: &str = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d";
pub(super) const CLASS: &str = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a";
pub(super) const CONFIDENTIALITY: &str = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f";
pub(super) const EVENT: &str = "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4";
pub(super) const FORMAT: &str = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d";
pub(super) const FACILITY: &str = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1";
pub(super) const PRACTICE: &str = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead";
pub(super) const TYPE: &str = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983";
pub(super) const ENTRY_PATIENT: &str = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427";
pub(super) const ENTRY_UNIQUE: &str = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab";

pub(super) const SET_AUTHOR: &str = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d";
pub(super) const CONTENT_TYPE: &str = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500";
pub(super) const SET_PATIENT: &str = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446";
pub(super) const SET_SOURCE: &str = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832";
pub(super) const SET_UNIQUE: &str = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8";

pub(super) const FOLDER_CODE: &str = "urn:uuid:1ba97051-7806-41a8-a48b-8fce7af683c5";
pub(super) const FOLDER_PATIENT: &str = "urn:uuid:f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a";
pub(super) const FOLDER_UNIQUE: &str = "urn:uuid:75df8f67-9973-4fbe-a900-df66cefecc5a";

pub(super) const DOCUMENTATION: &str = "urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3";

pub(super) const REFERENCE_IDS: &str = "urn:ihe:iti:xds:2013:referenceIdList";

const STATUS: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:";
const AVAILABILITY: &str = "urn:ihe:iti:2010:DocumentAvailability:";

/// The types of associations.
const TYPES: [(&str, Type); 9] = [
    (
        "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember",
        Type::HasMember,
    ),
    ("urn:ihe:iti:2007:AssociationType:RPLC", Type::Rplc),
    ("urn:ihe:iti:2007:AssociationType:APND", Type::Apnd),
    ("urn:ihe:iti:2007:AssociationType:XFRM", Type::Xfrm),
    ("urn:ihe:iti:2007:AssociationType:XFRM_RPLC", Type::XfrmRplc),
    ("urn:ihe:iti:2007:AssociationType:signs", Type::Signs),
    (
        "urn:ihe:iti:2010:AssociationType:IsSnapshotOf",
        Type::IsSnapshotOf,
    ),
    (
        "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus",
        Type::UpdateAvailabilityStatus,
    ),
    (
        "urn:ihe:iti:2010:AssociationType:SubmitAssociation",
        Type::SubmitAssociation,
    ),
];

/// The type of an association, and its URN if it is another.
pub(super) fn association_type(urn: &str) -> (Type, String) {
    let known = TYPES.iter().find(|(known, _)| *known == urn);
    known.map_or_else(
        || (Type::Other, urn.to_owned()),
        |(_, kind)| (*kind, String::new()),
    )
}

/// A status; unspecified if it is none.
pub(super) fn status(urn: &str) -> pb::AvailabilityStatus {
    match urn.strip_prefix(STATUS) {
        Some("Approved") => pb::AvailabilityStatus::Approved,
        Some("Deprecated") => pb::AvailabilityStatus::Deprecated,
        _ => pb::AvailabilityStatus::Unspecified,
    }
}

/// The URN of a status; empty if it is unspecified.
pub(super) fn status_urn(status: pb::AvailabilityStatus) -> &'static str {
    match status {
        pb::AvailabilityStatus::Unspecified => "",
        pb::AvailabilityStatus::Approved => "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved",
        pb::AvailabilityStatus::Deprecated => {
            "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
        }
    }
}

/// The URN of an availability; empty if it is unspecified.
pub(super) fn availability_urn(availability: pb::DocumentAvailability) -> &'static str {
    match availability {
        pb::DocumentAvailability::Unspecified => "",
        pb::DocumentAvailability::Online => "urn:ihe:iti:2010:DocumentAvailability:Online",
        pb::DocumentAvailability::Offline => "urn:ihe:iti:2010:DocumentAvailability:Offline",
    }
}

/// The URN of a type of association.
pub(super) fn association_urn(kind: Type, other: &str) -> &str {
    let known = TYPES.iter().find(|(_, known)| *known == kind);
    known.map_or(other, |(urn, _)| urn)
}

/// A document availability.
pub(super) fn availability(urn: &str) -> Option<pb::DocumentAvailability> {
    match urn.strip_prefix(AVAILABILITY) {
        Some("Online") => Some(pb::DocumentAvailability::Online),
        Some("Offline") => Some(pb::DocumentAvailability::Offline),
        _ => None,
    }
}
