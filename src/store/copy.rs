//! Copying files durably.

use std::io;
use std::path::Path;

use aws_lc_rs::digest;

use super::crypto::to_array;
use super::disk::Disk;

/// How much is in memory at once.
const STEP_BYTES: usize = 256 << 10;

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) bytes: u64,
    pub(crate) sha256: [u8; 32],
}

/// Copies a file to a new name, where an unfinished copy may lie, and makes its bytes durable; its
/// name is not yet.
pub(crate) fn copy_file(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<Copied> {
    match disk.remove(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let (source, target) = (disk.open_read(from)?, disk.create(to)?);
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; STEP_BYTES];
    let mut bytes = 0;
    loop {
        let read = source.read_at(&mut buffer, bytes)?;
        let part = buffer.get(..read).unwrap_or_default();
        if part.is_empty() {
            break;
        }
        hash.update(part);
        target.write_at(part, bytes)?;
        bytes += read as u64;
    }
    target.fdatasync()?;
    Ok(Copied {
        bytes,
        sha256: to_array(hash.finish().as_ref()),
    })
}

/// A hash under way.
#[derive(Clone)]
pub(crate) struct Hashed {
    pub(crate) sha256: [u8; 32],
    /// Takes what follows.
    pub(crate) context: digest::Context,
}

/// SHA-256 of the first `length` bytes of a file; `None` if it is shorter.
pub(crate) fn hash_file(disk: &dyn Disk, path: &Path, length: u64) -> io::Result<Option<Hashed>> {
    let file = disk.open_read(path)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; STEP_BYTES];
    let mut done = 0;
    while done < length {
        let wanted = usize::try_from(length - done)
            .unwrap_or(usize::MAX)
            .min(STEP_BYTES);
        let read = file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), done)?;
        if read == 0 {
            return Ok(None);
        }
        hash.update(buffer.get(..read).unwrap_or_default());
        done += read as u64;
    }
    let sha256 = to_array(hash.clone().finish().as_ref());
    Ok(Some(Hashed {
        sha256,
        context: hash,
    }))
}
