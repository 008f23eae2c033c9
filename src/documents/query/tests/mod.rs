//! Queries of random registries find what looking at everything finds; pages and tokens.

mod equal;
mod oracle;
mod queries;
mod random;

use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::super::Documents;
use jiff::Timestamp;

use crate::access::{Call, Caller, Participant, ParticipantKind, Person, Policies, PolicyHandle};
use crate::clock::{Clock, ManualClock};
use crate::config::{Config, ConsentDefault, ExampleRole, example};
use crate::consent::{Consents, Declared, Grounds, Guard, Persons};
use crate::error::{Reason, Result};
use crate::store::{Commit, Options, Schema, Store};
use crate::types::{CertificatePin, PatientIdentifier, PersonRole, PurposeOfUse, Relation};
use crate::wire::pb::documents as pb;
use pb::stored_query::Query;
use random::Registry;

/// Rows of one frame while a registry is filled.
const FRAME: usize = 500;

/// The test's people: some patients are the same person.
#[derive(Debug)]
struct People(usize);

impl Persons for People {
    fn identifiers_of(&self, patient: &PatientIdentifier) -> Vec<PatientIdentifier> {
        let number = patient.id.as_str()[1..].parse().unwrap();
        let same = random::person(number, self.0);
        let same = same.into_iter().map(|number| format!("P{number}"));
        same.map(|id| PatientIdentifier::new("1.2.3.4", &id).unwrap())
            .collect()
    }

    fn knows(&self, _: &PatientIdentifier) -> bool {
        true
    }
}

/// No disaster.
#[derive(Debug)]
struct Peace;

impl Declared for Peace {
    fn covers(&self, _: &Caller, _: Timestamp) -> bool {
        false
    }
}

/// A node's registry, and somebody of another community who may read up to N.
struct World {
    runtime: tokio::runtime::Runtime,
    folder: TempDir,
    documents: Documents,
    guard: Guard,
    registry: Registry,
}

fn schema() -> Schema {
    crate::documents::tables(crate::consent::tables(Schema::new()))
}

fn open(folder: &TempDir) -> Arc<Store> {
    let (store, _) = Store::open(folder.path(), schema(), Options::default()).unwrap();
    store
}

fn services(store: &Arc<Store>, patients: usize) -> (Documents, Guard) {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let config = Config::parse(example(ExampleRole::Region), []).unwrap();
    let documents = Documents::new(Arc::clone(store), Arc::clone(&clock), &config).unwrap();
    let policies = PolicyHandle::new(Policies::built_in().unwrap(), |fault| panic!("{fault:?}"));
    let guard = Guard::new(Grounds {
        policies: Arc::new(policies),
        consents: Arc::new(Consents::new(Arc::clone(store), Arc::clone(&clock))),
        clock,
        home: "urn:oid:1.2.3".parse().unwrap(),
        parent: None,
        persons: Arc::new(People(patients)),
        disasters: Arc::new(Peace),
        default: ConsentDefault::OptOut,
    });
    (documents, guard)
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let mut rng = StdRng::seed_from_u64(seed);
        let registry = Registry::random(&mut rng, store.keys(), count);
        let (documents, guard) = services(&store, registry.patients);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let world = Self {
            runtime,
            folder,
            documents,
            guard,
            registry,
        };
        world.commit(&world.registry.writes(store.keys()));
        world
    }

    fn commit(&self, writes: &[crate::store::Write]) {
        for frame in writes.chunks(FRAME) {
            let commit = Commit {
                writes: frame.to_vec(),
                ..Commit::default()
            };
            let done = self.runtime.block_on(self.documents.store.commit(commit));
            assert!(done.is_ok());
        }
    }

    /// Closes the node and opens it again.
    fn restart(self) -> Self {
        let Self {
            runtime,
            folder,
            documents,
            guard,
            registry,
        } = self;
        runtime.block_on(documents.store.close()).unwrap();
        drop((documents, guard));
        let store = open(&folder);
        let (documents, guard) = services(&store, registry.patients);
        Self {
            runtime,
            folder,
            documents,
            guard,
            registry,
        }
    }

    fn ask(&self, request: &pb::QueryRegistryRequest) -> Result<pb::QueryRegistryResponse> {
        self.documents.query(&self.guard, &call(), request)
    }

    /// All pages of a query, as entryUUIDs in order, with the last page's counts.
    fn pages(&self, request: &pb::QueryRegistryRequest) -> Result<(Vec<String>, u64)> {
        let mut request = request.clone();
        let mut all = Vec::new();
        loop {
            let page = self.ask(&request)?;
            let on_page = page.objects.unwrap();
            let before = all.len();
            all.extend(ids(&on_page));
            let counts = page.counts.unwrap();
            let count =
                counts.entries + counts.submission_sets + counts.folders + counts.associations;
            if page.next_page_token.is_empty() {
                return Ok((all, count));
            }
            assert_eq!(all.len() - before, request.page_size as usize);
            request.page_token = page.next_page_token;
        }
    }
}

fn ids(objects: &pb::RegistryObjects) -> Vec<String> {
    let entries = objects.entries.iter().map(|entry| &entry.entry_uuid);
    let sets = objects.submission_sets.iter().map(|set| &set.entry_uuid);
    let folders = objects.folders.iter().map(|folder| &folder.entry_uuid);
    let associations = objects.associations.iter().map(|a| &a.entry_uuid);
    let refs = objects.object_refs.iter().map(|object| &object.entry_uuid);
    let all = entries.chain(sets).chain(folders).chain(associations);
    all.chain(refs).cloned().collect()
}

fn call() -> Call {
    let caller = Caller {
        participant: Arc::new(Participant {
            // Of none of the authors: what one wrote oneself is readable at every level.
            code: Some("2710000009".parse().unwrap()),
            kind: ParticipantKind::Hospital,
            community: "urn:oid:1.9.9".parse().unwrap(),
            emergency: false,
            roles: vec![],
            purposes: vec![],
        }),
        person: Some(Person {
            subject: "staff-1".into(),
            role: PersonRole::Physician,
            relation: Relation::Treating,
        }),
        purpose: PurposeOfUse::Treatment,
        pin: CertificatePin::from_bytes([0; 32]),
        holder: "CN=test".into(),
        relay: None,
        assertion: None,
        until: None,
    };
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
    let method = "renkei.documents.v1.DocumentService/QueryRegistry";
    Call::new(caller, method, "test".into(), deadline)
}

fn variable(name: &str) -> Option<String> {
    std::env::vars_os()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.to_string_lossy().into_owned())
}

fn find_all(number: usize) -> pb::QueryRegistryRequest {
    let find = pb::FindDocumentsQuery {
        patient_id: Some(random::patient(number)),
        filter: Some(pb::DocumentFilter::default()),
        exclude: None,
    };
    pb::QueryRegistryRequest {
        query: Some(pb::StoredQuery {
            query: Some(Query::FindDocuments(find)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A page token goes on where its page ended: over a restart, and whatever is registered in between.
#[test]
fn tokens_survive_inserts_and_restarts() {
    let world = World::new(3, 300);
    let mut request = find_all(0);
    request.page_size = 2;
    let before = world.pages(&request).unwrap().0;
    assert!(
        before.len() > 4,
        "the sample has too little: {}",
        before.len()
    );
    let first = world.ask(&request).unwrap();
    // Registered since: before the place of the token, and after it.
    let times = ["20301231", ""].map(str::to_owned);
    let known = world.registry.entries.iter().find(|row| {
        let entry = row.entry.as_ref().unwrap();
        before[0] == entry.entry_uuid
    });
    let new: Vec<_> = times
        .iter()
        .zip([[1; 16], [0xFF; 16]])
        .map(|(time, uuid)| {
            let mut row = known.unwrap().clone();
            let entry = row.entry.as_mut().unwrap();
            entry.entry_uuid = format!("urn:uuid:{}", uuid::Uuid::from_bytes(uuid));
            entry.creation_time.clone_from(time);
            row.uuid = uuid.to_vec();
            row
        })
        .collect();
    let (early, late) = (
        new[0].entry.as_ref().unwrap().entry_uuid.clone(),
        new[1].entry.as_ref().unwrap().entry_uuid.clone(),
    );
    let writes: Vec<_> = new.iter().map(crate::store::Write::put).collect();
    world.commit(&writes);
    let world = world.restart();
    request.page_token = first.next_page_token;
    let rest = world.pages(&request).unwrap().0;
    assert_eq!(rest[..before.len() - 2], before[2..]);
    assert!(
        !rest.contains(&early),
        "it comes before the place of the token"
    );
    assert_eq!(rest.last(), Some(&late));
}

#[test]
fn a_token_is_of_this_query_and_this_node() {
    let world = World::new(4, 300);
    let mut request = find_all(0);
    request.page_size = 1;
    let token = world.ask(&request).unwrap().next_page_token;
    assert!(!token.is_empty());
    let with = |token: &str, change: fn(&mut pb::QueryRegistryRequest)| {
        let mut request = request.clone();
        request.page_token = token.into();
        change(&mut request);
        world.ask(&request).map_err(|error| error.reason())
    };
    assert!(with(&token, |_| ()).is_ok());
    assert!(with(&token, |request| request.page_size = 9).is_ok());
    for refused in [
        with(&token, |request| request.ascending = true),
        with(&token, |request| request.set_sort_key(pb::SortKey::Title)),
        with(&token, |request| request.query = find_all(1).query),
        with(&token[1..], |_| ()),
        with(&format!("{token}A"), |_| ()),
        with(&flipped(&token), |_| ()),
        with("%", |_| ()),
    ] {
        assert_eq!(refused.unwrap_err(), Reason::InvalidToken);
    }
}

fn flipped(token: &str) -> String {
    let mut bytes = token.as_bytes().to_vec();
    let last = bytes.len() - 3;
    bytes[last] = if bytes[last] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}

type KeyOf = fn(&pb::DocumentEntry) -> String;

/// Every order is that of the key, and turned round it is the same backwards (but for equal keys).
#[test]
fn results_come_in_the_order_asked_for() {
    let world = World::new(5, 400);
    let keys: [(pb::SortKey, KeyOf); 3] = [
        (pb::SortKey::Unspecified, |entry| {
            padded(&entry.creation_time)
        }),
        (pb::SortKey::ServiceStartTime, |entry| {
            padded(&entry.service_start_time)
        }),
        (pb::SortKey::Title, |entry| {
            let title = entry.title.as_ref();
            super::text::fold(title.map_or("", |title| &title.values[0].value))
        }),
    ];
    for (key, of) in keys {
        for ascending in [true, false] {
            let mut request = find_all(2);
            request.set_sort_key(key);
            request.ascending = ascending;
            let entries = world.ask(&request).unwrap().objects.unwrap().entries;
            assert!(entries.len() > 5);
            let mut keys: Vec<String> = entries.iter().map(of).collect();
            if !ascending {
                keys.reverse();
            }
            assert!(keys.is_sorted(), "{key:?}, ascending {ascending}: {keys:?}");
        }
    }
}

fn padded(time: &str) -> String {
    match time {
        "" => String::new(),
        time => format!("{time}{}", &"00000101000000"[time.len()..]),
    }
}

/// Counting gives no objects; references name the same objects as metadata does.
#[test]
fn counts_and_references_are_of_the_same_objects() {
    let world = World::new(6, 300);
    let mut request = find_all(0);
    let full = world.ask(&request).unwrap();
    let entries = &full.objects.as_ref().unwrap().entries;
    request.set_return_type(pb::ReturnType::ObjectRef);
    let refs = world.ask(&request).unwrap().objects.unwrap();
    assert!(refs.entries.is_empty() && !refs.object_refs.is_empty());
    assert_eq!(ids(&refs), ids(full.objects.as_ref().unwrap()));
    request.set_return_type(pb::ReturnType::Count);
    let count = world.ask(&request).unwrap();
    assert_eq!(count.counts.unwrap().entries, entries.len() as u64);
    assert_eq!(count.objects.unwrap(), pb::RegistryObjects::default());
}

/// What was changed after the sequence of an answer is found by that sequence, and nothing else.
#[test]
fn changed_since_the_last_answer() {
    let world = World::new(8, 300);
    let mut request = find_all(0);
    let first = world.ask(&request).unwrap();
    let entries = first.objects.unwrap().entries;
    let changed =
        |request: &pb::QueryRegistryRequest| ids(&world.ask(request).unwrap().objects.unwrap());
    let find = request.query.as_mut().unwrap().query.as_mut().unwrap();
    let Query::FindDocuments(find) = find else {
        panic!("another query")
    };
    find.filter.as_mut().unwrap().changed_since_sequence = first.sequence;
    assert!(changed(&request).is_empty());
    assert_eq!(world.ask(&request).unwrap().sequence, first.sequence);
    let uuid = &entries[1].entry_uuid;
    let row = world.registry.entries.iter();
    let mut row = row
        .filter(|row| row.entry.as_ref().unwrap().entry_uuid == *uuid)
        .cloned();
    world.commit(&[crate::store::Write::put(&row.next().unwrap())]);
    assert_eq!(changed(&request), std::slice::from_ref(uuid));
}
