//! Uploads that are cut, on a real disk.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use renkei::store::{BlobWriter, IndexKind, Store, Tag};

use super::worker::{options, schema};
use super::{count, summary, variable};

/// How long after a cut the space may still be taken.
const FREED_WITHIN: Duration = Duration::from_mins(1);

fn open(dir: &Path) -> (Arc<Store>, u64) {
    let (store, report) = Store::open(dir, schema(), options(IndexKind::Memory)).unwrap();
    (store, report.removed_temporary_files)
}

fn writer(store: &Store) -> BlobWriter {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let key = runtime
        .block_on(store.subject(Tag::from_bytes([1; 16])))
        .unwrap();
    store.blobs().writer(&key).unwrap()
}

/// Uploads so many bytes.
fn upload(writer: &mut BlobWriter, bytes: u64) {
    const CHUNK: usize = 256 << 10;
    let chunk: Vec<u8> = (0..CHUNK).map(|n| n.to_le_bytes()[1]).collect();
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        writer.write(&chunk[..now]).unwrap();
        left -= now as u64;
    }
}

/// Bytes of all files under a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap());
    let sizes = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => size(&entry.path()),
        false => entry.metadata().unwrap().len(),
    });
    sizes.sum()
}

/// Where uploads are cut: at the last byte, and so on down to the first ones, each at so many percent
/// of the one before.
fn points(count: u64, whole: u64, percent: u64) -> Vec<u64> {
    let mut points: Vec<u64> = (0..count)
        .scan(whole, |point, _| {
            Some(std::mem::replace(point, *point * percent / 100))
        })
        .collect();
    points.reverse();
    points
}

/// Bar: D-16. Uploads of up to 10 GiB (in the full tier) are cut at 200 points: by a caller who goes,
/// at their very end, and by a kill. Nothing of them is visible, and their space is free again.
#[test]
fn an_upload_that_is_cut_at_any_length_leaves_nothing_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let (store, _) = open(&dir);
    let mut kept = writer(&store);
    upload(&mut kept, 1_000_000);
    let kept = kept.finish().unwrap().id;
    drop(store);
    let blobs = dir.join("blobs");
    let before = size(&blobs);
    let points = points(
        count(12, 200, 200),
        count(16 << 20, 10 << 30, 10 << 30),
        count(40, 89, 89),
    );
    let (mut bytes, mut slowest) = (0, Duration::ZERO);
    for (number, point) in points.iter().enumerate() {
        let cut = if number % 3 == 2 {
            kill_an_upload(&dir, *point);
            let cut = Instant::now();
            let (_, removed) = open(&dir);
            assert_eq!(removed, 1, "the unfinished document of {point} bytes");
            cut
        } else {
            let (store, _) = open(&dir);
            let mut writer = writer(&store);
            upload(&mut writer, *point);
            assert_eq!(
                store.blobs().list().unwrap().len(),
                1,
                "visible at {point} bytes"
            );
            if number % 3 == 0 {
                let cut = Instant::now();
                drop(writer);
                cut
            } else {
                let closed = writer.close().unwrap();
                let cut = Instant::now();
                drop(closed);
                cut
            }
        };
        let took = cut.elapsed();
        assert_eq!(
            size(&blobs),
            before,
            "space is still taken after {point} bytes"
        );
        assert!(took < FREED_WITHIN, "{took:?} for {point} bytes");
        slowest = slowest.max(took);
        bytes += point;
    }
    let (store, _) = open(&dir);
    let listed: Vec<_> = store.blobs().list().unwrap().into_iter().collect();
    assert_eq!(listed, [kept]);
    assert_eq!(store.blobs().verify(&kept).unwrap(), 1_000_000);
    let (cuts, longest) = (points.len(), points.last().unwrap());
    summary(
        "D-16 real disk",
        &format!(
            "{cuts} uploads of up to {longest} bytes cut ({bytes} bytes in all), nothing left, \
             space free after {} ms at most",
            slowest.as_millis()
        ),
    );
}

/// Has a process upload so much, and kills it.
fn kill_an_upload(dir: &Path, bytes: u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "storage::uploads::uploads_until_killed",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("RENKEI_UPLOAD", dir)
        .env("RENKEI_UPLOAD_BYTES", bytes.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let uploaded = lines.map_while(Result::ok).any(|line| line == "uploaded");
    child.kill().unwrap();
    let _status = child.wait().unwrap();
    assert!(uploaded, "the upload of {bytes} bytes did not get there");
}

#[test]
#[ignore = "the process of the test above, not one itself"]
fn uploads_until_killed() {
    let Some(dir) = variable("RENKEI_UPLOAD") else {
        return;
    };
    let bytes = variable("RENKEI_UPLOAD_BYTES").unwrap().parse().unwrap();
    let (store, _) = open(Path::new(&dir));
    let mut writer = writer(&store);
    upload(&mut writer, bytes);
    println!("\nuploaded");
    // Until the kill; an end of the input would mean that the test is gone.
    let _end = std::io::stdin().lines().count();
}
