//! One chart, two persons: a revision that makes somebody else of a record.

use crate::wire::pb::identity as pb;

use super::compare::{Level, Traits, compare};
use super::evidence::evidence;
use super::placement::Doubt;
use super::tables::PatientRow;
use super::traits;

/// The doubt about a revision that changes given name and birth date together. A marriage changes
/// the family name, a corrected typing error one of the two; both at once is another person
/// registered under the same number, or written over.
pub(super) fn doubts(before: Option<&PatientRow>, now: &Traits) -> Option<Doubt> {
    let before = before?.patient.as_ref()?.demographics.as_ref()?;
    let comparison = compare(&traits::traits(before), now);
    let changed = comparison.birth == Level::Differ
        && comparison.given == Level::Differ
        && comparison.name != Level::Agree;
    changed.then(|| Doubt {
        other: None,
        kind: pb::ReviewKind::Overlay,
        evidence: evidence(&comparison, None),
    })
}
