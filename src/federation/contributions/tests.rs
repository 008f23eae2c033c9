//! What is kept, shown, taken out and forgotten.

use tempfile::TempDir;

use crate::clock::ManualClock;
use crate::store::{Options, Schema, Tag};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::emergency as epb;

use super::*;

const HOUR: Duration = Duration::from_hours(1);

struct Hub {
    contributions: Arc<Contributions>,
    store: Arc<Store>,
    clock: Arc<ManualClock>,
    tasks: TaskTracker,
    home: HomeCommunityId,
    _folder: TempDir,
}

fn patient(id: &str) -> PatientIdentifier {
    PatientIdentifier::new("1.2.3", id).unwrap()
}

fn source(document: &str) -> ItemSource {
    ItemSource {
        document: Some(cpb::DocumentRef {
            document_unique_id: document.to_owned(),
            ..cpb::DocumentRef::default()
        }),
        ..ItemSource::default()
    }
}

/// An answer with an item and a statement of each document, which is of the patient at this place.
fn answer(documents: &[(&str, u32)]) -> pb::GetSummaryItemsResponse {
    let each = documents.iter();
    pb::GetSummaryItemsResponse {
        items: each
            .clone()
            .map(|(id, _)| epb::SummaryItem {
                display: (*id).to_owned(),
                sources: vec![source(id)],
                ..epb::SummaryItem::default()
            })
            .collect(),
        absences: each
            .clone()
            .map(|(id, _)| epb::AbsenceStatement {
                sources: vec![source(id)],
                ..epb::AbsenceStatement::default()
            })
            .collect(),
        documents: each
            .clone()
            .map(|(id, _)| epb::ListedDocument {
                document: source(id).document,
                ..epb::ListedDocument::default()
            })
            .collect(),
        judged: each
            .map(|(id, patient)| pb::JudgedDocument {
                patient: *patient,
                entry: Some(dpb::DocumentEntry {
                    unique_id: (*id).to_owned(),
                    ..dpb::DocumentEntry::default()
                }),
            })
            .collect(),
        ..pb::GetSummaryItemsResponse::default()
    }
}

fn names(said: &pb::GetSummaryItemsResponse) -> Vec<&str> {
    assert_eq!(said.items.len(), said.documents.len());
    assert_eq!(said.items.len(), said.judged.len());
    assert_eq!(said.items.len(), said.absences.len());
    said.items
        .iter()
        .map(|item| item.display.as_str())
        .collect()
}

impl Hub {
    fn new(shown_for: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at("2026-04-01T03:00:00Z".parse().unwrap()));
        let options = Options {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ..Options::default()
        };
        let schema = crate::federation::tables(Schema::new());
        let (store, _) = Store::open(folder.path(), schema, options).unwrap();
        let renewed_after = Duration::from_mins(15);
        let contributions = Contributions::new(
            Arc::clone(&store),
            Arc::clone(&clock) as Arc<dyn Clock>,
            shown_for,
            renewed_after,
        );
        Self {
            contributions: Arc::new(contributions),
            store,
            clock,
            tasks: TaskTracker::new(),
            home: "urn:oid:1.2".parse().unwrap(),
            _folder: folder,
        }
    }

    fn mark(&self, patients: &[PatientIdentifier]) -> Mark {
        self.contributions.mark(&self.home, patients).unwrap()
    }

    async fn keep(
        &self,
        patients: &[PatientIdentifier],
        said: &pb::GetSummaryItemsResponse,
        mark: &Mark,
    ) {
        let given = (said, mark);
        self.contributions
            .keep(&self.tasks, &self.home, patients, given);
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    fn of(&self, patients: &[PatientIdentifier], at_most: Duration) -> Vec<Option<Contribution>> {
        let all = self.contributions.of(&self.home, patients, at_most);
        all.unwrap()
    }

    /// A notice of the region arrives, as the locator takes it.
    async fn notice(&self, patient: &PatientIdentifier, sequence: u64, withdrawn: &[&str]) {
        let notice = pb::HoldingNotice {
            sequence,
            withdrawn: withdrawn.iter().map(|id| (*id).to_owned()).collect(),
            ..pb::HoldingNotice::default()
        };
        let _turn = self.contributions.turn().await;
        let notices = [(patient.clone(), notice.clone())];
        let out = self.contributions.without_withdrawn(&self.home, &notices);
        let mut writes = out.unwrap();
        writes.push(Write::put(&HoldingRow {
            patient: self.store.keys().patient_tag(patient).to_vec(),
            home_community_id: self.home.to_string(),
            notice: Some(notice),
            ..HoldingRow::default()
        }));
        let commit = Commit {
            writes,
            ..Commit::default()
        };
        let _committed = self.store.commit(commit).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_each_identifier_until_it_is_too_old() {
    let hub = Hub::new(HOUR);
    let both = [patient("1"), patient("2")];
    let mark = hub.mark(&both);
    hub.keep(&both, &answer(&[("a", 0), ("b", 1), ("c", 0)]), &mark)
        .await;
    let kept = hub.of(&both, Duration::MAX);
    assert_eq!(names(&kept[0].as_ref().unwrap().said), ["a", "c"]);
    assert_eq!(names(&kept[1].as_ref().unwrap().said), ["b"]);
    // After an unlink each identifier is asked about by itself, and has its own only.
    assert_eq!(hub.of(&both[1..], Duration::MAX), kept[1..]);
    let elsewhere = "urn:oid:1.3".parse().unwrap();
    let elsewhere = hub.contributions.of(&elsewhere, &both, Duration::MAX);
    assert_eq!(elsewhere.unwrap(), [None, None]);

    let second = Duration::from_secs(1);
    hub.clock.advance(HOUR.checked_sub(second).unwrap());
    assert!(hub.of(&both, Duration::MAX).iter().all(Option::is_some));
    assert!(hub.of(&both, HOUR / 2).iter().all(Option::is_none));
    assert_eq!(hub.contributions.sweep().await.unwrap(), 0);
    hub.clock.advance(second + second);
    assert!(hub.of(&both, Duration::MAX).iter().all(Option::is_none));
    assert_eq!(hub.contributions.sweep().await.unwrap(), 2);
    assert_eq!(hub.contributions.sweep().await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_withdrawn_goes_and_does_not_come_back() {
    let hub = Hub::new(HOUR);
    let one = [patient("1")];
    let mark = hub.mark(&one);
    let said = answer(&[("a", 0), ("b", 0)]);
    hub.keep(&one, &said, &mark).await;
    // Asked before the notice, answered after it.
    hub.clock.advance(Duration::from_mins(20));
    let mark = hub.mark(&one);
    hub.notice(&one[0], 1, &["a"]).await;
    let shown = |hub: &Hub| {
        let kept = hub.of(&one, Duration::MAX).remove(0);
        let said = kept.unwrap().said;
        names(&said).join(" ")
    };
    assert_eq!(shown(&hub), "b");
    hub.keep(&one, &said, &mark).await;
    assert_eq!(shown(&hub), "b", "an answer of before came back");
    // Asked after it.
    hub.clock.advance(Duration::from_mins(1));
    let mark = hub.mark(&one);
    hub.keep(&one, &answer(&[("b", 0), ("c", 0)]), &mark).await;
    assert_eq!(shown(&hub), "b c");
    // A notice that comes late counts too.
    hub.notice(&one[0], 1, &["c"]).await;
    assert_eq!(shown(&hub), "b");
}

#[tokio::test]
async fn what_is_the_same_is_not_written_again_for_a_while() {
    let hub = Hub::new(HOUR);
    let one = [patient("1")];
    hub.keep(&one, &answer(&[("a", 0)]), &hub.mark(&one)).await;
    let written = hub.store.last_sequence();
    hub.clock.advance(Duration::from_mins(14));
    hub.keep(&one, &answer(&[("a", 0)]), &hub.mark(&one)).await;
    assert_eq!(hub.store.last_sequence(), written);
    // More than was given to a reader who may see less.
    let mut less = answer(&[("a", 0)]);
    less.partly_withheld = true;
    hub.clock.advance(Duration::from_mins(1));
    hub.keep(&one, &less, &hub.mark(&one)).await;
    let renewed = hub.store.last_sequence();
    assert!(renewed > written, "after a quarter of an hour it is");
    hub.keep(&one, &answer(&[("a", 0), ("r", 0)]), &hub.mark(&one))
        .await;
    assert!(hub.store.last_sequence() > renewed);
}

#[tokio::test]
async fn what_cannot_be_judged_again_is_not_kept() {
    let hub = Hub::new(HOUR);
    let one = [patient("1")];
    let mut unlabelled = answer(&[("a", 0)]);
    unlabelled.judged.clear();
    let mut foreign = answer(&[("a", 0)]);
    foreign.items[0].sources.push(source("of another"));
    let mut homeless = answer(&[("a", 0)]);
    homeless.absences[0].sources.clear();
    let elsewhere = answer(&[("a", 1)]);
    let mut other = answer(&[("a", 0)]);
    other.documents[0] = epb::ListedDocument {
        document: source("b").document,
        ..epb::ListedDocument::default()
    };
    for said in [unlabelled, foreign, homeless, elsewhere, other] {
        hub.keep(&one, &said, &hub.mark(&one)).await;
        assert_eq!(hub.of(&one, Duration::MAX), [None]);
    }
    let none = Hub::new(Duration::ZERO);
    none.keep(&one, &answer(&[("a", 0)]), &none.mark(&one))
        .await;
    assert_eq!(none.of(&one, Duration::MAX), [None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_with_its_patient() {
    let hub = Hub::new(HOUR);
    let both = [patient("1"), patient("2")];
    let mark = hub.mark(&both);
    hub.keep(&both, &answer(&[("a", 0), ("b", 1)]), &mark).await;
    let tag = Tag::from_bytes(hub.store.keys().patient_tag(&both[0]));
    let store = Arc::clone(&hub.store);
    let purged = tokio::task::spawn_blocking(move || store.purge(&[tag]));
    assert_eq!(purged.await.unwrap().unwrap().rows, 1);
    let kept = hub.of(&both, Duration::MAX);
    assert!(kept[0].is_none());
    assert_eq!(names(&kept[1].as_ref().unwrap().said), ["b"]);
}
