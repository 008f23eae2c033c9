//! The summary at the hub: what the regions say, merged; of those that are silent, what they said before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::access::{Action, Call, Grant, Permit};
use crate::consent::About;
use crate::error::Result;
use crate::federation::fanout::{self, Failure, Said, Target, ask};
use crate::federation::path::Kind;
use crate::federation::peers::{Peers, relayed};
use crate::federation::{Contributions, Mark};
use crate::identity::{identifier, identifier_message};
use crate::types::{HomeCommunityId, LinkageId, PartialDate, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::federation as fpb;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;
use crate::wire::pb::identity as ipb;

use super::Emergency;
use super::choice;
use super::compose::{Reply, compose};
use super::kept::shown;
use super::merge::day;

/// Whose summary is asked for, on what ground, and what of it.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The person.
    pub linkage: LinkageId,
    /// How sure it is that this is the one who is meant.
    pub grade: ipb::MatchGrade,
    /// Id of the grant; empty without one.
    pub grant_id: String,
    /// The grant, as it was found.
    pub grant: Option<Grant>,
    /// The identifiers that the grant covers; `None` without one: all.
    pub covered: Option<Vec<PatientIdentifier>>,
    /// The decision of this node, which let the call be asked at all.
    pub permit: Permit,
    /// Only these sections; none means all.
    pub sections: Vec<pb::SummarySection>,
    /// Items that ask for a second confirmation are confirmed.
    pub confirm_restricted: bool,
    /// How old an answer will do; the node's setting if absent.
    pub max_age: Option<Duration>,
}

impl Asking {
    fn covers(&self, patient: &PatientIdentifier) -> bool {
        let covered = self.covered.as_ref();
        covered.is_none_or(|covered| covered.contains(patient))
    }
}

/// What a region said before, for this reader.
struct Before {
    said: fpb::GetSummaryItemsResponse,
    /// When it was asked, by this node's clock: of several identifiers, the one asked first.
    asked: Timestamp,
}

impl Emergency {
    /// Asks the regions that hold something, and merges what they say in time. Of a region that does not
    /// answer, what it said before is shown, if there is something and this reader may see it now.
    ///
    /// # Errors
    /// The store. A region that fails is a status, not an error.
    pub async fn summary(
        &self,
        call: &Arc<Call>,
        asking: &Asking,
    ) -> Result<pb::GetSummaryResponse> {
        let patients = self.patients(asking.linkage)?;
        let of_all = patients.iter().filter(|one| asking.covers(one));
        let covered: Vec<_> = of_all.cloned().collect();
        let holding = self
            .federation
            .targets(&covered, None, |held| held.has_documents)?;
        let (mut replies, targets) = self.young_enough(call, asking, &patients, holding)?;
        let answered = self.ask(call, asking, &patients, targets, &mut replies);
        let answered = answered.await?;
        let withheld = choice::asks_to_confirm(&asking.permit) && !asking.confirm_restricted;
        let mut cached = false;
        for reply in &mut replies {
            cached |= reply.said.is_some() && reply.status.state() == cpb::RegionState::Stale;
            if let Some(said) = reply.said.as_mut().filter(|_| withheld) {
                choice::withhold_documents(said);
            }
        }
        let now = self.clock.now();
        let composed = compose(replies, now);
        let mut merged = composed.merged;
        choice::only(&asking.sections, &mut merged);
        if withheld {
            choice::withhold_items(&mut merged.items);
        }
        call.note(|record| {
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let regions = composed.completeness.regions.len();
            record.regions = Some((count(regions), count(answered)));
            record.items = count(merged.items.len());
            record.confirmed = asking.confirm_restricted;
        });
        let summary = pb::EmergencySummary {
            summary_id: uuid::Uuid::now_v7().to_string(),
            linkage_id: self
                .identity
                .pseudonym(asking.linkage, &call.caller().participant.community)?,
            patient: Some(self.header(asking)?),
            composed: Some(crate::wire::timestamp(now)),
            items: merged.items,
            absences: merged.absences,
            documents: merged.documents,
            aged_out: merged.aged_out,
            identity_grade: asking.grade.into(),
            partly_withheld: composed.partly_withheld || covered.len() < patients.len(),
            cached,
            ..pb::EmergencySummary::default()
        };
        Ok(pb::GetSummaryResponse {
            summary: Some(summary),
            completeness: Some(composed.completeness),
        })
    }

    /// The regions whose last answer is young enough for the caller, with it, and those to be asked.
    /// What is shown is asked for anew in the background when it is due.
    fn young_enough(
        &self,
        call: &Arc<Call>,
        asking: &Asking,
        patients: &[PatientIdentifier],
        targets: Vec<Target>,
    ) -> Result<(Vec<Reply>, Vec<Target>)> {
        let at_most = asking.max_age.unwrap_or(self.max_age);
        if at_most.is_zero() {
            return Ok((Vec::new(), targets));
        }
        let due = self.federation.contributions.renewed_after();
        let (mut replies, mut to_ask, mut to_renew) = (Vec::new(), Vec::new(), Vec::new());
        for target in targets {
            let before = self.before(call, asking, patients, &target, at_most)?;
            // A part that is missing may be what was asked for.
            let Some(before) = before.filter(|before| !before.said.truncated) else {
                to_ask.push(target);
                continue;
            };
            let age = Duration::try_from(self.clock.now().duration_since(before.asked));
            if age.is_ok_and(|age| age >= due) {
                to_renew.push(target.clone());
            }
            let status = fanout::status(&target.peer, cpb::RegionState::Stale, None);
            replies.push(reply(status, before, false));
        }
        self.renew(call, asking, to_renew)?;
        Ok((replies, to_ask))
    }

    /// Asks regions anew for what was shown of before, for the same reader and within the same time; the
    /// call does not wait for it.
    fn renew(&self, call: &Arc<Call>, asking: &Asking, targets: Vec<Target>) -> Result<()> {
        if targets.is_empty() {
            return Ok(());
        }
        let asked = self.asked(call, asking, targets)?;
        let (contributions, tasks) = (
            Arc::clone(&self.federation.contributions),
            self.federation.tasks.clone(),
        );
        self.federation.tasks.spawn(async move {
            let Asked { mut under_way, of } = asked;
            while let Some(answer) = under_way.next().await {
                let home = &answer.status.home_community_id;
                if let (Some((target, mark)), Some(said)) = (of.get(home), &answer.value) {
                    contributions.keep(&tasks, &target.peer.home, &target.patients, (said, mark));
                }
            }
        });
        Ok(())
    }

    /// Asks `targets`, adds what they say to `replies`, and tells how many answered.
    async fn ask(
        &self,
        call: &Arc<Call>,
        asking: &Asking,
        patients: &[PatientIdentifier],
        targets: Vec<Target>,
        replies: &mut Vec<Reply>,
    ) -> Result<usize> {
        let Asked { mut under_way, of } = self.asked(call, asking, targets)?;
        let mut answered = 0;
        while let Some(answer) = under_way.next().await {
            let known = of.get(&answer.status.home_community_id);
            if let Some(said) = answer.value {
                answered += 1;
                if let Some((target, mark)) = known {
                    let contributions = &self.federation.contributions;
                    contributions.keep(
                        &self.federation.tasks,
                        &target.peer.home,
                        &target.patients,
                        (&said, mark),
                    );
                }
                replies.push(Reply {
                    status: answer.status,
                    said: Some(said),
                    silent: false,
                });
                continue;
            }
            let silent = known.filter(|_| is_silent(answer.status.state()));
            let before = silent
                .map(|(target, _)| self.before(call, asking, patients, target, Duration::MAX));
            replies.push(match before.transpose()?.flatten() {
                Some(before) => reply(answer.status, before, true),
                None => Reply {
                    status: answer.status,
                    said: None,
                    silent: true,
                },
            });
        }
        Ok(answered)
    }

    fn asked(&self, call: &Arc<Call>, asking: &Asking, targets: Vec<Target>) -> Result<Asked> {
        let mut of = HashMap::new();
        for target in targets
            .iter()
            .filter(|target| target.peer.endpoint.is_some())
        {
            let home = &target.peer.home;
            let mark = self.federation.contributions.mark(home, &target.patients)?;
            of.insert(home.to_string(), (target.clone(), mark));
        }
        let (peers, by) = (Arc::clone(&self.federation.peers), Arc::clone(call));
        let grant = asking.grant_id.clone();
        let by_path = (&self.federation.paths, Kind::Summary);
        let under_way = ask(call, by_path, targets, move |target, budget| {
            region(
                Arc::clone(&peers),
                Arc::clone(&by),
                target,
                grant.clone(),
                budget,
            )
        });
        Ok(Asked { under_way, of })
    }

    /// What a region said before, no longer ago than `at_most`, as far as this reader may be shown it:
    /// decided now, as the region would with what is known here of the patient's wishes.
    fn before(
        &self,
        call: &Arc<Call>,
        asking: &Asking,
        patients: &[PatientIdentifier],
        target: &Target,
        at_most: Duration,
    ) -> Result<Option<Before>> {
        // Not a community of the network any more: what it said is nobody's to show.
        if target.peer.endpoint.is_none() {
            return Ok(None);
        }
        let home = &target.peer.home;
        let contributions: &Contributions = &self.federation.contributions;
        let kept = contributions.of(home, &target.patients, at_most)?;
        let missing = kept.iter().any(Option::is_none);
        let kept: Vec<_> = kept.into_iter().flatten().collect();
        let Some(asked) = kept.iter().map(|one| one.asked).min() else {
            return Ok(None);
        };
        let about = About {
            patients,
            grant: asking.grant.as_ref(),
            holder: Some((home, &target.patients)),
            ..About::default()
        };
        let permit = self
            .guard
            .permit_for_part(call, Action::ReadSummary, about)?;
        let Some(permit) = permit else {
            return Ok(None);
        };
        let mut said = fpb::GetSummaryItemsResponse {
            truncated: missing,
            ..fpb::GetSummaryItemsResponse::default()
        };
        for one in kept {
            let part = shown(&permit, one.said);
            said.items.extend(part.items);
            said.absences.extend(part.absences);
            said.documents.extend(part.documents);
            said.judged.extend(part.judged);
            said.partly_withheld |= part.partly_withheld;
            said.truncated |= part.truncated;
            let time = |of: &prost_types::Timestamp| (of.seconds, of.nanos);
            said.as_of = match (said.as_of, part.as_of) {
                (Some(one), Some(other)) if time(&other) < time(&one) => Some(other),
                (Some(one), _) => Some(one),
                (None, other) => other,
            };
        }
        Ok(Some(Before { said, asked }))
    }

    fn header(&self, asking: &Asking) -> Result<pb::PatientHeader> {
        let person = self.identity.person(asking.linkage)?.unwrap_or_default();
        let covered = |record: &&ipb::Patient| {
            let id = identifier(record.identifier.as_ref(), "identifier");
            id.is_ok_and(|id| asking.covers(&id))
        };
        let records = person.records.iter().filter(covered);
        let newest = records.max_by_key(|record| {
            record
                .recorded
                .as_ref()
                .map(|time| (time.seconds, time.nanos))
        });
        let demographics = newest
            .and_then(|record| record.demographics.clone())
            .unwrap_or_default();
        let age = age(&demographics.birth_date, self.clock.now());
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

/// Whole years on the day in Japan; none if the day of birth is not known.
fn age(birth_date: &str, now: Timestamp) -> Option<u32> {
    let birth = birth_date.parse::<PartialDate>().ok()?.to_date()?;
    let years = birth.until((jiff::Unit::Year, day(now))).ok()?.get_years();
    u32::try_from(years).ok()
}

/// Regions being asked, and what was known of each before.
struct Asked {
    under_way: fanout::Asked<fpb::GetSummaryItemsResponse>,
    of: HashMap<String, (Target, Mark)>,
}

/// Whether a region gave no answer at all. One that refused, or does not know the patient any more, did.
fn is_silent(state: cpb::RegionState) -> bool {
    matches!(
        state,
        cpb::RegionState::Timeout
            | cpb::RegionState::Unreachable
            | cpb::RegionState::CircuitOpen
            | cpb::RegionState::SkippedBudget
            | cpb::RegionState::Malformed
    )
}

/// What a region said before, as its part of the answer.
fn reply(status: cpb::RegionStatus, before: Before, silent: bool) -> Reply {
    let Before { said, asked } = before;
    let count = said.items.len() + said.documents.len();
    Reply {
        status: cpb::RegionStatus {
            state: cpb::RegionState::Stale.into(),
            as_of: said.as_of.or(Some(crate::wire::timestamp(asked))),
            result_count: u32::try_from(count).unwrap_or(u32::MAX),
            ..status
        },
        said: Some(said),
        silent,
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
    own(&response, &target.peer.home, target.patients.len())?;
    let count = response.items.len() + response.documents.len();
    Ok(Said {
        count: u32::try_from(count).unwrap_or(u32::MAX),
        truncated: response.truncated,
        as_of: response.as_of,
        value: response,
    })
}

/// A region may only speak of its own documents, and of the patients it was asked about (INV-4, bar
/// Z-18): one that says more is believed nothing, and named as such in the answer.
fn own(
    response: &fpb::GetSummaryItemsResponse,
    home: &HomeCommunityId,
    patients: usize,
) -> Result<(), Failure> {
    let home = home.to_string();
    let past = response.items.iter().flat_map(|item| &item.past_values);
    let past = past.filter_map(|value| value.source.as_ref());
    let stated = response
        .absences
        .iter()
        .flat_map(|absence| &absence.sources);
    let items = response.items.iter().flat_map(|item| &item.sources);
    let foreign = |source: &pb::ItemSource| {
        let document = source.document.as_ref();
        source.home_community_id != home
            || document.is_some_and(|document| document.home_community_id != home)
    };
    if items.chain(stated).chain(past).any(foreign) {
        return Err(Failure::Malformed("an item of another community"));
    }
    if response.items.iter().any(|item| item.sources.is_empty()) {
        return Err(Failure::Malformed("an item of no document"));
    }
    let named = |listed: &pb::ListedDocument| {
        let document = listed.document.as_ref();
        document.is_some_and(|document| document.home_community_id == home)
    };
    if !response.documents.iter().all(named) {
        return Err(Failure::Malformed("a document of another community"));
    }
    let mut absences = response.absences.iter();
    if absences.any(|absence| absence.home_community_ids.iter().any(|of| *of != home)) {
        return Err(Failure::Malformed("it speaks for another community"));
    }
    let known = |judged: &fpb::JudgedDocument| {
        usize::try_from(judged.patient).is_ok_and(|place| place < patients)
    };
    if !response.judged.iter().all(known) {
        return Err(Failure::Malformed("a document of another patient"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "urn:oid:2.999.1.1";
    const OTHER: &str = "urn:oid:2.999.1.2";

    fn document(home: &str) -> cpb::DocumentRef {
        cpb::DocumentRef {
            home_community_id: home.to_owned(),
            ..cpb::DocumentRef::default()
        }
    }

    fn source(home: &str) -> pb::ItemSource {
        pb::ItemSource {
            home_community_id: home.to_owned(),
            document: Some(document(home)),
            ..pb::ItemSource::default()
        }
    }

    fn past(home: &str) -> pb::PastValue {
        pb::PastValue {
            source: Some(source(home)),
            ..pb::PastValue::default()
        }
    }

    fn listed(home: &str) -> pb::ListedDocument {
        pb::ListedDocument {
            document: Some(document(home)),
            ..pb::ListedDocument::default()
        }
    }

    /// What a region says of two patients: an item, a document, an absence.
    fn said() -> fpb::GetSummaryItemsResponse {
        let mut item = pb::SummaryItem::default();
        item.sources.push(source(HOME));
        item.past_values.push(past(HOME));
        fpb::GetSummaryItemsResponse {
            items: vec![item],
            absences: vec![pb::AbsenceStatement::default()],
            documents: vec![listed(HOME)],
            judged: vec![fpb::JudgedDocument {
                patient: 1,
                entry: None,
            }],
            ..fpb::GetSummaryItemsResponse::default()
        }
    }

    /// Half past midnight of 1 June in Japan is still 31 May in UTC.
    #[test]
    fn a_birthday_begins_at_midnight_in_japan() {
        let now: Timestamp = "2026-05-31T15:30:00Z".parse().unwrap();
        assert_eq!(age("1946-06-01", now), Some(80));
        assert_eq!(age("1946-06-02", now), Some(79));
        assert_eq!(age("1946-06", now), None);
    }

    /// Bars: Z-18. Whatever a region adds that it may not say, all it says is dropped and said to be
    /// malformed.
    #[test]
    fn a_region_that_says_too_much_is_believed_nothing() {
        let home: HomeCommunityId = HOME.parse().unwrap();
        assert!(own(&said(), &home, 2).is_ok());
        type Spoil = fn(&mut fpb::GetSummaryItemsResponse);
        let spoils: [Spoil; 11] = [
            |said| said.items[0].sources[0].document = Some(document(OTHER)),
            |said| said.items[0].past_values.push(past(OTHER)),
            |said| said.absences[0].sources.push(source(OTHER)),
            |said| said.items[0].sources.push(source(OTHER)),
            |said| said.items[0].sources = vec![source("")],
            |said| said.items[0].sources.clear(),
            |said| said.documents.push(listed(OTHER)),
            |said| said.documents[0].document = None,
            |said| said.absences[0].home_community_ids.push(OTHER.to_owned()),
            |said| said.judged[0].patient = 2,
            |said| said.judged[0].patient = u32::MAX,
        ];
        for (number, spoil) in spoils.iter().enumerate() {
            let mut spoilt = said();
            spoil(&mut spoilt);
            let failed = own(&spoilt, &home, 2);
            assert!(matches!(failed, Err(Failure::Malformed(_))), "{number}");
        }
    }
}
