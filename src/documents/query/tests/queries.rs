//! Stored queries at random.

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::random::{self, Registry, WORDS, code, patient, pattern, reference, time};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;
use pb::stored_query::Query;

/// Kinds of queries.
pub(super) const KINDS: usize = 14;

fn maybe<T>(rng: &mut StdRng, chance: f64, make: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    rng.random_bool(chance).then(|| make(rng))
}

fn codes(rng: &mut StdRng, name: &str) -> Vec<cpb::CodedValue> {
    let count = if rng.random_bool(0.25) {
        rng.random_range(1..=4)
    } else {
        0
    };
    (0..count).map(|_| code(rng, name, 4)).collect()
}

fn lists(rng: &mut StdRng, name: &str) -> Vec<pb::CodeList> {
    let count = if rng.random_bool(0.25) {
        rng.random_range(1..=2)
    } else {
        0
    };
    let list = |rng: &mut StdRng| {
        let any_of = (0..rng.random_range(1..=4)).map(|_| code(rng, name, 4));
        pb::CodeList {
            any_of: any_of.collect(),
        }
    };
    (0..count).map(|_| list(rng)).collect()
}

fn range(rng: &mut StdRng) -> Option<pb::TimeRange> {
    maybe(rng, 0.25, |rng| pb::TimeRange {
        from: time(rng),
        to: time(rng),
    })
}

fn statuses(rng: &mut StdRng) -> Vec<i32> {
    match rng.random_range(0..4) {
        0 => vec![],
        1 => vec![1],
        2 => vec![2],
        _ => vec![1, 2],
    }
}

fn object_types(rng: &mut StdRng) -> Vec<i32> {
    match rng.random_range(0..4) {
        0 => vec![2],
        1 => vec![1, 2],
        _ => vec![],
    }
}

fn filter(rng: &mut StdRng) -> pb::DocumentFilter {
    let people = maybe(rng, 0.15, |rng| vec![pattern(rng), pattern(rng)]);
    let words = maybe(rng, 0.2, |rng| {
        let word = |rng: &mut StdRng| WORDS[rng.random_range(0..4)][rng.random_range(0..3)];
        match rng.random_bool(0.5) {
            true => word(rng).to_owned(),
            false => format!("{} {}", word(rng), word(rng)),
        }
    });
    let mimes = maybe(rng, 0.1, |_| vec!["text/xml".to_owned()]);
    let institutions = maybe(rng, 0.1, |_| vec!["1310000001".to_owned()]);
    pb::DocumentFilter {
        statuses: statuses(rng),
        class_codes: codes(rng, "c"),
        type_codes: codes(rng, "t"),
        practice_setting_codes: codes(rng, "p"),
        healthcare_facility_type_codes: codes(rng, "h"),
        format_codes: codes(rng, "f"),
        event_codes: lists(rng, "e"),
        author_persons: people.unwrap_or_default(),
        creation_time: range(rng),
        service_start_time: range(rng),
        service_stop_time: range(rng),
        object_types: object_types(rng),
        document_availabilities: maybe(rng, 0.1, |rng| vec![rng.random_range(1..=2)])
            .unwrap_or_default(),
        author_institution_ids: institutions.unwrap_or_default(),
        text: words.unwrap_or_default(),
        mime_types: mimes.unwrap_or_default(),
        ..Default::default()
    }
}

fn content(rng: &mut StdRng) -> Option<pb::ContentFilter> {
    maybe(rng, 0.7, |rng| pb::ContentFilter {
        format_codes: codes(rng, "f"),
        confidentiality_codes: vec![],
        object_types: object_types(rng),
    })
}

fn exclude(rng: &mut StdRng, filter: &pb::DocumentFilter) -> Option<pb::DocumentFilter> {
    let mut not = pb::DocumentFilter::default();
    if filter.class_codes.is_empty() {
        not.class_codes = codes(rng, "c");
    }
    if filter.event_codes.is_empty() {
        not.event_codes = lists(rng, "e");
    }
    if filter.mime_types.is_empty() && rng.random_bool(0.1) {
        not.mime_types = vec!["text/xml".into()];
    }
    maybe(rng, 0.5, |_| not)
}

/// One object of these, by one kind of id; `several` may name more.
#[expect(clippy::unnecessary_wraps, reason = "fields of messages are optional")]
fn selector(
    rng: &mut StdRng,
    objects: &[(String, String, String)],
    several: bool,
) -> Option<pb::ObjectSelector> {
    let count = if several { rng.random_range(1..=3) } else { 1 };
    let mut selector = pb::ObjectSelector::default();
    let by = rng.random_range(0..if several { 3 } else { 2 });
    for _ in 0..count {
        let (uuid, unique, logical) = &objects[rng.random_range(0..objects.len())];
        match by {
            0 => selector.entry_uuids.push(uuid.clone()),
            1 => selector.unique_ids.push(unique.clone()),
            _ => selector.logical_ids.push(logical.clone()),
        }
    }
    Some(selector)
}

type Objects = Vec<(String, String, String)>;

fn entries(registry: &Registry) -> Objects {
    let entries = registry
        .entries
        .iter()
        .map(|row| row.entry.as_ref().unwrap());
    entries
        .map(|entry| {
            let (uuid, unique) = (&entry.entry_uuid, &entry.unique_id);
            (uuid.clone(), unique.clone(), entry.logical_id.clone())
        })
        .collect()
}

fn folders(registry: &Registry) -> Objects {
    let folders = registry
        .folders
        .iter()
        .map(|row| row.folder.as_ref().unwrap());
    folders
        .map(|folder| {
            let (uuid, unique) = (&folder.entry_uuid, &folder.unique_id);
            (uuid.clone(), unique.clone(), folder.logical_id.clone())
        })
        .collect()
}

fn sets(registry: &Registry) -> Objects {
    let sets = registry.sets.iter().map(|row| row.set.as_ref().unwrap());
    sets.map(|set| (set.entry_uuid.clone(), set.unique_id.clone(), String::new()))
        .collect()
}

fn associations(rng: &mut StdRng) -> Vec<i32> {
    match rng.random_range(0..3) {
        0 => vec![1, 2],
        1 => vec![2],
        _ => vec![],
    }
}

/// Only documents and their relations may be asked about without a logicalID.
fn plain(mut selector: Option<pb::ObjectSelector>) -> Option<pb::ObjectSelector> {
    if let Some(selector) = &mut selector {
        selector.entry_uuids.append(&mut selector.logical_ids);
    }
    selector
}

fn uuids(rng: &mut StdRng, registry: &Registry) -> Vec<String> {
    let mut all = entries(registry);
    all.extend(folders(registry));
    let count = rng.random_range(1..=2);
    (0..count)
        .map(|_| all[rng.random_range(0..all.len())].0.clone())
        .collect()
}

/// A query of a kind, with parameters at random.
#[expect(clippy::too_many_lines, reason = "a case for each stored query")]
pub(super) fn random(rng: &mut StdRng, registry: &Registry, kind: usize) -> Query {
    let patient_id = Some(patient(rng.random_range(0..registry.patients)));
    match kind {
        0 => {
            let filter = filter(rng);
            Query::FindDocuments(pb::FindDocumentsQuery {
                patient_id,
                exclude: exclude(rng, &filter),
                filter: Some(filter),
            })
        }
        1 => {
            let list = |rng: &mut StdRng| pb::ReferenceIdList {
                any_of: (0..2).map(|_| reference(rng)).collect(),
            };
            let mut filter = filter(rng);
            filter.text = String::new();
            Query::FindDocumentsByReferenceId(pb::FindDocumentsByReferenceIdQuery {
                patient_id,
                reference_ids: (0..rng.random_range(1..=2)).map(|_| list(rng)).collect(),
                filter: Some(filter),
            })
        }
        2 => Query::FindSubmissionSets(pb::FindSubmissionSetsQuery {
            patient_id,
            statuses: statuses(rng),
            source_ids: maybe(rng, 0.3, |_| vec!["1.2.3.1".to_owned()]).unwrap_or_default(),
            submission_time: range(rng),
            author_person: maybe(rng, 0.3, pattern).unwrap_or_default(),
            content_type_codes: codes(rng, "k"),
        }),
        3 => Query::FindFolders(pb::FindFoldersQuery {
            patient_id,
            statuses: statuses(rng),
            last_update_time: range(rng),
            codes: lists(rng, "d"),
        }),
        4 => Query::GetAll(pb::GetAllQuery {
            patient_id,
            document_statuses: statuses(rng),
            submission_set_statuses: statuses(rng),
            folder_statuses: statuses(rng),
            content: content(rng),
            association_statuses: associations(rng),
        }),
        5 => Query::GetDocuments(pb::GetDocumentsQuery {
            documents: selector(rng, &entries(registry), true),
        }),
        6 => Query::GetFolders(pb::GetFoldersQuery {
            folders: selector(rng, &folders(registry), true),
        }),
        7 => Query::GetAssociations(pb::GetAssociationsQuery {
            uuids: uuids(rng, registry),
            association_statuses: associations(rng),
        }),
        8 => Query::GetDocumentsAndAssociations(pb::GetDocumentsAndAssociationsQuery {
            documents: plain(selector(rng, &entries(registry), false)),
            association_statuses: associations(rng),
        }),
        9 => Query::GetSubmissionSets(pb::GetSubmissionSetsQuery {
            uuids: uuids(rng, registry),
            association_statuses: associations(rng),
        }),
        10 => Query::GetSubmissionSetAndContents(pb::GetSubmissionSetAndContentsQuery {
            submission_set: selector(rng, &sets(registry), false),
            content: content(rng),
        }),
        11 => Query::GetFolderAndContents(pb::GetFolderAndContentsQuery {
            folder: selector(rng, &folders(registry), false),
            content: content(rng),
            association_statuses: associations(rng),
        }),
        12 => Query::GetFoldersForDocument(pb::GetFoldersForDocumentQuery {
            document: selector(rng, &entries(registry), false),
        }),
        _ => Query::GetRelatedDocuments(pb::GetRelatedDocumentsQuery {
            document: selector(rng, &entries(registry), false),
            association_types: match rng.random_bool(0.5) {
                true => vec![2, 3, 4, 6],
                false => vec![rng.random_range(1..=6)],
            },
            object_types: object_types(rng),
            association_statuses: associations(rng),
        }),
    }
}

/// The request of a query: in any order, on pages of any size, as metadata or references.
pub(super) fn request(rng: &mut StdRng, query: Query) -> pb::QueryRegistryRequest {
    let level = if rng.random_bool(0.4) {
        pb::MetadataLevel::All
    } else {
        pb::MetadataLevel::Latest
    };
    pb::QueryRegistryRequest {
        query: Some(pb::StoredQuery {
            query: Some(query),
            metadata_level: level.into(),
            ..Default::default()
        }),
        return_type: rng.random_range(1..=2),
        sort_key: rng.random_range(0..=4),
        ascending: rng.random_bool(0.5),
        page_size: [1, 7, 60][rng.random_range(0..3)],
        page_token: String::new(),
    }
}

#[test]
fn kinds_are_all_there() {
    use rand::SeedableRng as _;
    let mut rng = StdRng::seed_from_u64(1);
    let folder = tempfile::tempdir().unwrap();
    let store = super::open(&folder);
    let registry = random::Registry::random(&mut rng, store.keys(), 50);
    let names: std::collections::BTreeSet<String> = (0..KINDS)
        .map(|kind| format!("{:?}", random(&mut rng, &registry, kind)))
        .map(|query| query.split('(').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(names.len(), KINDS);
}
