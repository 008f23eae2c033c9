//! `renkei demo`: every step ok, and nothing left behind. The gate runs it twice at once besides.

use tokio::process::Command;

use crate::support::process::PROGRAM;

async fn demo(temporary: &std::path::Path) -> serde_json::Value {
    let run = Command::new(PROGRAM)
        .args(["demo", "--once", "--json"])
        .env("TMPDIR", temporary)
        .kill_on_drop(true)
        .output();
    let run = run.await.unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{}: {said} {errors}", run.status);
    serde_json::from_str(&said).expect("one JSON object")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_is_ok_and_nothing_is_left() {
    let temporary = tempfile::tempdir().unwrap();
    let report = demo(temporary.path()).await;
    assert_eq!(report["ok"], true, "{report:#}");
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.len() >= 13, "{report:#}");
    for step in steps {
        assert_eq!(step["ok"], true, "{step:#}");
        assert!(!step["checked"].as_array().unwrap().is_empty(), "{step:#}");
    }
    assert!(report["people"].as_u64().unwrap() >= 200, "{report:#}");
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
