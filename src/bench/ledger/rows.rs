//! What the frames carry.

use bytes::Bytes;

use crate::store::{Commit, IndexKey, KeyBuilder, Row, TableId, Write};

/// Rows of one patient in the bench.
const ROWS_OF_A_PATIENT: u64 = 5;
/// Every tenth frame writes an older row again, with another secondary key.
const UPDATE_EVERY: u64 = 10;

/// A row like a document's metadata: a random key, a secondary key by patient, and codes and texts
/// that make its frame about 1 KiB.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BenchRow {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    patient: Vec<u8>,
    #[prost(string, repeated, tag = "3")]
    codes: Vec<String>,
    #[prost(uint64, tag = "4")]
    revision: u64,
}

impl Row for BenchRow {
    const TABLE: TableId = TableId(9_000);
    const NAME: &'static str = "bench";

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let key = KeyBuilder::new()
            .fixed(&self.patient)
            .fixed(&self.id)
            .build();
        vec![IndexKey::new(1, key)]
    }
}

/// A well-mixed number (the finalizer of SplitMix64): keys are spread like keyed hashes.
pub(in super::super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

pub(in super::super) fn sixteen(number: u64) -> Vec<u8> {
    let (high, low) = (mix(number), mix(number ^ u64::MAX));
    [high.to_be_bytes(), low.to_be_bytes()].concat()
}

/// The change of frame `number`, counted from 0.
pub(super) fn row(number: u64) -> Commit {
    let (of, revision) = if number % UPDATE_EVERY == UPDATE_EVERY - 1 {
        let older = mix(number) % number;
        (
            older - u64::from(older % UPDATE_EVERY == UPDATE_EVERY - 1),
            number,
        )
    } else {
        (number, 0)
    };
    let patient = of / ROWS_OF_A_PATIENT + revision;
    let row = BenchRow {
        id: sixteen(of),
        patient: sixteen(!patient),
        codes: (0..16_u64)
            .map(|place| {
                format!(
                    "{:016x}^^^1.2.392.100495.20.3.{place}^{:016x}",
                    mix(of ^ place),
                    mix(revision ^ place)
                )
            })
            .collect(),
        revision,
    };
    Commit {
        writes: vec![Write::put(&row)],
        ..Commit::default()
    }
}

/// One audit record of `bytes`.
pub(super) fn record(number: u64, bytes: usize) -> Commit {
    let word = mix(number).to_be_bytes();
    // Cheap to make: its cost would be counted as the store's.
    let mut record = word.repeat(bytes.div_ceil(word.len()));
    record.truncate(bytes);
    Commit {
        audit: vec![Bytes::from(record)],
        ..Commit::default()
    }
}
