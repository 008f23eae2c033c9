//! A network of nodes for tests: the demo's world on real disk, its nodes in this process (or as
//! processes of their own), reached over real mutual TLS.

pub(crate) mod calls;
pub(crate) mod expect;
mod network;
mod people;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod receiver;
pub(crate) mod shake;
pub(crate) mod tier;

use std::time::Duration;

pub(crate) use network::{At, Network, Prepared, Setup, prepare};
pub(crate) use people::{emergency_physician, officer, person, physician, steward};

/// What happens in the background has happened by then, or never will.
const SETTLE: Duration = Duration::from_secs(20);
/// Between two looks at it.
const POLL: Duration = Duration::from_millis(10);

/// Looks again and again, for a bounded time, until `look` sees something.
#[track_caller]
pub(crate) fn eventually<T, F, Fut>(what: &'static str, look: F) -> impl Future<Output = T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let place = std::panic::Location::caller();
    async move {
        let until = tokio::time::Instant::now() + SETTLE;
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            assert!(
                tokio::time::Instant::now() < until,
                "{what}: not within {SETTLE:?} ({place})"
            );
            tokio::time::sleep(POLL).await;
        }
    }
}
