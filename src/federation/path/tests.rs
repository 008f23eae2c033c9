//! Calls by a path, in paused time: nothing here waits for real.

use std::sync::atomic::{AtomicU32, Ordering};

use super::super::fanout::Failure;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn path() -> Arc<Path> {
    Paths::new(Arc::new(|| 0.0)).to(&home())
}

fn home() -> HomeCommunityId {
    "urn:oid:1.2.3".parse().unwrap()
}

fn unavailable() -> Failure {
    Failure::Status(tonic::Status::unavailable(""))
}

fn soon() -> Instant {
    Instant::now() + 3 * SECOND
}

async fn answered(path: &Arc<Path>, took: Duration) {
    let answer = path
        .call(Kind::Find, soon(), |_| async move {
            tokio::time::sleep(took).await;
            Ok(())
        })
        .await;
    assert!(answer.is_ok());
}

/// Counts attempts that go on until told to end.
#[derive(Default)]
struct Region {
    attempts: AtomicU32,
    under_way: AtomicU32,
    most: AtomicU32,
}

impl Region {
    async fn work(&self, took: Duration) -> Result<(), Failure> {
        struct Left<'a>(&'a AtomicU32);
        impl Drop for Left<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.attempts.fetch_add(1, Ordering::SeqCst);
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        let _left = Left(&self.under_way);
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(took).await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn unavailable_is_tried_once_more_and_only_within_the_budget() {
    // bars: F-08
    let path = path();
    let sent = AtomicU32::new(0);
    let asked = 1_000;
    for _ in 0..asked {
        // One call in six fails: too few to open the breaker, so that all that limits is the budget.
        tokio::time::advance(SECOND / 5).await;
        let _either = path
            .call(Kind::Find, soon(), |_| {
                let number = sent.fetch_add(1, Ordering::SeqCst);
                async move {
                    match number % 6 {
                        0 => Err(unavailable()),
                        _ => Ok(()),
                    }
                }
            })
            .await;
    }
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent > asked, "nothing was tried again");
    // A tenth to try again and a twentieth to overtake, and one of each at the beginning.
    let most = asked + asked / 10 + asked / 20 + 2;
    assert!(sent <= most, "{sent} sent for {asked}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_try_is_mended_by_the_second() {
    let path = path();
    let sent = AtomicU32::new(0);
    let answer = path
        .call(Kind::Find, soon(), |_| {
            let number = sent.fetch_add(1, Ordering::SeqCst);
            async move {
                match number {
                    0 => Err(unavailable()),
                    _ => Ok(number),
                }
            }
        })
        .await;
    assert!(matches!(answer, Ok(1)), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_done_is_not_tried_again() {
    for code in [
        tonic::Code::DeadlineExceeded,
        tonic::Code::Internal,
        tonic::Code::PermissionDenied,
        tonic::Code::ResourceExhausted,
    ] {
        let path = path();
        let sent = AtomicU32::new(0);
        let answer: Result<(), _> = path
            .call(Kind::Find, soon(), |_| {
                sent.fetch_add(1, Ordering::SeqCst);
                async move { Err(Failure::Status(tonic::Status::new(code, ""))) }
            })
            .await;
        assert!(matches!(answer, Err(Failure::Status(status)) if status.code() == code));
        assert_eq!(sent.load(Ordering::SeqCst), 1, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_open_it_refusals_do_not_and_it_closes_again() {
    // bars: F-09
    let path = path();
    for _ in 0..100 {
        let refused: Result<(), _> = path
            .call(Kind::Find, soon(), |_| async {
                Err(Failure::Status(tonic::Status::permission_denied("")))
            })
            .await;
        assert!(refused.is_err());
    }
    assert!(!path.is_open());
    for _ in 0..7 {
        let failed: Result<(), _> = path
            .call(Kind::Find, soon(), |_| async {
                Err(Failure::Malformed(""))
            })
            .await;
        assert!(failed.is_err());
    }
    let sent = AtomicU32::new(0);
    let attempt = |_| async {
        sent.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    let answer = path.call(Kind::Find, soon(), attempt).await;
    assert!(matches!(answer, Err(Failure::NotSent(NotSent::Open))));
    assert_eq!(sent.load(Ordering::SeqCst), 0);
    tokio::time::advance(SECOND).await;
    assert!(path.call(Kind::Find, soon(), attempt).await.is_ok());
    assert!(path.call(Kind::Find, soon(), attempt).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_region_costs_its_deadline_and_then_nothing() {
    let path = path();
    for _ in 0..7 {
        let begun = Instant::now();
        let answer: Result<(), _> = path
            .call(Kind::Find, soon(), |_| std::future::pending())
            .await;
        assert!(matches!(answer, Err(Failure::Late)));
        assert_eq!(begun.elapsed(), 3 * SECOND);
    }
    let begun = Instant::now();
    let answer: Result<(), _> = path
        .call(Kind::Find, soon(), |_| std::future::pending())
        .await;
    assert!(matches!(answer, Err(Failure::NotSent(NotSent::Open))));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn callers_in_a_hurry_do_not_open_it() {
    let path = path();
    for _ in 0..50 {
        let hurry = Instant::now() + SECOND / 10;
        let answer: Result<(), _> = path
            .call(Kind::Find, hurry, |_| std::future::pending())
            .await;
        assert!(matches!(answer, Err(Failure::Late)));
    }
    assert!(!path.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_region_that_holds_every_call_holds_few() {
    // bars: F-10
    let (path, region) = (path(), Arc::new(Region::default()));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (path, region) = (Arc::clone(&path), Arc::clone(&region));
        calls.spawn(async move {
            path.call(Kind::Find, soon(), |_| region.work(Duration::from_hours(1)))
                .await
        });
    }
    let (mut late, mut not_sent) = (0, 0);
    while let Some(ended) = calls.join_next().await {
        match ended.unwrap() {
            Err(Failure::Late) => late += 1,
            Err(Failure::NotSent(_)) => not_sent += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((late, not_sent), (8, 192));
    assert_eq!(region.most.load(Ordering::SeqCst), 8);
    assert_eq!(region.under_way.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn places_are_given_in_turn_and_none_is_lost_when_callers_leave() {
    let (path, region) = (path(), Arc::new(Region::default()));
    let call = |took: Duration| {
        let (path, region) = (Arc::clone(&path), Arc::clone(&region));
        tokio::spawn(async move { path.call(Kind::Find, soon(), |_| region.work(took)).await })
    };
    for round in 0..20 {
        let calls: Vec<_> = (0..40).map(|_| call(SECOND / 20)).collect();
        tokio::time::sleep(SECOND / 100 * (round % 7)).await;
        // Half of them hang up, some while they wait and some under way.
        for call in calls.iter().skip(round as usize % 2).step_by(2) {
            call.abort();
        }
        for call in calls {
            let _either = call.await;
        }
        assert_eq!(region.under_way.load(Ordering::SeqCst), 0);
        let state = path.state();
        assert_eq!(
            (state.in_flight, state.waiting.len(), state.urgent.len()),
            (0, 0, 0),
            "round {round}"
        );
    }
    assert!(!path.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_try_is_overtaken_within_the_budget() {
    // bars: F-11
    let path = path();
    // The slowest tenth first, so that none of these takes longer than 95 % before it.
    for call in 0..100 {
        answered(&path, SECOND / if call < 10 { 100 } else { 200 }).await;
    }
    let sent = AtomicU32::new(0);
    let attempt = |_| {
        let number = sent.fetch_add(1, Ordering::SeqCst);
        async move {
            // The first try hits a slow replica, the second a quick one.
            let took = if number == 0 {
                2 * SECOND
            } else {
                SECOND / 100
            };
            tokio::time::sleep(took).await;
            Ok(number)
        }
    };
    let begun = Instant::now();
    assert!(matches!(
        path.call(Kind::Find, soon(), attempt).await,
        Ok(1)
    ));
    assert_eq!(begun.elapsed(), SECOND / 50);

    // Where every call is slow, no more than a twentieth is sent twice.
    let region = Region::default();
    for _ in 0..200 {
        let answer = path
            .call(Kind::Find, soon(), |_| region.work(SECOND / 5))
            .await;
        assert!(answer.is_ok());
    }
    let sent = region.attempts.load(Ordering::SeqCst);
    assert!((200..=200 + 10 + 6).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_disclosure_is_not_asked_for_twice_at_once() {
    let (path, region) = (path(), Region::default());
    for took in (0..100).map(|_| SECOND / 100).chain([2 * SECOND]) {
        let answer = path
            .call(Kind::Retrieve, soon(), |_| region.work(took))
            .await;
        assert!(answer.is_ok());
    }
    assert_eq!(region.attempts.load(Ordering::SeqCst), 101);
}

#[tokio::test(start_paused = true)]
async fn a_region_that_comes_back_slower_is_found_to_be_back() {
    // bars: F-09
    let path = path();
    for _ in 0..100 {
        answered(&path, SECOND / 100).await;
    }
    for _ in 0..7 {
        let failed: Result<(), _> = path
            .call(Kind::Find, soon(), |_| async { Err(unavailable()) })
            .await;
        assert!(failed.is_err());
    }
    assert!(path.is_open());
    // Two and a half seconds are more than the second that a probe has at first.
    let begun = Instant::now();
    while begun.elapsed() < 60 * SECOND {
        let slow = path.call(Kind::Find, soon(), |_| async {
            tokio::time::sleep(SECOND * 5 / 2).await;
            Ok(())
        });
        if slow.await.is_ok() {
            return;
        }
        tokio::time::advance(SECOND / 2).await;
    }
    panic!("left alone for a minute");
}

#[tokio::test(start_paused = true)]
async fn whoever_acts_in_an_emergency_goes_first_whatever_is_asked() {
    // bars: F-18
    let (path, region) = (path(), Arc::new(Region::default()));
    let begun = Arc::new(Mutex::new(Vec::new()));
    let call = |order: Order| {
        let (path, region, begun) = (Arc::clone(&path), Arc::clone(&region), Arc::clone(&begun));
        tokio::spawn(async move {
            let attempt = |_| {
                begun.lock().unwrap().push(order.urgent);
                region.work(SECOND / 4)
            };
            let ended = path.call(order, soon(), attempt).await;
            assert!(ended.is_ok(), "{ended:?}");
        })
    };
    let find = Order::from(Kind::Find);
    // Eight are under way, eight wait, and then comes the emergency.
    let mut calls: Vec<_> = (0..16).map(|_| call(find)).collect();
    tokio::time::sleep(SECOND / 10).await;
    calls.push(call(Order {
        urgent: true,
        ..find
    }));
    for call in calls {
        call.await.unwrap();
    }
    let begun = begun.lock().unwrap();
    let first = begun.iter().position(|urgent| *urgent);
    assert_eq!((begun.len(), first), (17, Some(8)), "{begun:?}");
}

#[tokio::test(start_paused = true)]
async fn operators_see_how_it_is() {
    let paths = Paths::new(Arc::new(|| 0.0));
    let path = paths.to(&home());
    for _ in 0..100 {
        answered(&path, SECOND / 100).await;
    }
    let view = paths.view(&home());
    assert_eq!((view.open, view.in_flight), (false, 0));
    assert_eq!(view.p50, Some(SECOND / 100));
    for _ in 0..7 {
        let failed: Result<(), _> = path
            .call(Kind::Find, soon(), |_| async {
                Err(Failure::Malformed(""))
            })
            .await;
        assert!(failed.is_err());
    }
    assert!(paths.view(&home()).open);
}
