//! People who act at institutions.

use renkei::demo::world::Actor;
use renkei::types::{PersonRole, PurposeOfUse, Relation};

/// A physician who treats the patient.
pub(crate) fn physician(institution: &str) -> Actor<'_> {
    person("D-1001", PersonRole::Physician, institution)
}

/// Somebody in another role who treats the patient.
pub(crate) fn person<'a>(subject: &'a str, role: PersonRole, institution: &'a str) -> Actor<'a> {
    Actor {
        subject,
        role,
        purpose: PurposeOfUse::Treatment,
        relation: Relation::Treating,
        institution,
    }
}

/// An emergency physician with a patient who came in just now.
pub(crate) fn emergency_physician<'a>(subject: &'a str, institution: &'a str) -> Actor<'a> {
    Actor {
        subject,
        role: PersonRole::Physician,
        purpose: PurposeOfUse::Emergency,
        relation: Relation::EmergencyPatient,
        institution,
    }
}

/// The privacy officer.
pub(crate) fn officer(institution: &str) -> Actor<'_> {
    Actor {
        subject: "P-3001",
        role: PersonRole::PrivacyOfficer,
        purpose: PurposeOfUse::Operations,
        relation: Relation::None,
        institution,
    }
}

/// A data steward, by staff number.
pub(crate) fn steward<'a>(subject: &'a str, institution: &'a str) -> Actor<'a> {
    Actor {
        subject,
        role: PersonRole::DataSteward,
        purpose: PurposeOfUse::Operations,
        relation: Relation::None,
        institution,
    }
}
