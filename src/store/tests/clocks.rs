//! The wall clock jumps.

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
