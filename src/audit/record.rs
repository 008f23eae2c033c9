//! What one call leaves in the audit, collected while it runs.

use jiff::Timestamp;

use crate::types::{
    HomeCommunityId, InstitutionCode, PersonRole, PurposeOfUse, Redacted, Relation,
};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or disclosed.
    Success,
    /// Refused by the decision point.
    Denied,
    /// The request was malformed.
    Invalid,
    /// It failed here or at a peer.
    Error,
    /// The caller's deadline passed first.
    Cancelled,
}

/// Who a record is about: established before anything else is known.
#[derive(Clone, Debug)]
pub struct Who {
    /// The institution judged.
    pub institution: Option<InstitutionCode>,
    /// Its community.
    pub community: HomeCommunityId,
    /// The person, by the institution's identifier.
    pub subject: Option<String>,
    /// The role judged.
    pub role: PersonRole,
    /// The purpose stated.
    pub purpose: PurposeOfUse,
    /// How the person says to stand to the patient; nothing if there is no person.
    pub relation: Option<Relation>,
    /// The gateway that passed the call on.
    pub relay: Option<HomeCommunityId>,
}

/// A record in the making. Exactly one comes of every call (bar A-22).
#[derive(Clone, Debug)]
pub struct Record {
    /// Who called.
    pub who: Who,
    /// The full method name, such as `renkei.identity.v1.IdentityService/FeedPatient`.
    pub method: &'static str,
    /// The request id, shared by the nodes a call goes through.
    pub request_id: String,
    /// Keyed hash of the patient identifier concerned.
    pub patient: Option<Vec<u8>>,
    /// Items disclosed or written.
    pub items: u32,
    /// Break-glass grant used.
    pub grant: Option<String>,
    /// Reason text of a break-glass. Stored encrypted, never logged.
    pub reason: Option<Redacted<String>>,
    /// Regions asked, and those that answered.
    pub regions: Option<(u32, u32)>,
    /// Why it was refused: the internal reason.
    pub denial: Option<&'static str>,
    /// The failure's stable name.
    pub failure: Option<&'static str>,
    /// Documents concerned, by uniqueId.
    pub documents: Vec<String>,
    /// The version of the policies that decided.
    pub policy: Option<String>,
    /// The caller confirmed that restricted items be shown.
    pub confirmed: bool,
    /// Nothing but the person's word is for the relation to the patient.
    pub relation_claimed: bool,
}

impl Record {
    /// A record of a call that has done nothing yet.
    pub fn new(who: Who, method: &'static str, request_id: String) -> Self {
        Self {
            who,
            method,
            request_id,
            patient: None,
            items: 0,
            grant: None,
            reason: None,
            regions: None,
            denial: None,
            failure: None,
            documents: Vec::new(),
            policy: None,
            confirmed: false,
            relation_claimed: false,
        }
    }

    /// Closes the record: the bytes that go into a ledger frame.
    pub fn close(&self, outcome: Outcome, now: Timestamp) -> bytes::Bytes {
        super::event::encode(self, outcome, now)
    }
}
