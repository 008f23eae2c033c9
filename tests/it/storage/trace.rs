//! What the kernel was asked, in which order: the proof that each acknowledgement came after the
//! syncs it rests on.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use renkei::store::IndexKind;

use super::receipts::{Book, Receipt, Running};
use super::trace_log::{Call, parse};
use super::worker::{Job, options};
use super::{count, skip, summary};

/// The calls of a trace, by what they were for.
#[derive(Default)]
struct Log {
    /// Of a file: offset, end, when entered, when returned.
    writes: HashMap<String, Vec<(u64, u64, usize, usize)>>,
    /// Of a file or folder: when entered, when returned.
    syncs: HashMap<String, Vec<(usize, usize)>>,
    /// To a path: from where, when entered, when returned.
    renames: HashMap<String, Vec<(String, usize, usize)>>,
    /// Of a folder: when returned.
    made: HashMap<String, usize>,
    /// When the receipt was begun to be written.
    receipts: Vec<(Receipt, usize)>,
}

impl Log {
    fn new(trace: &str) -> Self {
        let mut log = Self::default();
        for call in parse(trace).into_iter().filter(|call| call.result >= 0) {
            log.add(&call);
        }
        log
    }

    fn add(&mut self, call: &Call) {
        let (begun, ended) = (call.entered, call.returned);
        let path = call.path().map(str::to_owned);
        match (call.name.as_str(), path) {
            ("pwrite64", Some(path)) => {
                let (from, to) = call.range().expect("a pwrite64 has an offset");
                self.writes
                    .entry(path)
                    .or_default()
                    .push((from, to, begun, ended));
            }
            ("fdatasync" | "fsync", Some(path)) => {
                self.syncs.entry(path).or_default().push((begun, ended));
            }
            ("write", Some(_)) => {
                for line in call.quoted().first().unwrap_or(&"").split("\\n") {
                    self.receipts
                        .extend(Receipt::parse(line).map(|receipt| (receipt, begun)));
                }
            }
            ("rename" | "renameat" | "renameat2", _) => {
                if let [from, to] = call.quoted()[..] {
                    let renames = self.renames.entry(to.to_owned()).or_default();
                    renames.push((from.to_owned(), begun, ended));
                }
            }
            ("mkdir" | "mkdirat", _) => {
                if let [path] = call.quoted()[..] {
                    self.made.insert(path.to_owned(), ended);
                }
            }
            _ => {}
        }
    }

    /// Whether the file or folder was synced, wholly between these two moments.
    fn synced(&self, path: &str, after: usize, before: usize) -> bool {
        let syncs = self.syncs.get(path).into_iter().flatten();
        syncs
            .clone()
            .any(|(begun, ended)| *begun > after && *ended < before)
    }

    /// Whether the name of a file is durable before a moment, and its content before the name.
    fn named(&self, path: &str, before: usize) -> Result<(), String> {
        let folder = Path::new(path).parent().unwrap().to_str().unwrap();
        let renames = self.renames.get(path).into_iter().flatten();
        let found = renames.clone().any(|(from, begun, ended)| {
            let writes = self.writes.get(from).into_iter().flatten();
            let written = writes
                .clone()
                .filter(|write| write.3 < *begun)
                .map(|write| write.3)
                .max();
            let content = written.is_some_and(|written| self.synced(from, written, *begun));
            content && self.synced(folder, *ended, before)
        });
        if !found {
            return Err(format!(
                "{path}: synced, renamed, folder synced: not in this order"
            ));
        }
        match self.made.get(folder) {
            Some(made) => {
                let above = Path::new(folder).parent().unwrap().to_str().unwrap();
                let durable = self.synced(above, *made, before);
                durable
                    .then_some(())
                    .ok_or(format!("{folder} was made and {above} not synced"))
            }
            None => Ok(()),
        }
    }

    /// What an acknowledgement lacks.
    fn judge(
        &self,
        receipt: &Receipt,
        told: usize,
        store: &Path,
        frames: &Frames,
    ) -> Result<(), String> {
        let (segment, from, to) = frames
            .get(&receipt.sequence)
            .ok_or_else(|| format!("frame {} is not in the ledger", receipt.sequence))?;
        let writes = self.writes.get(segment).into_iter().flatten();
        let covered = writes
            .clone()
            .filter(|(begin, end, _, _)| begin <= from && end >= to)
            .any(|(_, _, _, ended)| self.synced(segment, *ended, told));
        if !covered {
            return Err(format!("no fdatasync covers frame {}", receipt.sequence));
        }
        self.named(segment, told)?;
        if let Some(blob) = receipt.blob {
            let name = blob.to_string();
            let path = store.join("blobs").join(&name[..2]).join(&name[2..]);
            self.named(path.to_str().unwrap(), told)?;
        }
        Ok(())
    }
}

/// Of each frame: its segment, where it begins, where it ends.
type Frames = BTreeMap<u64, (String, u64, u64)>;

/// Reads the ledger from its documented format alone: frame header 80 bytes with length at 4 and
/// sequence at 8, then the payload, then 32 bytes of hash; from byte 128 of each segment.
fn frames(ledger: &Path) -> Frames {
    let mut frames = Frames::new();
    for entry in std::fs::read_dir(ledger).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let mut at = 128;
        while let Some(header) = bytes
            .get(at..at + 16)
            .filter(|header| header.starts_with(b"RKF1"))
        {
            let length = u32::from_be_bytes(header[4..8].try_into().unwrap());
            let sequence = u64::from_be_bytes(header[8..16].try_into().unwrap());
            let end = at + 80 + length as usize + 32;
            let place = path.to_str().unwrap().to_owned();
            frames.insert(sequence, (place, at as u64, end as u64));
            at = end;
        }
    }
    frames
}

/// Bar: D-13. Before each acknowledgement: an fdatasync of the ledger that covers its frame; of its
/// document an fdatasync, the rename, and an fsync of the folder; each segment and folder named
/// durably before it is used.
#[test]
fn every_acknowledgement_comes_after_the_syncs_it_rests_on() {
    if Command::new("strace").arg("--version").output().is_err() {
        skip("strace is not installed: bar D-13");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().canonicalize().unwrap();
    let (mut acknowledged, mut documents) = (0, 0);
    // A store that is made, and one that is opened again.
    for number in 1..=2 {
        let (dir, trace) = (base.join("store"), base.join(format!("trace-{number}")));
        let job = Job {
            dir: &dir,
            number,
            index: "memory",
            mode: "",
            enough: count(300, 5_000, 50_000),
        };
        let calls = "trace=pwrite64,write,fdatasync,fsync,rename,renameat,renameat2,mkdir,mkdirat";
        let prefix =
            ["strace", "-f", "-y", "-qq", "-s", "256", "-e", calls, "-o"].map(str::to_owned);
        let prefix = [&prefix[..], &[trace.to_str().unwrap().to_owned()]].concat();
        let mut worker = Running::new(job.start(&prefix));
        let status = worker.end();
        if !status.success() {
            let errors = worker.errors();
            assert!(errors.contains("ptrace"), "{status}: {errors}");
            skip("strace may not trace here: bar D-13");
            return;
        }
        let log = Log::new(&std::fs::read_to_string(&trace).unwrap());
        assert_eq!(
            log.receipts.len(),
            worker.receipts.len(),
            "every receipt is in the trace"
        );
        let frames = frames(&dir.join("ledger"));
        let judged = log
            .receipts
            .iter()
            .map(|(receipt, told)| log.judge(receipt, *told, &dir, &frames));
        let violations: Vec<String> = judged.filter_map(Result::err).collect();
        assert!(
            violations.is_empty(),
            "{} violations, first {:?}",
            violations.len(),
            violations[0]
        );
        acknowledged += worker.receipts.len();
        documents += worker
            .receipts
            .iter()
            .filter(|receipt| receipt.blob.is_some())
            .count();
        let mut book = Book::default();
        book.add(&worker.receipts);
        if number == 1 {
            book.compare(&dir, options(IndexKind::Memory), 1);
        }
    }
    assert!(documents > 10, "{documents}");
    summary(
        "D-13",
        &format!("{acknowledged} acknowledgements, {documents} with a document, 0 violations"),
    );
}
