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

/// A stopped node's folder with documents, and room beside it.
struct Place {
    data: PathBuf,
    beside: tempfile::TempDir,
    documents: u64,
}

impl Place {
    fn beside(&self, name: &str) -> String {
        self.beside.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs a command on the folder.
    async fn store(&self, command: &str, more: &[&str]) -> (i32, Value) {
        let data = self.data.to_str().unwrap();
        let place = [command, "--data-dir", data];
        let all: Vec<&str> = place.iter().chain(more).copied().collect();
        store(&all).await
    }

    /// Runs a command that must end well.
    async fn well(&self, command: &str, more: &[&str]) -> Value {
        let (status, said) = self.store(command, more).await;
        assert_eq!(status, 0, "{command}: {said}");
        said
    }

    /// A backup goes; whatever opens the store says why it does not.
    async fn while_it_runs(&self) {
        let run = self.well("backup", &["--to", &self.beside("backup")]).await;
        assert_eq!(run["verified"], true);
        assert_eq!(run["documents"]["count"], self.documents);
        for command in ["check", "stats", "rebuild", "scrub", "sweep", "rotate-keys"] {
            let (status, said) = self.store(command, &[]).await;
            assert_eq!(status, 1, "{command}: {said}");
            let message = &said["error"]["message"];
            assert_eq!(message, "the store is in use", "{command}");
        }
    }

    async fn once_it_is_stopped(&self) {
        let found = self.well("check", &[]).await;
        assert_eq!(found["frames"], found["decrypted"]);
        assert_eq!(found["documents"], self.documents);
        assert!(found["index_entries"].as_u64().unwrap() > 10, "{found}");
        assert_eq!(found["faults"], Value::Array(vec![]));
        assert_eq!(self.well("stats", &[]).await["documents"], self.documents);
        assert_eq!(self.well("rotate-keys", &[]).await["epoch"], 2);
        self.well("rebuild", &[]).await;
        assert_eq!(self.well("sweep", &[]).await["swept"], 0);
    }

    /// The next run copies what is new; the restored store is whole and says where it ends.
    async fn backup_and_restore(&self) {
        let (backup, to) = (self.beside("backup"), self.beside("restored"));
        let run = self.well("backup", &["--to", &backup]).await;
        assert_eq!(run["generation"], 2);
        assert_eq!(run["documents"]["added"], 0);
        let key = self.data.join("root.key");
        let key = key.to_str().unwrap();
        let restore = ["restore", "--from", &backup, "--to", &to, "--root-key", key];
        let (status, restored) = store(&restore).await;
        assert_eq!((status, &restored["mark"]), (0, &run["mark"]), "{restored}");
        let (status, again) = store(&restore).await;
        assert_eq!(status, 1, "the folder is not empty: {again}");
        let check = ["check", "--data-dir", &to, "--root-key", key];
        let (status, found) = store(&check).await;
        assert_eq!(status, 0, "{found}");
        assert_eq!(found["documents"], self.documents);
    }

    /// Damage is named, mended from the second copy, and then gone.
    async fn damage(&self) {
        let second = self.beside("second");
        let twice = ["--second-copy", second.as_str()];
        let report = self.well("scrub", &twice).await;
        assert_eq!(report["copied_again"], self.documents);
        let damaged = document(&self.data);
        let mut bytes = std::fs::read(&damaged).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        let (status, found) = self.store("check", &[]).await;
        let faults = found["faults"].as_array().unwrap();
        assert_eq!((status, faults.len()), (1, 1), "{found}");
        let named = faults[0]["place"].as_str().unwrap();
        let file = damaged.file_name().unwrap().to_str().unwrap();
        assert!(named.ends_with(file), "{named}");
        assert_eq!(self.well("scrub", &twice).await["mended"], 1);
        self.well("check", &[]).await;
    }
}

/// Bars: D-10, O-05, O-06.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
    let place = Place {
        data: network.gateway(HERE).config.node.data_dir.clone(),
        beside: tempfile::tempdir().unwrap(),
        documents,
    };
    place.while_it_runs().await;
    network.stop_node(HERE).await;
    place.once_it_is_stopped().await;
    place.backup_and_restore().await;
    place.damage().await;
    network.start_node(HERE).await;
    network.stop().await;
}
