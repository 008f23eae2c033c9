//! The summary: at a responding node what is stored there, at the hub what all of them said.

use std::sync::Arc;
use std::time::Duration;

use crate::access::{Call, DocumentFacts, Permit};
use crate::clock::Clock;
use crate::documents::Documents;
use crate::error::{Error, Reason, Result};
use crate::federation::Federation;
use crate::federation::fanout::{Failure, Said, Target, ask};
use crate::federation::path::Kind;
use crate::federation::peers::{Peers, relayed};
use crate::identity::{Identity, identifier, identifier_message};
use crate::store::Store;
use crate::types::{Confidentiality, LinkageId, PartialDate, PatientIdentifier};
use crate::wire::pb::documents as dpb;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::federation as fpb;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;
use crate::wire::pb::identity as ipb;

use super::compose::{Reply, compose, read, too_large};
use super::extract::Source;
use super::grants::Grants;
use super::identify::Candidates;

/// Documents read for one summary, newest first for each identifier.
pub(super) const MAX_DOCUMENTS: usize = 200;
/// Identifiers of one person asked about in a call.
const MAX_IDENTIFIERS: usize = 1_000;
/// A document larger than this is listed, not read.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Emergency access at this node.
#[derive(Debug)]
pub struct Emergency {
    /// Break-glass grants.
    pub grants: Grants,
    /// Candidates shown.
    pub candidates: Candidates,
    pub(super) clock: Arc<dyn Clock>,
    identity: Arc<Identity>,
    pub(super) documents: Arc<Documents>,
    federation: Arc<Federation>,
}

impl Emergency {
    /// Emergency access over the node's services.
    pub fn new(
        store: &Arc<Store>,
        clock: &Arc<dyn Clock>,
        identity: Arc<Identity>,
        documents: Arc<Documents>,
        federation: Arc<Federation>,
    ) -> Self {
        Self {
            grants: Grants::new(Arc::clone(store), Arc::clone(clock)),
            candidates: Candidates::new(Arc::clone(&identity), Arc::clone(clock)),
            clock: Arc::clone(clock),
            identity,
            documents,
            federation,
        }
    }

    /// What this node's documents say of a patient, as far as the permit goes. Blocking.
    ///
    /// # Errors
    /// The store. A document that cannot be read is listed as such, never an error.
    pub fn items(
        &self,
        permit: &Permit,
        patients: &[PatientIdentifier],
    ) -> Result<fpb::GetSummaryItemsResponse> {
        let mut response = fpb::GetSummaryItemsResponse {
            as_of: Some(crate::wire::timestamp(self.clock.now())),
            ..fpb::GetSummaryItemsResponse::default()
        };
        for patient in patients {
            let room = MAX_DOCUMENTS.saturating_sub(response.documents.len());
            if room == 0 {
                response.truncated = true;
                break;
            }
            let filter = dpb::DocumentFilter::default();
            let page = self.documents.find(permit, patient, &filter, room, "")?;
            response.truncated |= !page.next.is_empty();
            for entry in &page.entries {
                self.read(permit, entry, &mut response)?;
            }
        }
        Ok(response)
    }

    pub(super) fn read(
        &self,
        permit: &Permit,
        entry: &dpb::DocumentEntry,
        response: &mut fpb::GetSummaryItemsResponse,
    ) -> Result<()> {
        let uuid = entry.entry_uuid.parse().map_err(Error::internal)?;
        let Some(found) = self.documents.by_uuid(&uuid)? else {
            return Ok(());
        };
        // What was made of other documents says nothing that they do not.
        if !found.made_of().is_empty() {
            return Ok(());
        }
        if found.entry.size.unwrap_or(u64::MAX) > MAX_BYTES {
            too_large(entry, response);
            return Ok(());
        }
        let content = self.documents.content(permit, &found, MAX_BYTES)?;
        let format = found.entry.format_code.as_ref();
        let source = Source {
            mime_type: &found.entry.mime_type,
            format_code: format.map_or("", |code| code.code.as_str()),
            entry: &found.entry,
            content: &content,
            as_of: self.clock.now(),
        };
        let facts = found.facts();
        let covers = |level: Confidentiality, uninformed: bool| {
            permit.covers(&DocumentFacts {
                confidentiality: level.max(facts.confidentiality),
                uninformed: facts.uninformed || uninformed,
                ..facts.clone()
            })
        };
        read(&source, covers, response);
        Ok(())
    }

    /// Every identifier of a person.
    ///
    /// # Errors
    /// The store; a person without records is unknown.
    pub fn patients(&self, linkage: LinkageId) -> Result<Vec<PatientIdentifier>> {
        self.federation.known_as(linkage)
    }

    /// Asks the regions that hold something, and merges what they say in time.
    ///
    /// # Errors
    /// The store. A region that fails is a status, not an error.
    pub async fn summary(
        &self,
        call: &Arc<Call>,
        (linkage, grade): (LinkageId, ipb::MatchGrade),
        grant_id: &str,
    ) -> Result<pb::GetSummaryResponse> {
        let patients = self.patients(linkage)?;
        let targets = self
            .federation
            .targets(&patients, None, |held| held.has_documents)?;
        let (peers, by) = (Arc::clone(&self.federation.peers), Arc::clone(call));
        let grant = grant_id.to_owned();
        let by_path = (&self.federation.paths, Kind::Summary);
        let mut asked = ask(call, by_path, targets, move |target, budget| {
            region(
                Arc::clone(&peers),
                Arc::clone(&by),
                target,
                grant.clone(),
                budget,
            )
        });
        let mut replies = Vec::new();
        while let Some(answer) = asked.next().await {
            replies.push(Reply {
                status: answer.status,
                said: answer.value,
            });
        }
        let answered = replies.iter().filter(|reply| reply.said.is_some()).count();
        let now = self.clock.now();
        let composed = compose(replies, now);
        call.note(|record| {
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let regions = composed.completeness.regions.len();
            record.regions = Some((count(regions), count(answered)));
        });
        let merged = composed.merged;
        call.note(|record| record.items = u32::try_from(merged.items.len()).unwrap_or(u32::MAX));
        let summary = pb::EmergencySummary {
            summary_id: uuid::Uuid::now_v7().to_string(),
            linkage_id: self
                .identity
                .pseudonym(linkage, &call.caller().participant.community)?,
            patient: Some(self.header(linkage)?),
            composed: Some(crate::wire::timestamp(now)),
            items: merged.items,
            absences: merged.absences,
            documents: merged.documents,
            identity_grade: grade.into(),
            partly_withheld: composed.partly_withheld,
            ..pb::EmergencySummary::default()
        };
        Ok(pb::GetSummaryResponse {
            summary: Some(summary),
            completeness: Some(composed.completeness),
        })
    }

    fn header(&self, linkage: LinkageId) -> Result<pb::PatientHeader> {
        let person = self.identity.person(linkage)?.unwrap_or_default();
        let newest = person.records.iter().max_by_key(|record| {
            record
                .recorded
                .as_ref()
                .map(|time| (time.seconds, time.nanos))
        });
        let demographics = newest
            .and_then(|record| record.demographics.clone())
            .unwrap_or_default();
        let year = self.clock.now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let age = demographics
            .birth_date
            .parse::<PartialDate>()
            .ok()
            .and_then(PartialDate::to_date)
            .and_then(|birth| birth.until((jiff::Unit::Year, year)).ok())
            .and_then(|span| u32::try_from(span.get_years()).ok());
        Ok(pb::PatientHeader {
            names: demographics.names,
            birth_date: demographics.birth_date,
            age_years: age,
            administrative_gender: demographics.administrative_gender,
            addresses: demographics.addresses,
            telecoms: demographics.telecoms,
            coverages: demographics.coverages,
            languages: demographics.languages,
            deceased: demographics.deceased,
        })
    }
}

/// Asks one region for its items.
async fn region(
    peers: Arc<Peers>,
    call: Arc<Call>,
    target: Target,
    grant_id: String,
    budget: Duration,
) -> Result<Said<fpb::GetSummaryItemsResponse>, Failure> {
    let channel = peers.emergency_channel(&target.peer)?;
    let mut client = RespondingGatewayServiceClient::new(channel);
    let request = fpb::GetSummaryItemsRequest {
        patient_ids: target.patients.iter().map(identifier_message).collect(),
        break_glass: (!grant_id.is_empty()).then(|| fpb::BreakGlassContext {
            grant_id,
            statement: String::new(),
        }),
        ..fpb::GetSummaryItemsRequest::default()
    };
    let response = client
        .get_summary_items(relayed(&call, request, budget))
        .await?
        .into_inner();
    let home = target.peer.home.to_string();
    let foreign = response
        .items
        .iter()
        .flat_map(|item| &item.sources)
        .any(|source| source.home_community_id != home);
    if foreign {
        return Err(Failure::Malformed("an item of another community"));
    }
    let count = response.items.len() + response.documents.len();
    Ok(Said {
        count: u32::try_from(count).unwrap_or(u32::MAX),
        truncated: response.truncated,
        as_of: response.as_of,
        value: response,
    })
}

/// The identifiers a responding node is asked about.
///
/// # Errors
/// None, more than [`MAX_IDENTIFIERS`], or a malformed one.
pub fn asked_patients(request: &fpb::GetSummaryItemsRequest) -> Result<Vec<PatientIdentifier>> {
    if request.patient_ids.is_empty() {
        return Err(Error::missing("patient_ids"));
    }
    if request.patient_ids.len() > MAX_IDENTIFIERS {
        let message = format!("must name at most {MAX_IDENTIFIERS} identifiers");
        return Err(Error::field(Reason::InvalidField, "patient_ids", message));
    }
    request
        .patient_ids
        .iter()
        .map(|id| identifier(Some(id), "patient_ids"))
        .collect()
}
