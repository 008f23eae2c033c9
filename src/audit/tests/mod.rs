//! The audit log over a real store: following, proving, verifying, and every way of tampering that
//! the bars name. Bars: A-06 ….
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests panic on failure"
)]

mod following;
mod foreign;
mod reports;
mod tampering;
mod witnesses;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use prost::Message as _;

use crate::audit::map::PatientTag;
use crate::audit::verify::{Verified, VerifyRequest, verify};
use crate::audit::{Audit, Filter, LogOptions};
use crate::clock::SystemClock;
use crate::store::disk::RealDisk;
use crate::store::{
    Commit, IndexKey, IndexKind, Options, Row, Schema, Store, SystemRandom, TableId, Tag, Write,
};
use crate::wire::pb::audit as pb;
use crate::wire::pb::common as cpb;

/// The count for the tier that was chosen.
pub(super) fn count(quick: u64, full: u64) -> u64 {
    let tier = std::env::vars().find(|(name, _)| name == "RENKEI_TIER");
    match tier.as_ref().map(|(_, tier)| tier.as_str()) {
        None | Some("quick") => quick,
        Some("full" | "soak") => full,
        Some(other) => panic!("RENKEI_TIER={other}: quick, full or soak"),
    }
}

/// A row about a patient.
#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "vec", tag = "2")]
    patient: Vec<u8>,
}

impl Row for Record {
    const TABLE: TableId = TableId(7);
    const NAME: &'static str = "record";

    fn key(&self) -> Vec<u8> {
        self.id.to_be_bytes().to_vec()
    }

    fn index(&self) -> Vec<IndexKey> {
        Vec::new()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

fn options() -> Options {
    Options {
        index: IndexKind::Memory,
        segment_bytes: 1 << 20,
        preallocate_bytes: 1 << 12,
        ..Options::default()
    }
}

fn log_options(dir: &Path) -> LogOptions {
    LogOptions {
        folder: dir.join("audit"),
        key_file: None,
        origin: "renkei/2.999.1/test".into(),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom::default()),
    }
}

/// A store with its log, open.
struct Open {
    store: Arc<Store>,
    audit: Audit,
    runtime: tokio::runtime::Runtime,
}

fn open(dir: &Path) -> Open {
    let schema = Schema::new().table::<Record>();
    let (store, _) = Store::open(dir, schema, options()).unwrap();
    let home = "urn:oid:2.999.1".parse().unwrap();
    Open {
        audit: Audit::open(Arc::clone(&store), home, &log_options(dir)).unwrap(),
        store,
        runtime: tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap(),
    }
}

/// The tag of a patient.
fn tag(patient: u8) -> PatientTag {
    [patient.wrapping_mul(37).wrapping_add(1); 16]
}

/// The event of a call about a patient; 0 is about nobody.
fn event(patient: u8, institution: &str, request: &str) -> Bytes {
    let event = pb::AuditEvent {
        method: "renkei.documents.v1.DocumentService/QueryRegistry".into(),
        request_id: request.into(),
        outcome: pb::Outcome::Success.into(),
        institution: Some(cpb::InstitutionRef {
            institution_id: institution.into(),
            ..Default::default()
        }),
        patient_tag: match patient {
            0 => String::new(),
            patient => HEXLOWER.encode(&tag(patient)),
        },
        ..Default::default()
    };
    event.encode_to_vec().into()
}

impl Open {
    fn commit(&self, audit: Vec<Bytes>, writes: Vec<Write>) {
        let commit = Commit {
            writes,
            audit,
            ..Commit::default()
        };
        let _done = self.runtime.block_on(self.store.commit(commit)).unwrap();
    }

    /// `count` events about four patients and nobody, by two institutions.
    fn fill(&self, count: u64) {
        for number in 0..count {
            let patient = u8::try_from(number % 5).unwrap();
            let institution = ["1312345678", "1398765432"][usize::try_from(number % 2).unwrap()];
            self.commit(
                vec![event(patient, institution, &format!("r{number}"))],
                Vec::new(),
            );
        }
    }

    fn size(&self) -> u64 {
        self.audit.log().catch_up().unwrap()
    }

    fn about(&self, patient: u8) -> Vec<pb::AuditEvent> {
        let filter = Filter {
            patients: vec![tag(patient).to_vec()],
            ..Filter::default()
        };
        self.audit.events(&filter, usize::MAX).unwrap()
    }

    fn close(self) {
        self.audit.log().close().unwrap();
        self.runtime.block_on(self.store.close()).unwrap();
    }
}

fn request(dir: &Path) -> VerifyRequest {
    VerifyRequest {
        data_dir: dir.to_owned(),
        folder: dir.join("audit"),
        ..VerifyRequest::default()
    }
}

fn verified(dir: &Path) -> Verified {
    verify(&request(dir), &options(), &mut |_| {}).unwrap()
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
