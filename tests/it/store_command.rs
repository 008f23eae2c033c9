//! `renkei store` as an operator uses it: on a folder whose node runs, then with the node stopped.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use crate::support::process::PROGRAM;
use crate::support::{At, Setup};

const HERE: At = At::Region(0);

/// Runs `renkei store`; exit status, and the one JSON object it prints.
async fn store(arguments: &[&str]) -> (i32, Value) {
    let command = Command::new(PROGRAM)
        .arg("--json")
        .arg("store")
        .args(arguments)
        .output();
    let output = command.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    let object = serde_json::from_str(&text).unwrap();
    (output.status.code().unwrap(), object)
}

/// One document of a data folder.
fn document(data: &Path) -> PathBuf {
    let folders = std::fs::read_dir(data.join("blobs")).unwrap();
    let folders = folders.map(|folder| folder.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().len() == 2;
    let folder = folders.into_iter().find(named).unwrap();
    let mut files = std::fs::read_dir(folder).unwrap();
    files.next().unwrap().unwrap().path()
}

/// Bars: D-10, E-01, O-05, O-06.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "the course of one operator's day")]
async fn an_operator_checks_backs_up_restores_and_mends() {
    let mut network = Setup::standalone().start().await;
    let person = network.sample.scenario.cross_region;
    let record = network.record(person, 0).clone();
    network.feed(&record).await;
    let mut documents = 0;
    for document in network.sample.documents_of(person) {
        if document.region == 0 {
            network.provide(document).await;
            documents += 1;
        }
    }
    assert!(documents > 0);
    let data = network.gateway(HERE).config.node.data_dir.clone();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let place = ["--data-dir", data.to_str().unwrap()];
    let (backup, second) = (path("backup"), path("second"));

    // While the node runs: a backup goes, whatever opens the store says why it does not.
    let (status, run) = store(&["backup", place[0], place[1], "--to", &backup]).await;
    assert_eq!((status, &run["verified"]), (0, &true.into()), "{run}");
    assert_eq!(run["documents"]["count"], documents);
    for command in ["check", "stats", "rebuild", "scrub", "sweep", "rotate-keys"] {
        let (status, said) = store(&[command, place[0], place[1]]).await;
        assert_eq!(status, 1, "{command}: {said}");
        assert_eq!(said["error"]["message"], "the store is in use", "{command}");
    }
    network.stop_node(HERE).await;

    let (status, found) = store(&["check", place[0], place[1]]).await;
    assert_eq!(
        (status, &found["faults"]),
        (0, &Value::Array(vec![])),
        "{found}"
    );
    assert_eq!(found["frames"], found["decrypted"]);
    assert_eq!(found["documents"], documents);
    let before = found["index_entries"].as_u64().unwrap();
    assert!(before > 10, "{found}");
    let (status, stats) = store(&["stats", place[0], place[1]]).await;
    assert_eq!(
        (status, &stats["documents"]),
        (0, &documents.into()),
        "{stats}"
    );
    let (status, rotated) = store(&["rotate-keys", place[0], place[1]]).await;
    assert_eq!((status, &rotated["epoch"]), (0, &2.into()), "{rotated}");
    assert_eq!(store(&["rebuild", place[0], place[1]]).await.0, 0);
    let (status, swept) = store(&["sweep", place[0], place[1]]).await;
    assert_eq!((status, &swept["swept"]), (0, &0.into()), "{swept}");

    // The next run copies what is new; the restored store is whole and says where it ends.
    let (status, run) = store(&["backup", place[0], place[1], "--to", &backup]).await;
    assert_eq!((status, &run["generation"]), (0, &2.into()), "{run}");
    assert_eq!(run["documents"]["added"], 0);
    let (key, to) = (data.join("root.key"), path("restored"));
    let key = key.to_str().unwrap();
    let restore = ["restore", "--from", &backup, "--to", &to, "--root-key", key];
    let (status, restored) = store(&restore).await;
    assert_eq!((status, &restored["mark"]), (0, &run["mark"]), "{restored}");
    let (status, again) = store(&restore).await;
    assert_eq!(status, 1, "the folder is not empty: {again}");
    let (status, found) = store(&["check", "--data-dir", &to, "--root-key", key]).await;
    assert_eq!(
        (status, &found["documents"]),
        (0, &documents.into()),
        "{found}"
    );

    // Damage: named, mended from the second copy, and then gone.
    let twice = ["--data-dir", place[1], "--second-copy", &second];
    let scrub: Vec<&str> = ["scrub"].iter().chain(&twice).copied().collect();
    let (status, report) = store(&scrub).await;
    assert_eq!(
        (status, &report["copied_again"]),
        (0, &documents.into()),
        "{report}"
    );
    let damaged = document(&data);
    let mut bytes = std::fs::read(&damaged).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let (status, found) = store(&["check", place[0], place[1]]).await;
    assert_eq!(
        (status, found["faults"].as_array().unwrap().len()),
        (1, 1),
        "{found}"
    );
    let named = found["faults"][0]["place"].as_str().unwrap();
    assert!(
        named.ends_with(damaged.file_name().unwrap().to_str().unwrap()),
        "{named}"
    );
    let (status, report) = store(&scrub).await;
    assert_eq!((status, &report["mended"]), (0, &1.into()), "{report}");
    assert_eq!(store(&["check", place[0], place[1]]).await.0, 0);
    network.start_node(HERE).await;
    network.stop().await;
}
