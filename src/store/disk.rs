//! The file system as the store sees it, so that ledger, blobs and keys run unchanged on a
//! simulated disk that loses power ([`sim::SimDisk`]). The sled index is not behind it: it is
//! derived, and thrown away when in doubt (INV-9).

pub mod sim;

use std::any::Any;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

/// An open file. Positions are explicit, so that readers and the writer share one handle.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads at `offset` up to the buffer's length; fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// What the operating system reports.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, extending the file if needed. Not durable by itself.
    ///
    /// # Errors
    /// What the operating system reports; a part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes contents and length durable (`fdatasync`).
    ///
    /// # Errors
    /// What the operating system reports. It must never be tried again on the same data: the
    /// kernel may have dropped what it could not write.
    fn fdatasync(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// What the operating system reports.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// What the operating system reports.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|length| length == 0)
    }

    /// Takes disk space for `from..to` by writing zeros, so that later writes there change data
    /// only and a full disk shows now. Only ever called past the end of the written part.
    ///
    /// # Errors
    /// What the operating system reports, a full disk above all.
    fn preallocate(&self, from: u64, to: u64) -> io::Result<()> {
        const ZEROS: &[u8] = &[0; 256 << 10];
        let mut at = from;
        while at < to {
            let step = usize::try_from(to - at)
                .unwrap_or(usize::MAX)
                .min(ZEROS.len());
            self.write_at(ZEROS.get(..step).unwrap_or(ZEROS), at)?;
            at = at.saturating_add(step as u64);
        }
        Ok(())
    }
}

/// A file system. New files are readable by their owner only.
pub trait Disk: Debug + Send + Sync {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or what else the operating system reports.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading only.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or what else the operating system reports.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    /// Makes a file that must not exist yet. Its name is durable after [`Disk::fsync_dir`].
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], or what else the operating system reports.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a folder. Its name is durable after [`Disk::fsync_dir`] of the folder it is in.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], [`io::ErrorKind::NotFound`] if the folder it should be in
    /// is not there, or what else the operating system reports.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder and those it is in, as far as they are missing, and makes them durable.
    ///
    /// A folder that is there already may have been made by a process that died before its sync,
    /// so the folder it is in is synced all the same.
    ///
    /// # Errors
    /// What the operating system reports.
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        let mut made = self.create_dir(path);
        if matches!(&made, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            self.create_dir_all(parent)?;
            made = self.create_dir(path);
        }
        let existed = match made {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => true,
            Err(error) => return Err(error),
        };
        match self.fsync_dir(parent) {
            // Where this process may not even look, it has not made anything.
            Err(error) if existed && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => result,
        }
    }

    /// Renames a file, replacing the target. Durable after [`Disk::fsync_dir`].
    ///
    /// # Errors
    /// What the operating system reports.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or what else the operating system reports.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or what else the operating system reports.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// What the operating system reports.
    fn fsync_dir(&self, path: &Path) -> io::Result<()>;

    /// The permission bits of a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or what else the operating system reports.
    fn mode(&self, path: &Path) -> io::Result<u32>;

    /// Bytes that may still be taken in the folder `path`; as many as there can be if that is not known.
    ///
    /// # Errors
    /// What the operating system reports.
    fn free(&self, _path: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    /// Whether a thread of the store's own may use it beside the writer. A simulated disk keeps one
    /// order of calls.
    fn allows_background(&self) -> bool {
        false
    }

    /// Takes the lock file `path` for this process until the returned guard is dropped; the
    /// operating system frees it when the process dies.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another holds it, or what the operating system reports.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// Reads a whole small file.
///
/// # Errors
/// What the disk reports; [`io::ErrorKind::InvalidData`] if it has more than `limit` bytes.
pub(crate) fn read_small(disk: &dyn Disk, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if length > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes a whole small file so that it is there completely or not at all, also after a crash.
pub(crate) fn write_small(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(&temporary)?;
    file.write_at(bytes, 0)?;
    file.fdatasync()?;
    disk.rename(&temporary, path)?;
    disk.fsync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Writes a small file that is not there. If that fails it is not there later either: a name whose
/// sync failed may be seen now and yet be lost in the next power cut.
pub(crate) fn make_small(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let made = write_small(disk, path, bytes);
    if made.is_err() {
        let _taken_back = disk.remove(path).is_ok();
    }
    made
}

/// Makes the name of a file durable: the process that made it may have died before its sync.
pub(crate) fn sync_name(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.fsync_dir(path.parent().unwrap_or(Path::new("."))) {
        // Where this process may not even look, it has not made anything.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Whether a file exists.
pub(crate) fn exists(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.mode(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match FileExt::read_at(&self.0, rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn fdatasync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(
            OpenOptions::new().read(true).write(true).open(path)?,
        )))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(File::open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        File::open(path)?.sync_all()
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn allows_background(&self) -> bool {
        true
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
