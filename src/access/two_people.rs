//! What takes two people's word: one proposes, another agrees within a day (bar Z-15). Disaster mode
//! and the destruction of a patient's keys rest on it.
//!
//! Two calls are of two people only if neither the certificate nor the person is the same. For an
//! operator without an assertion the person is whoever the certificate names, so a renewed certificate
//! makes nobody a second person.

use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Reason, Result};
use crate::planted::planted;
use crate::wire::pb::common as cpb;

use super::Caller;

/// A proposal that nobody agreed to for so long is none.
pub const PROPOSAL: SignedDuration = SignedDuration::from_hours(24);

/// How many have to say the same.
const NEEDED: usize = 2;

/// One who proposed or agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    certificate: String,
    person: String,
}

impl Approver {
    /// Whoever calls.
    pub fn of(caller: &Caller) -> Self {
        let name = match &caller.person {
            Some(person) => person.subject.as_str(),
            None => &*caller.holder,
        };
        Self {
            certificate: caller.pin.to_string(),
            person: format!("{}\0{name}", caller.participant.community),
        }
    }

    /// As it is stored.
    pub fn stored(&self) -> String {
        format!("{}\n{}", self.certificate, self.person)
    }

    /// Whether a stored one has the certificate or is the person of this one. Versions before this
    /// stored either the certificate or the person.
    fn is(&self, stored: &str) -> bool {
        let (certificate, person) = stored.split_once('\n').unwrap_or((stored, stored));
        certificate == self.certificate || person == self.person
    }
}

/// Whether as many have agreed as are needed.
pub fn agreed(approvers: &[String]) -> bool {
    approvers.len() == NEEDED
}

/// Whether a proposal of that time, Unix milliseconds, is too old to agree to.
pub fn is_old(proposed_ms: i64, now: Timestamp) -> bool {
    now.as_millisecond().saturating_sub(proposed_ms) > PROPOSAL.as_secs().saturating_mul(1_000)
}

/// The second approver of what `approvers` proposed at `proposed_ms`: the caller, as is to be stored.
/// `field` names the proposal in the request.
///
/// # Errors
/// [`Reason::WrongState`] if it is decided already or too old; [`Reason::SecondPersonNeeded`] if the
/// caller has proposed it.
pub fn second(
    approvers: &[String],
    proposed_ms: i64,
    caller: &Caller,
    now: Timestamp,
    field: &'static str,
) -> Result<String> {
    let wrong = |message| Error::field(Reason::WrongState, field, message);
    let [first] = approvers else {
        return Err(wrong("it is decided already"));
    };
    let me = Approver::of(caller);
    if me.is(first) && !planted("one person is two") {
        let message = "the second approver must be another person, with another certificate";
        return Err(Error::field(Reason::SecondPersonNeeded, field, message));
    }
    if is_old(proposed_ms, now) {
        return Err(wrong("the proposal is too old; propose again"));
    }
    Ok(me.stored())
}

/// The caller as others are told of: the asserted person, or the certificate with its holder's name.
pub fn person(caller: &Caller) -> cpb::PersonRef {
    let subject = caller.person.as_ref().map(|person| person.subject.clone());
    let display_name = match subject {
        Some(_) => String::new(),
        None => caller.holder.to_string(),
    };
    cpb::PersonRef {
        subject: subject.unwrap_or_else(|| caller.pin.to_string()),
        role: caller.role().code().to_owned(),
        display_name,
        ..cpb::PersonRef::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Person;
    use crate::access::tests::operator;
    use crate::types::{CertificatePin, PersonRole, Relation};

    fn caller(certificate: u8, holder: &str) -> Caller {
        Caller {
            pin: CertificatePin::from_bytes([certificate; 32]),
            holder: holder.into(),
            ..operator()
        }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hours * 3_600).unwrap()
    }

    fn answer(first: &[String], caller: &Caller, now: Timestamp) -> Option<Reason> {
        let told = second(first, at(0).as_millisecond(), caller, now, "id");
        told.err().map(|error| error.reason())
    }

    /// Bar: Z-15.
    #[test]
    fn neither_the_certificate_nor_the_person_may_be_the_same() {
        let first = vec![Approver::of(&caller(1, "CN=one")).stored()];
        let of = |certificate, holder| answer(&first, &caller(certificate, holder), at(1));
        assert_eq!(of(2, "CN=two"), None);
        let same = Some(Reason::SecondPersonNeeded);
        assert_eq!(of(1, "CN=one"), same);
        assert_eq!(of(2, "CN=one"), same, "a renewed certificate");
        assert_eq!(of(1, "CN=two"), same, "one key under two names");
        let mut asserted = caller(3, "CN=institution");
        asserted.person = Some(Person {
            subject: "staff-1".into(),
            role: PersonRole::Operator,
            relation: Relation::None,
        });
        let first = vec![Approver::of(&asserted).stored()];
        asserted.pin = CertificatePin::from_bytes([4; 32]);
        assert_eq!(answer(&first, &asserted, at(1)), same, "another computer");
    }

    #[test]
    fn what_is_decided_or_old_is_not_agreed_to() {
        let first = Approver::of(&caller(1, "CN=one")).stored();
        let two = caller(2, "CN=two");
        let wrong = Some(Reason::WrongState);
        let one = std::slice::from_ref(&first);
        assert_eq!(answer(one, &two, at(24)), None);
        assert_eq!(answer(one, &two, at(25)), wrong);
        let both = [first.clone(), two.pin.to_string()];
        assert_eq!(answer(&both, &caller(3, "CN=three"), at(1)), wrong);
        assert_eq!(answer(&[], &two, at(1)), wrong);
        assert!(agreed(&both) && !agreed(one));
    }

    #[test]
    fn approvers_stored_by_an_earlier_version_are_known() {
        let same = Some(Reason::SecondPersonNeeded);
        let one = caller(1, "CN=one");
        assert_eq!(answer(&[one.pin.to_string()], &one, at(1)), same);
        let person = Approver::of(&one).person;
        assert_eq!(answer(&[person], &caller(2, "CN=one"), at(1)), same);
    }
}
