//! Two people, a day, once; and what a stop leaves is carried out. Bars: D-21, E-05, Z-15.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Purges;
use crate::access::{
    Action, Call, Caller, Facts, Participant, ParticipantKind, Permit, Policies, PolicyHandle,
    decide,
};
use crate::clock::Clock;
use crate::error::{Reason, Result};
use crate::identity::identifier_message;
use crate::store::{Commit, IndexKind, Options, Row, Schema, Store, TableId, Tag, Write};
use crate::types::{CertificatePin, PatientIdentifier, PurposeOfUse};
use crate::wire::pb::admin as pb;

/// Something known of a patient.
#[derive(Clone, PartialEq, prost::Message)]
struct Fact {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "vec", tag = "2")]
    patient: Vec<u8>,
}

impl Row for Fact {
    const TABLE: TableId = TableId(7);
    const NAME: &'static str = "fact";

    fn key(&self) -> Vec<u8> {
        self.id.to_be_bytes().to_vec()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

#[derive(Debug)]
struct Hands(Mutex<Timestamp>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

struct Node {
    store: Arc<Store>,
    purges: Arc<Purges>,
    hands: Arc<Hands>,
    policies: Arc<PolicyHandle>,
}

fn operator(number: u8) -> Caller {
    Caller {
        participant: Arc::new(Participant {
            code: None,
            kind: ParticipantKind::Operator,
            community: "urn:oid:1.2.3".parse().unwrap(),
            emergency: false,
            roles: vec![],
            purposes: vec![],
        }),
        person: None,
        purpose: PurposeOfUse::Operations,
        pin: CertificatePin::from_bytes([number; 32]),
        holder: format!("CN=operator {number}").into(),
        relay: None,
        assertion: None,
        until: None,
    }
}

fn patient(id: &str) -> PatientIdentifier {
    PatientIdentifier::new("1.2.392.1", id).unwrap()
}

fn proposal(key: &str) -> pb::ProposePurgeRequest {
    pb::ProposePurgeRequest {
        reason: pb::PurgeReason::PatientRequest.into(),
        decision: "resolution 12".to_owned(),
        idempotency_key: key.to_owned(),
        ..Default::default()
    }
}

impl Node {
    fn open(folder: &Path) -> Self {
        let schema = super::tables(Schema::new().table::<Fact>());
        let options = Options {
            index: IndexKind::Fjall,
            preallocate_bytes: 64 << 10,
            ..Options::default()
        };
        let (store, _) = Store::open(folder, schema, options).unwrap();
        let start = "2026-01-01T00:00:00Z".parse().unwrap();
        let hands = Arc::new(Hands(Mutex::new(start)));
        let clock = Arc::clone(&hands) as Arc<dyn Clock>;
        let home = "urn:oid:1.2.3".parse().unwrap();
        let policies = PolicyHandle::new(Policies::built_in().unwrap(), |_| {});
        Self {
            purges: Arc::new(Purges::new(Arc::clone(&store), clock, home)),
            store,
            hands,
            policies: Arc::new(policies),
        }
    }

    fn later(&self, hours: i64) {
        let mut now = self.hands.0.lock().unwrap();
        *now = now.checked_add(SignedDuration::from_hours(hours)).unwrap();
    }

    fn call(&self, who: u8, time: Duration) -> (Permit, Call) {
        let caller = operator(who);
        let home = caller.participant.community.clone();
        let facts = Facts::alone(&caller, Action::Purge, &home, self.hands.now());
        let permit = decide(&self.policies, &facts);
        let method = "renkei.admin.v1.AdminService/ApprovePurge";
        let deadline = tokio::time::Instant::now() + time;
        let call = Call::new(caller, method, "id".to_owned(), deadline);
        (permit.unwrap(), call)
    }

    async fn know(&self, id: u64, patient: &PatientIdentifier) {
        let fact = Fact {
            id,
            patient: self.store.keys().patient_tag(patient).to_vec(),
        };
        let commit = Commit {
            writes: vec![Write::put(&fact)],
            ..Commit::default()
        };
        let _done = self.store.commit(commit).await.unwrap();
    }

    fn knows(&self, id: u64) -> bool {
        let fact = self.store.get::<Fact>(&id.to_be_bytes()).unwrap();
        fact.is_some()
    }

    async fn propose(&self, who: u8, about: &PatientIdentifier) -> Result<pb::Purge> {
        let (permit, call) = self.call(who, Duration::from_mins(1));
        let request = pb::ProposePurgeRequest {
            patient_id: Some(identifier_message(about)),
            ..proposal("")
        };
        self.purges.propose(&permit, &call, about, &request).await
    }

    /// Agrees, and waits so long for it to be done.
    async fn approve(
        &self,
        who: u8,
        id: &str,
        about: &PatientIdentifier,
        wait: Duration,
    ) -> Result<pb::Purge> {
        let (permit, call) = self.call(who, wait);
        let request = pb::ApprovePurgeRequest {
            purge_id: id.to_owned(),
            patient_id: Some(identifier_message(about)),
            idempotency_key: format!("agreed by {who}"),
        };
        self.purges.approve(&permit, &call, about, &request).await
    }

    async fn refused(&self, who: u8, id: &str, about: &PatientIdentifier) -> Reason {
        let answer = self.approve(who, id, about, Duration::ZERO).await;
        answer.unwrap_err().reason()
    }

    fn list(&self, states: &[pb::PurgeState]) -> Vec<pb::Purge> {
        let (permit, _) = self.call(3, Duration::ZERO);
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListPurgesRequest {
                states: states.iter().map(|&state| state.into()).collect(),
                page_size: 1,
                page_token: token,
            };
            let (page, next) = self.purges.list(&permit, &request).unwrap();
            all.extend(page);
            if next.is_empty() {
                return all;
            }
            token = next;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_destroy_the_keys_and_the_record_stays() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    let (one, other) = (patient("0012"), patient("0013"));
    node.know(1, &one).await;
    node.know(2, &other).await;
    let proposed = node.propose(1, &one).await.unwrap();
    assert_eq!(proposed.state(), pb::PurgeState::Proposed);
    assert_eq!(proposed.patient_id, Some(identifier_message(&one)));
    let second = node.propose(1, &other).await.unwrap();
    let id = proposed.purge_id.as_str();
    assert_eq!(node.refused(1, id, &one).await, Reason::SecondPersonNeeded);
    let for_another = node.refused(2, &second.purge_id, &one).await;
    assert_eq!(for_another, Reason::InvalidField);
    assert_eq!(node.refused(2, "unknown", &one).await, Reason::NotFound);
    assert!(!node.purges.carry_out_next().await.unwrap() && node.knows(1));

    let purges = Arc::clone(&node.purges);
    let runner = tokio::spawn(async move {
        loop {
            purges.wanted().await;
            while purges.carry_out_next().await.unwrap() {}
        }
    });
    let minute = Duration::from_mins(1);
    let done = node.approve(2, id, &one, minute).await.unwrap();
    runner.abort();
    assert_eq!(done.state(), pb::PurgeState::Done);
    assert_eq!((done.patient_id.as_ref(), done.approvers.len()), (None, 2));
    assert!(done.rows > 0 && !node.knows(1) && node.knows(2));
    let again = node.approve(2, id, &one, Duration::ZERO).await.unwrap();
    assert_eq!(again, done, "a repeat is answered by what became of it");
    assert_eq!(node.refused(3, id, &one).await, Reason::WrongState);
    let states: Vec<_> = node.list(&[]).iter().map(pb::Purge::state).collect();
    assert_eq!(states.len(), 2);
    assert_eq!(node.list(&[pb::PurgeState::Done]), [done]);
    assert_eq!(node.list(&[pb::PurgeState::Proposed]), [second]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stop_cut_off_is_carried_out_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    let about = patient("0012");
    node.know(1, &about).await;
    let proposed = node.propose(1, &about).await.unwrap();
    let id = proposed.purge_id.as_str();
    let approved = node.approve(2, id, &about, Duration::ZERO).await.unwrap();
    assert_eq!(approved.state(), pb::PurgeState::Approved);
    assert!(node.knows(1), "nobody carries out here");
    node.store.close().await.unwrap();
    drop(node);

    let node = Node::open(folder.path());
    assert!(node.purges.carry_out_next().await.unwrap());
    assert!(!node.purges.carry_out_next().await.unwrap());
    assert!(!node.knows(1));
    let done = node.list(&[pb::PurgeState::Done]);
    assert_eq!(done.len(), 1);
    node.know(2, &about).await;
    assert!(node.knows(2), "the identifier is free again");
}

/// The keys are destroyed, and the node is stopped before that is noted: what came meanwhile stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_destroys_nothing_that_came_after() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    let about = patient("0012");
    node.know(1, &about).await;
    let proposed = node.propose(1, &about).await.unwrap();
    let id = proposed.purge_id.as_str();
    node.approve(2, id, &about, Duration::ZERO).await.unwrap();
    let (store, tag) = (
        Arc::clone(&node.store),
        node.store.keys().patient_tag(&about),
    );
    let broken_off = tokio::task::spawn_blocking(move || store.purge(&[Tag::from_bytes(tag)]));
    assert!(broken_off.await.unwrap().unwrap().rows > 0);
    assert!(!node.knows(1));
    node.know(2, &about).await;
    assert!(node.purges.carry_out_next().await.unwrap());
    assert!(node.knows(2), "it was acknowledged");
    assert_eq!(node.list(&[pb::PurgeState::Done]).len(), 1);
    assert!(!node.purges.carry_out_next().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_grows_old_and_can_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    let about = patient("0012");
    node.know(1, &about).await;
    let old = node.propose(1, &about).await.unwrap();
    node.later(25);
    let refused = node.refused(2, &old.purge_id, &about).await;
    assert_eq!(refused, Reason::WrongState);
    let back = node.propose(1, &about).await.unwrap();
    for first in [true, false] {
        let (permit, call) = node.call(3, Duration::from_mins(1));
        let request = pb::WithdrawPurgeRequest {
            purge_id: back.purge_id.clone(),
            ..Default::default()
        };
        let taken = node.purges.withdraw(&permit, &call, &request).await;
        match first {
            true => assert_eq!(taken.unwrap().state(), pb::PurgeState::Withdrawn),
            false => assert_eq!(taken.unwrap_err().reason(), Reason::WrongState),
        }
    }
    let refused = node.refused(2, &back.purge_id, &about).await;
    assert_eq!(refused, Reason::WrongState);
    assert!(!node.purges.carry_out_next().await.unwrap() && node.knows(1));
    let states: Vec<_> = node.list(&[]).iter().map(pb::Purge::state).collect();
    assert_eq!(states, [pb::PurgeState::Withdrawn, pb::PurgeState::Expired]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_says_too_little_is_no_proposal() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    let about = patient("0012");
    let wrong = [
        (
            pb::ProposePurgeRequest {
                reason: 0,
                ..proposal("")
            },
            Reason::MissingField,
        ),
        (
            pb::ProposePurgeRequest {
                decision: " ".to_owned(),
                ..proposal("")
            },
            Reason::InvalidField,
        ),
        (
            pb::ProposePurgeRequest {
                decision: "x".repeat(201),
                ..proposal("")
            },
            Reason::InvalidField,
        ),
    ];
    for (request, reason) in wrong {
        let (permit, call) = node.call(1, Duration::from_mins(1));
        let refused = node.purges.propose(&permit, &call, &about, &request).await;
        assert_eq!(refused.unwrap_err().reason(), reason);
    }
    // The same request again is the same proposal.
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (permit, call) = node.call(1, Duration::from_mins(1));
        let made = node
            .purges
            .propose(&permit, &call, &about, &proposal("key"))
            .await;
        ids.push(made.unwrap().purge_id);
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(node.list(&[]).len(), 1);
}
