//! The wall clock jumps.

use std::time::Duration;

use jiff::{SignedDuration, ToSpan as _};

use super::*;

/// Bar: D-18.
#[tokio::test]
async fn the_order_does_not_follow_the_clock() {
    let disk = SimDisk::new(10);
    for start in [
        "2036-01-01T00:00:00Z",
        "1990-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
    ] {
        let clock = Arc::new(ManualClock::at(start.parse().unwrap()));
        let options = Options {
            clock,
            ..sim_options(&disk)
        };
        let (store, _) = Store::open(&dir(), schema(), options).unwrap();
        let before = store.last_sequence();
        let after = sequence(store.commit(put(&[note(1, 1, start)])).await.unwrap());
        assert_eq!(after, before.next());
    }
    let (store, _) = open_sim(&disk).unwrap();
    let found = store.get::<Note>(&key(1)).unwrap().unwrap();
    assert!(found.row.text.starts_with("2026"));
}

/// Bar: D-18. Under load the wall clock jumps to and fro and stands still: the order has no gap,
/// nothing is lost, and each jump of more than two seconds is an alarm.
#[tokio::test]
async fn a_jump_of_the_clock_is_an_alarm_and_nothing_more() {
    let disk = SimDisk::new(11);
    let clock = clock();
    let options = Options {
        clock: Arc::<ManualClock>::clone(&clock),
        ..sim_options(&disk)
    };
    let (store, _) = Store::open(&dir(), schema(), options).unwrap();
    let years = 3_652 * 86_400;
    let steps = [1, -1, 2, -2, 3, -3, 3_600, -3_600, years, -years];
    let (mut alarms, mut last) = (0, Sequence(0));
    for (round, step) in steps.into_iter().cycle().take(40).enumerate() {
        for id in 0..4 {
            let wrote = store.commit(put(&[note(id, 1, &round.to_string())])).await;
            assert_eq!(sequence(wrote.unwrap()), last.next());
            last = last.next();
            // Of the four commits two see a clock that stands still.
            if id % 2 == 0 {
                clock.advance(Duration::from_millis(1));
            }
        }
        let now = crate::clock::Clock::now(clock.as_ref());
        clock.set(now + SignedDuration::from_secs(step));
        let _outcome = store.commit(audit("after the jump")).await.unwrap();
        last = last.next();
        alarms += u64::from(step.abs() > 2);
        assert_eq!(
            store.stats().clock_jumps,
            alarms,
            "after a jump of {step} s"
        );
    }
    // A day without a commit, in which the clock was corrected gently, is none.
    clock.advance(Duration::from_hours(24));
    let now = crate::clock::Clock::now(clock.as_ref());
    clock.set(now + 43.seconds());
    let _outcome = store.commit(audit("the next day")).await.unwrap();
    assert_eq!(store.stats().clock_jumps, alarms);
    disk.halt();
    drop(store);
    disk.power_cycle();
    let (store, report) = open_sim(&disk).unwrap();
    assert_eq!(report.last_sequence, last.next());
    let frames: Vec<_> = store.read_frames(Sequence(1)).map(Result::unwrap).collect();
    assert!(
        (1..)
            .map(Sequence)
            .zip(&frames)
            .all(|(n, frame)| n == frame.sequence)
    );
    for id in 0..4 {
        assert_eq!(store.get::<Note>(&key(id)).unwrap().unwrap().row.text, "39");
    }
}
