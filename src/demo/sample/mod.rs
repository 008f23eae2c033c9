//! Sample people and documents for `renkei demo`.
//!
//! Pure: no clock, no files, and the same [`SampleConfig`] always gives the same bytes. Names,
//! towns and institutions are invented; identifiers, code systems and document formats have the
//! real shape, check digits included. Nobody can be reached at the telephone numbers.

mod cda;
mod clinical;
mod codes;
mod document;
mod fhir;
mod kana;
mod labs;
mod model;
mod names;
mod pdf;
mod people;
mod person;
mod places;
mod plan;
mod rng;
#[cfg(test)]
mod tests;
mod wareki;

pub use codes::{PATIENT_ID_ROOT, check_digit, check_digit_is_valid};
pub use model::{
    DocumentKind, InstitutionKind, Sample, SampleCode, SampleConfig, SampleDocument,
    SampleInstitution, SamplePerson, SampleRecord, SampleRegion, Scenario, Sex,
};

use rng::Rng;

impl Sample {
    /// Makes the sample that `config` describes, after clamping its sizes.
    #[must_use]
    pub fn generate(config: &SampleConfig) -> Self {
        let config = SampleConfig {
            regions: config.regions.clamp(1, SampleConfig::MAX_REGIONS),
            patients: config.patients.max(SampleConfig::MIN_PATIENTS),
            ..config.clone()
        };
        let today = config.reference_date;
        let regions = places::regions(config.regions);
        let (people, identities, scenario) = people::generate(&config, &regions);
        let mut rng = Rng::new(config.seed, 2);
        let mut plans = plan::scenario(&mut rng, &scenario);
        for (person, identity) in people.iter().zip(&identities) {
            if !scenario.includes(person.truth) {
                plans.extend(plan::ordinary(
                    &mut rng,
                    &regions,
                    identity,
                    &person.records,
                    today,
                ));
            }
        }
        plans.sort_by_key(|plan| plan.person);
        let documents = plans
            .iter()
            .filter_map(|plan| document::write(&mut rng, &regions, &people, plan, today))
            .collect();
        Self {
            regions,
            people,
            documents,
            scenario,
        }
    }

    /// The person numbered `truth`.
    pub fn person(&self, truth: usize) -> Option<&SamplePerson> {
        self.people.get(truth)
    }

    /// The institution that made `record`.
    pub fn institution(&self, record: &SampleRecord) -> Option<&SampleInstitution> {
        self.regions
            .get(record.region)?
            .institutions
            .get(record.institution)
    }

    /// The documents about the person numbered `truth`.
    pub fn documents_of(&self, truth: usize) -> impl Iterator<Item = &SampleDocument> {
        self.documents
            .iter()
            .filter(move |document| document.person == truth)
    }
}

impl Scenario {
    /// Whether the person numbered `truth` has a part to play.
    pub fn includes(&self, truth: usize) -> bool {
        let alone = [
            self.cross_region,
            self.married,
            self.opted_out,
            self.emergency,
        ];
        let pairs = [self.namesakes, self.twins];
        alone.contains(&truth)
            || pairs
                .iter()
                .any(|(one, other)| [*one, *other].contains(&truth))
    }
}
