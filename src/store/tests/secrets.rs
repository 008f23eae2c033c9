//! Nothing in clear on the disk, and no nonce twice.

use std::collections::HashMap;

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};

use super::client::{Receipts, patient_of, repeatable};
use super::power::{die, reopen};
use super::tier::{Dice, Tally, count, on_all_cores, one_seed, summary, wait};
use super::*;
use crate::store::crypto::nonces;
use crate::store::disk::sim::Faults;

const CANARY: &str = "CANARY-sagawa-hanako-19580412";

/// The canary as it would lie on a disk: as it is, in hexadecimal, in base 64 at each alignment,
/// and in UTF-16.
fn traces() -> Vec<Vec<u8>> {
    let plain = CANARY.as_bytes();
    let mut traces = vec![
        plain.to_vec(),
        HEXLOWER.encode(plain).into_bytes(),
        HEXUPPER.encode(plain).into_bytes(),
        CANARY.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        CANARY.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    ];
    for shift in 0..3 {
        let shifted = [&vec![0; shift][..], plain].concat();
        let text = BASE64.encode(&shifted);
        traces.push(text.as_bytes()[4..text.len() - 4].to_vec());
    }
    traces
}

fn assert_clean(disk: &SimDisk, traces: &[Vec<u8>], when: &str) -> u64 {
    let mut scanned = 0;
    for path in disk.files() {
        let name = path.to_string_lossy().into_owned();
        let content = disk.content(&path).unwrap();
        scanned += content.len() as u64;
        for trace in traces {
            let found = content.windows(trace.len()).any(|window| window == trace);
            assert!(!found, "{when}: {name} has a canary in clear");
            assert!(
                !name.as_bytes().windows(trace.len()).any(|w| w == trace),
                "{when}: {name}"
            );
        }
    }
    scanned
}

/// Bar: E-01. Every byte of every file, at every step of the work and after every way to stop.
#[test]
fn no_canary_lies_on_the_disk_at_any_step() {
    let traces = traces();
    assert_eq!(traces.len(), 8);
    let mut scanned = 0;
    for cut in (1..90).step_by(usize::try_from(count(4, 1, 1)).unwrap()) {
        let disk = SimDisk::new(cut);
        disk.set_faults(Faults {
            power_cut_at: Some(cut),
            ..Faults::default()
        });
        if let Ok((store, _)) = reopen(&disk, 0) {
            for id in 0..5 {
                let mut commit = put(&[note(id, 1, CANARY)]);
                commit.audit.push(Bytes::from_static(CANARY.as_bytes()));
                commit.idempotency = Some(Idempotency {
                    key: store.keys().tag("patient", CANARY.as_bytes()),
                    body_hash: [1; 32],
                    receipt: Bytes::from_static(CANARY.as_bytes()),
                    expires_unix_seconds: i64::MAX,
                });
                let _fate = wait(store.commit(commit)).is_ok();
                let begun = patient_of(&store, CANARY).and_then(|key| store.blobs().writer(&key));
                if let Ok(mut writer) = begun {
                    let _written = writer.write(CANARY.repeat(2500).as_bytes()).is_ok();
                    scanned += assert_clean(&disk, &traces, "in an upload");
                    let _kept = writer.finish().is_ok();
                }
                scanned += assert_clean(&disk, &traces, "at work");
            }
            die(&disk, Some(store), false);
        } else {
            die(&disk, None, false);
        }
        scanned += assert_clean(&disk, &traces, "killed");
        die(&disk, None, true);
        scanned += assert_clean(&disk, &traces, "after a power cut");
        drop(reopen(&disk, 0).unwrap());
        scanned += assert_clean(&disk, &traces, "recovered");
    }
    summary(
        "E-01",
        &format!("{scanned} bytes scanned for 8 forms of a canary, 0 hits"),
    );
}

/// The scan itself can fail.
#[test]
fn a_canary_in_clear_is_seen() {
    let disk = SimDisk::new(1);
    drop(reopen(&disk, 0).unwrap());
    let path = dir().join("root.key");
    for trace in traces() {
        let disk = disk.fork();
        disk.edit(&path, |content| content.extend_from_slice(&trace));
        let hit = std::panic::catch_unwind(|| assert_clean(&disk, &traces(), "planted")).is_err();
        assert!(hit);
    }
}

/// Bar: E-03. Every encryption that tests of this process make is recorded by key and nonce, while
/// stores are stopped at random steps and copies of their folders go on by themselves. The same pair
/// with another plaintext or other associated data is a repeat. What is recorded is forgotten after
/// some thousand machines: keys of one have nothing to do with keys of another.
#[test]
fn no_nonce_is_used_twice_over_crashes_and_clones() {
    const MACHINES: u64 = 4_000;
    let wanted = count(20_000, 100_000_000, 1_000_000_000);
    let (mut seed, mut encryptions, mut keys) = (one_seed().unwrap_or(0), 0, 0);
    while encryptions < wanted {
        let recording = nonces::record();
        let machines = match one_seed() {
            Some(_) => 1,
            None => MACHINES.min(count(150, MACHINES, MACHINES)),
        };
        on_all_cores(seed..seed + machines, crashes_and_clones);
        let counts = recording.counts();
        assert_eq!(counts.repeats, 0, "{counts:?}");
        encryptions += counts.encryptions;
        keys += counts.keys;
        seed += machines;
        if one_seed().is_some() {
            return;
        }
    }
    summary(
        "E-03",
        &format!("{seed} machines, {encryptions} encryptions under {keys} keys, 0 repeats"),
    );
}

/// Both copies of a folder go on from the same bytes, do different work, and stop at different steps.
fn crashes_and_clones(seed: u64) -> Tally {
    let disk = SimDisk::new(seed);
    let mut dice = Dice::new(seed);
    let mut receipts = Receipts::default();
    for _ in 0..2 {
        let cut = 1 + dice.below(60);
        let clone = disk.fork();
        let mut others = receipts.clone();
        for (disk, receipts, cut) in [(&disk, &mut receipts, cut), (&clone, &mut others, cut + 9)] {
            disk.set_faults(Faults {
                power_cut_at: Some(cut),
                ..Faults::default()
            });
            let store = reopen(disk, seed).ok().map(|(store, _)| store);
            if let Some(store) = &store {
                receipts.work(store, &mut dice, 8);
                let _again = wait(store.commit(repeatable(store, 1))).is_ok();
            }
            die(disk, store, dice.below(2) > 0);
        }
    }
    Tally {
        cases: 4,
        acknowledged: receipts.acknowledged,
    }
}

/// Bar: E-03. A folder with its index is copied, as a snapshot of a machine is, and both go on.
#[test]
fn copies_of_a_folder_with_its_index_use_no_nonce_twice() {
    let recording = nonces::record();
    for round in 0..count(2, 20, 200) {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, _) = open_real(one.path()).unwrap();
        for id in 0..5 {
            let _outcome = wait(store.commit(put(&[note(id, 1, "the same")]))).unwrap();
        }
        drop(store);
        copy(one.path(), two.path());
        for (folder, text) in [(&one, "here"), (&two, "there")] {
            let (store, report) = open_real(folder.path()).unwrap();
            assert_eq!(report.rebuilt, None);
            for id in 0..5 {
                let text = format!("{text} {round}");
                let _outcome = wait(store.commit(put(&[note(id, 2, &text)]))).unwrap();
            }
        }
    }
    assert_eq!(recording.counts().repeats, 0);
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// The recorder itself can find a repeat.
#[test]
fn a_repeated_nonce_is_seen() {
    let key = crate::store::crypto::SealKey::new(&[3; 32]).unwrap();
    let mut seen = HashMap::new();
    for (text, repeats) in [("one", false), ("one", false), ("two", true)] {
        let entry = nonces::entry(&key, [0; 12], b"aad", text.as_bytes());
        let before = seen.insert(entry.0, entry.1);
        assert_eq!(before.is_some_and(|before| before != entry.1), repeats);
    }
}
