//! Too little memory, too few file descriptors.

use std::path::Path;
use std::process::Command;

use renkei::store::IndexKind;

use super::receipts::{Book, Running};
use super::worker::{Job, options};
use super::{count, skip, summary};

fn prlimit_is_there() -> bool {
    let there = Command::new("prlimit").arg("--version").output().is_ok();
    if !there {
        skip("prlimit (util-linux) is not installed: bar D-20");
    }
    there
}

fn job<'a>(dir: &'a Path, number: u64, mode: &'a str) -> Job<'a> {
    Job {
        dir,
        number,
        index: "memory",
        mode,
        enough: if mode == "files" { 4_000 } else { 0 },
    }
}

/// Bar: D-20. The process runs out of memory and is ended by it; what it had acknowledged is there.
#[test]
fn a_store_that_runs_out_of_memory_loses_nothing() {
    if !prlimit_is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let mut book = Book::default();
    let ends = count(2, 20, 200);
    for number in 1..=ends {
        let limit = ["prlimit", "--as=2147483648"].map(str::to_owned);
        let mut worker = Running::new(job(&dir, number, "memory").start(&limit));
        let status = worker.end();
        assert!(
            !status.success() && status.code().is_none(),
            "ended by {status}"
        );
        assert!(
            worker.errors().contains("memory allocation"),
            "by its memory"
        );
        assert!(worker.receipts.len() > 100);
        book.add(&worker.receipts);
        book.compare(&dir, options(IndexKind::Memory), 1);
    }
    let acknowledged = book.acknowledged;
    summary(
        "D-20 memory",
        &format!("{ends} ends, {acknowledged} acknowledged, 0 lost"),
    );
}

/// Bar: D-20. With 64 file descriptors, all of them taken three times: changes that need one are
/// refused, the store goes on by itself when they are free again, and nothing is lost.
#[test]
fn a_store_without_file_descriptors_recovers_alone() {
    if !prlimit_is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let mut book = Book::default();
    let limit = ["prlimit", "--nofile=64"].map(str::to_owned);
    let mut worker = Running::new(job(&dir, 1, "files").start(&limit));
    let status = worker.end();
    let errors = worker.errors();
    assert!(status.success(), "{status}: {errors}");
    let recovered = worker
        .others
        .iter()
        .filter(|line| *line == "recovered")
        .count();
    assert_eq!(recovered, 3, "{errors}");
    book.add(&worker.receipts);
    book.compare(&dir, options(IndexKind::Memory), 1);
    let acknowledged = book.acknowledged;
    summary(
        "D-20 files",
        &format!("{acknowledged} acknowledged with 64 descriptors, 0 lost"),
    );
}
