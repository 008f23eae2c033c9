//! The summary as an International Patient Summary: a FHIR R4 document Bundle of IPS 2.0.1.
//!
//! Every item of a section of the IPS is a resource, with a Provenance for each of its sources;
//! every section says in its narrative what the page says. Absence is a resource only where a
//! source states it; everywhere else an `emptyReason` says why there is nothing (INV-6).

mod absent;
mod care;
mod clinical;
mod drugs;
mod elements;
mod findings;
pub(in crate::emergency) mod json;
mod narrative;
mod resources;
mod sections;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::wire::pb::common::Confidentiality;
use crate::wire::pb::emergency::{ItemSource, ListedDocument, SummaryItem, SummarySection};

use super::super::merge::hash;
use super::Whole;
use super::text::{self, clean};
use super::words;
use super::writer::Writer;
use absent::empty_reason;
use elements::{confidentiality_code, instant, known, meta, reference};
use json::{Json, list, object, text as string};
use resources::Around;
use sections::{LOCAL, LOINC, SECTIONS, Section};

const URI: &str = "urn:ietf:rfc:3986";

/// The Bundle.
pub(super) fn bundle(whole: &Whole<'_>) -> Vec<u8> {
    let mut document = Document::new(whole);
    let sections = document.sections();
    let composition = document.composition(sections);
    let composed = instant(whole.summary.composed.as_ref());
    let head = [
        (document.address("composition"), composition),
        (document.patient.clone(), sources::patient(whole)),
        (document.address("author"), sources::author()),
    ];
    let all = head.into_iter().chain(document.entries);
    let entries = all
        .map(|(address, resource)| object([("fullUrl", string(address)), ("resource", resource)]));
    let identifier = object([
        ("system", string(URI)),
        (
            "value",
            string(format!("urn:uuid:{}", whole.summary.summary_id)),
        ),
    ]);
    let bundle = object([
        ("resourceType", string("Bundle")),
        ("meta", meta("Bundle-uv-ips", confidentiality(whole), &[])),
        ("language", string(whole.options.language.tag())),
        ("identifier", identifier),
        ("type", string("document")),
        ("timestamp", composed),
        ("entry", list(entries)),
    ]);
    let mut out = String::new();
    bundle.write(&mut out);
    out.into_bytes()
}

/// The confidentiality of the whole: that of its most confidential item.
fn confidentiality(whole: &Whole<'_>) -> Confidentiality {
    let all = whole.items().map(SummaryItem::confidentiality);
    all.max_by_key(|one| i32::from(*one)).unwrap_or_default()
}

/// A document in the making.
struct Document<'w> {
    whole: &'w Whole<'w>,
    writer: Writer<'w>,
    patient: String,
    /// What follows Composition, Patient and author.
    entries: Vec<(String, Json)>,
    /// Addresses of the Organizations that are there, by what tells them apart.
    organizations: BTreeMap<String, String>,
}

impl<'w> Document<'w> {
    fn new(whole: &'w Whole<'w>) -> Self {
        let mut document = Self {
            whole,
            writer: Writer::new(whole),
            patient: String::new(),
            entries: Vec::new(),
            organizations: BTreeMap::new(),
        };
        document.patient = document.address("patient");
        document
    }

    /// The address of an entry: the same for the same summary, and unlike any other's.
    fn address(&self, what: &str) -> String {
        let seed = format!("{} {what}", self.whole.summary.summary_id);
        let digits = hash(seed.as_bytes());
        let octets = u128::from_str_radix(&digits, 16).unwrap_or_default();
        let id = uuid::Builder::from_u128(octets)
            .with_variant(uuid::Variant::RFC4122)
            .with_version(uuid::Version::Custom)
            .into_uuid();
        format!("urn:uuid:{id}")
    }

    fn add(&mut self, what: &str, resource: Json) -> String {
        let address = self.address(what);
        self.entries.push((address.clone(), resource));
        address
    }

    fn composition(&mut self, sections: Vec<Json>) -> Json {
        let (whole, language) = (self.whole, self.whole.options.language);
        let attester = whole.summary.approval.as_ref().map(|approval| {
            let by = approval.approved_by.clone().unwrap_or_default();
            let person = self.add("approver", sources::practitioner(&by));
            object([
                ("mode", string("professional")),
                ("time", instant(approval.approved.as_ref())),
                ("party", reference(&person)),
            ])
        });
        let composed = instant(whole.summary.composed.as_ref());
        let event = object([
            (
                "code",
                list([known(
                    "http://terminology.hl7.org/CodeSystem/v3-ActClass",
                    "PCPR",
                    "care provision",
                )]),
            ),
            ("period", object([("end", composed.clone())])),
        ]);
        object([
            ("resourceType", string("Composition")),
            (
                "meta",
                meta("Composition-uv-ips", confidentiality(whole), &[]),
            ),
            ("language", string(language.tag())),
            ("text", narrative::head(whole, &self.writer.age)),
            (
                "identifier",
                object([
                    ("system", string(URI)),
                    ("value", string(self.address("composition"))),
                ]),
            ),
            ("status", string("final")),
            ("type", known(LOINC, "60591-5", "Patient summary Document")),
            ("subject", reference(&self.patient)),
            ("date", composed),
            ("author", list([reference(&self.address("author"))])),
            ("title", string(words::TITLE.both(language))),
            (
                "confidentiality",
                string(confidentiality_code(confidentiality(whole))),
            ),
            ("attester", list(attester)),
            ("event", list([event])),
            ("section", list(sections)),
        ])
    }

    fn sections(&mut self) -> Vec<Json> {
        let mut all: Vec<_> = SECTIONS
            .iter()
            .filter_map(|section| self.section(section))
            .collect();
        all.extend(self.documents());
        let gaps = super::page::gaps(self.whole);
        let title = words::GAPS.both(self.whole.options.language);
        let code = known(LOCAL, "gaps", "");
        all.push(object([
            ("title", string(title)),
            ("code", code),
            ("text", narrative::of(&gaps, self.whole.options.language)),
        ]));
        all
    }

    fn section(&mut self, section: &'static Section) -> Option<Json> {
        let block = self.writer.block(section.of, false, section.required)?;
        let whole = self.whole;
        let items: Vec<_> = whole
            .items()
            .filter(|item| section.of.contains(&item.section()))
            .collect();
        let mut entries: Vec<String> = Vec::new();
        for item in &items {
            entries.extend(self.item(item));
        }
        entries.extend(self.absences(section, items.is_empty()));
        let reason = match (entries.is_empty(), section.required) {
            (true, true) => empty_reason(whole, section, items.is_empty()),
            _ => Json::None,
        };
        Some(object([
            ("title", string(section.title.both(whole.options.language))),
            ("code", known(section.system, section.code, section.display)),
            ("text", narrative::of(&block, whole.options.language)),
            ("entry", list(entries.iter().map(|one| reference(one)))),
            ("emptyReason", reason),
        ]))
    }

    /// Adds an item, and its former values; gives the addresses for its section.
    fn item(&mut self, item: &SummaryItem) -> Vec<String> {
        if item.needs_confirmation {
            return Vec::new();
        }
        let mut addresses: Vec<_> = self.resource(item, &item.item_id).into_iter().collect();
        for (at, past) in item.past_values.iter().enumerate() {
            let former = SummaryItem {
                value: past.value.clone(),
                start: past.effective.clone(),
                end: String::new(),
                sources: past.source.iter().cloned().collect(),
                past_values: Vec::new(),
                conflict_group: String::new(),
                ..item.clone()
            };
            addresses.extend(self.resource(&former, &format!("{} before {at}", item.item_id)));
        }
        addresses
    }

    fn resource(&mut self, item: &SummaryItem, id: &str) -> Option<String> {
        let patient = self.patient.clone();
        // Only what is referred to is in the Bundle.
        let observed = resources::is_observed(item.section());
        let performed = item.sources.iter().filter(|_| observed);
        let performers: Vec<_> = performed.map(|source| self.organization(source)).collect();
        let device = self.address(&format!("device {id}"));
        let remark = match item.conflict_group.is_empty() {
            true => String::new(),
            false => words::CONTRADICTION.both(self.whole.options.language),
        };
        let around = Around {
            patient: &patient,
            performers: &performers,
            device: &device,
            language: self.whole.options.language,
            remark: &remark,
        };
        let resource = resources::resource(item, around)?;
        let address = self.add(&format!("item {id}"), resource);
        if item.section() == SummarySection::Device {
            let about = care::device(item, &patient);
            self.entries.push((device, about));
        }
        self.provenance(&address, &item.sources);
        Some(address)
    }

    /// The Organization of a source; made when it is first asked for.
    fn organization(&mut self, source: &ItemSource) -> String {
        let name = text::institution(source);
        let code = source.institution.clone().unwrap_or_default();
        let code = clean(&code.institution_id);
        let key = format!("{code} {name} {}", source.home_community_id);
        self.organization_of(key, || sources::organization(&name, &code))
    }

    fn region(&mut self, home: &str) -> String {
        let name = self.whole.region_name(home);
        self.organization_of(format!("region {home}"), || sources::region(&name, home))
    }

    fn organization_of(&mut self, key: String, make: impl FnOnce() -> Json) -> String {
        if let Some(known) = self.organizations.get(&key) {
            return known.clone();
        }
        let address = self.add(&format!("organization {key}"), make());
        self.organizations.insert(key, address.clone());
        address
    }

    /// Says of each source where `target` comes from, and when it was asked.
    fn provenance(&mut self, target: &str, sources: &[ItemSource]) {
        for (at, source) in sources.iter().enumerate() {
            let institution = self.organization(source);
            let region = match source.home_community_id.as_str() {
                "" => None,
                home => Some(self.region(home)),
            };
            let composed = self.whole.summary.composed.as_ref();
            let said = sources::provenance(target, source, &institution, region, composed);
            self.add(&format!("source {at} of {target}"), said);
        }
    }

    /// Documents that may say more, as references; none in a form for the patient.
    fn documents(&mut self) -> Option<Json> {
        let whole = self.whole;
        let language = whole.options.language;
        let block = super::page::documents(whole)?;
        let listed: Vec<&ListedDocument> = whole.unread().collect();
        let addresses: Vec<_> = listed
            .into_iter()
            .enumerate()
            .map(|(at, one)| {
                let about = sources::document(one, &self.patient);
                self.add(&format!("document {at}"), about)
            })
            .collect();
        Some(object([
            ("title", string(words::DOCUMENTS.both(language))),
            ("code", known(LOCAL, "documents", "")),
            ("text", narrative::of(&block, language)),
            ("entry", list(addresses.iter().map(|one| reference(one)))),
        ]))
    }
}
