//! What is not there, and why: said in every form.

use crate::wire::pb::common::{RegionState, RegionStatus};
use crate::wire::pb::emergency::{AbsenceReason, AbsenceStatement, ListedDocument, SummarySection};

use super::Whole;
use super::words::{self, Words};

/// Why there is nothing to show of some sections.
pub(super) enum Nothing {
    /// Sources state that there is none.
    Stated,
    /// Not stated to be none: nobody knows, or not everybody could be asked.
    NotStated(Words),
}

impl<'a> Whole<'a> {
    /// Regions whose answer is not there as a whole.
    pub(super) fn missing(&self) -> impl Iterator<Item = &'a RegionStatus> + use<'a> {
        let regions = self.completeness.regions.iter();
        regions.filter(|region| !matches!(region.state(), RegionState::Ok | RegionState::Empty))
    }

    /// What sources state about some of `sections` to be absent, for one of `reasons`.
    pub(super) fn statements(
        &self,
        sections: &[SummarySection],
        reasons: &[AbsenceReason],
    ) -> Vec<&'a AbsenceStatement> {
        let all = self.summary.absences.iter();
        all.filter(|absence| {
            sections.contains(&absence.section()) && reasons.contains(&absence.reason())
        })
        .collect()
    }

    /// Why there is nothing of `sections`. Only what a source states is an absence; an answer that
    /// is not complete never is (INV-6).
    pub(super) fn nothing(&self, sections: &[SummarySection]) -> Nothing {
        let stated = self.statements(sections, &[AbsenceReason::StatedNone]);
        if !stated.is_empty() {
            return Nothing::Stated;
        }
        let unknown = || self.statements(sections, &[AbsenceReason::Unknown]);
        Nothing::NotStated(if !self.completeness.complete {
            words::PERHAPS
        } else if self.is_withheld() {
            words::WITHHELD
        } else if self.completeness.regions.is_empty() {
            words::NOBODY
        } else if self.aged_out(sections) > 0 {
            words::TOO_OLD
        } else if unknown().is_empty() {
            words::NO_INFORMATION
        } else {
            words::NOT_KNOWN
        })
    }

    /// Facts of `sections` that were left out because they are too old.
    pub(super) fn aged_out(&self, sections: &[SummarySection]) -> u32 {
        let aged = self.summary.aged_out.iter();
        aged.filter(|aged| sections.contains(&aged.section()))
            .fold(0, |sum, aged| sum.saturating_add(aged.count))
    }

    /// Whether something is withheld; never what.
    pub(super) fn is_withheld(&self) -> bool {
        let withheld = AbsenceReason::Withheld;
        let mut absences = self.summary.absences.iter();
        self.summary.partly_withheld || absences.any(|absence| absence.reason() == withheld)
    }

    /// Documents that may say more than the items do; none in a form for the patient.
    pub(super) fn unread(&self) -> impl Iterator<Item = &'a ListedDocument> + use<'a> {
        let for_patient = self.options.for_patient;
        let documents = self.summary.documents.iter();
        documents.filter(move |one| !for_patient && (!one.used || !one.reason.is_empty()))
    }

    /// The name of a region, or its homeCommunityId.
    pub(super) fn region_name(&self, home: &str) -> String {
        let regions = self.completeness.regions.iter();
        let known = regions
            .filter(|region| region.home_community_id == home)
            .find(|region| !region.name.is_empty());
        super::text::clean(known.map_or(home, |region| region.name.as_str()))
    }
}
