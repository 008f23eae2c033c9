//! Who of another community is a person here, as that community said when it was asked (ITI-55), for
//! as long as it said; and what this node told its parent so.

use std::sync::Arc;
use std::time::Duration;

use crate::access::Call;
use crate::clock::Clock;
use crate::error::Result;
use crate::identity::{Identity, identifier, identifier_message};
use crate::store::{Row as _, Store, Write};
use crate::types::{HomeCommunityId, LinkageId, PatientIdentifier};
use crate::wire::pb::federation as pb;

use super::tables::{CorrelationRow, HoldingRow, ToldRow};

/// Correlations read of one person, or of one identifier of theirs.
const MAX_READ: usize = 256;

/// How long a correlation is kept at most, whatever is asked and granted.
pub const LONGEST: Duration = Duration::from_hours(7 * 24);

/// Whether a holding is known by a discovery only: regions number their notices from 1.
fn is_by_discovery(row: &HoldingRow) -> bool {
    row.notice
        .as_ref()
        .is_none_or(|notice| notice.sequence == 0)
}

/// The correlations.
#[derive(Debug)]
pub struct Correlations {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    identity: Arc<Identity>,
}

impl Correlations {
    /// Correlations kept in `store`, of persons of `identity`.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, identity: Arc<Identity>) -> Self {
        Self {
            store,
            clock,
            identity,
        }
    }

    /// The keyed hash of an identifier.
    pub(super) fn tag(&self, patient: &PatientIdentifier) -> Vec<u8> {
        self.store.keys().patient_tag(patient).to_vec()
    }

    /// Makes rows durable, with the event of `call`.
    ///
    /// # Errors
    /// The store.
    pub async fn commit(&self, call: &Call, rows: Vec<Write>) -> Result<()> {
        call.commit(&self.store, self.clock.now(), rows, None, ())
            .await
    }

    /// The rows by which `theirs` of `home` are the person of `own` for `lifetime`: from now on that
    /// community is asked about the person like one that feeds this node.
    ///
    /// # Errors
    /// The store.
    pub(super) fn keep(
        &self,
        own: &PatientIdentifier,
        home: &HomeCommunityId,
        theirs: &[PatientIdentifier],
        lifetime: Duration,
    ) -> Result<Vec<Write>> {
        let Some(linkage) = self.identity.linkage(own) else {
            return Ok(Vec::new());
        };
        let now = self.clock.now();
        let expires = now.saturating_add(lifetime.min(LONGEST));
        let expires_ms = expires.map_or(0, jiff::Timestamp::as_millisecond);
        let tag = |one: &PatientIdentifier| self.tag(one);
        let row = |theirs: &PatientIdentifier| CorrelationRow {
            linkage: linkage.to_bytes().to_vec(),
            patient: tag(own),
            own: Some(identifier_message(own)),
            home_community_id: home.to_string(),
            theirs: Some(identifier_message(theirs)),
            theirs_tag: tag(theirs),
            expires_ms,
        };
        let holding = |theirs: &PatientIdentifier| HoldingRow {
            patient: tag(theirs),
            home_community_id: home.to_string(),
            notice: Some(pb::HoldingNotice {
                patient_id: Some(identifier_message(theirs)),
                has_documents: true,
                has_summary_items: true,
                changed: Some(crate::wire::timestamp(now)),
                sequence: 0,
                withdrawn: Vec::new(),
            }),
            confirmed_ms: now.as_millisecond(),
        };
        let mut writes = Vec::new();
        for one in theirs {
            writes.push(Write::put(&row(one)));
            let holding = holding(one);
            // What a region told of its own accord is known better.
            let known = self.store.get::<HoldingRow>(&holding.key())?;
            if known.is_none_or(|known| is_by_discovery(&known.row)) {
                writes.push(Write::put(&holding));
            }
        }
        Ok(writes)
    }

    /// The person's identifiers in communities that said so, as long as it holds: not expired, and the
    /// identifier that was asked with still this person's.
    ///
    /// # Errors
    /// The store.
    pub(super) fn of(&self, linkage: LinkageId) -> Result<Vec<PatientIdentifier>> {
        let prefix = linkage.to_bytes();
        let rows = self
            .store
            .range::<CorrelationRow>(&prefix, None, MAX_READ)?;
        let now = self.clock.now().as_millisecond();
        let mut theirs = Vec::new();
        for (_, found) in rows {
            let row = found.row;
            let own = identifier(row.own.as_ref(), "own")?;
            if now < row.expires_ms && self.identity.linkage(&own) == Some(linkage) {
                theirs.push(identifier(row.theirs.as_ref(), "theirs")?);
            }
        }
        Ok(theirs)
    }

    /// The rows by which a community takes back what it said of one of its identifiers.
    ///
    /// # Errors
    /// The store.
    pub fn revoked(
        &self,
        home: &HomeCommunityId,
        theirs: &PatientIdentifier,
    ) -> Result<Vec<Write>> {
        let tag = self.store.keys().patient_tag(theirs);
        let index = CorrelationRow::BY_THEIRS;
        let rows = self
            .store
            .by_index::<CorrelationRow>(index, &tag, None, MAX_READ)?;
        let home = home.to_string();
        let rows = rows.into_iter().map(|(_, found)| found.row);
        let mut writes: Vec<Write> = rows
            .filter(|row| row.home_community_id == home)
            .map(|row| Write::delete::<CorrelationRow>(row.key()))
            .collect();
        if !writes.is_empty() {
            let holding = HoldingRow {
                patient: tag.to_vec(),
                home_community_id: home,
                ..HoldingRow::default()
            };
            let known = self.store.get::<HoldingRow>(&holding.key())?;
            if known.is_some_and(|known| is_by_discovery(&known.row)) {
                writes.push(Write::delete::<HoldingRow>(holding.key()));
            }
        }
        Ok(writes)
    }

    /// The row that remembers that the parent was told of a patient, and for how long it may keep it.
    ///
    /// # Errors
    /// The store.
    pub fn telling(&self, patient: &PatientIdentifier, lifetime: Duration) -> Result<Write> {
        let expires = self.clock.now().saturating_add(lifetime);
        let tag = self.store.keys().patient_tag(patient).to_vec();
        // Told before for longer: it must be taken back as long as that.
        let before = self.store.get::<ToldRow>(&tag)?;
        let before = before.map_or(0, |before| before.row.expires_ms);
        Ok(Write::put(&ToldRow {
            patient: tag,
            expires_ms: expires
                .map_or(0, jiff::Timestamp::as_millisecond)
                .max(before),
        }))
    }

    /// Those of some patients of whom the parent was told, and may still keep it; with the rows that
    /// forget it.
    ///
    /// # Errors
    /// The store.
    pub fn told<'a>(
        &self,
        patients: impl IntoIterator<Item = &'a PatientIdentifier>,
    ) -> Result<Vec<(&'a PatientIdentifier, Write)>> {
        let now = self.clock.now().as_millisecond();
        let mut told = Vec::new();
        for patient in patients {
            let tag = self.store.keys().patient_tag(patient);
            let row = self.store.get::<ToldRow>(&tag)?;
            if row.is_some_and(|found| now < found.row.expires_ms) {
                told.push((patient, Write::delete::<ToldRow>(tag.to_vec())));
            }
        }
        Ok(told)
    }
}
