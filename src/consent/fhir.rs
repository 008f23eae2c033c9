//! FHIR R4 Consent, in the form of IHE PCF (ITI-108), to and from the recorded form.
//!
//! What PCF has no element for (data classes, disclosers, how the consent was asked for) is carried in
//! extensions of this project. On the way in, what is not understood is never dropped if that would
//! make a permit wider or a refusal narrower: the resource is refused then.

mod export;
mod import;

#[cfg(test)]
mod tests;

pub use export::export;
pub use import::{Imported, import};

use crate::wire::pb::common as cpb;
use crate::wire::pb::consent as pb;

/// Prefix of this project's extensions and policies.
const OWN: &str = "urn:renkei:consent:";
const SCOPE: &str = "http://terminology.hl7.org/CodeSystem/consentscope";
const LOINC: &str = "http://loinc.org";
const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
/// Who may see what is consented to.
const RECIPIENT: &str = "IRCP";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const LEVEL: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const RELATIONSHIP: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleCode";
/// Profile of IHE PCF.
const PROFILE: &str =
    "https://profiles.ihe.net/ITI/PCF/StructureDefinition/IHE.PCF.consentAdvanced";
const URI: &str = "urn:ietf:rfc:3986";
/// Institutions: the system of 10-digit codes (JP Core).
const INSTITUTION: &str = "http://jpfhir.jp/fhir/core/IdSystem/insurance-medical-institution-no";

/// Purposes and their codes of v3 `ActReason`.
const PURPOSES: [(cpb::PurposeOfUse, &str); 9] = [
    (cpb::PurposeOfUse::Treatment, "TREAT"),
    (cpb::PurposeOfUse::Emergency, "ETREAT"),
    (cpb::PurposeOfUse::CareCoordination, "CAREMGT"),
    (cpb::PurposeOfUse::PatientRequest, "PATRQT"),
    (cpb::PurposeOfUse::Payment, "HPAYMT"),
    (cpb::PurposeOfUse::Operations, "HOPERAT"),
    (cpb::PurposeOfUse::Research, "HRESCH"),
    (cpb::PurposeOfUse::PublicHealth, "PUBHLTH"),
    (cpb::PurposeOfUse::Disaster, "DISASTER"),
];

/// Models and the policies they stand for.
const MODELS: [(pb::ConsentModel, &str); 5] = [
    (pb::ConsentModel::Community, "community"),
    (pb::ConsentModel::InstitutionList, "institution-list"),
    (pb::ConsentModel::PerInstitution, "per-institution"),
    (pb::ConsentModel::PerPerson, "per-person"),
    (pb::ConsentModel::Implied, "implied"),
];

/// Data classes and their codes.
const CLASSES: [(pb::DataClass, &str); 16] = [
    (pb::DataClass::Demographics, "demographics"),
    (pb::DataClass::Notes, "notes"),
    (pb::DataClass::Medication, "medication"),
    (pb::DataClass::Allergy, "allergy"),
    (pb::DataClass::Problem, "problem"),
    (pb::DataClass::Result, "result"),
    (pb::DataClass::Imaging, "imaging"),
    (pb::DataClass::Procedure, "procedure"),
    (pb::DataClass::Checkup, "checkup"),
    (pb::DataClass::Care, "care"),
    (pb::DataClass::EmergencySummary, "emergency-summary"),
    (pb::DataClass::Psychiatry, "psychiatry"),
    (pb::DataClass::SexualHealth, "sexual-health"),
    (pb::DataClass::Genetics, "genetics"),
    (pb::DataClass::Perinatal, "perinatal"),
    (pb::DataClass::Abuse, "abuse"),
];
