//! How many strangers a person has been shown: the guard against walking through the patients
//! (bars P-05, P-07).
//!
//! A patient of whom the asking institution has no record is a stranger to it. The account is kept in
//! memory: a restart forgets at most an hour.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::planted::planted;
use crate::types::LinkageId;

use super::Caller;

/// Strangers shown to one person in an hour at most.
const PER_PERSON: usize = 50;
/// Strangers shown to all of an institution in an hour, beyond which an operator is told.
const PER_INSTITUTION: usize = 400;
/// The hour.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// Accounts kept at most; the one that was quiet longest gives way.
const MAX_ACCOUNTS: usize = 50_000;

/// Whose account: an institution (or community, if it has no code), and a person of it.
type Account = (String, String);

/// Strangers shown, with when each was first shown within the hour.
#[derive(Debug, Default)]
struct Shown {
    order: VecDeque<(Timestamp, LinkageId)>,
    who: HashMap<LinkageId, Timestamp>,
}

impl Shown {
    fn forget(&mut self, now: Timestamp) {
        while let Some((when, linkage)) = self.order.front().copied() {
            if now.duration_since(when) < WINDOW {
                return;
            }
            self.order.pop_front();
            self.who.remove(&linkage);
        }
    }

    fn add(&mut self, linkage: LinkageId, now: Timestamp) {
        if self.who.insert(linkage, now).is_none() {
            self.order.push_back((now, linkage));
        }
    }
}

#[derive(Debug, Default)]
struct Accounts {
    persons: HashMap<Account, Shown>,
    institutions: BTreeMap<String, Shown>,
    refused: HashMap<String, Timestamp>,
}

/// The account of a caller, and its institution.
fn account(caller: &Caller) -> (Account, String) {
    let participant = &caller.participant;
    let institution = match &participant.code {
        Some(code) => code.to_string(),
        None => participant.community.to_string(),
    };
    let person = caller.person.as_ref();
    let subject = person.map(|person| person.subject.clone());
    (
        (institution.clone(), subject.unwrap_or_default()),
        institution,
    )
}

/// The accounts.
#[derive(Debug, Default)]
pub struct Exposure(Mutex<Accounts>);

impl Exposure {
    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts strangers that are about to be shown to a caller. `false`: it would be more than an
    /// hour allows, and none of them may be shown.
    pub fn show(&self, caller: &Caller, strangers: &[LinkageId], now: Timestamp) -> bool {
        if strangers.is_empty() {
            return true;
        }
        let (account, institution) = account(caller);
        let mut accounts = self.lock();
        accounts.make_room(&account, now);
        let shown = accounts.persons.entry(account).or_default();
        shown.forget(now);
        let new = strangers
            .iter()
            .filter(|one| !shown.who.contains_key(one))
            .count();
        if shown.who.len() + new > PER_PERSON && !planted("strangers not counted") {
            accounts.refused.insert(institution, now);
            return false;
        }
        for stranger in strangers {
            shown.add(*stranger, now);
        }
        let all = accounts.institutions.entry(institution).or_default();
        all.forget(now);
        for stranger in strangers {
            all.add(*stranger, now);
        }
        true
    }

    /// Whether a caller was shown as many strangers as an hour allows.
    pub fn is_spent(&self, caller: &Caller, now: Timestamp) -> bool {
        let (account, _) = account(caller);
        let mut accounts = self.lock();
        let Some(shown) = accounts.persons.get_mut(&account) else {
            return false;
        };
        shown.forget(now);
        shown.who.len() >= PER_PERSON
    }

    /// Institutions to tell an operator of: a person was stopped, or many persons were shown many.
    pub fn suspects(&self, now: Timestamp) -> Vec<(String, String)> {
        let mut accounts = self.lock();
        accounts
            .refused
            .retain(|_, when| now.duration_since(*when) < WINDOW);
        accounts.institutions.retain(|_, shown| {
            shown.forget(now);
            !shown.order.is_empty()
        });
        let stopped = accounts.refused.keys().map(|institution| {
            let message =
                format!("a person was to be shown more than {PER_PERSON} strangers an hour");
            (institution.clone(), message)
        });
        let many = accounts.institutions.iter();
        let many = many
            .filter(|(_, shown)| shown.who.len() > PER_INSTITUTION)
            .map(|(of, shown)| {
                (
                    of.clone(),
                    format!("{} strangers shown in an hour", shown.who.len()),
                )
            });
        let mut all: BTreeMap<String, String> = many.collect();
        all.extend(stopped);
        all.into_iter().collect()
    }
}

impl Accounts {
    /// An account may be added: empty ones go first, then the one that was quiet longest.
    fn make_room(&mut self, account: &Account, now: Timestamp) {
        if self.persons.len() < MAX_ACCOUNTS || self.persons.contains_key(account) {
            return;
        }
        self.persons.retain(|_, shown| {
            shown.forget(now);
            !shown.order.is_empty()
        });
        let last = |shown: &Shown| shown.order.back().map(|(when, _)| *when);
        if self.persons.len() >= MAX_ACCOUNTS
            && let Some(quiet) = self
                .persons
                .iter()
                .min_by_key(|(_, shown)| last(shown))
                .map(|(account, _)| account.clone())
        {
            self.persons.remove(&quiet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::physician;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn person(number: u8) -> LinkageId {
        LinkageId::from_bytes([number; 16])
    }

    #[test]
    fn fifty_strangers_an_hour_and_no_more() {
        let (exposure, caller) = (Exposure::default(), physician());
        for number in 0..50 {
            assert!(exposure.show(&caller, &[person(number)], at(i64::from(number))));
        }
        assert!(exposure.suspects(at(50)).is_empty());
        assert!(!exposure.show(&caller, &[person(50)], at(60)));
        assert!(exposure.show(&caller, &[person(7)], at(61)), "shown before");
        assert!(
            !exposure.show(&caller, &[person(7), person(51)], at(62)),
            "all or none"
        );
        assert_eq!(exposure.suspects(at(63)).len(), 1);
        // The first of them were shown an hour ago.
        assert!(exposure.show(&caller, &[person(50)], at(3_600)));
        assert!(!exposure.show(&caller, &[person(52)], at(3_600)));
        assert!(exposure.suspects(at(10_000)).is_empty());
    }

    #[test]
    fn many_accounts_of_one_institution_are_told_of() {
        let exposure = Exposure::default();
        for account in 0_u8..9 {
            let mut caller = physician();
            caller.person.as_mut().unwrap().subject = format!("staff-{account}");
            for number in 0_u8..50 {
                let mut id = [account; 16];
                id[0] = number;
                assert!(exposure.show(&caller, &[LinkageId::from_bytes(id)], at(1)));
            }
        }
        assert_eq!(exposure.suspects(at(2)).len(), 1);
    }
}
