//! The summary: at a responding node what is stored there, at the hub what all of them said.

use std::sync::Arc;
use std::time::Duration;

use crate::access::{Call, DocumentFacts, Permit};
use crate::clock::Clock;
use crate::documents::{Documents, Found, document_ref};
use crate::error::{Error, Reason, Result};
use crate::federation::Federation;
use crate::federation::fanout::{Failure, Said, Target, ask, completeness};
use crate::federation::path::Kind;
use crate::federation::peers::{Peers, relayed};
use crate::identity::{Identity, identifier, identifier_message};
use crate::store::Store;
use crate::types::{Confidentiality, LinkageId, PartialDate, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::federation as fpb;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;
use crate::wire::pb::identity as ipb;

use super::extract::{NotUnderstood, Outcome, Source, extract};
use super::grants::Grants;
use super::identify::Candidates;
use super::merge::{Part, merge};

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
        let (outcome, not_taken) = self.extracted(permit, &found, response)?;
        let (used, reason) = match outcome {
            Outcome::Readable if not_taken == 0 => (true, String::new()),
            Outcome::Readable => (
                true,
                format!("read in part: {not_taken} entries not understood"),
            ),
            Outcome::NotUnderstood(reason) => (false, reason.code().to_owned()),
        };
        response.documents.push(listed(entry, used, reason));
        Ok(())
    }

    fn extracted(
        &self,
        permit: &Permit,
        found: &Found,
        response: &mut fpb::GetSummaryItemsResponse,
    ) -> Result<(Outcome, usize)> {
        if found.entry.size.unwrap_or(u64::MAX) > MAX_BYTES {
            return Ok((Outcome::NotUnderstood(NotUnderstood::TooLarge), 0));
        }
        let content = self.documents.content(permit, found, MAX_BYTES)?;
        let format = found
            .entry
            .format_code
            .as_ref()
            .map_or("", |code| code.code.as_str());
        let extracted = extract(&Source {
            mime_type: &found.entry.mime_type,
            format_code: format,
            entry: &found.entry,
            content: &content,
            as_of: self.clock.now(),
        });
        // Items inside a document can be more confidential than the document.
        let facts = found.facts();
        for item in extracted.items {
            let level = confidentiality(&item).max(facts.confidentiality);
            let inside = DocumentFacts {
                confidentiality: level,
                ..facts.clone()
            };
            if permit.covers(&inside) {
                response.items.push(item);
            } else {
                response.partly_withheld = true;
            }
        }
        response.absences.extend(extracted.absences);
        Ok((extracted.outcome, extracted.not_taken))
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
    #[expect(clippy::too_many_lines, reason = "one fan-out, told in its order")]
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
        let mut statuses = Vec::new();
        let mut parts = Vec::new();
        let (mut unreachable, mut withheld) = (Vec::new(), Vec::new());
        let mut partly_withheld = false;
        while let Some(answer) = asked.next().await {
            match answer.value {
                Some(said) => {
                    partly_withheld |= said.partly_withheld;
                    parts.push(Part {
                        home_community_id: answer.status.home_community_id.clone(),
                        items: said.items,
                        absences: said.absences,
                        documents: said.documents,
                    });
                }
                None if answer.status.state() == cpb::RegionState::RefusedByPolicy => {
                    withheld.push(answer.status.home_community_id.clone());
                }
                None => unreachable.push(answer.status.home_community_id.clone()),
            }
            statuses.push(answer.status);
        }
        let done = completeness(statuses);
        call.note(|record| {
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            record.regions = Some((count(done.regions.len()), count(parts.len())));
        });
        let now = self.clock.now();
        let merged = merge(parts, now);
        let mut absences = merged.absences;
        for (reason, home_community_ids) in [
            (pb::AbsenceReason::Unreachable, unreachable),
            (pb::AbsenceReason::Withheld, withheld),
        ] {
            if !home_community_ids.is_empty() {
                absences.push(pb::AbsenceStatement {
                    reason: reason.into(),
                    home_community_ids,
                    ..pb::AbsenceStatement::default()
                });
            }
        }
        call.note(|record| record.items = u32::try_from(merged.items.len()).unwrap_or(u32::MAX));
        let summary = pb::EmergencySummary {
            summary_id: uuid::Uuid::now_v7().to_string(),
            linkage_id: self
                .identity
                .pseudonym(linkage, &call.caller().participant.community)?,
            patient: Some(self.header(linkage)?),
            composed: Some(crate::wire::timestamp(now)),
            items: merged.items,
            absences,
            documents: merged.documents,
            identity_grade: grade.into(),
            partly_withheld,
            ..pb::EmergencySummary::default()
        };
        Ok(pb::GetSummaryResponse {
            summary: Some(summary),
            completeness: Some(done),
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

/// What an item asks of its reader.
pub(super) fn confidentiality(item: &pb::SummaryItem) -> Confidentiality {
    match item.confidentiality() {
        cpb::Confidentiality::Restricted => Confidentiality::Restricted,
        cpb::Confidentiality::VeryRestricted => Confidentiality::VeryRestricted,
        cpb::Confidentiality::Unspecified
        | cpb::Confidentiality::Unrestricted
        | cpb::Confidentiality::Low
        | cpb::Confidentiality::Moderate
        | cpb::Confidentiality::Normal => Confidentiality::Normal,
    }
}

/// A document as it is listed beside the items, with why it was not read, or not wholly.
fn listed(entry: &dpb::DocumentEntry, used: bool, reason: String) -> pb::ListedDocument {
    let title = entry.title.as_ref().and_then(|title| title.values.first());
    let institution = entry
        .authors
        .iter()
        .flat_map(|author| &author.institutions)
        .next();
    pb::ListedDocument {
        document: Some(document_ref(entry)),
        title: title.map(|title| title.value.clone()).unwrap_or_default(),
        type_code: entry.type_code.clone(),
        mime_type: entry.mime_type.clone(),
        creation_time: entry.creation_time.clone(),
        institution: institution.map(|from| cpb::InstitutionRef {
            institution_id: from.id.clone(),
            name: from.name.clone(),
            home_community_id: entry.home_community_id.clone(),
            ..cpb::InstitutionRef::default()
        }),
        used,
        reason,
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
