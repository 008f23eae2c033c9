//! For tests: every encryption by key and nonce, so that a repeat is seen (bar E-03).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{SealKey, sha256, to_array};

/// Key and nonce.
type Pair = ([u8; 16], [u8; 12]);

/// Of plaintext and associated data: encrypting the very same again tells nobody anything.
type What = [u8; 8];

#[derive(Default)]
struct Seen {
    pairs: HashMap<Pair, What>,
    encryptions: u64,
    repeats: u64,
}

static SEEN: Mutex<Option<Seen>> = Mutex::new(None);

fn seen() -> MutexGuard<'static, Option<Seen>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How an encryption is told from another.
pub(crate) fn entry(key: &SealKey, nonce: [u8; 12], aad: &[u8], data: &[u8]) -> (Pair, What) {
    ((key.id, nonce), to_array(&sha256(&[aad, &[0], data])))
}

pub(super) fn note(key: &SealKey, nonce: [u8; 12], aad: &[u8], data: &[u8]) {
    if let Some(seen) = seen().as_mut() {
        let (pair, what) = entry(key, nonce, aad, data);
        seen.encryptions += 1;
        let before = seen.pairs.insert(pair, what);
        if before.is_some_and(|before| before != what) {
            seen.repeats += 1;
            // The first few, to be found.
            if seen.repeats <= 3 {
                let place = std::backtrace::Backtrace::force_capture();
                eprintln!("nonce {nonce:02x?} was used twice:\n{place}");
            }
        }
    }
}

/// Records while it lives, whatever the process encrypts; one at a time.
pub(crate) struct Recording(());

/// What was recorded.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) encryptions: u64,
    pub(crate) keys: usize,
    pub(crate) repeats: u64,
}

/// Starts recording.
pub(crate) fn record() -> Recording {
    *seen() = Some(Seen::default());
    Recording(())
}

impl Recording {
    /// What was recorded so far.
    #[expect(
        clippy::unused_self,
        reason = "there are counts only while it is recorded"
    )]
    pub(crate) fn counts(&self) -> Counts {
        let seen = seen();
        let keys = |seen: &Seen| {
            let keys: HashSet<_> = seen.pairs.keys().map(|(key, _)| *key).collect();
            keys.len()
        };
        Counts {
            encryptions: seen.as_ref().map_or(0, |seen| seen.encryptions),
            keys: seen.as_ref().map_or(0, keys),
            repeats: seen.as_ref().map_or(0, |seen| seen.repeats),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        *seen() = None;
    }
}
