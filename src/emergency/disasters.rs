//! Disaster mode (災害時モード): declared by two people, for named areas and at most seven days, over by
//! itself (`spec` security-bars §5, bars F-20, Z-15).

use std::sync::{Arc, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};

use crate::access::two_people::{self, Approver, person};
use crate::access::{Action, Call, Caller, Permit};
use crate::clock::Clock;
use crate::consent::Declared;
use crate::error::{Error, Reason, Result};
use crate::store::{AppliedWrite, Expect, Follower, Row as _, Sequence, Store, Versioned, Write};
use crate::types::Redacted;
use crate::wire::pb::emergency as pb;

use super::tables::DisasterRow;

/// The longest a disaster lasts, and how long if nothing is asked.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Areas of one disaster.
const MAX_AREAS: usize = 47;
/// Characters of a reason that says something, and at most.
const REASON: std::ops::RangeInclusive<usize> = 10..=1_000;
/// Characters of a name.
const MAX_NAME: usize = 200;

/// The disasters declared at this node.
#[derive(Debug)]
pub struct Disasters {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    known: Arc<Known>,
}

/// The disasters in force, as decisions ask for them.
#[derive(Debug)]
struct Known {
    rows: RwLock<Vec<DisasterRow>>,
    clock: Arc<dyn Clock>,
}

impl Known {
    fn put(&self, row: DisasterRow) {
        let now = self.clock.now();
        let mut known = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|other| other.key() != row.key() && in_force(other, now));
        if in_force(&row, now) {
            known.push(row);
        }
    }
}

impl Follower for Known {
    fn applied(&self, _: Sequence, writes: &[AppliedWrite]) {
        let rows = writes
            .iter()
            .filter_map(|write| write.row::<DisasterRow>().ok());
        rows.flatten().for_each(|row| self.put(row));
    }
}

impl Disasters {
    /// Disasters kept in `store`.
    ///
    /// # Errors
    /// The store.
    pub fn open(store: Arc<Store>, clock: Arc<dyn Clock>) -> Result<Self> {
        let known = Arc::new(Known {
            rows: RwLock::default(),
            clock: Arc::clone(&clock),
        });
        store.scan::<DisasterRow>(&mut |found| {
            known.put(found.row);
            Ok(())
        })?;
        store.follow(Arc::clone(&known) as Arc<dyn Follower>);
        Ok(Self {
            store,
            clock,
            known,
        })
    }

    /// Proposes a disaster, or agrees to one that another person proposed.
    ///
    /// # Errors
    /// A malformed proposal; [`Reason::SecondPersonNeeded`] if the same person agrees, [`Reason::WrongState`]
    /// if too late; the store.
    pub async fn declare(
        &self,
        permit: &Permit,
        call: &Call,
        request: &pb::DeclareDisasterRequest,
    ) -> Result<pb::DeclareDisasterResponse> {
        permit.require(&[Action::DeclareDisaster])?;
        let now = self.clock.now();
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, request, now)?;
        if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        let length = request.reason.trim().chars().count();
        if !REASON.contains(&length) {
            let message = "must say why, in 10 to 1000 characters";
            return Err(Error::field(Reason::InvalidField, "reason", message));
        }
        call.note(|record| record.reason = Some(Redacted(request.reason.clone())));
        let (row, expect) = match request.disaster_id.as_str() {
            "" => (propose(call, request, now)?, Expect::Absent),
            id => self.agree(call, id, now)?,
        };
        let response = pb::DeclareDisasterResponse {
            disaster: row.disaster.clone(),
            in_force: in_force(&row, now),
        };
        call.note(|record| record.grant = Some(row.id()));
        let writes = vec![Write::put(&row).expecting(expect)];
        call.commit(&self.store, now, writes, idempotency, response)
            .await
    }

    fn agree(&self, call: &Call, id: &str, now: Timestamp) -> Result<(DisasterRow, Expect)> {
        let (mut row, version) = self.row(id)?;
        if row.ended {
            let message = "it was ended, or taken back";
            return Err(Error::field(Reason::WrongState, "disaster_id", message));
        }
        let (caller, proposed) = (call.caller(), row.proposed_ms);
        let me = two_people::second(&row.approvers, proposed, caller, now, "disaster_id")?;
        row.approvers.push(me);
        let lasts = SignedDuration::from_secs(row.seconds);
        let ends = now.checked_add(lasts).map_err(Error::internal)?;
        row.ends_ms = ends.as_millisecond();
        if let Some(disaster) = &mut row.disaster {
            disaster.starts = Some(crate::wire::timestamp(now));
            disaster.ends = Some(crate::wire::timestamp(ends));
            disaster.approvers.push(person(call.caller()));
        }
        Ok((row, Expect::Version(version)))
    }

    /// Ends a disaster before its time: one person suffices, since it only takes away.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; [`Reason::WrongState`] if it is over; the store.
    pub async fn end(
        &self,
        permit: &Permit,
        call: &Call,
        request: &pb::EndDisasterRequest,
    ) -> Result<pb::EndDisasterResponse> {
        permit.require(&[Action::DeclareDisaster])?;
        let now = self.clock.now();
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, request, now)?;
        if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        let (mut row, version) = self.row(&request.disaster_id)?;
        if two_people::agreed(&row.approvers) && !in_force(&row, now) || row.ended {
            let message = "it is over already";
            return Err(Error::field(Reason::WrongState, "disaster_id", message));
        }
        row.ended = true;
        if let Some(disaster) = &mut row.disaster {
            disaster.ended = Some(crate::wire::timestamp(now));
        }
        call.note(|record| record.grant = Some(row.id()));
        let response = pb::EndDisasterResponse {
            disaster: row.disaster.clone(),
        };
        let writes = vec![Write::put(&row).expecting(Expect::Version(version))];
        call.commit(&self.store, now, writes, idempotency, response)
            .await
    }

    fn row(&self, id: &str) -> Result<(DisasterRow, Sequence)> {
        let known = self.store.get::<DisasterRow>(id.as_bytes())?;
        let Some(Versioned { version, row }) = known else {
            let message = "no such disaster";
            return Err(Error::field(Reason::NotFound, "disaster_id", message));
        };
        Ok((row, version))
    }
}

impl Declared for Disasters {
    fn covers(&self, caller: &Caller, now: Timestamp) -> bool {
        let Some(code) = &caller.participant.code else {
            return false;
        };
        let known = self
            .known
            .rows
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|row| {
            let disaster = row.disaster.as_ref();
            // A drill is for practising the declaration: there are no test patients to open.
            disaster.is_some_and(|disaster| {
                !disaster.drill
                    && in_force(row, now)
                    && disaster
                        .areas
                        .iter()
                        .any(|area| code.as_str().starts_with(area))
            })
        })
    }
}

fn in_force(row: &DisasterRow, now: Timestamp) -> bool {
    two_people::agreed(&row.approvers) && !row.ended && now.as_millisecond() < row.ends_ms
}

fn propose(
    call: &Call,
    request: &pb::DeclareDisasterRequest,
    now: Timestamp,
) -> Result<DisasterRow> {
    let name = request.name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME {
        let message = format!("must have 1 to {MAX_NAME} characters");
        return Err(Error::field(Reason::InvalidField, "name", message));
    }
    if request.areas.is_empty() || request.areas.len() > MAX_AREAS {
        let message = format!("must name 1 to {MAX_AREAS} areas");
        return Err(Error::field(Reason::InvalidField, "areas", message));
    }
    for (index, area) in request.areas.iter().enumerate() {
        prefecture(area, index)?;
    }
    let asked = request.duration.as_ref();
    let seconds = asked.map_or(LONGEST.as_secs(), |asked| asked.seconds);
    if seconds < 60 || seconds > LONGEST.as_secs() {
        let message = "must be between a minute and seven days";
        return Err(Error::field(Reason::InvalidField, "duration", message));
    }
    let id = uuid::Uuid::new_v4().to_string();
    Ok(DisasterRow {
        disaster: Some(pb::Disaster {
            disaster_id: id,
            name: name.to_owned(),
            areas: request.areas.clone(),
            approvers: vec![person(call.caller())],
            drill: request.drill,
            ..pb::Disaster::default()
        }),
        approvers: vec![Approver::of(call.caller()).stored()],
        reason: request.reason.clone(),
        proposed_ms: now.as_millisecond(),
        seconds,
        ends_ms: 0,
        ended: false,
    })
}

/// An area: a prefecture, which an institution's code begins with (JIS X 0401).
fn prefecture(area: &str, index: usize) -> Result<()> {
    let field = format!("areas[{index}]");
    let digits = area.bytes().all(|byte| byte.is_ascii_digit());
    match (area.len(), area.parse::<u8>()) {
        (2, Ok(1..=47)) if digits => Ok(()),
        (5, _) if digits => {
            let message = "institutions are known by prefecture here; name the prefecture";
            Err(Error::field(Reason::NotImplemented, field, message))
        }
        _ => {
            let message = "is not a prefecture (JIS X 0401) or municipality (JIS X 0402)";
            Err(Error::field(Reason::InvalidField, field, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::access::{Facts, Participant, ParticipantKind, Policies, PolicyHandle, decide};
    use crate::store::{IndexKind, Options, Schema};
    use crate::types::{CertificatePin, PurposeOfUse};

    #[derive(Debug)]
    struct Hands(Mutex<Timestamp>);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }

    struct Node {
        disasters: Disasters,
        hands: Arc<Hands>,
        policies: Arc<PolicyHandle>,
        _folder: tempfile::TempDir,
    }

    fn operator(number: u8) -> Caller {
        Caller {
            participant: Arc::new(Participant {
                code: None,
                kind: ParticipantKind::Operator,
                community: "urn:oid:1.2.3".parse().unwrap(),
                emergency: false,
                roles: vec![],
                purposes: vec![],
            }),
            person: None,
            purpose: PurposeOfUse::Operations,
            pin: CertificatePin::from_bytes([number; 32]),
            holder: format!("CN=operator {number}").into(),
            relay: None,
            assertion: None,
            until: None,
        }
    }

    fn hospital(code: &str) -> Caller {
        let mut caller = operator(9);
        let participant = Arc::make_mut(&mut caller.participant);
        participant.code = Some(code.parse().unwrap());
        participant.kind = ParticipantKind::Hospital;
        caller
    }

    impl Node {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let schema = crate::emergency::tables(Schema::new());
            let options = Options {
                index: IndexKind::Fjall,
                preallocate_bytes: 64 << 10,
                ..Options::default()
            };
            let (store, _) = Store::open(folder.path(), schema, options).unwrap();
            let start = "2026-01-01T00:00:00Z".parse().unwrap();
            let hands = Arc::new(Hands(Mutex::new(start)));
            let clock = Arc::clone(&hands) as Arc<dyn Clock>;
            let policies = PolicyHandle::new(Policies::built_in().unwrap(), |_| {});
            Self {
                disasters: Disasters::open(store, clock).unwrap(),
                hands,
                policies: Arc::new(policies),
                _folder: folder,
            }
        }

        fn later(&self, hours: i64) {
            let mut now = self.hands.0.lock().unwrap();
            *now = now.checked_add(SignedDuration::from_hours(hours)).unwrap();
        }

        fn covers(&self, code: &str) -> bool {
            self.disasters.covers(&hospital(code), self.hands.now())
        }

        fn call(&self, who: u8) -> (Permit, Call) {
            let caller = operator(who);
            let home = caller.participant.community.clone();
            let facts = Facts::alone(&caller, Action::DeclareDisaster, &home, self.hands.now());
            let permit = decide(&self.policies, &facts);
            let method = "renkei.emergency.v1.EmergencyService/DeclareDisaster";
            let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
            let call = Call::new(caller, method, "id".to_owned(), deadline);
            (permit.unwrap(), call)
        }

        async fn declare(
            &self,
            who: u8,
            request: pb::DeclareDisasterRequest,
        ) -> Result<pb::DeclareDisasterResponse> {
            let (permit, call) = self.call(who);
            self.disasters.declare(&permit, &call, &request).await
        }

        async fn agree(&self, who: u8, id: &str) -> Result<pb::DeclareDisasterResponse> {
            let request = pb::DeclareDisasterRequest {
                disaster_id: id.to_owned(),
                ..proposal()
            };
            self.declare(who, request).await
        }
    }

    fn proposal() -> pb::DeclareDisasterRequest {
        pb::DeclareDisasterRequest {
            name: "地震".to_owned(),
            areas: vec!["13".to_owned()],
            reason: "広域の停電と道路の寸断".to_owned(),
            ..Default::default()
        }
    }

    fn id_of(declared: pb::DeclareDisasterResponse) -> String {
        declared.disaster.unwrap().disaster_id
    }

    /// Bars: F-20, Z-15.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_people_declare_it_for_an_area_and_it_ends_by_itself() {
        let node = Node::new();
        let proposed = node.declare(1, proposal()).await.unwrap();
        assert!(!proposed.in_force);
        assert!(!node.covers("1310000001"), "one person is not enough");
        let id = id_of(proposed);
        let same = node.agree(1, &id).await.unwrap_err();
        assert_eq!(same.reason(), Reason::SecondPersonNeeded);
        assert!(!node.covers("1310000001"));
        assert!(node.agree(2, &id).await.unwrap().in_force);
        assert!(node.covers("1310000001"));
        assert!(!node.covers("2710000001"), "another prefecture");
        assert_eq!(
            node.agree(3, &id).await.unwrap_err().reason(),
            Reason::WrongState
        );
        node.later(7 * 24 - 1);
        assert!(node.covers("1310000001"));
        node.later(2);
        assert!(!node.covers("1310000001"), "seven days are over");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_proposal_grows_old_and_a_disaster_may_be_ended() {
        let node = Node::new();
        let old = id_of(node.declare(1, proposal()).await.unwrap());
        node.later(25);
        assert_eq!(
            node.agree(2, &old).await.unwrap_err().reason(),
            Reason::WrongState
        );
        let id = id_of(node.declare(1, proposal()).await.unwrap());
        node.agree(2, &id).await.unwrap();
        assert!(node.covers("1310000001"));
        let end = pb::EndDisasterRequest {
            disaster_id: id.clone(),
            ..Default::default()
        };
        let (permit, call) = node.call(3);
        node.disasters.end(&permit, &call, &end).await.unwrap();
        assert!(!node.covers("1310000001"));
        let (permit, call) = node.call(3);
        let again = node.disasters.end(&permit, &call, &end).await;
        assert_eq!(again.unwrap_err().reason(), Reason::WrongState);
        // A proposal that was taken back is not agreed to any more.
        let id = id_of(node.declare(1, proposal()).await.unwrap());
        let end = pb::EndDisasterRequest {
            disaster_id: id.clone(),
            ..Default::default()
        };
        let (permit, call) = node.call(3);
        node.disasters.end(&permit, &call, &end).await.unwrap();
        let late = node.agree(2, &id).await.unwrap_err();
        assert_eq!(late.reason(), Reason::WrongState);
        assert!(!node.covers("1310000001"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_no_disaster_is_refused_and_a_drill_opens_nothing() {
        let node = Node::new();
        let wrong = [
            pb::DeclareDisasterRequest {
                name: " ".into(),
                ..proposal()
            },
            pb::DeclareDisasterRequest {
                areas: vec![],
                ..proposal()
            },
            pb::DeclareDisasterRequest {
                areas: vec!["48".into()],
                ..proposal()
            },
            pb::DeclareDisasterRequest {
                areas: vec!["1".into()],
                ..proposal()
            },
            pb::DeclareDisasterRequest {
                reason: "短い".into(),
                ..proposal()
            },
            pb::DeclareDisasterRequest {
                duration: Some(prost_types::Duration {
                    seconds: 8 * 86_400,
                    nanos: 0,
                }),
                ..proposal()
            },
        ];
        for request in wrong {
            let refused = node.declare(1, request).await.unwrap_err();
            assert_eq!(refused.reason(), Reason::InvalidField);
        }
        let drill = pb::DeclareDisasterRequest {
            drill: true,
            ..proposal()
        };
        let id = id_of(node.declare(1, drill).await.unwrap());
        assert!(node.agree(2, &id).await.unwrap().in_force);
        assert!(!node.covers("1310000001"));
    }
}
