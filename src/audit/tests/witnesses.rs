//! Witnesses: what continues is cosigned, another history never.

use super::*;
use crate::audit::Signed;
use crate::audit::note::{KeyKind, VerifierKey};
use crate::audit::witness::{Witness, Witnessed};
use crate::error::Reason;

#[test]
fn a_witness_sees_one_history_of_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, other) = (folder.path().join("data"), folder.path().join("other"));
    let place = folder.path().join("witnessed");
    let witness = || Witness::new(place.clone(), Arc::new(RealDisk));
    let first = open(&dir);
    first.fill(10);
    let key = first.audit.log().verifier().clone();
    let one = first.audit.log().checkpoint().unwrap();
    let seen = witness();
    assert_eq!(
        seen.judge(&key, &one.note, 3, &[]).unwrap(),
        Witnessed::Known(0)
    );
    assert_eq!(
        seen.judge(&key, &one.note, 0, &[]).unwrap(),
        Witnessed::Continues
    );
    // Asked again, the same answer.
    assert_eq!(
        seen.judge(&key, &one.note, 10, &[]).unwrap(),
        Witnessed::Continues
    );
    first.close();
    copy(&dir, &other);

    let (good, forged) = (open(&dir), open(&other));
    good.fill(5);
    forged.fill(3);
    let next = good.audit.log().checkpoint().unwrap();
    let lie = forged.audit.log().checkpoint().unwrap();
    // The witness has been started again meanwhile.
    let seen = witness();
    assert_eq!(
        seen.judge(&key, &next.note, 0, &[]).unwrap(),
        Witnessed::Known(10)
    );
    let path = good
        .audit
        .log()
        .consistency(10, next.checkpoint.size)
        .unwrap();
    assert_eq!(
        seen.judge(&key, &next.note, 10, &path).unwrap(),
        Witnessed::Continues
    );
    for from in [10, next.checkpoint.size] {
        let size = lie.checkpoint.size;
        let path = forged
            .audit
            .log()
            .consistency(from.min(size), size)
            .unwrap();
        let judged = seen.judge(&key, &lie.note, from, &path);
        match from {
            10 => assert_eq!(judged.unwrap(), Witnessed::Known(next.checkpoint.size)),
            _ => assert_eq!(judged.unwrap_err().reason(), Reason::AuditLogBroken),
        }
    }
    // Longer than what was seen, and still another history.
    forged.fill(20);
    let lie = forged.audit.log().checkpoint().unwrap();
    let path = forged
        .audit
        .log()
        .consistency(next.checkpoint.size, lie.checkpoint.size);
    let judged = seen.judge(&key, &lie.note, next.checkpoint.size, &path.unwrap());
    assert_eq!(judged.unwrap_err().reason(), Reason::AuditLogBroken);
    another_key_is_refused(&seen, &key, &next);
    good.close();
    forged.close();
}

/// Another key in the name of a log that was seen.
fn another_key_is_refused(seen: &Witness, key: &VerifierKey, next: &Signed) {
    let thief = crate::audit::note::SigningKey::new(&key.name, &[7; 32]).unwrap();
    let text = next.checkpoint.text();
    let note = crate::audit::note::Note {
        signatures: vec![thief.sign(&text)],
        text,
    };
    let judged = seen.judge(&thief.verifier(KeyKind::Log), &note, 15, &[]);
    assert_eq!(judged.unwrap_err().reason(), Reason::AuditLogBroken);
    let judged = seen.judge(key, &note, 15, &[]);
    assert_eq!(judged.unwrap_err().reason(), Reason::InvalidField);
}

/// A cosignature is kept with the checkpoint it is of, and counted once for each witness.
#[test]
fn cosignatures_are_counted_by_witness() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (
        open(&folder.path().join("one")),
        open(&folder.path().join("two")),
    );
    one.fill(4);
    let signed = one.audit.log().checkpoint().unwrap();
    let witness = two.audit.log().witness_key();
    let line = two.audit.log().cosign(&signed.note.text, 1_700_000_000);
    let log = one.audit.log();
    let size = signed.checkpoint.size;
    assert_eq!(log.cosigned(size, std::slice::from_ref(&witness)), 0);
    log.add_cosignature(size, &witness, line.clone()).unwrap();
    log.add_cosignature(size, &witness, line.clone()).unwrap();
    assert_eq!(log.cosigned(size, std::slice::from_ref(&witness)), 1);
    let with = log.signed_at(size).unwrap();
    assert_eq!(with.note.signatures.len(), 2);
    assert!(with.note.is_signed_by(log.verifier()) && with.note.is_signed_by(&witness));
    // Of another text it is none.
    one.fill(1);
    let next = log.checkpoint().unwrap().checkpoint.size;
    log.add_cosignature(next, &witness, line).unwrap_err();
    assert_eq!(log.cosigned(next, &[witness]), 0);
    one.close();
    two.close();
}
