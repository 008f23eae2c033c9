//! What a worker's clients were told, and the comparison with its store.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use data_encoding::HEXLOWER;
use renkei::store::{BlobId, Options, Sequence, Store, Versioned};

use super::worker::{Entry, TWIN, document, schema, text};

/// An acknowledged change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) sequence: u64,
    pub(super) id: u64,
    pub(super) blob: Option<BlobId>,
}

impl Receipt {
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.trim().strip_prefix("ack ")?.split(' ');
        let (sequence, id) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let blob = match words.next() {
            Some(name) => Some(BlobId::from_slice(&HEXLOWER.decode(name.as_bytes()).ok()?)?),
            None => None,
        };
        Some(Self { sequence, id, blob })
    }
}

/// A running worker and its receipts as they come.
pub(super) struct Running {
    pub(super) child: Child,
    lines: Receiver<String>,
    reader: JoinHandle<()>,
    pub(super) receipts: Vec<Receipt>,
    pub(super) others: Vec<String>,
}

impl Running {
    pub(super) fn new(mut child: Child) -> Self {
        let out = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        let reader = std::thread::spawn(move || {
            // A line that the kill cut in two is no receipt: it ends without a line feed.
            let mut out = BufReader::new(out);
            let mut line = String::new();
            while out.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            reader,
            receipts: Vec::new(),
            others: Vec::new(),
        }
    }

    fn take(&mut self, line: &str) {
        match Receipt::parse(line) {
            Some(receipt) => self.receipts.push(receipt),
            None => self.others.push(line.trim().to_owned()),
        }
    }

    /// Waits until there are so many receipts, or the worker has ended.
    pub(super) fn wait_for(&mut self, count: u64) {
        while (self.receipts.len() as u64) < count {
            let Ok(line) = self.lines.recv() else { return };
            self.take(&line);
        }
    }

    /// Kills the worker and reads what it still had said.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.end();
    }

    /// Waits for the worker's end.
    pub(super) fn end(&mut self) -> std::process::ExitStatus {
        while let Ok(line) = self.lines.recv() {
            self.take(&line);
        }
        assert!(self.reader.is_finished() || self.lines.recv().is_err());
        self.child.wait().unwrap()
    }

    /// What it said on its error output.
    pub(super) fn errors(&mut self) -> String {
        let mut errors = String::new();
        if let Some(mut err) = self.child.stderr.take() {
            err.read_to_string(&mut errors).unwrap();
        }
        errors
    }
}

/// All receipts of all processes of one store.
#[derive(Default)]
pub(super) struct Book {
    by_sequence: BTreeMap<u64, Receipt>,
    pub(super) acknowledged: u64,
}

impl Book {
    pub(super) fn add(&mut self, receipts: &[Receipt]) {
        for receipt in receipts {
            let before = self.by_sequence.insert(receipt.sequence, receipt.clone());
            assert_eq!(
                before, None,
                "sequence {} was given twice",
                receipt.sequence
            );
        }
        self.acknowledged += receipts.len() as u64;
    }

    /// Opens the store and compares from the receipt of frame `from` on: nothing lost, altered or
    /// half visible. Returns the last frame.
    pub(super) fn compare(&self, dir: &std::path::Path, options: Options, from: u64) -> u64 {
        let (store, _) = Store::open(dir, schema(), options).expect("the store opens again");
        let mut wanted = Sequence(from.max(1));
        let mut seen = BTreeSet::new();
        for frame in store.read_frames(wanted) {
            let frame = frame.expect("a frame verifies");
            assert_eq!(frame.sequence, wanted, "a frame is missing");
            wanted = wanted.next();
            if let Some(receipt) = self.by_sequence.get(&frame.sequence.0) {
                assert_eq!(frame.audit, [&receipt.id.to_be_bytes()[..]], "altered");
                seen.insert(frame.sequence.0);
            }
        }
        for (sequence, receipt) in self.by_sequence.range(from..) {
            assert!(
                seen.contains(sequence),
                "acknowledged and lost: {receipt:?}"
            );
            for id in [receipt.id, receipt.id | TWIN] {
                let row = store.get::<Entry>(&entry_key(id)).unwrap();
                let row = row
                    .unwrap_or_else(|| panic!("row {id:x} is lost: {receipt:?}"))
                    .row;
                assert!(row.text == text(id), "row {id:x} is altered");
                let blob = receipt
                    .blob
                    .map_or_else(Vec::new, |blob| blob.as_bytes().to_vec());
                assert_eq!(row.blob, blob);
            }
        }
        self.walk(&store);
        wanted.0 - 1
    }

    /// No row without its twin, no document named that is not there, whatever was acknowledged.
    fn walk(&self, store: &Store) {
        let (mut rows, mut twins) = (BTreeSet::new(), BTreeSet::new());
        let mut visit = |found: Versioned<Entry>| {
            let row = found.row;
            assert!(row.text == text(row.id), "row {:x} is altered", row.id);
            if let Some(blob) = BlobId::from_slice(&row.blob) {
                let mut reader = store
                    .blobs()
                    .reader(&blob)
                    .expect("a named document is there");
                let mut content = Vec::new();
                while let Some(chunk) = reader.next_chunk().expect("a document verifies") {
                    content.extend_from_slice(&chunk);
                }
                assert!(content == document(row.id & !TWIN), "a document is altered");
            }
            match row.id & TWIN {
                0 => rows.insert(row.id),
                _ => twins.insert(row.id & !TWIN),
            };
            Ok(())
        };
        store.scan(&mut visit).unwrap();
        assert!(rows == twins, "half a commit is visible");
        assert!(rows.len() as u64 >= self.acknowledged);
    }
}

fn entry_key(id: u64) -> Vec<u8> {
    renkei::store::KeyBuilder::new().u64(id).build()
}
