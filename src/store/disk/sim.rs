//! A disk in memory that loses power. What was not synced is lost, torn at sectors, or survives
//! out of order, as its seed decides; a name lasts only once its folder was synced. For tests.

mod world;

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};
use world::{Inode, NameChange, World, power_failed, write_into};

/// The simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<World>>);

/// The n-th call of a kind that shall go wrong, counted from 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The power fails in this call that changes anything.
    pub power_cut_at: Option<u64>,
    /// This write fails, after a part of it, or all, was done.
    pub failing_write: Option<u64>,
    /// This `fdatasync` or folder sync fails; what it should have synced stays unsynced.
    pub failing_sync: Option<u64>,
    /// Bytes of file content the disk holds; more gives [`io::ErrorKind::StorageFull`].
    pub capacity_bytes: Option<u64>,
}

impl SimDisk {
    /// An empty disk whose losses follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World::new(seed))))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what shall go wrong, counting calls from now on.
    pub fn set_faults(&self, faults: Faults) {
        let mut world = self.world();
        (world.changes, world.writes, world.syncs) = (0, 0, 0);
        world.faults = faults;
    }

    /// Calls that changed something since [`SimDisk::set_faults`].
    pub fn changes(&self) -> u64 {
        self.world().changes
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

    /// Flips the bits of `mask` in one byte of a file, durably; `false` if there is none.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> bool {
        let mut world = self.world();
        let inode = world.names.get(path).copied().unwrap_or_default();
        let Some(file) = world.inodes.get_mut(&inode) else {
            return false;
        };
        let place = usize::try_from(offset).unwrap_or(usize::MAX);
        for content in [&mut file.current, &mut file.durable] {
            match content.get_mut(place) {
                Some(byte) => *byte ^= mask,
                None => return false,
            }
        }
        true
    }

    /// Cuts a file to its first `length` bytes and fills up with zeros, durably.
    pub fn zero_from(&self, path: &Path, length: u64) {
        let mut world = self.world();
        let inode = world.names.get(path).copied().unwrap_or_default();
        if let Some(file) = world.inodes.get_mut(&inode) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            for content in [&mut file.current, &mut file.durable] {
                content.iter_mut().skip(length).for_each(|byte| *byte = 0);
            }
            file.pending.clear();
        }
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
        let world = self.world()?;
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
        self.world()?.write(self.inode, offset, bytes)
    }

    fn fdatasync(&self) -> io::Result<()> {
        let mut world = self.world()?;
        if let Err(error) = world.sync() {
            // As Linux does: the pages count as clean now, and no later sync writes them.
            if world.powered
                && let Some(file) = world.inodes.get_mut(&self.inode)
            {
                file.pending.clear();
            }
            return Err(error);
        }
        if let Some(file) = world.inodes.get_mut(&self.inode) {
            for (offset, bytes) in std::mem::take(&mut file.pending) {
                write_into(&mut file.durable, offset, &bytes);
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self
            .world()?
            .inodes
            .get(&self.inode)
            .map_or(0, |file| file.current.len() as u64))
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
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let (inode, generation) = {
            let world = self.world();
            (world.inode(path)?, world.generation)
        };
        Ok(self.handle(inode, generation))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let (inode, generation) = {
            let mut world = self.world();
            world.powered()?;
            if world.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            world.next_inode += 1;
            let inode = world.next_inode;
            world.inodes.insert(inode, Inode::default());
            world.name(NameChange {
                removed: None,
                added: Some((path.to_path_buf(), inode)),
            })?;
            (inode, world.generation)
        };
        Ok(self.handle(inode, generation))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.powered()?;
        for folder in path.ancestors() {
            world.folders.insert(folder.to_path_buf());
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        let inode = world.inode(from)?;
        let added = Some((to.to_path_buf(), inode));
        world.name(NameChange {
            removed: Some(from.to_path_buf()),
            added,
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.inode(path)?;
        world.name(NameChange {
            removed: Some(path.to_path_buf()),
            added: None,
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        world.powered()?;
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
        let mut world = self.world();
        world.sync()?;
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut world.pending_names)
            .into_iter()
            .partition(|c| c.touches(path));
        world.pending_names = later;
        for change in now {
            change.apply(&mut world.durable_names);
        }
        Ok(())
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        let world = self.world();
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
