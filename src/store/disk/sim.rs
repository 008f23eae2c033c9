//! A disk in memory that loses power. What was not synced is lost, torn at sectors, or survives
//! out of order, as its seed decides: a name without its content, a content without its name, one
//! half of a move between folders. A name or folder lasts only once the folder it is in was synced,
//! and that one too. For tests.

mod world;

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};
use world::{World, power_failed};

/// The simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<World>>);

/// The kinds of calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Opening a file.
    Open,
    /// Making a file.
    Create,
    /// Making a folder.
    Mkdir,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Listing a folder.
    List,
    /// Asking for a file's mode or length.
    Stat,
    /// Reading a file.
    Read,
    /// Writing into a file.
    Write,
    /// Taking space for a file.
    Preallocate,
    /// Syncing a file.
    Sync,
    /// Syncing a folder.
    SyncFolder,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Open,
        Self::Create,
        Self::Mkdir,
        Self::Rename,
        Self::Remove,
        Self::List,
        Self::Stat,
        Self::Read,
        Self::Write,
        Self::Preallocate,
        Self::Sync,
        Self::SyncFolder,
    ];
}

/// What shall go wrong. Calls are counted from 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The power fails in this call that changes anything.
    pub power_cut_at: Option<u64>,
    /// The n-th call of this kind fails: a write after a part of it, or all, was done; a change of
    /// names before or after it was done; a sync so that what it did not write stays unwritten.
    pub failing: Option<(Call, u64)>,
    /// Bytes of file content the disk holds; more gives [`io::ErrorKind::StorageFull`], after a
    /// part was written.
    pub capacity_bytes: Option<u64>,
}

impl SimDisk {
    /// An empty disk whose losses follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World::new(seed))))
    }

    /// A disk of its own that is now as this one is.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.world().clone())))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what shall go wrong, counting calls from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.world().set_faults(faults);
    }

    /// Calls that changed something since [`SimDisk::set_faults`].
    pub fn changes(&self) -> u64 {
        self.world().changes
    }

    /// Calls of a kind since [`SimDisk::set_faults`].
    pub fn calls(&self, call: Call) -> u64 {
        self.world().count(call)
    }

    /// Whether the power is on.
    pub fn is_powered(&self) -> bool {
        self.world().powered
    }

    /// Stops everything: each call fails until [`SimDisk::kill_process`] or
    /// [`SimDisk::power_cycle`].
    pub fn halt(&self) {
        self.world().powered = false;
    }

    /// Starts again as after the death of the process alone: unsynced content is still there.
    pub fn kill_process(&self) {
        let mut world = self.world();
        world.generation += 1;
        world.locks.clear();
        world.powered = true;
        world.faults = Faults::default();
    }

    /// Cuts the power (if it has not failed yet) and starts again with what survived. Files opened
    /// before give errors. Faults are cleared.
    pub fn power_cycle(&self) {
        let mut world = self.world();
        world.lose_power();
        world.powered = true;
        world.faults = Faults::default();
    }

    /// Changes the content of a file behind everybody's back, durably; `false` if there is none.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut world = self.world();
        let inode = world.names.get(path).copied().unwrap_or_default();
        let Some(file) = world.inodes.get_mut(&inode) else {
            return false;
        };
        change(&mut file.current);
        file.durable.clone_from(&file.current);
        file.pending.clear();
        true
    }

    /// Flips the bits of `mask` in one byte of a file, durably; `false` if there is none.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> bool {
        let mut found = false;
        let place = usize::try_from(offset).unwrap_or(usize::MAX);
        self.edit(path, |content| {
            if let Some(byte) = content.get_mut(place) {
                *byte ^= mask;
                found = true;
            }
        });
        found
    }

    /// Cuts a file to its first `length` bytes and fills up with zeros, durably.
    pub fn zero_from(&self, path: &Path, length: u64) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.edit(path, |content| {
            content.iter_mut().skip(length).for_each(|byte| *byte = 0);
        });
    }

    /// Sets the permission bits that [`Disk::mode`] reports.
    pub fn set_mode(&self, path: &Path, mode: u32) {
        self.world().modes.insert(path.to_path_buf(), mode);
    }

    /// The names of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.world().names.keys().cloned().collect()
    }

    /// The content of a file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world();
        let inode = world.names.get(path)?;
        world.inodes.get(inode).map(|file| file.current.clone())
    }

    fn handle(&self, inode: u64, generation: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            disk: self.clone(),
            inode,
            generation,
        })
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
    generation: u64,
}

impl SimFile {
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.disk.world();
        world.powered()?;
        if world.generation == self.generation {
            Ok(world)
        } else {
            Err(power_failed())
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world()?;
        world.looks(Call::Read)?;
        let content = world
            .inodes
            .get(&self.inode)
            .map_or(&[][..], |file| &file.current);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = content.get(start..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.world()?.write(Call::Write, self.inode, offset, bytes)
    }

    fn fdatasync(&self) -> io::Result<()> {
        self.world()?.sync(self.inode)
    }

    fn len(&self) -> io::Result<u64> {
        let mut world = self.world()?;
        world.looks(Call::Stat)?;
        let file = world.inodes.get(&self.inode);
        Ok(file.map_or(0, |file| file.current.len() as u64))
    }

    fn preallocate(&self, from: u64, to: u64) -> io::Result<()> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let offset = usize::try_from(from).map_err(invalid)?;
        let length = usize::try_from(to.saturating_sub(from)).map_err(invalid)?;
        let zeros = vec![0; length];
        self.world()?
            .write(Call::Preallocate, self.inode, offset, &zeros)
    }
}

struct SimLock(SimDisk, PathBuf, u64);

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut world = self.0.world();
        if world.generation == self.2 {
            world.locks.remove(&self.1);
        }
    }
}

impl Disk for SimDisk {
    fn free(&self, _: &Path) -> io::Result<u64> {
        let world = self.world();
        let capacity = world.faults.capacity_bytes;
        Ok(capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(world.used())))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let (inode, generation) = {
            let mut world = self.world();
            world.looks(Call::Open)?;
            (world.inode(path)?, world.generation)
        };
        Ok(self.handle(inode, generation))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let (inode, generation) = {
            let mut world = self.world();
            (world.create(path)?, world.generation)
        };
        Ok(self.handle(inode, generation))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.world().mkdir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.world().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.world().remove(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.looks(Call::List)?;
        if !world.folders.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = world.names.keys().chain(&world.folders);
        let mut names: Vec<String> = all
            .filter(|name| name.parent() == Some(path))
            .filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        self.world().sync_folder(path)
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        let mut world = self.world();
        world.looks(Call::Stat)?;
        world.inode(path)?;
        Ok(world.modes.get(path).copied().unwrap_or(0o600))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut world = self.world();
        world.powered()?;
        if !world.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock(
            self.clone(),
            path.to_path_buf(),
            world.generation,
        )))
    }
}
