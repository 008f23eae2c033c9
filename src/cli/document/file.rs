//! Files on this side: measured before they are sent, streamed, and checked as they come.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use data_encoding::HEXLOWER;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use crate::cli::failure::Problem;
use crate::cli::output::shows_progress;

/// The largest chunk on the wire, octets.
pub(crate) const CHUNK: usize = 256 * 1024;

/// From this size on a progress bar is worth it, octets.
const LARGE: u64 = 4 * 1024 * 1024;

/// Both hashes of a document, taken as it passes.
pub(crate) struct Hashes {
    sha1: digest::Context,
    sha256: digest::Context,
    size: u64,
}

impl Hashes {
    /// Of nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            sha1: digest::Context::new(&SHA1_FOR_LEGACY_USE_ONLY),
            sha256: digest::Context::new(&SHA256),
            size: 0,
        }
    }

    /// Takes in the next octets.
    pub(crate) fn update(&mut self, octets: &[u8]) {
        self.sha1.update(octets);
        self.sha256.update(octets);
        self.size += u64::try_from(octets.len()).unwrap_or(u64::MAX);
    }

    /// Octets so far, SHA-1 and SHA-256 in hex.
    pub(crate) fn finish(self) -> (u64, String, String) {
        let (sha1, sha256) = (self.sha1.finish(), self.sha256.finish());
        (
            self.size,
            HEXLOWER.encode(sha1.as_ref()),
            HEXLOWER.encode(sha256.as_ref()),
        )
    }
}

/// A file to provide, measured.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its id within the submission.
    pub(crate) symbolic_id: String,
    /// Octets.
    pub(crate) size: u64,
    /// SHA-1, hex.
    pub(crate) sha1: String,
    /// SHA-256, hex.
    pub(crate) sha256: String,
    /// When it was last changed.
    pub(crate) modified: Timestamp,
}

/// Measures a file.
pub(crate) fn prepare(path: &Path, symbolic_id: String) -> Result<Prepared> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(cannot)?;
    let modified = file.metadata().and_then(|about| about.modified());
    let modified = Timestamp::try_from(modified.with_context(cannot)?).with_context(cannot)?;
    let mut hashes = Hashes::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = read_chunk(&mut file, &mut buffer).with_context(cannot)?;
        match buffer.get(..count) {
            Some(octets) if !octets.is_empty() => hashes.update(octets),
            _ => break,
        }
    }
    let (size, sha1, sha256) = hashes.finish();
    if size == 0 {
        return Err(Problem::new(format!("{}: is empty", path.display())).into());
    }
    Ok(Prepared {
        path: path.to_owned(),
        symbolic_id,
        size,
        sha1,
        sha256,
        modified,
    })
}

/// Fills `buffer` as far as the file goes.
pub(crate) fn read_chunk(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..)
        && !rest.is_empty()
    {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A file being received: it has its name only when it is whole.
pub(crate) struct Incoming {
    target: PathBuf,
    partial: PathBuf,
    file: Option<BufWriter<File>>,
    hashes: Hashes,
}

/// A file that was received whole.
pub(crate) struct Received {
    /// Octets.
    pub(crate) size: u64,
    /// SHA-1, hex.
    pub(crate) sha1: String,
    /// SHA-256, hex.
    pub(crate) sha256: String,
}

impl Incoming {
    /// Opens `target.part`; an existing target is replaced only if `force`.
    pub(crate) fn create(target: &Path, force: bool) -> Result<Self> {
        if target.exists() && !force {
            let problem = Problem::new(format!("{} exists already", target.display()));
            return Err(problem.hint("choose another name, or --force").into());
        }
        let mut partial = target.as_os_str().to_owned();
        partial.push(".part");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial)
            .with_context(|| format!("cannot write {}", partial.display()))?;
        Ok(Self {
            target: target.to_owned(),
            partial,
            file: Some(BufWriter::new(file)),
            hashes: Hashes::new(),
        })
    }

    /// Takes in the next octets.
    pub(crate) fn write(&mut self, octets: &[u8]) -> Result<()> {
        self.hashes.update(octets);
        if let Some(file) = &mut self.file {
            let written = file.write_all(octets);
            written.with_context(|| format!("cannot write {}", self.partial.display()))?;
        }
        Ok(())
    }

    /// Checks what came against `expected` hashes (SHA-1 or SHA-256, hex; empty ones say nothing)
    /// and `size`, and gives the file its name.
    pub(crate) fn finish(mut self, size: u64, expected: &[&str]) -> Result<Received> {
        let (received, sha1, sha256) = std::mem::replace(&mut self.hashes, Hashes::new()).finish();
        if received != size {
            let text = format!("{received} octets came, {size} were registered; nothing is kept");
            return Err(Problem::new(text).into());
        }
        for hash in expected.iter().filter(|hash| !hash.is_empty()) {
            if !hash.eq_ignore_ascii_case(&sha1) && !hash.eq_ignore_ascii_case(&sha256) {
                let text = format!("what came has not the hash {hash}; nothing is kept");
                return Err(Problem::new(text).into());
            }
        }
        let cannot = || format!("cannot write {}", self.target.display());
        if let Some(mut file) = self.file.take() {
            file.flush().with_context(cannot)?;
            file.get_ref().sync_all().with_context(cannot)?;
        }
        std::fs::rename(&self.partial, &self.target).with_context(cannot)?;
        Ok(Received {
            size: received,
            sha1,
            sha256,
        })
    }
}

impl Drop for Incoming {
    /// What is not whole is not kept; after a rename there is nothing left to remove.
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.partial));
    }
}

/// A bar for `size` octets, hidden for a small document or where nobody would see it.
pub(crate) fn progress(size: u64) -> ProgressBar {
    if size < LARGE || !shows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(size);
    let template = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: &str = "a9993e364706816aba3e25717850c26c9cd0d89d";
    const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "abc").unwrap();
        let file = prepare(&path, "document0".into()).unwrap();
        assert_eq!((file.size, file.sha1.as_str()), (3, SHA1));
        assert_eq!(file.sha256, SHA256_OF_ABC);
        std::fs::write(&path, "").unwrap();
        assert!(
            prepare(&path, String::new()).is_err(),
            "nothing is no document"
        );
    }

    #[test]
    fn only_what_is_whole_gets_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let receive = |size, hash: &str| {
            let mut incoming = Incoming::create(&path, false)?;
            incoming.write(b"abc")?;
            incoming.finish(size, &[hash, ""])
        };
        assert!(receive(4, SHA1).is_err());
        assert!(receive(3, "00").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(receive(3, &SHA256_OF_ABC.to_uppercase()).unwrap().size, 3);
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        assert!(
            receive(3, SHA1).is_err(),
            "not written over without --force"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
