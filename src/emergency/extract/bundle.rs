//! FHIR R4 Bundles: who, where from, and which resource goes to which reader.
//!
//! Resources are found by walking `Bundle.entry`, not the sections, which JP-CLINS nests; sections
//! only tell past from present, and what is of relatives.

use std::collections::HashMap;

use prost::Message;

use crate::wire::pb::common::{Confidentiality, DocumentRef, InstitutionRef, NationalFlag};
use crate::wire::pb::emergency::{AbsenceStatement, ItemSource, SummaryItem};

use super::care::{self, Authorship};
use super::elements::{date, first_date, shown, token};
use super::item::{at_most, confidentiality_of, document_ref, flags_of, wire_time};
use super::json::{Json, JsonError, parse, quote_numbers};
use super::section::{Filing, Sections};
use super::{
    Extracted, MAX_ITEMS, NotUnderstood, Source, allergy, condition, device, directive, flag,
    immunization, item, medication, observation, procedure, utf8,
};

/// Authors of one Composition that are looked at.
const MAX_AUTHORS: usize = 16;
/// Octets of the items taken from one document. A resource that many refer to is copied into each,
/// so that the size of the document does not bound it.
const MAX_TAKEN: usize = 16 << 20;

/// What reading one resource led to.
#[derive(Debug)]
pub(super) enum Reading {
    /// Facts.
    Items(Vec<SummaryItem>),
    /// A statement that there are none.
    Absent(AbsenceStatement),
    /// Nothing for the summary: administrative, retracted, never happened, not of the patient.
    Nothing,
    /// Perhaps something, but not understood.
    NotUnderstood,
}

/// A Bundle, indexed.
pub(super) struct Bundle<'b, 'a> {
    document: &'b Source<'b>,
    entries: Vec<Entry<'b, 'a>>,
    /// Position in `entries` by fullUrl and by `Type/id`.
    by_address: HashMap<String, usize>,
    sections: Sections,
    /// Position of the Patient.
    patient: Option<usize>,
    /// Names of institutions in the Bundle by their code.
    pub(super) institutions: HashMap<String, String>,
    /// Who made the document.
    pub(super) institution: InstitutionRef,
    pub(super) document_ref: DocumentRef,
    /// Flags of the document as a whole, which hold for everything in it.
    pub(super) flags: Vec<NationalFlag>,
    /// Confidentiality of the document as a whole.
    pub(super) confidentiality: Confidentiality,
    /// When the document was written; empty if it does not say.
    pub(super) written: String,
    authorship: Authorship,
}

/// An entry of a Bundle.
struct Entry<'b, 'a> {
    full_url: &'b str,
    resource: &'b Json<'a>,
}

/// A resource in its Bundle.
#[derive(Clone, Copy)]
pub(super) struct Place<'p, 'b, 'a> {
    pub(super) bundle: &'p Bundle<'b, 'a>,
    /// Entry.fullUrl.
    pub(super) full_url: &'b str,
    pub(super) resource: &'b Json<'a>,
}

/// Reads a Bundle of type document or collection.
pub(super) fn read(document: &Source<'_>) -> Result<Extracted, NotUnderstood> {
    let malformed = |error| match error {
        JsonError::Malformed | JsonError::TooMany => NotUnderstood::Malformed,
    };
    let quoted = quote_numbers(utf8(document)?).map_err(malformed)?;
    let root = parse(&quoted).map_err(malformed)?;
    let known = ["document", "collection"].contains(&root.text_of("type"));
    if root.text_of("resourceType") != "Bundle" || !known {
        return Err(NotUnderstood::UnknownStructure);
    }
    Ok(Bundle::index(document, &root).extract())
}

impl<'b, 'a> Bundle<'b, 'a> {
    fn index(document: &'b Source<'b>, root: &'b Json<'a>) -> Self {
        let entry = |entry: &'b Json<'a>| Entry {
            full_url: entry.text_of("fullUrl"),
            resource: entry.get("resource"),
        };
        let entries: Vec<_> = root.get("entry").items().iter().map(entry).collect();
        let composition = entries
            .iter()
            .map(|entry| entry.resource)
            .find(|resource| resource.text_of("resourceType") == "Composition")
            .unwrap_or(Json::null());
        let mut flags: Vec<_> = document.entry.national_flags().collect();
        flags.retain(|flag| *flag != NationalFlag::Unspecified);
        flags.extend(flags_of(root));
        flags.extend(flags_of(composition));
        let confidentiality = item::document_confidentiality(document.entry)
            .max(confidentiality_of(root))
            .max(confidentiality_of(composition))
            .max(item::confidentiality(
                composition.text_of("confidentiality"),
            ));
        let composed = first_date(composition, &["date"]);
        let mut bundle = Self {
            document,
            by_address: addresses(&entries),
            sections: Sections::of(composition),
            patient: None,
            institutions: institutions(&entries),
            institution: InstitutionRef::default(),
            document_ref: document_ref(document.entry),
            flags,
            confidentiality,
            written: if composed.is_empty() {
                date(root.text_of("timestamp"))
            } else {
                composed
            },
            authorship: Authorship::default(),
            entries,
        };
        bundle.authorship = Authorship::of(composition, |reference| {
            bundle.resolve(composition, reference)
        });
        bundle.patient = bundle.find_patient(composition);
        bundle.institution = bundle.find_institution(root, composition);
        bundle
    }

    fn find_patient(&self, composition: &Json<'a>) -> Option<usize> {
        let subject = composition.get("subject").text_of("reference");
        self.by_address.get(address(subject)).copied().or_else(|| {
            let is_patient =
                |entry: &Entry<'_, '_>| entry.resource.text_of("resourceType") == "Patient";
            self.entries.iter().position(is_patient)
        })
    }

    /// The institution that the document says it is of, or that it is registered by.
    fn find_institution(&self, root: &Json<'a>, composition: &'b Json<'a>) -> InstitutionRef {
        let registered = item::registered_institution(self.document.entry);
        let of_reference = |reference: &'b Json<'a>| {
            let organization = self.resolve(composition, reference)?;
            item::organization_code(organization)
        };
        let authors = composition.get("author").items().iter().take(MAX_AUTHORS);
        let code = item::institution_extension(composition)
            .or_else(|| of_reference(composition.get("custodian")))
            .or_else(|| authors.into_iter().find_map(of_reference))
            .or_else(|| Some(registered.institution_id.clone()).filter(|code| !code.is_empty()))
            .or_else(|| item::bundle_institution(root));
        match code {
            Some(code) if code != registered.institution_id => self.institution_named(&code),
            Some(_) | None => registered,
        }
    }

    /// The institution with this code, and its name if the Bundle has it.
    pub(super) fn institution_named(&self, code: &str) -> InstitutionRef {
        InstitutionRef {
            institution_id: code.to_owned(),
            oid: String::new(),
            name: self.institutions.get(code).cloned().unwrap_or_default(),
            home_community_id: self.document.entry.home_community_id.clone(),
        }
    }

    /// The resource that `reference`, in `resource`, is to; none if it is not in the Bundle.
    pub(super) fn resolve(
        &self,
        resource: &'b Json<'a>,
        reference: &Json<'_>,
    ) -> Option<&'b Json<'a>> {
        let target = reference.text_of("reference");
        if let Some(id) = target.strip_prefix('#') {
            let contained = resource.get("contained").items();
            return contained.iter().find(|inner| inner.text_of("id") == id);
        }
        self.entries
            .get(self.position(reference)?)
            .map(|entry| entry.resource)
    }

    /// The place of the entry that `reference` is to.
    pub(super) fn position(&self, reference: &Json<'_>) -> Option<usize> {
        self.by_address
            .get(address(reference.text_of("reference")))
            .copied()
    }

    fn extract(&self) -> Extracted {
        let mut extracted = Extracted::default();
        // Nothing of what must not leave its community; nothing that was retracted as a whole.
        let retracted = |entry: &Entry<'_, '_>| {
            entry.resource.text_of("resourceType") == "Composition"
                && entry.resource.text_of("status") == "entered-in-error"
        };
        if self.flags.contains(&NationalFlag::Undelivered) || self.entries.iter().any(retracted) {
            return extracted;
        }
        extracted.absences = self.sections.absences(&self.document_source());
        let used = device::used(self);
        let mut octets = 0_usize;
        for (at, entry) in self.entries.iter().enumerate() {
            let place = Place {
                bundle: self,
                full_url: entry.full_url,
                resource: entry.resource,
            };
            let full = extracted.items.len() >= MAX_ITEMS
                || extracted.absences.len() >= MAX_ITEMS
                || octets >= MAX_TAKEN;
            match place.read(used.contains(&at)) {
                Reading::Nothing => {}
                Reading::Items(_) | Reading::Absent(_) if place.is_modified() => {
                    extracted.not_taken += 1;
                }
                Reading::Items(mut items) if !full => {
                    for item in &mut items {
                        self.authorship.mark(item);
                    }
                    octets += items.iter().map(Message::encoded_len).sum::<usize>();
                    extracted.items.extend(items);
                }
                Reading::Absent(absence) if !full => extracted.absences.push(absence),
                Reading::Items(_) | Reading::Absent(_) | Reading::NotUnderstood => {
                    extracted.not_taken += 1;
                }
            }
        }
        at_most(&mut extracted, MAX_ITEMS);
        extracted
    }

    /// The document as a whole as source.
    fn document_source(&self) -> ItemSource {
        ItemSource {
            institution: Some(self.institution.clone()),
            home_community_id: self.document.entry.home_community_id.clone(),
            document: Some(self.document_ref.clone()),
            recorded: self.written.clone(),
            as_of: Some(wire_time(self.document.as_of)),
            ..ItemSource::default()
        }
    }

    /// The resources of one type.
    pub(super) fn of_type(&self, name: &'static str) -> impl Iterator<Item = &'b Json<'a>> {
        let resources = self.entries.iter().map(|entry| entry.resource);
        resources.filter(move |resource| resource.text_of("resourceType") == name)
    }
}

impl<'b, 'a> Place<'_, 'b, 'a> {
    /// `used`: it is a Device that a `DeviceUseStatement` speaks about.
    fn read(&self, used: bool) -> Reading {
        if self.is_of_another_person() || self.filings().contains(&Filing::FamilyHistory) {
            return Reading::Nothing;
        }
        if flags_of(self.resource).contains(&NationalFlag::Undelivered) {
            return Reading::Nothing;
        }
        match self.resource.text_of("resourceType") {
            "AllergyIntolerance" => allergy::read(self),
            "Condition" => condition::read(self),
            "MedicationRequest" => medication::request(self),
            "MedicationStatement" => medication::statement(self),
            "MedicationDispense" => medication::dispense(self),
            "Observation" => observation::read(self),
            "Procedure" => procedure::read(self),
            "DeviceUseStatement" => device::use_statement(self),
            "Device" if used => Reading::Nothing,
            "Device" => device::device(self),
            "Flag" => flag::read(self),
            "Immunization" => immunization::read(self),
            "Consent" => directive::consent(self),
            "DocumentReference" => directive::document(self),
            // Its results are resources of their own.
            "DiagnosticReport" => {
                let says = |name| !self.resource.get(name).is_null();
                let more = says("conclusion") || says("presentedForm") || says("conclusionCode");
                if more {
                    Reading::NotUnderstood
                } else {
                    Reading::Nothing
                }
            }
            "CarePlan" => care::plan(self),
            "CareTeam" => care::team(self),
            "Patient" => match care::patient(self) {
                none if none.is_empty() => Reading::Nothing,
                items => Reading::Items(items),
            },
            "Composition"
            | "Practitioner"
            | "PractitionerRole"
            | "Organization"
            | "Location"
            | "Encounter"
            | "EpisodeOfCare"
            | "Coverage"
            | "Medication"
            | "Specimen"
            | "Provenance"
            | "RelatedPerson"
            | "FamilyMemberHistory"
            | "HealthcareService"
            | "ServiceRequest" => Reading::Nothing,
            _ => Reading::NotUnderstood,
        }
    }

    /// Whether an extension may turn what it says into something else (`modifierExtension`). None is
    /// known here, and what has an unknown one must not be taken (FHIR R4, 2.4.1.2).
    fn is_modified(&self) -> bool {
        self.resource.has_inside("modifierExtension")
    }

    /// Whether the subject is another Patient of the Bundle: mother and child, donor. An
    /// Observation with a focus is not about its subject.
    fn is_of_another_person(&self) -> bool {
        let patient = self.bundle.patient;
        if self.resource.text_of("resourceType") == "Patient" {
            let of = patient.and_then(|at| self.bundle.entries.get(at));
            return of.is_none_or(|entry| !std::ptr::eq(entry.resource, self.resource));
        }
        let subject = ["subject", "patient"]
            .into_iter()
            .find_map(|name| self.bundle.position(self.resource.get(name)));
        let of_another = subject.is_some_and(|subject| patient.is_some_and(|of| of != subject));
        of_another || !self.resource.get("focus").items().is_empty()
    }

    /// The sections that it is filed in.
    pub(super) fn filings(&self) -> Vec<Filing> {
        let relative = relative(self.resource);
        self.bundle.sections.filings(&[self.full_url, &relative])
    }

    /// It as the source of an item.
    pub(super) fn source(&self, recorded: String, text: &str) -> ItemSource {
        let mut source = self.bundle.document_source();
        if let Some(code) = item::institution_extension(self.resource)
            && code != self.bundle.institution.institution_id
        {
            source.institution = Some(self.bundle.institution_named(&code));
        }
        if !recorded.is_empty() {
            source.recorded = recorded;
        }
        source.entry_id = token(self.full_url);
        source.original_text = shown(text);
        source
    }

    /// The resource that the member `name` refers to.
    pub(super) fn target(&self, name: &str) -> Option<&'b Json<'a>> {
        self.bundle.resolve(self.resource, self.resource.get(name))
    }
}

/// An address without the version.
fn address(reference: &str) -> &str {
    reference
        .split_once("/_history/")
        .map_or(reference, |(address, _)| address)
}

/// `Type/id`; empty without an id.
fn relative(resource: &Json<'_>) -> String {
    let id = resource.text_of("id");
    if id.is_empty() {
        return String::new();
    }
    format!("{}/{id}", resource.text_of("resourceType"))
}

/// Positions by every address that a reference may have; the first of the same address counts.
fn addresses(entries: &[Entry<'_, '_>]) -> HashMap<String, usize> {
    let mut known = HashMap::new();
    for (at, entry) in entries.iter().enumerate() {
        for address in [entry.full_url.to_owned(), relative(entry.resource)] {
            if !address.is_empty() {
                known.entry(address).or_insert(at);
            }
        }
    }
    known
}

/// Names of the organisations, contained ones too, by their code.
fn institutions(entries: &[Entry<'_, '_>]) -> HashMap<String, String> {
    let contained = entries
        .iter()
        .flat_map(|entry| entry.resource.get("contained").items());
    let all = entries.iter().map(|entry| entry.resource).chain(contained);
    all.filter(|resource| resource.text_of("resourceType") == "Organization")
        .filter_map(|resource| {
            Some((
                item::organization_code(resource)?,
                shown(resource.text_of("name")),
            ))
        })
        .collect()
}
