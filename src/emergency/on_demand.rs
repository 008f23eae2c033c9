//! The patient summary as an on-demand document: what the other documents of this node say of the
//! patient on the day it is retrieved, as plain text. Entries of it have the type code LOINC 60591-5
//! and the type `text/plain`.

use bytes::Bytes;
use jiff::tz::{Offset, TimeZone};

use crate::documents::{Found, Made, Maker, Order};
use crate::error::{Error, Result};
use crate::types::EntryUuid;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::federation as fpb;
use crate::wire::pb::identity as ipb;

use super::Emergency;
use super::compose::{Reply, compose, confidentiality};
use super::forms::{Options, plain};
use super::service::MAX_DOCUMENTS;

/// Patient summary Document.
const TYPE: &str = "60591-5";
/// Days are those of Japan.
const JST: Offset = Offset::constant(9);
/// LOINC.
const LOINC: &str = "2.16.840.1.113883.6.1";

impl Maker for Emergency {
    fn makes(&self, entry: &dpb::DocumentEntry) -> bool {
        let code = entry.type_code.as_ref();
        entry.mime_type == "text/plain"
            && code.is_some_and(|code| code.code == TYPE && code.system == LOINC)
    }

    fn make(&self, order: &Order<'_>) -> Result<Made> {
        let (said, made_of) = self.said(order)?;
        let now = self.clock.now();
        let state = match said.truncated {
            true => cpb::RegionState::Truncated,
            false => cpb::RegionState::Ok,
        };
        let composed = compose(
            vec![Reply {
                status: cpb::RegionStatus {
                    home_community_id: self.documents.home().to_string(),
                    state: state.into(),
                    ..cpb::RegionStatus::default()
                },
                said: Some(said),
                silent: false,
            }],
            now,
        );
        let summary = pb::EmergencySummary {
            items: composed.merged.items,
            absences: composed.merged.absences,
            documents: composed.merged.documents,
            aged_out: composed.merged.aged_out,
            // The entry is of this patient; nobody was looked for.
            identity_grade: ipb::MatchGrade::Certain.into(),
            partly_withheld: composed.partly_withheld,
            ..pb::EmergencySummary::default()
        };
        let day = now.to_zoned(TimeZone::fixed(JST)).strftime("%Y-%m-%d");
        let text = plain(
            &summary,
            &composed.completeness,
            Options::default(),
            &day.to_string(),
        );
        Ok(Made {
            octets: Bytes::from(text),
            made_of,
        })
    }
}

impl Emergency {
    /// What the documents say that the order's permit covers and that are no more confidential than
    /// the entry, and which those are. What was made of others is not made of again.
    fn said(&self, order: &Order<'_>) -> Result<(fpb::GetSummaryItemsResponse, Vec<EntryUuid>)> {
        let label = order.found.facts().confidentiality;
        let mut said = fpb::GetSummaryItemsResponse::default();
        let mut made_of = Vec::new();
        for patient in order.patients {
            let room = MAX_DOCUMENTS.saturating_sub(said.documents.len());
            if room == 0 {
                said.truncated = true;
                break;
            }
            let filter = dpb::DocumentFilter::default();
            let documents = &self.documents;
            let page = documents.find(order.permit, patient, &filter, room, "")?;
            said.truncated |= !page.next.is_empty();
            for entry in &page.entries {
                let uuid: EntryUuid = entry.entry_uuid.parse().map_err(Error::internal)?;
                let Some(found) = documents.by_uuid(&uuid)?.filter(is_a_source) else {
                    continue;
                };
                if found.facts().confidentiality > label {
                    said.partly_withheld = true;
                    continue;
                }
                self.read(order.permit, entry, 0, &mut said)?;
                made_of.push(uuid);
            }
        }
        let before = said.items.len();
        said.items.retain(|item| confidentiality(item) <= label);
        said.partly_withheld |= said.items.len() < before;
        Ok((said, made_of))
    }
}

fn is_a_source(found: &Found) -> bool {
    found.made_of().is_empty()
}
