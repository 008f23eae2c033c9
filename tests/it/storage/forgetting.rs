//! A real process on a disk that forgets what was not synced.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use renkei::store::disk::sim::SimDisk;
use renkei::store::{IndexKind, Options};

use super::forgetting_disk::mount;
use super::receipts::{Book, Running};
use super::worker::{Job, options};
use super::{Dice, count, skip, summary};

/// Bar: D-02(b). The power of the disk is cut under sixty-four writers of a process that uses the
/// system calls it always uses; then the store must have everything the clients were told. A kill
/// alone cannot show this: the page cache outlives the process.
#[test]
fn a_process_whose_disk_forgets_loses_nothing_it_acknowledged() {
    let mut dice = Dice::new();
    let cuts = count(8, 100, 1000);
    let (mut done, mut acknowledged) = (0, 0);
    while done < cuts {
        let disk = SimDisk::new(dice.below(u64::MAX));
        let folder = tempfile::tempdir().unwrap();
        let _mounted = match mount(&disk, folder.path()) {
            Ok(session) => session,
            Err(error) => {
                skip(&format!("no FUSE here ({error}): bar D-02(b)"));
                return;
            }
        };
        let mut book = Book::default();
        for number in 1..=4.min(cuts - done) {
            let job = Job {
                dir: &folder.path().join("store"),
                number,
                index: "memory",
                mode: "",
                enough: 0,
            };
            let mut worker = Running::new(job.start(&[]));
            // One in eight is cut while it makes or recovers the store.
            if dice.below(8) > 0 {
                worker.wait_for(1 + dice.below(300));
            }
            std::thread::sleep(Duration::from_micros(dice.below(20_000)));
            disk.halt();
            worker.kill();
            disk.power_cycle();
            book.add(&worker.receipts);
            let options = Options {
                disk: Arc::new(disk.clone()),
                ..options(IndexKind::Memory)
            };
            book.compare(Path::new("/store"), options, 1);
        }
        done += 4.min(cuts - done);
        acknowledged += book.acknowledged;
    }
    assert!(acknowledged > cuts * 5, "{acknowledged}");
    summary(
        "D-02(b)",
        &format!("{done} cuts, {acknowledged} acknowledged, 0 lost"),
    );
}
