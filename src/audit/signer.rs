//! The signer of checkpoints. It keeps the last checkpoint it signed, durable before the signature
//! leaves, and signs no other that does not continue it: neither a shorter log nor another history,
//! whatever the rest of the node believes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::{Error, Reason, Result};
use crate::store::Random;
use crate::store::disk::{Disk, exists, read_small, write_small};

use super::map;
use super::merkle::{Hash, empty_root, verify_consistency};
use super::note::{Checkpoint, KeyKind, Note, SignatureLine, SigningKey, VerifierKey};

/// A checkpoint file is no longer.
const MAX_FILE: usize = 64 << 10;

/// Signs checkpoints of one log.
#[derive(Debug)]
pub struct Signer {
    key: SigningKey,
    disk: Arc<dyn Disk>,
    file: PathBuf,
    last: Checkpoint,
    note: Note,
}

fn refused(what: &'static str) -> Error {
    Error::new(Reason::AuditLogBroken, what)
}

fn unusable(error: std::io::Error) -> Error {
    Error::new(
        Reason::StoreUnavailable,
        "the audit signer's files cannot be used",
    )
    .caused_by(error)
}

impl Signer {
    /// The signer of the log `origin`, whose key is in `key` (a file of 32 octets, the owner's alone)
    /// and whose last checkpoint is in `file`. Both are made if neither is there.
    ///
    /// # Errors
    /// [`Reason::AuditLogBroken`] if one of the two is missing, or they do not belong together: a key
    /// that has forgotten what it signed signs nothing.
    pub fn open(
        origin: &str,
        key: &Path,
        file: &Path,
        disk: &Arc<dyn Disk>,
        random: &dyn Random,
    ) -> Result<Self> {
        let there = |path: &Path| exists(disk.as_ref(), path).map_err(unusable);
        match (there(key)?, there(file)?) {
            (true, true) => {}
            (true, false) => return Err(refused("the audit signer's last checkpoint is missing")),
            (false, _) => return Self::make(origin, key, file, disk, random),
        }
        let mode = disk.mode(key).map_err(unusable)?;
        if mode & 0o077 != 0 {
            return Err(refused(
                "others than its owner may read the audit signing key",
            ));
        }
        let seed = Zeroizing::new(read_small(disk.as_ref(), key, 4096).map_err(unusable)?);
        let key = SigningKey::new(origin, &seed)?;
        let text = read_small(disk.as_ref(), file, MAX_FILE).map_err(unusable)?;
        let text = String::from_utf8(text).map_err(Error::internal)?;
        let note: Note = text.parse()?;
        if !note.is_signed_by(&key.verifier(KeyKind::Log)) {
            return Err(refused(
                "the last checkpoint is not of the audit signing key",
            ));
        }
        Ok(Self {
            last: note.checkpoint()?,
            note,
            key,
            disk: Arc::clone(disk),
            file: file.to_owned(),
        })
    }

    /// Signs the empty log with a new key. The key is written last: as long as it is not there,
    /// nothing was ever signed with it.
    fn make(
        origin: &str,
        key_file: &Path,
        file: &Path,
        disk: &Arc<dyn Disk>,
        random: &dyn Random,
    ) -> Result<Self> {
        if exists(disk.as_ref(), file).map_err(unusable)? {
            let text = read_small(disk.as_ref(), file, MAX_FILE).map_err(unusable)?;
            let signed = String::from_utf8(text).map_err(Error::internal)?;
            if signed.parse::<Note>()?.checkpoint()?.size > 0 {
                return Err(refused("the audit signing key is missing"));
            }
        }
        let mut seed = Zeroizing::new([0; 32]);
        random.fill(seed.as_mut())?;
        let key = SigningKey::new(origin, seed.as_ref())?;
        let last = Checkpoint {
            origin: origin.to_owned(),
            size: 0,
            root: empty_root(),
            patients: Some((0, map::EMPTY)),
        };
        let made = Self {
            note: signed(&key, &last),
            last,
            key,
            disk: Arc::clone(disk),
            file: file.to_owned(),
        };
        made.keep()?;
        if let Some(folder) = key_file.parent() {
            disk.create_dir_all(folder).map_err(unusable)?;
        }
        write_small(disk.as_ref(), key_file, seed.as_ref()).map_err(unusable)?;
        Ok(made)
    }

    fn keep(&self) -> Result<()> {
        let bytes = self.note.to_string().into_bytes();
        write_small(self.disk.as_ref(), &self.file, &bytes).map_err(unusable)
    }

    /// The last checkpoint that was signed.
    pub fn last(&self) -> &Checkpoint {
        &self.last
    }

    /// As a note.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// The public key.
    pub fn verifier(&self) -> VerifierKey {
        self.key.verifier(KeyKind::Log)
    }

    /// The public key of its cosignatures, as a witness.
    pub fn witness(&self) -> VerifierKey {
        self.key.verifier(KeyKind::Witness)
    }

    /// Cosigns the text of another log's checkpoint, at `time` seconds since 1970 (UTC). That it
    /// continues what was cosigned before is the [witness's](super::witness) to judge.
    pub fn cosign(&self, text: &str, time: u64) -> SignatureLine {
        self.key.cosign(text, time)
    }

    /// Signs `next`, of which `proof` shows that it continues the last one.
    ///
    /// # Errors
    /// [`Reason::AuditLogBroken`] if it does not; the disk, and then nothing was signed.
    pub fn sign(&mut self, next: Checkpoint, proof: &[Hash]) -> Result<&Note> {
        let last = &self.last;
        let continues = next.origin == last.origin
            && verify_consistency(last.size, next.size, &last.root, &next.root, proof)
            && (next.size > last.size || next.patients == last.patients);
        if !continues {
            return Err(refused(
                "the audit log does not continue what was signed before",
            ));
        }
        if next == *last {
            return Ok(&self.note);
        }
        let before = (self.last.clone(), self.note.clone());
        self.note = signed(&self.key, &next);
        self.last = next;
        if let Err(error) = self.keep() {
            (self.last, self.note) = before;
            return Err(error);
        }
        Ok(&self.note)
    }
}

fn signed(key: &SigningKey, checkpoint: &Checkpoint) -> Note {
    let text = checkpoint.text();
    Note {
        signatures: vec![key.sign(&text)],
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::merkle::{Frontier, leaf_hash};
    use crate::store::SystemRandom;
    use crate::store::disk::RealDisk;

    fn open(folder: &Path) -> Result<Signer> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let random = SystemRandom::default();
        let (key, file) = (folder.join("log.key"), folder.join("checkpoint"));
        Signer::open("renkei/1.2.3", &key, &file, &disk, &random)
    }

    fn checkpoint(leaves: &[&str]) -> Checkpoint {
        let mut tree = Frontier::default();
        for leaf in leaves {
            tree.push(leaf_hash(&[leaf.as_bytes()]));
        }
        Checkpoint {
            origin: "renkei/1.2.3".into(),
            size: tree.size(),
            root: tree.root(),
            patients: Some((0, map::EMPTY)),
        }
    }

    fn hash(leaf: &str) -> Hash {
        leaf_hash(&[leaf.as_bytes()])
    }

    /// neither a shorter log nor another one gets a signature, also after the
    /// signer was opened again.
    #[test]
    fn only_what_continues_is_signed() {
        let folder = tempfile::tempdir().unwrap();
        let mut signer = open(folder.path()).unwrap();
        let key = signer.verifier();
        let one = signer.sign(checkpoint(&["a"]), &[]).unwrap().clone();
        assert!(one.is_signed_by(&key));
        signer.sign(checkpoint(&["a", "b"]), &[hash("b")]).unwrap();
        drop(signer);

        let mut signer = open(folder.path()).unwrap();
        assert_eq!(signer.last().size, 2);
        let refused = [
            (checkpoint(&["a"]), vec![]),
            (checkpoint(&["a", "c"]), vec![]),
            (checkpoint(&["a", "c"]), vec![hash("c")]),
            (checkpoint(&["a", "b", "c"]), vec![]),
            (checkpoint(&["x", "b", "c"]), vec![hash("c")]),
            (
                Checkpoint {
                    patients: Some((1, [1; 32])),
                    ..checkpoint(&["a", "b"])
                },
                vec![],
            ),
            (
                Checkpoint {
                    origin: "other".into(),
                    ..checkpoint(&["a", "b", "c"])
                },
                vec![hash("c")],
            ),
        ];
        for (next, proof) in refused {
            let error = signer.sign(next.clone(), &proof).unwrap_err();
            assert_eq!(error.reason(), Reason::AuditLogBroken, "{next:?}");
        }
        signer
            .sign(checkpoint(&["a", "b", "c"]), &[hash("c")])
            .unwrap();
        assert_eq!(signer.last().size, 3);
    }

    #[test]
    fn a_key_without_its_memory_signs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut signer = open(folder.path()).unwrap();
        signer.sign(checkpoint(&["a"]), &[]).unwrap();
        let (key, file) = (
            folder.path().join("log.key"),
            folder.path().join("checkpoint"),
        );
        let (seed, note) = (std::fs::read(&key).unwrap(), std::fs::read(&file).unwrap());

        std::fs::remove_file(&file).unwrap();
        open(folder.path()).unwrap_err();
        std::fs::write(&file, &note).unwrap();
        std::fs::remove_file(&key).unwrap();
        open(folder.path()).unwrap_err();
        std::fs::write(&key, [9; 32]).unwrap();
        open(folder.path()).unwrap_err();
        // Readable by others.
        std::fs::write(&key, &seed).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        open(folder.path()).unwrap_err();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(open(folder.path()).unwrap().last().size, 1);
    }

    /// A crash between the first checkpoint and the key leaves nothing that was signed.
    #[test]
    fn an_unfinished_first_start_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()).unwrap());
        std::fs::remove_file(folder.path().join("log.key")).unwrap();
        open(folder.path())
            .unwrap()
            .sign(checkpoint(&["a"]), &[])
            .unwrap();
    }
}
