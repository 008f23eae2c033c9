//! FHIR R4 document Bundles in the JP-CLINS manner: a Composition first, then what it refers to.

mod administrative;
mod clinical;
mod section;

use serde_json::{Map, Value, json};

use super::document::{Scene, type_code};
use super::model::DocumentKind;
use super::rng::Rng;
use section::Filed;

const DOCUMENT_TYPES: &str = "http://jpfhir.jp/fhir/Common/CodeSystem/doc-typecodes";
const BUNDLE_ID: &str = "http://jpfhir.jp/fhir/clins/bundle-identifier";
const INSTANCE_ID: &str = "http://jpfhir.jp/fhir/core/IdSystem/resourceInstance-identifier";
const INSTITUTION_ID: &str = "http://jpfhir.jp/fhir/core/IdSystem/insurance-medical-institution-no";
const INSTITUTION_EXTENSION: &str =
    "http://jpfhir.jp/fhir/clins/Extension/StructureDefinition/JP_eCS_InstitutionNumber";

/// The profile of the Bundle, which serves as formatCode.
pub(super) fn bundle_profile(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Referral | DocumentKind::CdaReferral => {
            "http://jpfhir.jp/fhir/eReferral/StructureDefinition/JP_Bundle_eReferral"
        }
        DocumentKind::DischargeSummary => {
            "http://jpfhir.jp/fhir/eDischargeSummary/StructureDefinition/JP_Bundle_eDischargeSummary"
        }
        DocumentKind::HealthCheck | DocumentKind::PdfLabReport => {
            "http://jpfhir.jp/fhir/eCheckup/StructureDefinition/JP_Bundle_eCheckupGeneral"
        }
        DocumentKind::Prescription => {
            "http://jpfhir.jp/fhir/ePrescription/StructureDefinition/JP_Bundle_ePrescriptionData"
        }
    }
}

fn composition_profile(kind: DocumentKind) -> String {
    bundle_profile(kind).replace("JP_Bundle_", "JP_Composition_")
}

/// Resources of a Bundle with their `urn:uuid` addresses.
struct Entries<'a> {
    rng: &'a mut Rng,
    list: Vec<Value>,
}

impl Entries<'_> {
    fn address(&mut self) -> String {
        self.rng.uuid().urn().to_string()
    }

    /// Adds a resource and returns its address.
    fn add(&mut self, resource: Value) -> String {
        let address = self.address();
        self.list.push(entry(&address, resource));
        address
    }
}

fn entry(address: &str, resource: Value) -> Value {
    // Assembled by hand: `json!` would copy the resource.
    let mut entry = Map::new();
    entry.insert("fullUrl".to_owned(), address.into());
    entry.insert("resource".to_owned(), resource);
    Value::Object(entry)
}

/// Addresses of the resources that most others refer to.
struct Anchors {
    patient: String,
    doctor: String,
    institution: String,
    encounter: String,
}

/// The Bundle for `scene`.
pub(super) fn write(rng: &mut Rng, scene: &Scene<'_>) -> Value {
    let mut entries = Entries {
        rng,
        list: Vec::new(),
    };
    let composition_address = entries.address();
    let patient = entries.add(administrative::patient(scene));
    let institution = entries.add(administrative::organization(scene, scene.institution));
    let doctor = entries.add(administrative::practitioner(scene));
    let encounter = entries.add(administrative::encounter(scene, &patient, &institution));
    let anchors = Anchors {
        patient,
        doctor,
        institution,
        encounter,
    };
    let filed = file(&mut entries, scene, &anchors);
    let composition = composition(scene, &anchors, &section::sections(scene, &anchors, &filed));
    let serial = scene.unique_id.chars().rev().take(20).collect::<String>();
    let mut list = vec![entry(&composition_address, composition)];
    list.append(&mut entries.list);
    json!({
        "resourceType": "Bundle",
        "meta": {
            "profile": [bundle_profile(scene.kind)],
            "lastUpdated": scene.written.fhir(),
        },
        "identifier": {
            "system": BUNDLE_ID,
            "value": format!("{}^{}^DOC{serial}", scene.institution.code, scene.written.date().year()),
        },
        "type": "document",
        "timestamp": scene.written.fhir(),
        "entry": list,
    })
}

/// Adds what the facts call for, and remembers where each kind of resource went.
fn file(entries: &mut Entries<'_>, scene: &Scene<'_>, anchors: &Anchors) -> Filed {
    let facts = scene.facts;
    let mut filed = Filed::default();
    for allergy in &facts.allergies {
        filed
            .allergies
            .push(entries.add(clinical::allergy(scene, anchors, allergy)));
    }
    for problem in &facts.problems {
        filed
            .problems
            .push(entries.add(clinical::condition(scene, anchors, problem)));
    }
    for (number, drug) in (1..).zip(&facts.drugs) {
        filed
            .drugs
            .push(entries.add(clinical::medication(scene, anchors, drug, number)));
    }
    for reading in &facts.results {
        filed
            .results
            .push(entries.add(clinical::observation(scene, anchors, reading)));
    }
    for operation in &facts.operations {
        filed
            .operations
            .push(entries.add(clinical::procedure(scene, anchors, operation)));
    }
    if facts.pacemaker {
        let device = entries.add(clinical::pacemaker(scene, anchors));
        filed
            .devices
            .push(entries.add(clinical::device_use(scene, anchors, &device)));
    }
    match scene.kind {
        DocumentKind::Referral => {
            let addressee = administrative::organization(scene, scene.addressee);
            filed.addressee.push(entries.add(addressee));
        }
        DocumentKind::Prescription | DocumentKind::HealthCheck => {
            filed
                .coverage
                .push(entries.add(administrative::coverage(scene, &anchors.patient)));
        }
        DocumentKind::DischargeSummary | DocumentKind::CdaReferral | DocumentKind::PdfLabReport => {
        }
    }
    filed
}

fn composition(scene: &Scene<'_>, anchors: &Anchors, sections: &[Value]) -> Value {
    let kind = type_code(scene.kind);
    let coding = json!({
        "coding": [{ "system": DOCUMENT_TYPES, "code": kind.code, "display": kind.display_ja }],
    });
    json!({
        "resourceType": "Composition",
        "meta": { "profile": [composition_profile(scene.kind)] },
        "extension": [
            {
                "url": "http://hl7.org/fhir/StructureDefinition/composition-clinicaldocument-versionNumber",
                "valueString": "1.0",
            },
            institution_extension(scene),
        ],
        "language": "ja",
        "identifier": { "system": "urn:ietf:rfc:3986", "value": format!("urn:oid:{}", scene.unique_id) },
        "status": "final",
        "type": coding,
        "category": [coding],
        "subject": reference(&anchors.patient),
        "encounter": reference(&anchors.encounter),
        "date": scene.written.fhir(),
        "author": [reference(&anchors.doctor), reference(&anchors.institution)],
        "title": kind.display_ja,
        "confidentiality": scene.confidentiality.code,
        "custodian": reference(&anchors.institution),
        "event": [{
            "code": [{ "text": format!("{}発行", kind.display_ja) }],
            "period": { "start": scene.began.fhir(), "end": scene.written.fhir() },
        }],
        "section": sections,
    })
}

fn reference(address: &str) -> Value {
    json!({ "reference": address })
}

fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({ "system": system, "code": code, "display": display })
}

/// Every resource but the Patient names the institution it comes from.
fn institution_extension(scene: &Scene<'_>) -> Value {
    json!({
        "url": INSTITUTION_EXTENSION,
        "valueIdentifier": { "system": INSTITUTION_ID, "value": scene.institution.code },
    })
}

fn instance_identifier(scene: &Scene<'_>, part: &str) -> Value {
    let day = scene.written.date().strftime("%Y%m%d");
    json!({ "system": INSTANCE_ID, "value": format!("{}-{day}-{part}", scene.record.local_id) })
}
