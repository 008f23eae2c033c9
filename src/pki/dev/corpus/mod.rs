//! The corpus: certificates and chains, each rule kept and violated, with the verdict expected of
//! each (bar T-40). `renkei pki corpus` writes it to a folder for other implementations.
//!
//! Made afresh each time, with new keys: what is compared is verdicts, not bytes.

mod authorities;
mod changes;
mod dump;
mod end_entities;
mod line;
mod lists;
mod paths;
mod vectors;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::template::{Extension, Template};
use super::{DevError, DevPki, IssueRequest, Kind};
use crate::clock::Clock;
use crate::pki::{
    Certified, CrlError, Profiles, TrustError, TrustOptions, TrustStore, Usage, judge,
};

/// The institution of the corpus.
pub(crate) const CODE: &str = "1312345678";

/// What of a chain a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The end entity.
    EndEntity,
    /// A CA certificate.
    Authority,
    /// A revocation list.
    List,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndEntity => "leaf",
            Self::Authority => "authority",
            Self::List => "list",
        })
    }
}

/// Whom a case trusts.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    /// Root certificates.
    pub roots: Vec<CertificateDer<'static>>,
    /// Configured CA certificates below them.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Revocation lists loaded at start.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
    /// Lists put in force afterwards, as renewals.
    pub renewals: Vec<CertificateRevocationListDer<'static>>,
}

/// One case: what is presented to whom, and the verdict expected.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique name, a path: level, subject of the case, variant.
    pub name: String,
    /// What of the chain it is about.
    pub level: Level,
    /// The rule that refuses; `None` if the chain is accepted.
    pub expected: Option<&'static str>,
    /// What the certificate is presented for.
    pub usage: Usage,
    /// The set of profiles.
    pub set: &'static str,
    /// When it is judged.
    pub at: Timestamp,
    /// How long past nextUpdate a list serves.
    pub grace: Duration,
    /// What is presented, end entity first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whom the judge trusts.
    pub trusted: Trusted,
}

impl Case {
    /// The rule that refuses the chain, its trust or its lists; `None` if it is accepted.
    pub fn verdict(&self) -> Option<&'static str> {
        self.judged().err()
    }

    /// What the chain certifies, or the rule that refuses it.
    ///
    /// # Errors
    /// The rule.
    pub fn judged(&self) -> Result<Certified, &'static str> {
        let judged = judge(&self.chain, &self.store()?, self.usage, self.at);
        judged.map_err(|refusal| refusal.rule())
    }

    /// The trust that the chain is judged under.
    ///
    /// # Errors
    /// The rule by which it cannot be made.
    pub fn store(&self) -> Result<TrustStore, &'static str> {
        let profiles = Profiles::embedded(self.set).map_err(|_| "profiles")?;
        let options = TrustOptions {
            crl_grace: self.grace,
            ..TrustOptions::default()
        };
        let trusted = &self.trusted;
        let store = TrustStore::from_der(
            &trusted.roots,
            &trusted.authorities,
            &trusted.lists,
            profiles,
            options,
        );
        let store = store.map_err(|error| trust_rule(&error))?;
        match trusted.renewals.as_slice() {
            [] => Ok(store),
            renewals => store.with_crls(renewals).map_err(|error| error.rule()),
        }
    }
}

/// The rule that kept a trust store from being made.
fn trust_rule(error: &TrustError) -> &'static str {
    match error {
        TrustError::Authority { refusal, .. } => refusal.rule(),
        TrustError::Crl { error, .. } => CrlError::rule(error),
        TrustError::NotSelfSigned { .. } => "root-not-self-signed",
        TrustError::NoRoot => "no-root",
        _ => "file",
    }
}

/// The whole corpus.
#[derive(Debug)]
pub struct Corpus {
    cases: Vec<Case>,
}

impl Corpus {
    /// Makes the corpus, as of the time of `clock`.
    ///
    /// # Errors
    /// If a key or certificate cannot be made.
    pub fn generate(clock: Arc<dyn Clock>) -> Result<Self, DevError> {
        let mut maker = Maker {
            now: clock.now(),
            pki: DevPki::in_memory(Arc::clone(&clock))?,
            clock,
            cases: Vec::new(),
        };
        end_entities::add(&mut maker)?;
        authorities::add(&mut maker)?;
        lists::add(&mut maker)?;
        paths::add(&mut maker)?;
        vectors::add(&mut maker)?;
        Ok(Self { cases: maker.cases })
    }

    /// The cases.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// Every rule that a case expects to refuse, with the level: what a mutation run leaves out one
    /// by one.
    pub fn violated(&self) -> BTreeSet<(&'static str, Level)> {
        let violated = self
            .cases
            .iter()
            .filter_map(|case| Some((case.expected?, case.level)));
        violated.collect()
    }
}

/// Makes cases.
struct Maker {
    clock: Arc<dyn Clock>,
    now: Timestamp,
    pki: DevPki,
    cases: Vec<Case>,
}

impl Maker {
    /// What is asked of the development PKI for a certificate of `kind`.
    fn request(kind: Kind) -> IssueRequest {
        let request = IssueRequest::new(kind, "case", "Corpus System").institution(
            CODE,
            "Renkei Corpus Hospital",
            "連携標本病院",
        );
        match kind {
            Kind::Gateway => request.dns("localhost"),
            Kind::Person => request.role("Medical Doctor"),
            _ => request,
        }
    }

    /// The development PKI as trusted.
    fn trusted(&self) -> Trusted {
        Trusted {
            roots: vec![self.pki.root_certificate()],
            authorities: vec![self.pki.issuing_certificate()],
            lists: self.pki.crls().to_vec(),
            renewals: Vec::new(),
        }
    }

    /// Adds a case; returns it for what is special about it.
    fn add(
        &mut self,
        name: String,
        level: Level,
        usage: Usage,
        expected: Option<&'static str>,
        chain: Vec<CertificateDer<'static>>,
    ) -> &mut Case {
        let case = Case {
            name,
            level,
            expected,
            usage,
            set: "test",
            at: self.now,
            grace: Duration::ZERO,
            chain,
            trusted: self.trusted(),
        };
        self.cases.push(case);
        let last = self.cases.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "it was pushed just now")]
        &mut self.cases[last]
    }

    /// `seconds` from the time of the corpus.
    fn at(&self, seconds: i64) -> Result<Timestamp, DevError> {
        at(self.now, seconds)
    }
}

fn at(now: Timestamp, seconds: i64) -> Result<Timestamp, DevError> {
    let second = now.as_second().saturating_add(seconds);
    Timestamp::from_second(second).map_err(|_| DevError::Value {
        what: "time",
        value: second.to_string().into(),
        why: "outside the calendar",
    })
}

/// What a certificate of `kind` is presented for.
fn usage_of(kind: Kind) -> Usage {
    match kind {
        Kind::Person => Usage::Person,
        Kind::Gateway => Usage::Server,
        Kind::Institution | Kind::Operator => Usage::Institution,
    }
}

/// Replaces, or adds, an extension.
fn set(template: &mut Template, extension: Extension) {
    let known = template.extensions.iter_mut();
    match known.into_iter().find(|known| known.oid == extension.oid) {
        Some(known) => *known = extension,
        None => template.extensions.push(extension),
    }
}

/// Removes an extension.
fn remove(template: &mut Template, oid: &str) {
    template.extensions.retain(|known| known.oid != oid);
}

/// OIDs of extensions.
mod id {
    pub(super) const SUBJECT_DIRECTORY_ATTRIBUTES: &str = "2.5.29.9";
    pub(super) const KEY_USAGE: &str = "2.5.29.15";
    pub(super) const ALTERNATIVE_NAMES: &str = "2.5.29.17";
    pub(super) const BASIC_CONSTRAINTS: &str = "2.5.29.19";
    pub(super) const CRL_NUMBER: &str = "2.5.29.20";
    pub(super) const ISSUING_POINT: &str = "2.5.29.28";
    pub(super) const NAME_CONSTRAINTS: &str = "2.5.29.30";
    pub(super) const POLICIES: &str = "2.5.29.32";
    pub(super) const POLICY_MAPPINGS: &str = "2.5.29.33";
    pub(super) const AUTHORITY_KEY: &str = "2.5.29.35";
    pub(super) const POLICY_CONSTRAINTS: &str = "2.5.29.36";
    pub(super) const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
    pub(super) const INHIBIT_ANY_POLICY: &str = "2.5.29.54";
}

/// Policies of the test profiles, and of others.
mod policy {
    pub(super) const ORGANISATION: &str = "1.2.392.100495.1.5.1.3.0.1";
    pub(super) const PERSON: &str = "1.2.392.100495.1.5.1.2.0.1";
    pub(super) const SIGNING: &str = "1.2.392.100495.1.5.1.1.0.1";
    pub(super) const ORGANISATION_PRODUCTION: &str = "1.2.392.100495.1.5.1.3.3.1";
    pub(super) const PERSON_PRODUCTION: &str = "1.2.392.100495.1.5.1.2.3.1";
    pub(super) const SIGNING_PRODUCTION: &str = "1.2.392.100495.1.5.1.1.3.1";
    pub(super) const ANY: &str = "2.5.29.32.0";
    pub(super) const CPS: &str = "http://127.0.0.1/renkei-dev/repository/";
}
