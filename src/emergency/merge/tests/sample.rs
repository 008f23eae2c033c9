//! The emergency patient of the demo, over three regions.

use std::collections::BTreeMap;

use crate::demo::sample::{Sample, SampleConfig};
use crate::emergency::extract::{Source, extract};
use crate::wire::pb::documents::DocumentEntry;

use super::*;

fn summary() -> Merged {
    let sample = Sample::generate(&SampleConfig::default());
    let mut regions: BTreeMap<usize, Part> = BTreeMap::new();
    for document in sample.documents_of(sample.scenario.emergency) {
        let entry = DocumentEntry {
            unique_id: document.unique_id.clone(),
            ..DocumentEntry::default()
        };
        let extracted = extract(&Source {
            mime_type: document.mime_type,
            format_code: document.format_code.code,
            entry: &entry,
            content: &document.content,
            as_of: now(),
        });
        let part = regions.entry(document.region).or_default();
        part.home_community_id = format!("urn:oid:2.{}", document.region);
        part.items.extend(extracted.items);
        part.absences.extend(extracted.absences);
    }
    merge(regions.into_values().collect(), now())
}

#[test]
fn the_summary_of_the_emergency_patient() {
    let merged = summary();
    let of = |section: SummarySection| -> Vec<_> {
        merged
            .items
            .iter()
            .filter(|item| item.section() == section)
            .collect()
    };
    let first = &merged.items[0];
    assert_eq!(first.section(), SummarySection::Contraindication);
    assert!(first.display.contains("ペニシリン"));
    assert_eq!(homes(first), ["urn:oid:2.0"]);

    let fibrillation: Vec<_> = of(SummarySection::Problem)
        .into_iter()
        .filter(|item| item.display == "心房細動")
        .collect();
    let [fibrillation] = fibrillation.as_slice() else {
        panic!("{fibrillation:?}")
    };
    assert_eq!(
        fibrillation.sources.len(),
        4,
        "two FHIR documents, a prescription, a CDA"
    );

    let drugs: Vec<_> = of(SummarySection::Medication)
        .into_iter()
        .map(|item| (item.display.as_str(), item.sources.len()))
        .collect();
    let sources: Vec<_> = drugs.iter().map(|(_, sources)| *sources).collect();
    // Warfarin and bisoprolol prescribed and referred; two of the third region, 75 days old.
    assert_eq!(sources, [2, 2, 1, 1], "{drugs:?}");
    assert_eq!(of(SummarySection::Device).len(), 1);
    assert_eq!(of(SummarySection::Procedure).len(), 1);
    let inr = of(SummarySection::Result)
        .into_iter()
        .find(|item| item.display == "PT-INR")
        .unwrap();
    assert_eq!(
        (number(inr.value.as_ref()), homes(inr)),
        ("2.4", vec!["urn:oid:2.1"])
    );
    let potassium = of(SummarySection::Result)
        .into_iter()
        .find(|item| item.display == "カリウム")
        .unwrap();
    assert_eq!(
        potassium.past_values.len(),
        1,
        "the stay in the other region"
    );
    assert!(
        merged
            .items
            .iter()
            .all(|item| item.conflict_group.is_empty())
    );
}
