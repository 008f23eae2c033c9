//! Second copies: where a document that is damaged or gone is had from again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::PoisonError;

use super::super::copy::copy_file;
use super::super::error::{IoContext as _, StoreError};
use super::quarantine::Why;
use super::{BlobId, BlobReader, Blobs};

/// What verifying a document and its second copy came to.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Whole, in every copy there should be; so many bytes.
    Good(u64),
    /// Whole; the second copy was missing or bad, and was made again.
    CopiedAgain(u64),
    /// It was damaged or gone, and is whole again.
    Mended(StoreError),
    /// It does not verify, and is in quarantine now.
    Condemned(StoreError),
    /// Its key was destroyed: nobody can read it.
    Erased,
    /// It is not there, in any copy.
    Gone,
    /// It could not be judged.
    Unreadable(StoreError),
}

impl Blobs {
    /// The names of the documents that begin with this byte and of which there is any copy.
    pub(crate) fn list_copies(&self, folder: u8) -> Result<BTreeSet<BlobId>, StoreError> {
        let mut ids = self.list_folder(folder)?;
        if let Some(second) = &self.second {
            ids.extend(second.list_folder(folder)?);
        }
        Ok(ids)
    }

    /// Copies a finished file in under the name `id`, durably.
    pub(crate) fn copy_in(&self, from: &Path, id: &BlobId) -> Result<(), StoreError> {
        let name = from.file_name().unwrap_or_default();
        let temporary = self.dir.join("tmp").join(name);
        copy_file(self.disk.as_ref(), from, &temporary).during("copying a blob")?;
        self.place(&temporary, id)
    }

    /// Opens a document, from its second copy if it cannot be had otherwise.
    pub(super) fn reader_of_any_copy(&self, id: &BlobId) -> Result<BlobReader, StoreError> {
        let error = match BlobReader::open(self, id) {
            Err(error) if error.is_damage() || matches!(error, StoreError::BlobNotFound) => error,
            opened => return opened,
        };
        if self.mend(id)? {
            return BlobReader::open(self, id);
        }
        let condemned = matches!(error, StoreError::BlobNotFound)
            && self
                .quarantined()?
                .iter()
                .any(|found| found.id == *id && found.why == Why::Corrupt);
        if condemned {
            let what = "is in quarantine because it did not verify";
            return Err(StoreError::corrupt(format!("blobs/{id}"), 0, what));
        }
        Err(error)
    }

    /// Puts the second copy in the place of a document that does not verify, which goes into
    /// quarantine. Whether the document is whole now.
    pub(super) fn mend(&self, id: &BlobId) -> Result<bool, StoreError> {
        let Some(second) = &self.second else {
            return Ok(false);
        };
        let _one = self.mending.lock().unwrap_or_else(PoisonError::into_inner);
        match self.verify(id) {
            Ok(_) => return Ok(true),
            Err(error) if error.is_damage() || matches!(error, StoreError::BlobNotFound) => {}
            Err(error) => return Err(error),
        }
        if second.verify(id).is_err() {
            return Ok(false);
        }
        self.set_aside(id, Why::Corrupt)?;
        self.copy_in(&second.path(id), id)?;
        self.harden_moves(&[*id])?;
        self.verify(id)?;
        tracing::warn!(blob = %id, "a document did not verify and was restored from its second copy");
        Ok(true)
    }

    /// Verifies a document and its second copy, and mends what can be mended.
    pub(crate) fn scrub_one(&self, id: &BlobId) -> Result<Verdict, StoreError> {
        let head = self.head(id)?;
        let error = match self.verify(id) {
            Ok(size) => return self.scrub_second(id, size),
            Err(error) => error,
        };
        if matches!(error, StoreError::KeyDestroyed) {
            return Ok(Verdict::Erased);
        }
        let gone = matches!(error, StoreError::BlobNotFound);
        if !gone && !error.is_damage() {
            return Ok(Verdict::Unreadable(error));
        }
        if self.mend(id)? {
            return Ok(Verdict::Mended(error));
        }
        if gone {
            return Ok(Verdict::Gone);
        }
        match self.condemn(id, &head)? {
            true => Ok(Verdict::Condemned(error)),
            false => Ok(Verdict::Unreadable(error)),
        }
    }

    fn scrub_second(&self, id: &BlobId, size: u64) -> Result<Verdict, StoreError> {
        let Some(second) = &self.second else {
            return Ok(Verdict::Good(size));
        };
        let head = second.head(id)?;
        match second.verify(id) {
            Ok(_) => Ok(Verdict::Good(size)),
            Err(error) if error.is_damage() || matches!(error, StoreError::BlobNotFound) => {
                second.condemn(id, &head)?;
                if let Err(error) = second.copy_in(&self.path(id), id) {
                    // Swept meanwhile.
                    return if self.contains(id)? {
                        Err(error)
                    } else {
                        Ok(Verdict::Gone)
                    };
                }
                second.verify(id)?;
                Ok(Verdict::CopiedAgain(size))
            }
            Err(error) => Ok(Verdict::Unreadable(error)),
        }
    }
}
