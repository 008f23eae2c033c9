//! Passes: the hub's leave for a region to ask one holder about one person, signed by the hub, and what a
//! holder believes of one.
//!
//! The hub judges the question as it judges one that goes through it, with the wishes that all regions
//! have told it, and says so for a short time. So a holder whom a region asks is asked no more loosely
//! than by the hub; what is recorded at the holder it asks itself, each time.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use prost::Message as _;

use crate::access::Pass;
use crate::directory::Peer;
use crate::error::{Error, Reason, Result};
use crate::identity::{identifier, identifier_message};
use crate::pki::{IdentityHandle, TrustHandle, detached};
use crate::types::{HomeCommunityId, PatientIdentifier};
use crate::wire::pb::federation as pb;

use super::fanout::Target;

/// How long a pass may be used: so long a refusal that reaches the hub after it was issued may not be
/// followed by a region that asks without the hub.
pub const PASS_LIFETIME: Duration = Duration::from_mins(2);
/// How far the hub's clock may be ahead of the holder's.
const SKEW: Duration = Duration::from_mins(1);
/// The `typ` of the signature.
const TYPE: &str = "renkei-pass+jws";
/// The largest statement read, and the most identifiers in it.
const LARGEST: usize = 64 * 1024;
const MOST: usize = 1_000;

/// Whose question passes are for.
#[derive(Clone, Debug)]
pub struct Question {
    /// The gateway that asks.
    pub asker: HomeCommunityId,
    /// The assertion of the person for whom it asks.
    pub assertion: Arc<str>,
    /// Documents may be read too, not only found.
    pub reads: bool,
}

/// Signs a pass for each of `targets`. May take a token milliseconds for each.
///
/// # Errors
/// A key that does not sign.
pub fn issue(
    (issuer, identity): (&HomeCommunityId, &IdentityHandle),
    question: &Question,
    targets: &[Target],
    now: Timestamp,
) -> Result<Vec<pb::HolderPass>> {
    let identity = identity.current();
    let expires = now.saturating_add(PASS_LIFETIME).map_err(Error::internal)?;
    let one = |target: &Target| {
        let statement = pb::PassStatement {
            issuer: issuer.to_string(),
            holder: target.peer.home.to_string(),
            asker: question.asker.to_string(),
            assertion: hash(&question.assertion).into(),
            patient_ids: target.patients.iter().map(identifier_message).collect(),
            reads: question.reads,
            issued: Some(crate::wire::timestamp(now)),
            expires: Some(crate::wire::timestamp(expires)),
        };
        let octets = statement.encode_to_vec();
        let signature = detached::sign(&identity, TYPE, &octets).map_err(Error::internal)?;
        Ok(pb::HolderPass {
            statement: octets.into(),
            signature,
        })
    };
    targets.iter().map(one).collect()
}

fn hash(assertion: &str) -> Vec<u8> {
    digest(&SHA256, assertion.as_bytes()).as_ref().to_vec()
}

/// What a statement says, read but not believed yet: who signed it is another question.
#[derive(Clone, Debug)]
pub struct Stated {
    /// Who says so.
    pub issuer: HomeCommunityId,
    /// Who may be asked.
    pub holder: HomeCommunityId,
    /// Who may ask.
    pub asker: HomeCommunityId,
    /// About whom, and for what.
    pub pass: Pass,
    /// Until when.
    pub expires: Timestamp,
    assertion: Vec<u8>,
    issued: Timestamp,
}

impl Stated {
    /// Reads the statement of a pass.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(pass: &pb::HolderPass) -> std::result::Result<Self, &'static str> {
        const UNREADABLE: &str = "cannot be read";
        if pass.statement.len() > LARGEST {
            return Err("is too large");
        }
        let said = pb::PassStatement::decode(pass.statement.clone()).map_err(|_| UNREADABLE)?;
        let home = |text: &str| text.parse::<HomeCommunityId>().map_err(|_| UNREADABLE);
        let time = |time: Option<&prost_types::Timestamp>| {
            time.and_then(crate::wire::from_timestamp).ok_or(UNREADABLE)
        };
        if said.patient_ids.is_empty() || said.patient_ids.len() > MOST {
            return Err("names no patient, or too many");
        }
        let patients = said.patient_ids.iter();
        let patients = patients.map(|one| identifier(Some(one), "patient_ids"));
        let patients: Result<Vec<PatientIdentifier>> = patients.collect();
        Ok(Self {
            issuer: home(&said.issuer)?,
            holder: home(&said.holder)?,
            asker: home(&said.asker)?,
            pass: Pass {
                patients: patients.map_err(|_| UNREADABLE)?,
                reads: said.reads,
            },
            issued: time(said.issued.as_ref())?,
            expires: time(said.expires.as_ref())?,
            assertion: said.assertion.to_vec(),
        })
    }
}

/// What a pass that came with a call must be.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The holder's hub.
    pub parent: &'a Peer,
    /// The holder.
    pub home: &'a HomeCommunityId,
    /// The gateway that asks.
    pub asker: &'a HomeCommunityId,
    /// The assertion that came with the call.
    pub assertion: &'a str,
    /// When.
    pub now: Timestamp,
}

/// The pass, if it is the hub's, for this holder, this gateway and this person, and in force.
///
/// # Errors
/// Why it is not believed; the caller is told nothing of it.
pub fn verify(
    pass: &pb::HolderPass,
    presented: &Presented<'_>,
    trust: &TrustHandle,
) -> std::result::Result<Pass, &'static str> {
    let octets = &pass.statement;
    let signer = detached::verify(&pass.signature, TYPE, octets, trust, presented.now)
        .map_err(|_| "is not signed")?;
    if !presented.parent.pins.contains(&signer.spki_sha256) {
        return Err("is not signed by the hub");
    }
    let stated = Stated::read(pass)?;
    let (now, issued, expires) = (presented.now, stated.issued, stated.expires);
    let ahead = now.saturating_add(SKEW).unwrap_or(now);
    let refusals = [
        (
            stated.issuer != presented.parent.home,
            "is of another issuer",
        ),
        (stated.holder != *presented.home, "is for another holder"),
        (stated.asker != *presented.asker, "is for another gateway"),
        (
            stated.assertion != hash(presented.assertion),
            "is for another person",
        ),
        (expires <= now, "has expired"),
        (issued > ahead, "is of the future"),
        (
            expires.duration_since(issued)
                > jiff::SignedDuration::try_from(PASS_LIFETIME).unwrap_or_default(),
            "is for longer than a pass may be used",
        ),
    ];
    match refusals.iter().find(|(refused, _)| *refused) {
        Some((_, why)) => Err(why),
        None => Ok(stated.pass),
    }
}

/// What a region keeps of the passes it was given, and gives with its questions.
#[derive(Clone, Debug)]
pub struct Given {
    /// As the hub signed it.
    pub pass: pb::HolderPass,
    /// What it says.
    pub stated: Stated,
}

impl Given {
    /// Takes a pass that the hub gave this region.
    ///
    /// # Errors
    /// [`Reason::CommunityUnavailable`] for what is no pass.
    pub fn take(pass: pb::HolderPass) -> Result<Self> {
        let stated = Stated::read(&pass).map_err(|why| {
            let message = "the parent's answer cannot be used";
            Error::new(Reason::CommunityUnavailable, message).caused_by(why)
        })?;
        Ok(Self { pass, stated })
    }
}
