//! The sample documents of the demo.

use std::collections::BTreeSet;

use crate::demo::sample::{DocumentKind, Sample, SampleConfig, SampleDocument};
use crate::wire::pb::emergency::SummarySection;

use super::*;

fn read_sample(document: &SampleDocument) -> Extracted {
    read_as(document.mime_type, &entry(), &document.content)
}

#[test]
fn every_sample_document_is_understood_or_listed() {
    let sample = Sample::generate(&SampleConfig::default());
    for document in &sample.documents {
        let extracted = read_sample(document);
        match document.kind {
            DocumentKind::PdfLabReport => {
                assert_eq!(
                    extracted.outcome,
                    Outcome::NotUnderstood(NotUnderstood::UnknownFormat)
                );
            }
            DocumentKind::CdaReferral => assert_eq!(extracted.outcome, Outcome::Readable),
            DocumentKind::Referral
            | DocumentKind::DischargeSummary
            | DocumentKind::HealthCheck
            | DocumentKind::Prescription => {
                assert_eq!(extracted.outcome, Outcome::Readable);
                assert_eq!(extracted.not_taken, 0, "{:?}", document.kind);
                assert!(!extracted.items.is_empty());
                let institution =
                    &sample.regions[document.region].institutions[document.institution];
                for item in &extracted.items {
                    let source = item.sources[0].institution.as_ref().unwrap();
                    assert_eq!(source.institution_id, institution.code);
                }
            }
        }
    }
}

#[test]
fn the_emergency_patient_is_read() {
    let sample = Sample::generate(&SampleConfig::default());
    let facts: BTreeSet<_> = sample
        .documents_of(sample.scenario.emergency)
        .flat_map(|document| {
            read_sample(document)
                .items
                .into_iter()
                .map(|item| (document.region, item.section, item.display))
        })
        .collect();
    let has = |region: usize, section: SummarySection, text: &str| {
        facts.iter().any(|(of, number, display)| {
            (*of, *number) == (region, i32::from(section)) && display.contains(text)
        })
    };
    assert!(has(0, SummarySection::Contraindication, "ペニシリン"));
    assert!(has(0, SummarySection::Device, "ペースメーカ"));
    assert!(has(0, SummarySection::Procedure, "ペースメーカー移植術"));
    assert!(has(1, SummarySection::Medication, "ワ"), "{facts:?}");
    assert!(has(1, SummarySection::Problem, "心房細動"));
    assert!(has(1, SummarySection::Result, "PT-INR"));
    assert!(has(2, SummarySection::Problem, "高血圧"));
}
