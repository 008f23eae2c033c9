use data_encoding::HEXLOWER;

use super::*;

fn write(store: &Store, content: &[u8], step: usize) -> BlobInfo {
    let mut writer = store.blobs().writer(&patient(store, 1)).unwrap();
    for part in content.chunks(step) {
        writer.write(part).unwrap();
    }
    writer.finish().unwrap()
}

fn read(store: &Store, id: &BlobId) -> Result<Vec<u8>, StoreError> {
    let mut reader = store.blobs().reader(id)?;
    let mut content = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        content.extend_from_slice(&chunk);
    }
    assert_eq!(content.len() as u64, reader.size());
    Ok(content)
}

fn blob_path(id: &BlobId) -> PathBuf {
    let name = id.to_string();
    dir().join("blobs").join(&name[..2]).join(&name[2..])
}

#[test]
fn a_document_of_any_size_comes_back() {
    let disk = SimDisk::new(1);
    let (store, _) = open_sim(&disk).unwrap();
    for size in [0, 1, 65_535, 65_536, 65_537, 131_072, 300_001] {
        let content: Vec<u8> = (0..size).map(|n: u32| n.to_le_bytes()[0] ^ 0x5A).collect();
        let info = write(&store, &content, 10_007);
        assert_eq!(info.size, u64::from(size));
        assert_eq!(info, write(&store, &content, 65_536));
        assert!(read(&store, &info.id).unwrap() == content);
        assert_eq!(store.blobs().verify(&info.id).unwrap(), info.size);
    }
    let info = write(&store, b"abc", 1);
    assert_eq!(
        HEXLOWER.encode(&info.sha256),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(
        HEXLOWER.encode(&info.sha1),
        "a9993e364706816aba3e25717850c26c9cd0d89d"
    );
    assert_eq!(store.blobs().list().unwrap().len(), 8);
    assert!(store.blobs().remove(&info.id).unwrap());
    assert!(!store.blobs().remove(&info.id).unwrap());
    assert!(matches!(
        store.blobs().reader(&info.id),
        Err(StoreError::BlobNotFound)
    ));
}

/// Bars: D-08, E-02.
#[test]
fn every_changed_byte_is_noticed() {
    let disk = SimDisk::new(2);
    let (store, _) = open_sim(&disk).unwrap();
    let content = vec![7; 70_000];
    let info = write(&store, &content, 70_000);
    let path = blob_path(&info.id);
    let length = disk.content(&path).unwrap().len() as u64;
    for offset in (0..300)
        .chain((300..length).step_by(611))
        .chain([length - 1])
    {
        assert!(disk.flip(&path, offset, 0x10));
        assert!(read(&store, &info.id).is_err(), "byte {offset}");
        let report = store.check(&mut |_| ()).unwrap();
        assert_eq!(report.faults.len(), 1);
        assert!(disk.flip(&path, offset, 0x10));
    }
    assert!(read(&store, &info.id).unwrap() == content);
}

#[test]
fn one_document_does_not_stand_for_another() {
    let disk = SimDisk::new(3);
    let (store, _) = open_sim(&disk).unwrap();
    let one = write(&store, b"one", 8);
    let two = write(&store, b"two", 8);
    crate::store::disk::Disk::rename(&disk, &blob_path(&one.id), &blob_path(&two.id)).unwrap();
    assert!(matches!(
        read(&store, &two.id),
        Err(StoreError::Corrupt { .. })
    ));
}

#[test]
fn an_unfinished_document_leaves_nothing() {
    let disk = SimDisk::new(4);
    let (store, _) = open_sim(&disk).unwrap();
    let _key = patient(&store, 1);
    let before = disk.files();
    let mut writer = store.blobs().writer(&patient(&store, 1)).unwrap();
    writer.write(&vec![1; 100_000]).unwrap();
    assert_eq!(disk.files().len(), before.len() + 1);
    drop(writer);
    assert_eq!(disk.files(), before);
    let mut writer = store.blobs().writer(&patient(&store, 1)).unwrap();
    writer.write(b"closed, not kept").unwrap();
    drop(writer.close().unwrap());
    assert_eq!(disk.files(), before);
    let mut writer = store.blobs().writer(&patient(&store, 1)).unwrap();
    writer.write(&vec![1; 100_000]).unwrap();
    disk.halt();
    drop((writer, store));
    disk.kill_process();
    let (_store, report) = open_sim(&disk).unwrap();
    assert_eq!(report.removed_temporary_files, 1);
}
