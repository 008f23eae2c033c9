//! Who holds anything for a patient: fed by the communities, asked before any fan-out, and compared with
//! what each community holds (`reconcile` is the other side).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::access::{Action, Call, Permit};
use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::identity::identifier;
use crate::store::{Row as _, Store, Tag, Write};
use crate::types::{HomeCommunityId, PatientIdentifier};
use crate::wire::pb::federation as pb;

use super::contributions::Contributions;
use super::spread::{SALT, Spread, Sums};
use super::tables::{HeardRow, HoldingRow, ReconciledRow, holds};

/// Communities that can hold something for one patient identifier.
const MAX_HOLDERS: usize = 64;
/// Holdings read at once when all of a community are looked at.
const PAGE: usize = 512;
/// Patients named in one answer; of one place all are, up to this.
const MAX_NAMED: usize = 20_000;
/// Places that one call may ask about.
pub(super) const MAX_PLACES: usize = 256;
/// Communities whose holdings are compared at once: each is a look at all that one holds.
const COMPARED_AT_ONCE: usize = 2;
/// When to come again if that many are.
const COMPARED_RETRY: Duration = Duration::from_secs(5);

/// What is known of how current the locator is about one community.
#[derive(Clone, Debug, PartialEq)]
pub struct Currency {
    /// When it last told what it holds.
    pub heard: Option<Timestamp>,
    /// When it last was compared to the end.
    pub reconciled: Option<Timestamp>,
    /// What that found.
    pub found: pb::HoldingsReconciled,
}

/// The locator.
#[derive(Debug)]
pub struct Locator {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    contributions: Arc<Contributions>,
    comparing: Semaphore,
}

impl Locator {
    /// A locator kept in `store`; what communities withdraw is taken out of `contributions`.
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        contributions: Arc<Contributions>,
    ) -> Self {
        Self {
            store,
            clock,
            contributions,
            comparing: Semaphore::new(COMPARED_AT_ONCE),
        }
    }

    /// Takes over what a community says it holds, and takes what it withdraws out of what is kept of
    /// its answers, in the same frame. Of what is held, older notices than known are passed over.
    ///
    /// # Errors
    /// The store.
    pub async fn notify(
        &self,
        permit: &Permit,
        call: &Call,
        home: &HomeCommunityId,
        notices: &[(PatientIdentifier, pb::HoldingNotice)],
        request: &pb::NotifyHoldingsRequest,
    ) -> Result<pb::NotifyHoldingsResponse> {
        permit.require(&[Action::Exchange])?;
        let now = self.clock.now();
        let withdraws = notices
            .iter()
            .any(|(_, notice)| !notice.withdrawn.is_empty());
        let turn = match withdraws {
            true => Some(self.contributions.turn().await),
            false => None,
        };
        let mut writes = Vec::new();
        for (patient, notice) in notices {
            let row = HoldingRow {
                patient: self.store.keys().patient_tag(patient).to_vec(),
                home_community_id: home.to_string(),
                notice: Some(pb::HoldingNotice {
                    // Done with below; the locator has no use for it.
                    withdrawn: Vec::new(),
                    ..notice.clone()
                }),
                confirmed_ms: now.as_millisecond(),
            };
            let known = self.store.get::<HoldingRow>(&row.key())?;
            let newer = known
                .and_then(|known| known.row.notice)
                .is_none_or(|known| known.sequence <= notice.sequence);
            if newer {
                writes.push(Write::put(&row));
            }
        }
        let changed_count = u32::try_from(writes.len()).unwrap_or(u32::MAX);
        writes.extend(self.contributions.without_withdrawn(home, notices)?);
        writes.extend(heard(home, now, request));
        call.note(|record| record.items = changed_count);
        let response = pb::NotifyHoldingsResponse {
            changed_count,
            ..Default::default()
        };
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, request, now)?;
        call.commit_holding(&self.store, now, writes, idempotency, response, turn)
            .await
    }

    /// What this node seals the places of a subscription with: for `question`, and for no other.
    pub(super) fn seal(&self, question: &[u8], places: &[u8]) -> Tag {
        let length = question.len() as u64;
        let sealed = [&length.to_be_bytes(), question, places].concat();
        self.store.keys().tag("subscription-token", &sealed)
    }

    /// What communities hold for any of these identifiers of one person.
    ///
    /// # Errors
    /// The store.
    pub fn holdings(&self, patients: &[PatientIdentifier]) -> Result<Vec<pb::Holding>> {
        let mut holdings = Vec::new();
        for patient in patients {
            let rows = self.store.range::<HoldingRow>(
                &self.store.keys().patient_tag(patient),
                None,
                MAX_HOLDERS,
            )?;
            for (_, row) in rows {
                let row = row.row;
                let Some(notice) = row.notice.filter(holds) else {
                    continue;
                };
                holdings.push(pb::Holding {
                    home_community_id: row.home_community_id,
                    patient_id: notice.patient_id,
                    confirmed: jiff::Timestamp::from_millisecond(row.confirmed_ms)
                        .ok()
                        .map(crate::wire::timestamp),
                    has_documents: notice.has_documents,
                    has_summary_items: notice.has_summary_items,
                    last_changed: notice.changed,
                    ..pb::Holding::default()
                });
            }
        }
        Ok(holdings)
    }

    /// What the locator says that `home` holds: the sum of each place; or, of some places, the patients.
    /// A look at all that it holds, so not for a thread that others wait for.
    ///
    /// # Errors
    /// [`Reason::InvalidField`] if the places are not as many as there may be; [`Reason::Overloaded`] if
    /// others are compared; the store.
    pub fn compare(
        &self,
        permit: &Permit,
        home: &HomeCommunityId,
        request: &pb::CompareHoldingsRequest,
    ) -> Result<pb::CompareHoldingsResponse> {
        permit.require(&[Action::Exchange])?;
        let spread = spread_of(request)?;
        let Ok(_room) = self.comparing.try_acquire() else {
            let message = "other communities are being compared; come again";
            return Err(Error::new(Reason::Overloaded, message).retry_after(COMPARED_RETRY));
        };
        if request.places.is_empty() {
            let mut sums = Sums::new(&spread);
            self.each_holding(home, &mut |patient| {
                sums.add(spread.place_of(&patient));
                Ok(())
            })?;
            return Ok(pb::CompareHoldingsResponse {
                count: sums.count(),
                sums: sums.to_bytes().into(),
                ..pb::CompareHoldingsResponse::default()
            });
        }
        let mut named = Named::at(&request.places);
        let mut count = 0;
        self.each_holding(home, &mut |patient| {
            count += 1;
            named.add(spread.place_of(&patient).0, patient)
        })?;
        Ok(named.answer(count))
    }

    /// Calls `visit` with every patient of whom `home` told that it holds something.
    fn each_holding(
        &self,
        home: &HomeCommunityId,
        visit: &mut dyn FnMut(PatientIdentifier) -> Result<()>,
    ) -> Result<()> {
        let prefix = HoldingRow::of_community(&home.to_string());
        let (index, mut after) = (HoldingRow::BY_COMMUNITY, None::<Vec<u8>>);
        loop {
            let store = &self.store;
            let page = store.by_index::<HoldingRow>(index, &prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            for (_, found) in page {
                if !found.row.is_told() {
                    continue;
                }
                let notice = found.row.notice.unwrap_or_default();
                visit(identifier(notice.patient_id.as_ref(), "patient_id")?)?;
            }
        }
    }

    /// How current the locator is about `home`.
    ///
    /// # Errors
    /// The store.
    pub fn currency(&self, home: &HomeCommunityId) -> Result<Currency> {
        let home_community_id = home.to_string();
        let heard = HeardRow {
            home_community_id: home_community_id.clone(),
            ..HeardRow::default()
        };
        let reconciled = ReconciledRow {
            home_community_id,
            ..ReconciledRow::default()
        };
        let heard = self.store.get::<HeardRow>(&heard.key())?;
        let reconciled = self.store.get::<ReconciledRow>(&reconciled.key())?;
        let time = |ms| Timestamp::from_millisecond(ms).ok();
        Ok(Currency {
            heard: heard.and_then(|known| time(known.row.heard_ms)),
            reconciled: reconciled
                .as_ref()
                .and_then(|known| time(known.row.ended_ms)),
            found: reconciled
                .and_then(|known| known.row.found)
                .unwrap_or_default(),
        })
    }
}

/// The rows that note that a community was heard of, and that it was compared to the end.
fn heard(
    home: &HomeCommunityId,
    now: Timestamp,
    request: &pb::NotifyHoldingsRequest,
) -> Vec<Write> {
    let heard = HeardRow {
        home_community_id: home.to_string(),
        heard_ms: now.as_millisecond(),
    };
    let reconciled = request.reconciled.map(|found| ReconciledRow {
        home_community_id: home.to_string(),
        ended_ms: now.as_millisecond(),
        found: Some(found),
    });
    let mut writes = vec![Write::put(&heard)];
    writes.extend(reconciled.as_ref().map(Write::put));
    writes
}

fn spread_of(request: &pb::CompareHoldingsRequest) -> Result<Spread> {
    let invalid = |field, message| Error::field(Reason::InvalidField, field, message);
    if request.places.len() > MAX_PLACES {
        let message = format!("has more than {MAX_PLACES} places");
        return Err(invalid("places", message));
    }
    let salt = <[u8; SALT]>::try_from(&*request.salt)
        .map_err(|_| invalid("salt", format!("must be {SALT} bytes")))?;
    let too_many = || invalid("bits", "are too many places".to_owned());
    Spread::new(salt, request.bits).ok_or_else(too_many)
}

/// The patients of some places: of as many of the first ones as fit into an answer, all.
struct Named {
    places: BTreeMap<u32, Vec<PatientIdentifier>>,
    count: usize,
}

impl Named {
    fn at(places: &[u32]) -> Self {
        let wanted: BTreeSet<u32> = places.iter().copied().collect();
        Self {
            places: wanted
                .into_iter()
                .map(|place| (place, Vec::new()))
                .collect(),
            count: 0,
        }
    }

    fn add(&mut self, place: u32, patient: PatientIdentifier) -> Result<()> {
        let Some(patients) = self.places.get_mut(&place) else {
            return Ok(());
        };
        patients.push(patient);
        self.count += 1;
        if self.count <= MAX_NAMED {
            return Ok(());
        }
        // The last place is left for another call; the first must fit.
        let dropped = match self.places.len() {
            0 | 1 => None,
            _ => self.places.pop_last(),
        };
        let Some((_, patients)) = dropped else {
            let message = "are too few places for so many patients";
            return Err(Error::field(Reason::InvalidField, "bits", message));
        };
        self.count -= patients.len();
        Ok(())
    }

    fn answer(self, count: u64) -> pb::CompareHoldingsResponse {
        let places = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let patients = self.places.into_values().flatten();
        pb::CompareHoldingsResponse {
            count,
            places_told: places,
            patients: patients
                .map(|patient| crate::identity::identifier_message(&patient))
                .collect(),
            ..pb::CompareHoldingsResponse::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patient(number: usize) -> PatientIdentifier {
        PatientIdentifier {
            authority: "1.2.3".parse().unwrap(),
            id: number.to_string().parse().unwrap(),
        }
    }

    #[test]
    fn as_many_places_as_fit_are_told_and_each_whole() {
        let mut named = Named::at(&[3, 1, 2, 2]);
        for number in 0..MAX_NAMED {
            let place = if number % 2 == 0 { 1 } else { 2 };
            named.add(place, patient(number)).unwrap();
        }
        named.add(9, patient(0)).unwrap();
        named.add(3, patient(MAX_NAMED)).unwrap();
        let told = named.answer(7);
        assert_eq!((told.count, told.places_told), (7, 2));
        assert_eq!(told.patients.len(), MAX_NAMED);

        let mut one = Named::at(&[1]);
        for number in 0..MAX_NAMED {
            one.add(1, patient(number)).unwrap();
        }
        let error = one.add(1, patient(MAX_NAMED)).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidField);
    }
}
