//! The clients of a store under test: they do a little of everything, keep their receipts, and
//! compare them with what a store says after it came back.

use std::collections::{BTreeMap, BTreeSet};

use super::tier::{Dice, wait};
use super::*;

const ROWS: u64 = 6;
/// Rows from here on name a document.
const WITH_BLOB: u64 = 1000;

/// What the clients know.
#[derive(Clone, Debug, Default)]
pub(super) struct Receipts {
    /// For each row the texts it may have: the acknowledged one, then those of unknown fate.
    rows: BTreeMap<u64, Vec<Option<String>>>,
    /// The audit record of each acknowledged frame.
    frames: BTreeMap<u64, String>,
    /// Acknowledged documents.
    blobs: Vec<(BlobId, String)>,
    /// Idempotency key, and the receipt once it is known.
    keys: BTreeMap<u64, Option<Bytes>>,
    pub(super) acknowledged: u64,
    steps: u64,
    /// What an unknown fate may have left is judged at the end of a life, not before.
    last: Sequence,
}

/// How the clients' work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    /// The store has stopped; it must be opened again.
    Stopped,
}

/// The content of the document of this text: a few bytes to a few segments, mostly small.
pub(super) fn content(text: &str) -> Vec<u8> {
    let length = match text.len() % 5 {
        0 => 70_000,
        n => n * 700,
    };
    text.bytes().cycle().take(length).collect()
}

pub(super) fn keep_blob(store: &Store, text: &str) -> Result<BlobInfo, StoreError> {
    let mut writer = store.blobs().writer(&patient_of(store, text)?)?;
    for part in content(text).chunks(40_000) {
        writer.write(part)?;
    }
    writer.finish()
}

/// The key of the patient a document is about: one of four.
pub(super) fn patient_of(store: &Store, text: &str) -> Result<SubjectKey, StoreError> {
    let patient = u8::try_from(text.len() % 4).unwrap();
    wait(store.subject(Tag::from_bytes([patient; 16])))
}

/// Reads a document to its end.
pub(super) fn read_blob(store: &Store, id: &BlobId) -> Result<Vec<u8>, StoreError> {
    let mut reader = store.blobs().reader(id)?;
    let mut content = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

/// A repeatable request: it counts up a row that must exist once.
pub(super) fn repeatable(store: &Store, key: u64) -> Commit {
    let name = key.to_be_bytes();
    let mut commit = put(&[note(100_000 + key, 1, "once")]);
    commit.audit = vec![Bytes::from(format!("key {key}"))];
    commit.idempotency = Some(Idempotency {
        key: store.keys().tag("test", &name),
        body_hash: [7; 32],
        receipt: Bytes::copy_from_slice(&name),
        expires_unix_seconds: i64::MAX,
    });
    commit
}

impl Receipts {
    /// Works until everything is done or the store stops.
    pub(super) fn work(&mut self, store: &Store, dice: &mut Dice, steps: u64) -> End {
        for _ in 0..steps {
            self.steps += 1;
            let end = match dice.below(8) {
                0..=3 => self.change(store, dice),
                4 => self.together(store, dice),
                5 => self.repeat(store, dice),
                6 => self.document(store),
                _ => self.look(store),
            };
            if end == End::Stopped {
                return end;
            }
        }
        End::Finished
    }

    fn text(&self, dice: &mut Dice) -> String {
        let padding = "z".repeat(dice.size_below(600));
        format!("{}-{padding}", self.steps)
    }

    /// Two rows and an audit record, together or not at all.
    fn change(&mut self, store: &Store, dice: &mut Dice) -> End {
        let (row, text) = (dice.below(ROWS), self.text(dice));
        let result = wait(store.commit(Self::twins(row, &text)));
        self.settle(row, &text, &result)
    }

    fn twins(row: u64, text: &str) -> Commit {
        let group = u32::try_from(text.len() % 3).unwrap();
        let mut commit = put(&[note(row, group, text), note(row + 100, group, text)]);
        commit.audit.push(Bytes::from(text.to_owned()));
        commit
    }

    /// Several commits at once.
    fn together(&mut self, store: &Store, dice: &mut Dice) -> End {
        let texts: Vec<String> = (0..3).map(|n| format!("{n}-{}", self.text(dice))).collect();
        let [a, b, c] = [0, 1, 2].map(|n| store.commit(Self::twins(n as u64, &texts[n])));
        let (a, b, c) = wait(async { tokio::join!(a, b, c) });
        let mut end = End::Finished;
        for (row, (text, result)) in texts.iter().zip([a, b, c]).enumerate() {
            if self.settle(row as u64, text, &result) == End::Stopped {
                end = End::Stopped;
            }
        }
        end
    }

    fn settle(&mut self, row: u64, text: &str, result: &Result<Outcome, StoreError>) -> End {
        let known = self.rows.entry(row).or_insert_with(|| vec![None]);
        match result {
            Ok(outcome) => {
                *known = vec![Some(text.to_owned())];
                self.acknowledge(sequence(outcome), text);
            }
            Err(StoreError::Poisoned | StoreError::Closed) => {
                known.push(Some(text.to_owned()));
                return End::Stopped;
            }
            // "Nothing was changed": the text must not be there later.
            Err(StoreError::Io { .. }) => {}
            Err(error) => panic!("an error that no fault explains: {error}"),
        }
        End::Finished
    }

    fn acknowledge(&mut self, sequence: Sequence, audit: &str) {
        assert!(self.last < sequence || self.frames.contains_key(&sequence.0).eq(&false));
        self.last = self.last.max(sequence);
        let before = self.frames.insert(sequence.0, audit.to_owned());
        assert_eq!(before, None, "frame {sequence} was given twice");
        self.acknowledged += 1;
    }

    /// A request under a key, new or one of unknown fate.
    fn repeat(&mut self, store: &Store, dice: &mut Dice) -> End {
        let key = dice.below(4);
        match wait(store.commit(repeatable(store, key))) {
            Ok(Outcome::Committed { sequence, .. }) => {
                let known = self
                    .keys
                    .insert(key, Some(key.to_be_bytes().to_vec().into()));
                assert_eq!(known.flatten(), None, "key {key} was committed twice");
                self.acknowledge(sequence, &format!("key {key}"));
            }
            Ok(Outcome::Replayed { receipt }) => {
                assert_eq!(receipt, key.to_be_bytes().as_slice());
                let known = self.keys.insert(key, Some(receipt));
                assert!(known.is_some(), "key {key} was replayed before it was sent");
            }
            Err(StoreError::Poisoned | StoreError::Closed) => {
                self.keys.entry(key).or_default();
                return End::Stopped;
            }
            Err(StoreError::Io { .. }) => {}
            Err(error) => panic!("an error that no fault explains: {error}"),
        }
        End::Finished
    }

    /// A document, then a row that names it.
    fn document(&mut self, store: &Store) -> End {
        let (row, text) = (WITH_BLOB + self.steps, format!("document {}", self.steps));
        // An upload that is given up leaves nothing.
        let begun = patient_of(store, &text).and_then(|key| store.blobs().writer(&key));
        if let Ok(mut writer) = begun {
            let _written = writer.write(b"given up").is_ok();
        }
        let info = match keep_blob(store, &text) {
            Ok(info) => info,
            Err(StoreError::Poisoned | StoreError::Closed) => return End::Stopped,
            Err(StoreError::Io { .. }) => return End::Finished,
            Err(error) => panic!("an error that no fault explains: {error}"),
        };
        self.blobs.push((info.id, text.clone()));
        let named = format!("{} {text}", info.id);
        let mut commit = put(&[note(row, 1, &named)]);
        commit.audit.push(Bytes::from(named.clone()));
        let known = self.rows.entry(row).or_insert_with(|| vec![None]);
        match wait(store.commit(commit)) {
            Ok(outcome) => {
                *known = vec![Some(named.clone())];
                self.acknowledge(sequence(&outcome), &named);
                End::Finished
            }
            Err(StoreError::Io { .. }) => End::Finished,
            Err(_) => {
                known.push(Some(named));
                End::Stopped
            }
        }
    }

    /// A document is read, with an audit record.
    fn look(&mut self, store: &Store) -> End {
        if let Some((id, text)) = self.blobs.last()
            && let Ok(read) = read_blob(store, id)
        {
            assert!(read == content(text), "a document is altered");
        }
        let text = format!("look {}", self.steps);
        match wait(store.commit(audit(&text))) {
            Ok(outcome) => {
                self.acknowledge(sequence(&outcome), &text);
                End::Finished
            }
            Err(StoreError::Io { .. }) => End::Finished,
            Err(_) => End::Stopped,
        }
    }

    /// Notes that a pair of rows was acknowledged with this text.
    pub(super) fn set(&mut self, row: u64, text: &str) {
        self.rows.insert(row, vec![Some(text.to_owned())]);
    }

    /// Compares with a store that was opened again: nothing lost, altered, half there or dangling.
    /// What was of unknown fate is known from now on.
    pub(super) fn compare(&mut self, store: &Store) {
        assert!(store.last_sequence() >= self.last, "frames are lost");
        for (row, known) in &mut self.rows {
            let text = |row: u64| {
                let found = store.get::<Note>(&key(row)).unwrap();
                found.map(|found| found.row.text)
            };
            let now = text(*row);
            assert!(
                known.contains(&now),
                "row {row} is {now:?}, not of {known:?}"
            );
            if *row < WITH_BLOB {
                assert_eq!(now, text(row + 100), "half a commit of row {row}");
            }
            *known = vec![now];
        }
        let ids: BTreeSet<u64> = self.rows.keys().copied().collect();
        Self::walk(store, &ids);
        for (id, text) in &self.blobs {
            assert!(
                read_blob(store, id).unwrap() == content(text),
                "a document is altered"
            );
        }
        self.compare_frames(store);
        let report = store.check(&mut |_| ()).unwrap();
        assert!(report.faults.is_empty(), "{report:?}");
        assert_eq!(report.frames, store.last_sequence().0);
    }

    /// Every row is one that was sent, and the document it names is there.
    fn walk(store: &Store, ids: &BTreeSet<u64>) {
        let mut visit = |found: Versioned<Note>| {
            let id = found.row.id;
            let twin = id.checked_sub(100).is_some_and(|twin| ids.contains(&twin));
            assert!(
                ids.contains(&id) || twin || id >= 100_000,
                "row {id} was never sent"
            );
            if (WITH_BLOB..100_000).contains(&id) {
                let (name, text) = found.row.text.split_once(' ').unwrap();
                let bytes = data_encoding::HEXLOWER.decode(name.as_bytes()).unwrap();
                let blob = BlobId::from_slice(&bytes).unwrap();
                let read = read_blob(store, &blob).expect("the document of a row is there");
                assert!(read == content(text), "row {id} names an altered document");
            }
            Ok(())
        };
        store.scan(&mut visit).unwrap();
    }

    /// Every acknowledged frame is there with its audit record, in an order without gaps.
    fn compare_frames(&self, store: &Store) {
        let mut wanted = 1;
        for frame in store.read_frames(Sequence(1)) {
            let frame = frame.unwrap();
            assert_eq!(frame.sequence.0, wanted);
            wanted += 1;
            if let Some(audit) = self.frames.get(&frame.sequence.0) {
                assert_eq!(
                    frame.audit,
                    [audit.as_bytes()],
                    "frame {} is altered",
                    frame.sequence
                );
            }
        }
        assert_eq!(store.last_sequence().0 + 1, wanted);
    }
}
