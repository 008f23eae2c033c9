//! A disk in memory that loses power. What was not synced is lost, torn at sectors, or survives
//! out of order, as its seed decides; a name lasts only once its folder was synced. For tests.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};

/// What survives a power cut of a write survives in pieces of this size.
const SECTOR_BYTES: usize = 512;

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

#[derive(Debug)]
struct World {
    random: u64,
    faults: Faults,
    changes: u64,
    writes: u64,
    syncs: u64,
    powered: bool,
    generation: u64,
    next_inode: u64,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    folders: BTreeSet<PathBuf>,
    modes: BTreeMap<PathBuf, u32>,
    locks: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct NameChange {
    removed: Option<PathBuf>,
    added: Option<(PathBuf, u64)>,
}

impl NameChange {
    fn touches(&self, folder: &Path) -> bool {
        let added = self.added.as_ref().map(|(path, _)| path);
        self.removed
            .iter()
            .chain(added)
            .any(|path| path.parent() == Some(folder))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(path) = &self.removed {
            names.remove(path);
        }
        if let Some((path, inode)) = &self.added {
            names.insert(path.clone(), *inode);
        }
    }
}

fn write_into(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(target) = content.get_mut(offset..end) {
        target.copy_from_slice(bytes);
    }
}

fn power_failed() -> io::Error {
    io::Error::other("the power has failed")
}

impl World {
    /// The next pseudo-random number (splitmix64).
    fn roll(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below.max(1)
    }

    fn powered(&self) -> io::Result<()> {
        if self.powered {
            Ok(())
        } else {
            Err(power_failed())
        }
    }

    /// Counts a call that changes something; `false` if the power fails in it.
    fn change(&mut self) -> io::Result<bool> {
        self.powered()?;
        self.changes += 1;
        self.powered = self.faults.power_cut_at != Some(self.changes);
        Ok(self.powered)
    }

    fn sync(&mut self) -> io::Result<()> {
        if !self.change()? {
            return Err(power_failed());
        }
        self.syncs += 1;
        if self.faults.failing_sync == Some(self.syncs) {
            return Err(io::Error::other("simulated sync failure"));
        }
        Ok(())
    }

    fn name(&mut self, change: NameChange) -> io::Result<()> {
        let survives = self.change()?;
        change.apply(&mut self.names);
        self.pending_names.push(change);
        if survives {
            Ok(())
        } else {
            Err(power_failed())
        }
    }

    fn inode(&self, path: &Path) -> io::Result<u64> {
        self.powered()?;
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, inode: u64, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let survives = self.change()?;
        self.writes += 1;
        let used: usize = self.inodes.values().map(|file| file.current.len()).sum();
        let length = self.inodes.get(&inode).map_or(0, |file| file.current.len());
        let grown = used + (offset + bytes.len()).saturating_sub(length);
        if self
            .faults
            .capacity_bytes
            .is_some_and(|capacity| grown as u64 > capacity)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let fails = self.faults.failing_write == Some(self.writes);
        let part = if fails {
            self.roll(bytes.len() as u64 + 1)
        } else {
            bytes.len() as u64
        };
        let bytes = bytes
            .get(..usize::try_from(part).unwrap_or(0))
            .unwrap_or(bytes);
        if let Some(file) = self.inodes.get_mut(&inode) {
            write_into(&mut file.current, offset, bytes);
            file.pending.push((offset, bytes.to_vec()));
        }
        match (survives, fails) {
            (false, _) => Err(power_failed()),
            (true, true) => Err(io::Error::other("simulated write failure")),
            (true, false) => Ok(()),
        }
    }

    /// Decides what is left after a power cut.
    fn lose_power(&mut self) {
        let cut = self.roll(self.pending_names.len() as u64 + 1);
        let in_order = self.roll(2) == 0;
        for (place, change) in std::mem::take(&mut self.pending_names).iter().enumerate() {
            let survives = if in_order {
                (place as u64) < cut
            } else {
                self.roll(2) == 0
            };
            if survives {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        // Of unsynced content: nothing, all, or any sectors.
        let keep = self.roll(4);
        let mut inodes = std::mem::take(&mut self.inodes);
        for file in inodes.values_mut() {
            for (offset, bytes) in std::mem::take(&mut file.pending) {
                let mut done = 0;
                while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
                    let at = offset + done;
                    let sector = (SECTOR_BYTES - at % SECTOR_BYTES).min(rest.len());
                    let survives = match keep {
                        0 => false,
                        1 => true,
                        _ => self.roll(keep) == 0,
                    };
                    if survives {
                        write_into(&mut file.durable, at, rest.get(..sector).unwrap_or(rest));
                    }
                    done += sector;
                }
            }
            file.current = file.durable.clone();
        }
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        inodes.retain(|inode, _| named.contains(inode));
        self.inodes = inodes;
        self.locks.clear();
        self.generation += 1;
    }
}

impl SimDisk {
    /// An empty disk whose losses follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            random: seed,
            faults: Faults::default(),
            changes: 0,
            writes: 0,
            syncs: 0,
            powered: true,
            generation: 0,
            next_inode: 0,
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            folders: BTreeSet::new(),
            modes: BTreeMap::new(),
            locks: BTreeSet::new(),
        })))
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
