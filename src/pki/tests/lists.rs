//! Revocation lists: what is loaded, and what they say of certificates.

use super::*;
use crate::pki::certified::Remark;
use crate::pki::der::{self, tag};
use crate::pki::{CrlError, TrustHandle};

fn load(lab: &Lab, list: &ListTemplate) -> Result<TrustStore, CrlError> {
    lab.trust()
        .with_crls(&[list.sign(&lab.pki.issuing.key).unwrap().into()])
}

fn scope(parts: Vec<Vec<u8>>) -> Extension {
    Extension::new("2.5.29.28", true, der::sequence(parts))
}

fn set_scope(list: &mut ListTemplate, scope: Extension) {
    list.extensions.retain(|known| known.oid != scope.oid);
    list.extensions.push(scope);
}

fn flag(number: u8) -> Vec<u8> {
    der::element(tag::primitive(number), &[0xff])
}

fn point(uri: &str) -> Vec<u8> {
    let names = der::element(tag::constructed(0), &extension::uri(uri));
    der::element(tag::constructed(0), &names)
}

/// Bars: T-08, T-09.
#[test]
fn leaf_and_intermediate_are_revocable() {
    let mut lab = Lab::new();
    let chain = lab.issue(Kind::Institution, Variant::Ok);
    let other = lab.issue(Kind::Institution, Variant::Ok);
    let name = lab.pki.records()[0].name.clone();
    lab.pki.revoke(&name).unwrap();
    assert_eq!(rule(&lab.judge(&chain, Usage::Institution)), "revoked");
    assert_eq!(rule(&lab.judge(&other, Usage::Institution)), "ok");
    assert!(lab.pki.revoke("nobody").is_err());
    lab.pki.revoke_issuing().unwrap();
    let outcome = lab.judge(&other, Usage::Institution);
    let place = crate::pki::Place::Authority(1);
    assert!(matches!(outcome, Err(Refusal::Revoked { place: p, .. }) if p == place));
}

/// Bars: T-11.
#[test]
fn without_a_list_everything_is_refused() {
    let mut lab = Lab::new();
    let chain = lab.issue(Kind::Institution, Variant::Ok);
    let [arl, crl] = lab.pki.crls();
    for (lists, expected) in [
        (vec![], "crl-missing"),
        (vec![arl.clone()], "crl-missing"),
        (vec![crl.clone()], "crl-missing"),
        (vec![arl, crl], "ok"),
    ] {
        let store = TrustStore::from_der(
            &[lab.pki.root_certificate()],
            &[lab.pki.issuing_certificate()],
            &lists,
            Profiles::test().unwrap(),
            TrustOptions::default(),
        )
        .unwrap();
        assert_eq!(store.authorities_without_crl().len(), 2 - lists.len());
        let outcome = judge(&chain, &store, Usage::Institution, lab.now());
        assert_eq!(rule(&outcome), expected, "{} lists", lists.len());
    }
}

/// Bars: T-10.
#[test]
fn a_list_serves_to_next_update_then_with_a_remark_to_the_end_of_grace() {
    let mut lab = Lab::new();
    let chain = lab.issue(Kind::Institution, Variant::Ok);
    let strict = lab.trust();
    let lenient = lab
        .pki
        .trust_store(TrustOptions {
            crl_grace: Duration::from_hours(24),
            ..TrustOptions::default()
        })
        .unwrap();
    let start = lab.now();
    let at = |seconds: i64| Timestamp::from_second(start.as_second() + seconds).unwrap();
    let life = 96 * 3_600;
    let judged =
        |store: &TrustStore, seconds| judge(&chain, store, Usage::Institution, at(seconds));
    assert_eq!(rule(&judged(&strict, life)), "ok");
    assert_eq!(rule(&judged(&strict, life + 1)), "crl-expired");
    let within = judged(&lenient, life + 1).unwrap();
    assert!(
        within
            .remarks
            .iter()
            .any(|remark| matches!(remark, Remark::CrlInGrace { .. }))
    );
    assert_eq!(rule(&judged(&lenient, life + 86_400)), "ok");
    assert_eq!(rule(&judged(&lenient, life + 86_401)), "crl-expired");
    // Issued by a clock ahead of ours: within five minutes served, beyond refused.
    assert_eq!(rule(&judged(&strict, -299)), "ok");
    assert_eq!(rule(&judged(&strict, -301)), "crl-not-yet-valid");
}

/// Bars: T-12.
#[test]
fn lists_that_must_not_be_loaded() {
    let lab = Lab::new();
    let now = lab.now();
    let list = || lab.pki.issuing_crl_template(now).unwrap();
    let with = |extension: Extension| {
        let mut list = list();
        list.extensions.retain(|known| known.oid != extension.oid);
        list.extensions.push(extension);
        load(&lab, &list)
    };
    assert!(load(&lab, &list()).is_ok());
    let mut without = list();
    without.next_update = None;
    assert_eq!(load(&lab, &without).unwrap_err(), CrlError::NoNextUpdate);
    let mut without = list();
    without.extensions.retain(|known| known.oid != "2.5.29.20");
    assert_eq!(load(&lab, &without).unwrap_err(), CrlError::NoNumber);
    let delta = Extension::new("2.5.29.27", true, vec![2, 1, 1]);
    assert_eq!(with(delta).unwrap_err(), CrlError::Delta);
    let indirect = with(scope(vec![flag(4)])).unwrap_err();
    assert_eq!(indirect, CrlError::Indirect);
    let attributes = with(scope(vec![flag(5)])).unwrap_err();
    assert_eq!(attributes, CrlError::Partial);
    let reasons = der::element(tag::primitive(3), &[6, 0x40]);
    assert_eq!(with(scope(vec![reasons])).unwrap_err(), CrlError::Partial);
    let unknown = with(Extension::new("1.2.392.1", true, vec![5, 0])).unwrap_err();
    assert!(matches!(unknown, CrlError::UnknownCritical { .. }));
    assert!(with(Extension::new("1.2.392.1", false, vec![5, 0])).is_ok());
    let mut weak = list();
    weak.algorithm = Some(der::sequence([der::oid("1.2.840.10045.4.1")]));
    let weak = load(&lab, &weak).unwrap_err();
    assert_eq!(weak, CrlError::SignatureAlgorithm("ecdsa-with-SHA1".into()));
    // Forged: the issuer's name, another key.
    let forged: CertificateRevocationListDer<'static> =
        list().sign(&lab.pki.root.key).unwrap().into();
    assert!(matches!(
        lab.trust().with_crls(&[forged]),
        Err(CrlError::Signer { .. })
    ));
}

#[test]
fn an_entry_of_another_issuer_makes_a_list_indirect() {
    let lab = Lab::new();
    for (critical, accepted) in [(false, true), (true, false)] {
        let mut list = lab.pki.issuing_crl_template(lab.now()).unwrap();
        list.entries.push(crate::pki::dev::template::Entry {
            serial: vec![9],
            revoked_at: lab.now(),
            reason: 1,
            extensions: vec![Extension::new("2.5.29.29", critical, vec![0x30, 0])],
        });
        assert_eq!(load(&lab, &list).is_ok(), accepted);
    }
}

#[test]
fn a_list_speaks_for_the_key_that_signed_it() {
    let lab = Lab::new();
    let first = Branch::new(&lab, Kind::Institution);
    let second = Branch::new(&lab, Kind::Institution);
    let [arl, _] = lab.pki.crls();
    for (list, expected) in [(first.list_der(), "ok"), (second.list_der(), "crl-missing")] {
        let store = TrustStore::from_der(
            &[lab.pki.root_certificate()],
            &[first.authority_der(&lab), second.authority_der(&lab)],
            &[arl.clone(), list],
            Profiles::test().unwrap(),
            TrustOptions::default(),
        )
        .unwrap();
        let outcome = judge(&[first.leaf_der()], &store, Usage::Institution, lab.now());
        assert_eq!(rule(&outcome), expected);
    }
}

#[test]
fn an_authority_without_crl_sign_signs_no_list() {
    let lab = Lab::new();
    let mut branch = Branch::new(&lab, Kind::Institution);
    set(&mut branch.authority, extension::key_usage(&[5]));
    let store = TrustStore::from_der(
        &[lab.pki.root_certificate()],
        &[branch.authority_der(&lab)],
        &[],
        Profiles::test().unwrap(),
        TrustOptions::default(),
    )
    .unwrap();
    assert!(matches!(
        store.with_crls(&[branch.list_der()]),
        Err(CrlError::Signer { .. })
    ));
}

/// Bars: T-12.
#[test]
fn an_older_list_does_not_replace_a_newer_one() {
    let mut lab = Lab::new();
    let chain = lab.issue(Kind::Institution, Variant::Ok);
    let old = lab.pki.crls();
    let name = lab.pki.records()[0].name.clone();
    lab.pki.revoke(&name).unwrap();
    let current = lab.trust();
    assert!(matches!(
        current.with_crls(&old),
        Err(CrlError::NumberWentBack { .. })
    ));
    let stale = TrustStore::from_der(
        &[lab.pki.root_certificate()],
        &[lab.pki.issuing_certificate()],
        &old,
        Profiles::test().unwrap(),
        TrustOptions::default(),
    )
    .unwrap();
    assert!(stale.check_not_older_than(&current).is_err());
    assert!(current.check_not_older_than(&stale).is_ok());
    // Given together, the newest is in force, in any order.
    let both = [old.to_vec(), lab.pki.crls().to_vec()].concat();
    for lists in [both.clone(), both.into_iter().rev().collect()] {
        let store = TrustStore::from_der(
            &[lab.pki.root_certificate()],
            &[lab.pki.issuing_certificate()],
            &lists,
            Profiles::test().unwrap(),
            TrustOptions::default(),
        );
        let outcome = judge(&chain, &store.unwrap(), Usage::Institution, lab.now());
        assert_eq!(rule(&outcome), "revoked");
    }
}

#[test]
fn an_issuing_distribution_point_limits_what_a_list_covers() {
    let lab = Lab::new();
    let own = "http://127.0.0.1/renkei-dev/crl/issuing.crl";
    for (what, parts, expected) in [
        ("users", vec![flag(1)], "ok"),
        ("CAs", vec![flag(2)], "crl-missing"),
        ("its point", vec![point(own)], "ok"),
        ("its point and users", vec![point(own), flag(1)], "ok"),
        (
            "another point",
            vec![point("http://127.0.0.1/other.crl")],
            "crl-missing",
        ),
    ] {
        let mut branch = Branch::new(&lab, Kind::Institution);
        branch.list.extensions.push(scope(parts));
        let outcome = branch.judged(&lab, Usage::Institution);
        assert_eq!(rule(&outcome), expected, "{what}: {outcome:?}");
    }
}

#[test]
fn a_list_of_users_says_nothing_of_authorities() {
    let mut lab = Lab::new();
    let chain = lab.issue(Kind::Institution, Variant::Ok);
    let [_, crl] = lab.pki.crls();
    for (part, expected) in [(flag(1), "crl-missing"), (flag(2), "ok")] {
        let mut arl = lab.pki.root_crl_template(lab.now()).unwrap();
        set_scope(&mut arl, scope(vec![part]));
        let arl = arl.sign(&lab.pki.root.key).unwrap().into();
        let store = TrustStore::from_der(
            &[lab.pki.root_certificate()],
            &[lab.pki.issuing_certificate()],
            &[arl, crl.clone()],
            Profiles::test().unwrap(),
            TrustOptions::default(),
        )
        .unwrap();
        let outcome = judge(&chain, &store, Usage::Institution, lab.now());
        assert_eq!(rule(&outcome), expected);
    }
}

/// A file larger than any list is not read into memory, and nothing of its folder is taken.
///
/// Bars: T-12.
#[test]
fn a_file_of_100_mebibytes_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Lab::new().clock;
    let pki = DevPki::create(&folder.path().join("pki"), clock, false).unwrap();
    let layout = crate::pki::dev::Layout::of(&folder.path().join("pki"));
    assert!(layout.trust_store(TrustOptions::default()).is_ok());
    let huge = layout.crls.join("huge.crl");
    let file = std::fs::File::create(&huge).unwrap();
    file.set_len(100 << 20).unwrap();
    let error = layout.trust_store(TrustOptions::default()).unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
    file.set_len(40 << 20).unwrap();
    let error = layout.trust_store(TrustOptions::default()).unwrap_err();
    assert!(error.to_string().contains("huge.crl"), "{error}");
    drop(pki);
}

/// Bars: T-12.
#[test]
fn damaged_lists_are_refused_without_a_panic() {
    let mut lab = Lab::new();
    for _ in 0..3 {
        lab.issue(Kind::Institution, Variant::Ok);
        let name = lab.pki.records().last().unwrap().name.clone();
        lab.pki.revoke(&name).unwrap();
    }
    let trust = lab.trust();
    let [_, list] = lab.pki.crls();
    for end in 0..list.len() {
        assert!(trust.with_crls(&[list[..end].to_vec().into()]).is_err());
    }
    for index in 0..list.len() {
        let mut damaged = list.to_vec();
        damaged[index] ^= 0x10;
        assert!(trust.with_crls(&[damaged.into()]).is_err(), "octet {index}");
    }
}

#[test]
fn verdicts_are_remembered_within_a_generation_and_their_time_only() {
    let mut lab = Lab::new();
    let chain = lab.issue(Kind::Institution, Variant::Ok);
    let handle = TrustHandle::new(lab.trust());
    let first = handle.judge(&chain, Usage::Institution, lab.now()).unwrap();
    let second = handle.judge(&chain, Usage::Institution, lab.now()).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert!(handle.judge(&chain, Usage::Server, lab.now()).is_err());
    // A clock set back below the certificate's start is not answered from memory.
    let earlier = first.not_before - Duration::from_secs(1);
    let outcome = handle.judge(&chain, Usage::Institution, earlier);
    assert_eq!(outcome.unwrap_err().rule(), "not-yet-valid");
    // Past the list's life the remembered verdict does not serve.
    let later = lab.now() + days(5);
    assert_eq!(
        handle
            .judge(&chain, Usage::Institution, later)
            .unwrap_err()
            .rule(),
        "crl-expired"
    );
    let name = lab.pki.records()[0].name.clone();
    lab.pki.revoke(&name).unwrap();
    let before = handle.current().generation();
    handle.replace(lab.trust());
    assert!(handle.current().generation() > before);
    let outcome = handle.judge(&chain, Usage::Institution, lab.now());
    assert_eq!(outcome.unwrap_err().rule(), "revoked");
}
