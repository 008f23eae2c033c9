//! Tests of the whole module: the corpus, revocation lists, handshakes, assertions, OpenSSL.

mod algorithms;
mod assertions;
mod authorities;
mod corpus;
mod end_entities;
mod handshake;
mod hostile;
mod lists;
mod openssl;
mod profiles;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::dev::template::{DevKey, Extension, ListTemplate, Template, extension};
use super::dev::{DevPki, IssueRequest, KeyAlgorithm, Kind, Variant};
use super::{Certified, Profiles, Refusal, TrustOptions, TrustStore, Usage, judge};
use crate::clock::{Clock, ManualClock};

pub(super) const CODE: &str = "1312345678";
pub(super) const INSTITUTION: &str = "1.2.392.100495.1.5.1.3.0.1";
pub(super) const POLICY: &str = "2.5.29.32";
pub(super) const EKU: &str = "2.5.29.37";
pub(super) const KEY_USAGE: &str = "2.5.29.15";
pub(super) const BASIC: &str = "2.5.29.19";
pub(super) const ROLES: &str = "2.5.29.9";
pub(super) const AKI: &str = "2.5.29.35";

/// A development PKI in memory and the clock it lives by.
pub(super) struct Lab {
    pub(super) clock: Arc<ManualClock>,
    pub(super) pki: DevPki,
}

impl Lab {
    pub(super) fn new() -> Self {
        let clock = Arc::new(ManualClock::at("2026-06-15T03:00:00Z".parse().unwrap()));
        let pki = DevPki::in_memory(clock.clone()).unwrap();
        Self { clock, pki }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn trust(&self) -> TrustStore {
        self.pki.trust_store(TrustOptions::default()).unwrap()
    }

    pub(super) fn request(kind: Kind, name: &str) -> IssueRequest {
        let request = IssueRequest::new(kind, name, "Test System").institution(
            CODE,
            "Renkei Test Hospital",
            "連携試験病院",
        );
        match kind {
            Kind::Gateway => request.dns("localhost").ip("127.0.0.1".parse().unwrap()),
            Kind::Person => request.role("Medical Doctor"),
            _ => request,
        }
    }

    /// A chain as issued.
    pub(super) fn issue(&mut self, kind: Kind, variant: Variant) -> Vec<CertificateDer<'static>> {
        let name = format!("{kind}-{variant}-{}", self.pki.records().len());
        self.pki
            .issue(&Self::request(kind, &name).variant(variant))
            .unwrap()
            .chain
    }

    /// A leaf of `kind` changed by `change` before its signature, with the issuing CA.
    pub(super) fn altered(
        &self,
        kind: Kind,
        change: impl FnOnce(&mut Template),
    ) -> Vec<CertificateDer<'static>> {
        let key = DevKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let mut template = self
            .pki
            .template(&Self::request(kind, "x"), 77, &key)
            .unwrap();
        change(&mut template);
        let der = template.sign(&self.pki.issuing.key).unwrap();
        vec![CertificateDer::from(der), self.pki.issuing_certificate()]
    }

    pub(super) fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
    ) -> Result<Certified, Refusal> {
        judge(chain, &self.trust(), usage, self.now())
    }
}

/// Another CA below the lab's root, with its own list, and a leaf below it.
pub(super) struct Branch {
    pub(super) key: DevKey,
    pub(super) authority: Template,
    pub(super) leaf: Template,
    pub(super) list: ListTemplate,
}

impl Branch {
    pub(super) fn new(lab: &Lab, kind: Kind) -> Self {
        let key = DevKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let mut authority = lab.pki.authority_template(&key, 900).unwrap();
        authority.subject = super::dev::template::name([("2.5.4.6", "JP"), ("2.5.4.3", "Branch")]);
        let leaf_key = DevKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let mut leaf = lab
            .pki
            .template(&Lab::request(kind, "x"), 78, &leaf_key)
            .unwrap();
        leaf.issuer.clone_from(&authority.subject);
        set(
            &mut leaf,
            extension::authority_key(&key.key_id(), &authority.issuer, &authority.serial),
        );
        let mut list = lab.pki.issuing_crl_template(lab.now()).unwrap();
        list.issuer.clone_from(&authority.subject);
        Self {
            key,
            authority,
            leaf,
            list,
        }
    }

    pub(super) fn authority_der(&self, lab: &Lab) -> CertificateDer<'static> {
        CertificateDer::from(self.authority.sign(&lab.pki.root.key).unwrap())
    }

    pub(super) fn leaf_der(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.leaf.sign(&self.key).unwrap())
    }

    pub(super) fn list_der(&self) -> CertificateRevocationListDer<'static> {
        self.list.sign(&self.key).unwrap().into()
    }

    /// Judged with the CA configured and its list loaded.
    pub(super) fn judged(&self, lab: &Lab, usage: Usage) -> Result<Certified, Refusal> {
        let authority = self.authority_der(lab);
        let [arl, _] = lab.pki.crls();
        let store = TrustStore::from_der(
            &[lab.pki.root_certificate()],
            std::slice::from_ref(&authority),
            &[arl, self.list_der()],
            Profiles::test().unwrap(),
            TrustOptions::default(),
        );
        judge(
            &[self.leaf_der(), authority],
            &store.unwrap(),
            usage,
            lab.now(),
        )
    }

    /// Judged with the CA presented only.
    pub(super) fn presented(&self, lab: &Lab, usage: Usage) -> Result<Certified, Refusal> {
        judge(
            &[self.leaf_der(), self.authority_der(lab)],
            &lab.trust(),
            usage,
            lab.now(),
        )
    }
}

/// Replaces, or adds, an extension.
pub(super) fn set(template: &mut Template, extension: Extension) {
    match template
        .extensions
        .iter_mut()
        .find(|known| known.oid == extension.oid)
    {
        Some(known) => *known = extension,
        None => template.extensions.push(extension),
    }
}

/// Removes an extension.
pub(super) fn drop_extension(template: &mut Template, oid: &str) {
    template.extensions.retain(|known| known.oid != oid);
}

/// The rule that refused, or `ok`.
pub(super) fn rule(outcome: &Result<Certified, Refusal>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(refusal) => refusal.rule(),
    }
}

pub(super) fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

pub(super) type Change = Box<dyn Fn(&mut Template)>;

/// What is changed, of what kind, the rule expected, the change.
pub(super) type Case = (&'static str, Kind, &'static str, Change);

pub(super) fn case(
    what: &'static str,
    kind: Kind,
    expected: &'static str,
    change: impl Fn(&mut Template) + 'static,
) -> Case {
    (what, kind, expected, Box::new(change))
}

pub(super) fn usage_of(kind: Kind) -> Usage {
    match kind {
        Kind::Person => Usage::Person,
        Kind::Gateway => Usage::Server,
        Kind::Institution | Kind::Operator => Usage::Institution,
    }
}

pub(super) fn run(cases: Vec<Case>) {
    let lab = Lab::new();
    for (what, kind, expected, change) in cases {
        let outcome = lab.judge(&lab.altered(kind, |t| change(t)), usage_of(kind));
        assert_eq!(rule(&outcome), expected, "{what}: {outcome:?}");
    }
}
