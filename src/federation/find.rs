//! Find documents across communities (ITI-18 at an initiating gateway, ITI-38 to the others).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;

use crate::access::Call;
use crate::error::{Error, Reason, Result};
use crate::identity::identifier;
use crate::types::{HomeCommunityId, LinkageId, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::federation as pb;
use crate::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;

use super::fanout::{Answer, Failure, Said, Target, ask, completeness};
use super::path::Kind;
use super::peers::{Peers, relayed};
use super::{Federation, Stream};

pub(super) type FindRequest = pb::InitiatingGatewayServiceFindDocumentsRequest;
pub(super) type FindResponse = pb::InitiatingGatewayServiceFindDocumentsResponse;
type FindPart = pb::initiating_gateway_service_find_documents_response::Part;

/// Entries taken from one region in one call, whatever the caller asks for.
const MAX_REGION_ROWS: u32 = 1_000;
/// Octets of them: what one region can make this node hold (INV-7, bar F-03). Less than is read in
/// one message, so that whatever is taken can be passed on.
const MAX_REGION_BYTES: usize = 3 * 1024 * 1024;
/// Entries in one message of an answer, and octets of them if they are several.
const MESSAGE_ENTRIES: usize = 100;
const MESSAGE_BYTES: usize = 1024 * 1024;
/// Messages of an answer beyond one for each entry.
const SPARE_MESSAGES: u32 = 16;
/// Answers on their way to the caller.
pub(super) const QUEUE: usize = 8;

impl Federation {
    /// Asks every community that holds something for the patient; gives what they say as they say
    /// it, then one status each, then the completeness. A node under a parent asks the parent.
    ///
    /// # Errors
    /// A malformed query; [`Reason::UnknownPatient`]; what the parent says.
    pub async fn find_documents(
        self: &Arc<Self>,
        call: &Arc<Call>,
        request: FindRequest,
    ) -> Result<Stream<FindResponse>> {
        if let (Some(parent), Some(direct)) = (&self.parent, &self.direct) {
            no_broadcast(&request)?;
            return self.find_directly(call, (direct, parent), request).await;
        }
        if let Some(parent) = &self.parent {
            let channel = self.peers.channel(&*self.peers.peer(parent)?)?;
            let mut client = InitiatingGatewayServiceClient::new(channel);
            let outgoing = relayed(call, request, call.downstream_budget());
            let response = client
                .find_documents(outgoing)
                .await
                .map_err(super::peer_error)?;
            return Ok(super::pass_through(response.into_inner()));
        }
        no_broadcast(&request)?;
        let query = find_query(&request)?;
        let patients = self.patients(call, &request.linkage_id, query.patient_id.as_ref())?;
        let targets = self.targets(&patients, request.scope.as_ref(), |held| held.has_documents)?;
        let limit = region_limit(&request);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (peers, by) = (Arc::clone(&self.peers), Arc::clone(call));
        let count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        let mut asked = ask(
            call,
            (&self.paths, Kind::Find),
            targets,
            move |target, budget| {
                let (peers, by) = (Arc::clone(&peers), Arc::clone(&by));
                find_region(peers, by, target, (query.clone(), limit), None, budget)
            },
        );
        self.tasks.spawn(async move {
            let mut merge = Merge::new(sender.clone());
            loop {
                let answer = tokio::select! {
                    answer = asked.next() => answer,
                    // A caller who hung up: what is under way is given up with `asked` (bar F-07).
                    () = sender.closed() => return,
                };
                let Some(answer) = answer else { break };
                merge.answer(answer).await;
            }
            merge.end().await;
        });
        Ok(Stream::new(receiver).asked(count))
    }

    /// Every identifier of the person asked for, by the linkage id that the caller's community knows or
    /// by one identifier; those merged away too, since documents stay filed under them.
    ///
    /// # Errors
    /// A malformed identifier; [`Reason::UnknownPatient`].
    pub fn patients(
        &self,
        call: &Call,
        linkage_id: &str,
        patient: Option<&crate::wire::pb::common::Identifier>,
    ) -> Result<Vec<PatientIdentifier>> {
        if linkage_id.is_empty() {
            let identifier = identifier(patient, "patient_id")?;
            let linkage = self.identity.linkage(&identifier);
            return self.known_as(linkage.ok_or_else(super::unknown_patient)?);
        }
        let community = &call.caller().participant.community;
        let named = self.identity.named(linkage_id, community)?;
        self.known_as(self.identity.living(named)?)
    }

    /// Every identifier of a person, those merged away too, and those in communities that do not feed
    /// this node and said so when they were asked.
    ///
    /// # Errors
    /// [`Reason::UnknownPatient`] if the linkage id is nobody's; the store.
    pub fn known_as(&self, linkage: LinkageId) -> Result<Vec<PatientIdentifier>> {
        let mut identifiers = self.identity.known_as(linkage);
        if identifiers.is_empty() {
            return Err(super::unknown_patient());
        }
        for theirs in self.correlations.of(linkage)? {
            if !identifiers.contains(&theirs) {
                identifiers.push(theirs);
            }
        }
        Ok(identifiers)
    }

    /// The communities to ask: those the locator knows to hold something, or those named. One whose
    /// word that it knows the person has ended cannot be asked, and is among them as a gap (INV-6).
    ///
    /// # Errors
    /// The store.
    pub fn targets(
        &self,
        patients: &[PatientIdentifier],
        scope: Option<&pb::RegionScope>,
        wanted: impl Fn(&pb::Holding) -> bool,
    ) -> Result<Vec<Target>> {
        let directory = self.directory.snapshot();
        let mut targets: Vec<Target> = Vec::new();
        let in_scope = |home: &String| {
            let named = scope.map(|scope| &scope.home_community_ids);
            named.is_none_or(|named| named.is_empty() || named.contains(home))
        };
        for holding in self
            .locator
            .holdings(patients)?
            .iter()
            .filter(|held| wanted(held))
        {
            let home = holding.home_community_id.parse();
            let home = home.map_err(Error::internal)?;
            if !in_scope(&holding.home_community_id) {
                continue;
            }
            let peer = directory
                .peer(&home)
                .cloned()
                .unwrap_or_else(|| absent(&home));
            let patient = identifier(holding.patient_id.as_ref(), "holding.patient_id")?;
            match targets.iter_mut().find(|target| target.peer.home == home) {
                Some(target) if target.patients.contains(&patient) => {}
                Some(target) => target.patients.push(patient),
                None => {
                    targets.push(Target {
                        peer,
                        patients: vec![patient],
                    });
                }
            }
        }
        let person = patients.iter().find_map(|id| self.identity.linkage(id));
        for home in person.map_or(Ok(Vec::new()), |one| self.correlations.lapsed(one))? {
            if in_scope(&home.to_string()) && targets.iter().all(|one| one.peer.home != home) {
                targets.push(gap(&directory, &home));
            }
        }
        Ok(targets)
    }
}

/// Entries in messages that whoever asked can read.
pub fn in_messages(entries: Vec<dpb::DocumentEntry>) -> Vec<dpb::RegistryObjects> {
    let mut messages: Vec<dpb::RegistryObjects> = Vec::new();
    let mut room = 0;
    for entry in entries {
        let size = entry.encoded_len();
        match messages.last_mut() {
            Some(last) if size <= room && last.entries.len() < MESSAGE_ENTRIES => {
                room -= size;
                last.entries.push(entry);
            }
            _ => {
                room = MESSAGE_BYTES.saturating_sub(size);
                messages.push(dpb::RegistryObjects {
                    entries: vec![entry],
                    ..dpb::RegistryObjects::default()
                });
            }
        }
    }
    messages
}

/// A community that may hold something, and cannot be asked about this person.
fn gap(directory: &crate::directory::Snapshot, home: &HomeCommunityId) -> Target {
    let mut peer = directory
        .peer(home)
        .cloned()
        .unwrap_or_else(|| absent(home));
    Arc::make_mut(&mut peer).endpoint = None;
    let patients = Vec::new();
    Target { peer, patients }
}

/// A holder that the directory does not name (any more): it is asked nothing, and named as a gap.
pub(super) fn absent(home: &HomeCommunityId) -> Arc<crate::directory::Peer> {
    Arc::new(crate::directory::Peer {
        home: home.clone(),
        name: String::new(),
        endpoint: None,
        pins: Vec::new(),
        discovers: false,
        answers: crate::directory::Answers::default(),
    })
}

async fn send(sender: &mpsc::Sender<Result<FindResponse>>, part: FindPart) {
    // A receiver that is gone is a caller who hung up; the regions' own audits stand.
    if sender
        .send(Ok(FindResponse { part: Some(part) }))
        .await
        .is_err()
    {
        tracing::debug!("the caller left before the end of the answer");
    }
}

/// The `FindDocuments` query of a request; other stored queries do not cross communities yet.
pub(super) fn find_query(request: &FindRequest) -> Result<dpb::FindDocumentsQuery> {
    let query = request
        .query
        .as_ref()
        .and_then(|query| query.query.as_ref());
    match query {
        Some(dpb::stored_query::Query::FindDocuments(find)) => Ok(find.clone()),
        Some(_) => Err(Error::field(
            Reason::NotImplemented,
            "query",
            "only FindDocuments is asked across communities by this version",
        )),
        None => Err(Error::missing("query")),
    }
}

fn no_broadcast(request: &FindRequest) -> Result<()> {
    if request.scope.as_ref().is_some_and(|scope| scope.broadcast) {
        let message = "discover the patient first: documents are asked for by identifier";
        let field = "scope.broadcast";
        return Err(Error::field(Reason::NotImplemented, field, message));
    }
    Ok(())
}

/// Entries taken of one region.
pub(super) fn region_limit(request: &FindRequest) -> u32 {
    match request.region_limit {
        0 => MAX_REGION_ROWS,
        asked => asked.min(MAX_REGION_ROWS),
    }
}

/// What tells one document from another, by whatever way it is seen.
type Seen = (String, String, String);

fn seen(entry: &dpb::DocumentEntry) -> Seen {
    (
        entry.home_community_id.clone(),
        entry.repository_unique_id.clone(),
        entry.unique_id.clone(),
    )
}

/// A merged answer on its way to the caller: each document once, each region's in the same order each
/// time, then how each region answered.
pub(super) struct Merge {
    sender: mpsc::Sender<Result<FindResponse>>,
    told: HashSet<Seen>,
    statuses: Vec<cpb::RegionStatus>,
}

impl Merge {
    pub(super) fn new(sender: mpsc::Sender<Result<FindResponse>>) -> Self {
        Self {
            sender,
            told: HashSet::new(),
            statuses: Vec::new(),
        }
    }

    /// What one region answered.
    pub(super) async fn answer(&mut self, answer: Answer<Vec<dpb::DocumentEntry>>) {
        self.pass(answer.value.unwrap_or_default()).await;
        self.status(answer.status).await;
    }

    /// Entries that came another way, of regions that are asked that way.
    pub(super) async fn entries(
        &mut self,
        entries: Vec<dpb::DocumentEntry>,
        of: &[cpb::RegionStatus],
    ) {
        let asked = |home: &String| of.iter().any(|one| one.home_community_id == *home);
        let entries = entries.into_iter();
        let entries = entries.filter(|entry| asked(&entry.home_community_id));
        self.pass(entries.collect()).await;
    }

    async fn pass(&mut self, entries: Vec<dpb::DocumentEntry>) {
        let mut new = entries;
        new.retain(|entry| entry.unique_id.is_empty() || self.told.insert(seen(entry)));
        for objects in in_messages(new) {
            send(&self.sender, FindPart::Objects(objects)).await;
        }
    }

    /// How a region answered.
    pub(super) async fn status(&mut self, status: cpb::RegionStatus) {
        send(&self.sender, FindPart::Region(status.clone())).await;
        self.statuses.push(status);
    }

    /// The end: the completeness.
    pub(super) async fn end(self) {
        let complete = completeness(self.statuses);
        send(&self.sender, FindPart::Completeness(complete)).await;
    }
}

/// Each document once, the newest first; of one time, by uniqueId: the same order each time, by whatever
/// identifiers of the person they were found.
fn in_order(entries: &mut Vec<dpb::DocumentEntry>) {
    // Of two entries of one document the one that is in force.
    let in_force = dpb::AvailabilityStatus::Approved;
    entries.sort_by_key(|entry| entry.availability_status() != in_force);
    let mut told = HashSet::new();
    entries.retain(|entry| entry.unique_id.is_empty() || told.insert(seen(entry)));
    entries.sort_by(|a, b| {
        let newest = b.creation_time.cmp(&a.creation_time);
        newest.then_with(|| seen(a).cmp(&seen(b)))
    });
}

/// Asks one region, for each of the patient's identifiers there; with the hub's pass, if it is not the
/// hub that asks.
pub(super) async fn find_region(
    peers: Arc<Peers>,
    call: Arc<Call>,
    target: Target,
    (query, limit): (dpb::FindDocumentsQuery, u32),
    pass: Option<pb::HolderPass>,
    budget: Duration,
) -> Result<Said<Vec<dpb::DocumentEntry>>, Failure> {
    let channel = peers.channel(&target.peer)?;
    let mut client = RespondingGatewayServiceClient::new(channel);
    let mut room = MAX_REGION_BYTES;
    let mut said = Said {
        value: Vec::new(),
        count: 0,
        truncated: false,
        as_of: None,
    };
    for patient in &target.patients {
        let query = dpb::FindDocumentsQuery {
            patient_id: Some(crate::identity::identifier_message(patient)),
            ..query.clone()
        };
        let request = pb::RespondingGatewayServiceFindDocumentsRequest {
            query: Some(dpb::StoredQuery {
                query: Some(dpb::stored_query::Query::FindDocuments(query)),
                home_community_id: target.peer.home.to_string(),
                metadata_level: 0,
            }),
            return_type: dpb::ReturnType::LeafClass.into(),
            limit,
            pass: pass.clone(),
        };
        let response = client
            .find_documents(relayed(&call, request, budget))
            .await?;
        let parts = response.into_inner();
        collect(parts, &target, patient, limit, &mut room, &mut said).await?;
    }
    in_order(&mut said.value);
    said.count = u32::try_from(said.value.len()).unwrap_or(u32::MAX);
    Ok(said)
}

async fn collect(
    mut stream: tonic::Streaming<pb::RespondingGatewayServiceFindDocumentsResponse>,
    target: &Target,
    patient: &PatientIdentifier,
    limit: u32,
    room: &mut usize,
    said: &mut Said<Vec<dpb::DocumentEntry>>,
) -> Result<(), Failure> {
    use pb::responding_gateway_service_find_documents_response::Part;
    let (mut ended, mut messages) = (false, 0);
    while let Some(message) = stream.next().await {
        messages += 1;
        if messages > limit + SPARE_MESSAGES {
            return Err(Failure::Malformed("an answer without end"));
        }
        match message?.part {
            Some(Part::Objects(objects)) => {
                for entry in objects.entries {
                    ours(&entry, target, patient)?;
                    let left = room.checked_sub(entry.encoded_len());
                    let Some(left) = left.filter(|_| said.count < limit) else {
                        said.truncated = true;
                        return Ok(());
                    };
                    *room = left;
                    said.count += 1;
                    said.value.push(entry);
                }
            }
            Some(Part::Error(_)) => return Err(Failure::Malformed("registry error")),
            Some(Part::End(end)) => {
                ended = true;
                said.truncated |= end.truncated;
                said.as_of = end.as_of;
            }
            None => return Err(Failure::Malformed("empty message")),
        }
    }
    if ended {
        Ok(())
    } else {
        Err(Failure::Malformed("answer without end"))
    }
}

/// A region may only speak of the patient asked for, and of its own documents (INV-4, bar Z-18).
fn ours(
    entry: &dpb::DocumentEntry,
    target: &Target,
    patient: &PatientIdentifier,
) -> Result<(), Failure> {
    if entry.home_community_id != target.peer.home.to_string() {
        return Err(Failure::Malformed("an entry of another community"));
    }
    match identifier(entry.patient_id.as_ref(), "patient_id") {
        Ok(named) if named == *patient => Ok(()),
        _ => Err(Failure::Malformed("an entry of another patient")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bars: Z-18. One entry that is another patient's or another community's, or that does not say, and
    /// nothing the region says is passed on.
    #[test]
    fn an_entry_of_somebody_else_is_not_passed_on() {
        let asked: PatientIdentifier = "A-1^^^&2.999.2.1&ISO".parse().unwrap();
        let target = Target {
            peer: absent(&"urn:oid:2.999.1.1".parse().unwrap()),
            patients: vec![asked.clone()],
        };
        let entry = dpb::DocumentEntry {
            home_community_id: "urn:oid:2.999.1.1".to_owned(),
            patient_id: Some(crate::identity::identifier_message(&asked)),
            ..dpb::DocumentEntry::default()
        };
        assert!(ours(&entry, &target, &asked).is_ok());
        let other: PatientIdentifier = "A-2^^^&2.999.2.1&ISO".parse().unwrap();
        let foreign: PatientIdentifier = "A-1^^^&2.999.2.2&ISO".parse().unwrap();
        for spoilt in [
            dpb::DocumentEntry {
                home_community_id: "urn:oid:2.999.1.2".to_owned(),
                ..entry.clone()
            },
            dpb::DocumentEntry {
                home_community_id: String::new(),
                ..entry.clone()
            },
            dpb::DocumentEntry {
                patient_id: Some(crate::identity::identifier_message(&other)),
                ..entry.clone()
            },
            dpb::DocumentEntry {
                patient_id: Some(crate::identity::identifier_message(&foreign)),
                ..entry.clone()
            },
            dpb::DocumentEntry {
                patient_id: None,
                ..entry
            },
        ] {
            let failed = ours(&spoilt, &target, &asked);
            assert!(matches!(failed, Err(Failure::Malformed(_))), "{spoilt:?}");
        }
    }

    fn entry(octets: usize) -> dpb::DocumentEntry {
        dpb::DocumentEntry {
            hash: "0".repeat(octets),
            ..dpb::DocumentEntry::default()
        }
    }

    /// A document of a community, of a day of 2026.
    fn document(home: &str, unique_id: &str, day: u8) -> dpb::DocumentEntry {
        dpb::DocumentEntry {
            home_community_id: home.to_owned(),
            repository_unique_id: "1.9".to_owned(),
            unique_id: unique_id.to_owned(),
            creation_time: format!("202601{day:02}"),
            ..dpb::DocumentEntry::default()
        }
    }

    #[tokio::test]
    async fn a_document_is_told_once_and_always_in_the_same_place() {
        let (one, other) = ("urn:oid:1.2", "urn:oid:1.3");
        let found = |order: [u8; 4]| {
            let ids = ["a", "b", "c", "d"];
            let entries = order.map(|at| document(one, ids[usize::from(at)], 9 - at / 2));
            // By another identifier of the person, once more.
            let mut entries = [entries.to_vec(), entries.to_vec()].concat();
            in_order(&mut entries);
            entries
        };
        let entries = found([0, 1, 2, 3]);
        let ids: Vec<&str> = entries.iter().map(|one| one.unique_id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c", "d"], "the newest first");
        for order in [[3, 2, 1, 0], [2, 0, 3, 1]] {
            assert_eq!(found(order), entries);
        }

        let (sender, mut receiver) = mpsc::channel(64);
        let mut merge = Merge::new(sender);
        let named = |home: &str, state| cpb::RegionStatus {
            home_community_id: home.to_owned(),
            state: i32::from(state),
            ..cpb::RegionStatus::default()
        };
        let first = Answer {
            status: named(one, cpb::RegionState::Ok),
            value: Some(entries.clone()),
        };
        merge.answer(first).await;
        // The other way: one that is known, one of another repository, one of a community not asked so.
        let mut elsewhere = document(one, "a", 9);
        elsewhere.repository_unique_id = "1.10".to_owned();
        let again = vec![
            entries[1].clone(),
            elsewhere.clone(),
            document(other, "a", 9),
        ];
        let silent = [named(one, cpb::RegionState::Timeout)];
        merge.entries(again, &silent).await;
        merge.end().await;
        let mut told = Vec::new();
        while let Some(message) = receiver.recv().await {
            match message.unwrap().part {
                Some(FindPart::Objects(objects)) => told.extend(objects.entries),
                Some(FindPart::Completeness(whole)) => assert!(whole.complete),
                _ => {}
            }
        }
        assert_eq!(told, [entries, vec![elsewhere]].concat());
    }

    #[test]
    fn messages_are_small_and_nothing_is_lost() {
        assert!(in_messages(Vec::new()).is_empty());
        let sizes = [10, 10, 600_000, 600_000, 3_000_000, 10, 400_000];
        let sent: Vec<_> = sizes.iter().map(|size| entry(*size)).collect();
        let messages = in_messages(sent.clone());
        let counts: Vec<usize> = messages.iter().map(|one| one.entries.len()).collect();
        assert_eq!(counts, [3, 1, 1, 2]);
        let came: Vec<_> = messages.into_iter().flat_map(|one| one.entries).collect();
        assert_eq!(came, sent);
        let many = in_messages(vec![entry(1); 250]);
        let counts: Vec<usize> = many.iter().map(|one| one.entries.len()).collect();
        assert_eq!(counts, [100, 100, 50]);
    }
}
