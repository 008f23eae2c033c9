//! Killed at any moment.

use std::time::Duration;

use renkei::store::IndexKind;

use super::receipts::{Book, Running};
use super::worker::{Job, options};
use super::{Dice, count, summary};

/// Bar: D-01. Sixty-four writers; SIGKILL at random instants; restart; compare with the clients'
/// receipts. A new store now and then, so that its making is hit too.
#[test]
fn a_store_killed_at_random_instants_loses_nothing_it_acknowledged() {
    let mut dice = Dice::new();
    let kills = count(20, 300, 5000);
    let most = count(150, 1_200, 2_000);
    let (mut acknowledged, mut done) = (0, 0);
    while done < kills {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("store");
        let mut book = Book::default();
        let mut last = 0;
        for number in 1..=10.min(kills - done) {
            let job = Job {
                dir: &dir,
                number: done + number,
                index: "default",
                mode: "",
                enough: 0,
            };
            let mut worker = Running::new(job.start(&[]));
            // One in ten is killed while it opens.
            if dice.below(10) > 0 {
                worker.wait_for(1 + dice.below(most));
            }
            std::thread::sleep(Duration::from_micros(dice.below(4_000)));
            worker.kill();
            let errors = worker.errors();
            assert!(!errors.contains("panicked"), "{errors}");
            book.add(&worker.receipts);
            last = book.compare(&dir, options(IndexKind::default()), last);
        }
        book.compare(&dir, options(IndexKind::Memory), 1);
        done += 10.min(kills - done);
        acknowledged += book.acknowledged;
    }
    assert!(acknowledged > kills * 10, "{acknowledged}");
    summary(
        "D-01",
        &format!("{done} kills, {acknowledged} acknowledged, 0 lost"),
    );
}
