//! Parsers on hostile input: no panic, no acceptance, work in proportion to the octets.

use proptest::prelude::*;
use std::sync::OnceLock;

use super::*;
use crate::pki::certificate::Certificate;
use crate::pki::{TrustHandle, assertion, der, describe, hc_role};
use crate::types::IssuerName;

struct Seeds {
    lab: Lab,
    chain: Vec<CertificateDer<'static>>,
    trust: TrustStore,
    handle: Arc<TrustHandle>,
    token: String,
}

fn seeds() -> &'static Seeds {
    static SEEDS: OnceLock<Seeds> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let mut lab = Lab::new();
        let chain = lab.issue(Kind::Person, Variant::Ok);
        let trust = lab.trust();
        let request = Lab::request(Kind::Institution, "signer");
        let identity = lab.pki.issue(&request).unwrap().identity().unwrap();
        let profiles = Profiles::test().unwrap();
        let signer = assertion::AssertionSigner::from_identity(&identity, &profiles).unwrap();
        let statement = assertion::Statement {
            subject: "staff-1".to_owned(),
            role: "Clerk".to_owned(),
            purpose: crate::types::PurposeOfUse::Treatment,
            relation: crate::types::Relation::Treating,
            institution: CODE.parse().unwrap(),
            audience: vec!["urn:oid:1.2.3".parse().unwrap()],
            presenter: None,
            one_time: false,
        };
        let token = signer
            .issue(statement, lab.now(), Duration::from_mins(5))
            .unwrap();
        let handle = TrustHandle::new(trust.clone());
        Seeds {
            lab,
            chain,
            trust,
            handle,
            token,
        }
    })
}

/// Octets of `seed` with a few changed, removed or put in.
fn mutated(seed: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, any::<u8>()), 1..6);
    edits.prop_map(move |edits| {
        let mut octets = seed.clone();
        for (at, kind, value) in edits {
            let at = at.index(octets.len().max(1));
            match kind {
                0 if at < octets.len() => octets[at] = value,
                1 if at < octets.len() => drop(octets.remove(at)),
                _ => octets.insert(at.min(octets.len()), value),
            }
        }
        octets
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..600)) {
        let seeds = seeds();
        let der = CertificateDer::from(octets.clone());
        prop_assert!(Certificate::read(&der, 65_536).is_err());
        prop_assert!(judge(std::slice::from_ref(&der), &seeds.trust, Usage::Person, seeds.lab.now()).is_err());
        prop_assert!(describe(&der, seeds.trust.profiles()).is_err());
        prop_assert!(seeds.trust.with_crls(&[octets.clone().into()]).is_err());
        let scheme = seeds.trust.profiles().role_scheme();
        prop_assert!(hc_role::decode(&octets, scheme).map_or(true, |roles| roles.len() <= 16));
        if let Ok(element) = der::whole(&octets) {
            drop(element.children());
            drop(der::oid_text(element.content));
        }
    }

    #[test]
    fn a_changed_certificate_is_never_accepted(octets in mutated(seeds().chain[0].to_vec())) {
        let seeds = seeds();
        prop_assume!(octets != seeds.chain[0].as_ref());
        let changed = [CertificateDer::from(octets), seeds.chain[1].clone()];
        let outcome = judge(&changed, &seeds.trust, Usage::Person, seeds.lab.now());
        prop_assert!(outcome.is_err());
        drop(describe(&changed[0], seeds.trust.profiles()));
    }

    #[test]
    fn a_changed_list_is_never_loaded(octets in mutated(seeds().lab.pki.crls()[0].to_vec())) {
        let seeds = seeds();
        prop_assume!(octets != seeds.lab.pki.crls()[0].as_ref());
        prop_assert!(seeds.trust.with_crls(&[octets.into()]).is_err());
    }

    #[test]
    fn a_changed_assertion_is_never_believed(octets in mutated(seeds().token.clone().into_bytes())) {
        let seeds = seeds();
        let Ok(token) = String::from_utf8(octets) else { return Ok(()) };
        prop_assume!(token != seeds.token);
        let audience = "urn:oid:1.2.3".parse().unwrap();
        let outcome = assertion::verify(&token, &seeds.handle, &audience, seeds.lab.now());
        prop_assert!(outcome.is_err());
    }

    #[test]
    fn any_text_is_an_assertion_or_refused(text in "[A-Za-z0-9_=.-]{0,200}") {
        let seeds = seeds();
        let audience = "urn:oid:1.2.3".parse().unwrap();
        prop_assert!(assertion::verify(&text, &seeds.handle, &audience, seeds.lab.now()).is_err());
    }

    #[test]
    fn a_name_that_is_read_is_printed_and_read_again(text in r##"([A-Za-z0-9.]{1,6}=([a-z ,+\\"#]|\\,|病){1,8}[,+]?){1,4}"##) {
        if let Ok(name) = IssuerName::parse(&text) {
            let printed = name.to_string();
            prop_assert_eq!(IssuerName::parse(&printed), Ok(name), "{}", printed);
        }
    }
}

/// Deeply nested and very wide structures: refused, and the work stays in proportion. Counted in
/// elements read, not in time.
///
/// Bars: T-22.
#[test]
fn deep_and_wide_structures_are_refused() {
    let seeds = seeds();
    let mut deep = Vec::new();
    for _ in 0..10_000 {
        deep = der::element(der::tag::SEQUENCE, &deep);
    }
    let wide = der::sequence(std::iter::repeat_n([0x05u8, 0x00], 20_000));
    let many: Vec<CertificateDer<'_>> =
        std::iter::repeat_n(seeds.chain[0].clone(), 1_000).collect();
    for octets in [deep, wide] {
        let der = CertificateDer::from(octets.clone());
        assert!(judge(&[der], &seeds.trust, Usage::Person, seeds.lab.now()).is_err());
        assert!(seeds.trust.with_crls(&[octets.clone().into()]).is_err());
        assert!(hc_role::decode(&octets, seeds.trust.profiles().role_scheme()).is_err());
    }
    let outcome = judge(&many, &seeds.trust, Usage::Person, seeds.lab.now());
    assert_eq!(rule(&outcome), "chain-length");
}
