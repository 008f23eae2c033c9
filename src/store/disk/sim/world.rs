//! The state of a simulated disk: what programs see, and what would survive now.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{Call, Faults};

/// What survives a power cut of a write survives in pieces of this size.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug)]
pub(super) struct World {
    random: u64,
    pub(super) faults: Faults,
    pub(super) changes: u64,
    calls: BTreeMap<Call, u64>,
    pub(super) powered: bool,
    pub(super) generation: u64,
    next_inode: u64,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) folders: BTreeSet<PathBuf>,
    durable_names: BTreeMap<PathBuf, u64>,
    durable_folders: BTreeSet<PathBuf>,
    pending_names: Vec<NameChange>,
    pub(super) modes: BTreeMap<PathBuf, u32>,
    pub(super) locks: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<(usize, Vec<u8>)>,
}

/// A change of the names in one folder, or of two names in it at once.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Remove(PathBuf),
    Add(PathBuf, u64),
    /// Within one folder, all or nothing.
    Rename(PathBuf, PathBuf, u64),
    Folder(PathBuf),
}

impl NameChange {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Remove(path)
            | Self::Add(path, _)
            | Self::Rename(path, _, _)
            | Self::Folder(path) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>, folders: &mut BTreeSet<PathBuf>) {
        match self {
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Add(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Folder(path) => {
                folders.insert(path.clone());
            }
        }
    }
}

pub(super) fn write_into(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(target) = content.get_mut(offset..end) {
        target.copy_from_slice(bytes);
    }
}

pub(super) fn power_failed() -> io::Error {
    io::Error::other("the power has failed")
}

fn failed(call: Call) -> io::Error {
    io::Error::other(format!("simulated failure: {call:?}"))
}

/// How a call that changes something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    /// An error is returned.
    Fails,
    /// The power fails in it, after it may have been done.
    LastOne,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let root = BTreeSet::from([PathBuf::from("/")]);
        Self {
            random: seed,
            faults: Faults::default(),
            changes: 0,
            calls: BTreeMap::new(),
            powered: true,
            generation: 0,
            next_inode: 0,
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            folders: root.clone(),
            durable_names: BTreeMap::new(),
            durable_folders: root,
            pending_names: Vec::new(),
            modes: BTreeMap::new(),
            locks: BTreeSet::new(),
        }
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.changes = 0;
        self.calls.clear();
        self.faults = faults;
    }

    /// The next pseudo-random number (splitmix64).
    pub(super) fn roll(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below.max(1)
    }

    pub(super) fn powered(&self) -> io::Result<()> {
        if self.powered {
            Ok(())
        } else {
            Err(power_failed())
        }
    }

    /// Counts a call of its kind; whether it is the one that fails.
    fn counted(&mut self, call: Call) -> io::Result<bool> {
        self.powered()?;
        let count = self.calls.entry(call).or_default();
        *count += 1;
        Ok(self.faults.failing == Some((call, *count)))
    }

    /// How many calls of a kind there were.
    pub(super) fn count(&self, call: Call) -> u64 {
        self.calls.get(&call).copied().unwrap_or_default()
    }

    /// A call that changes nothing.
    pub(super) fn looks(&mut self, call: Call) -> io::Result<()> {
        if self.counted(call)? {
            return Err(failed(call));
        }
        Ok(())
    }

    /// A call that changes something.
    fn changes(&mut self, call: Call) -> io::Result<Fate> {
        let fails = self.counted(call)?;
        self.changes += 1;
        self.powered = self.faults.power_cut_at != Some(self.changes);
        Ok(match (self.powered, fails) {
            (false, _) => Fate::LastOne,
            (true, true) => Fate::Fails,
            (true, false) => Fate::Done,
        })
    }

    pub(super) fn inode(&self, path: &Path) -> io::Result<u64> {
        self.powered()?;
        let inode = self.names.get(path).copied();
        inode.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Bytes of file content; only asked when the disk has an end.
    pub(super) fn used(&self) -> u64 {
        // What has no name any more takes no space, though a power cut may bring it back.
        let named = self
            .names
            .values()
            .filter_map(|inode| self.inodes.get(inode));
        named.map(|file| file.current.len() as u64).sum()
    }

    /// Changes names. A call that fails may have been done all the same, as over a network.
    fn name(&mut self, call: Call, changes: Vec<NameChange>) -> io::Result<()> {
        let fate = self.changes(call)?;
        let grows = matches!(call, Call::Create | Call::Mkdir);
        let full = self.faults.capacity_bytes.is_some_and(|c| self.used() >= c);
        if fate == Fate::Done && grows && full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let done = fate == Fate::Done || self.roll(2) == 0;
        if done {
            for change in changes {
                change.apply(&mut self.names, &mut self.folders);
                self.pending_names.push(change);
            }
        }
        match fate {
            Fate::Done => Ok(()),
            Fate::Fails => Err(failed(call)),
            Fate::LastOne => Err(power_failed()),
        }
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        self.powered()?;
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|p| self.folders.contains(p)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.next_inode += 1;
        let inode = self.next_inode;
        self.inodes.insert(inode, Inode::default());
        self.name(Call::Create, vec![NameChange::Add(path.into(), inode)])?;
        Ok(inode)
    }

    pub(super) fn mkdir(&mut self, path: &Path) -> io::Result<()> {
        self.powered()?;
        if self.folders.contains(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|p| self.folders.contains(p)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.name(Call::Mkdir, vec![NameChange::Folder(path.into())])
    }

    /// Between two folders the old and the new name are lost or kept independently.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.inode(from)?;
        if !to.parent().is_some_and(|p| self.folders.contains(p)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let changes = if from.parent() == to.parent() {
            vec![NameChange::Rename(from.into(), to.into(), inode)]
        } else {
            let add = NameChange::Add(to.into(), inode);
            vec![add, NameChange::Remove(from.into())]
        };
        self.name(Call::Rename, changes)
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.inode(path)?;
        self.name(Call::Remove, vec![NameChange::Remove(path.into())])
    }

    /// Writes. A failing write, and one on a full disk, leave a part.
    pub(super) fn write(
        &mut self,
        call: Call,
        inode: u64,
        offset: usize,
        bytes: &[u8],
    ) -> io::Result<()> {
        let fate = self.changes(call)?;
        let length = self.inodes.get(&inode).map_or(0, |file| file.current.len());
        let mut part = bytes.len();
        let mut full = false;
        if let Some(capacity) = self.faults.capacity_bytes {
            let room = usize::try_from(capacity.saturating_sub(self.used())).unwrap_or(usize::MAX);
            let fits = (length + room).saturating_sub(offset);
            full = fits < bytes.len();
            part = part.min(fits);
        }
        if fate == Fate::Fails && self.roll(2) == 0 {
            part = usize::try_from(self.roll(part as u64)).unwrap_or(0);
        }
        let bytes = bytes.get(..part).unwrap_or(bytes);
        if let Some(file) = self.inodes.get_mut(&inode)
            && !bytes.is_empty()
        {
            write_into(&mut file.current, offset, bytes);
            file.pending.push((offset, bytes.to_vec()));
        }
        match fate {
            Fate::LastOne => Err(power_failed()),
            Fate::Fails => Err(failed(call)),
            Fate::Done if full => Err(io::ErrorKind::StorageFull.into()),
            Fate::Done => Ok(()),
        }
    }

    /// Syncs a file. After a failure, as Linux does, the pages count as clean: some were written,
    /// and no later sync writes the others.
    pub(super) fn sync(&mut self, inode: u64) -> io::Result<()> {
        let fate = self.changes(Call::Sync)?;
        if fate == Fate::LastOne {
            return Err(power_failed());
        }
        let Some(mut file) = self.inodes.remove(&inode) else {
            return Ok(());
        };
        let keep = match fate {
            Fate::Done => Keep::All,
            _ => Keep::OneIn(1 + self.roll(3)),
        };
        self.settle(&mut file, keep);
        self.inodes.insert(inode, file);
        match fate {
            Fate::Fails => Err(failed(Call::Sync)),
            _ => Ok(()),
        }
    }

    /// Syncs a folder's names. After a failure names of files may count as clean too, though they
    /// were never written; a new folder stays to be written.
    pub(super) fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        let fate = self.changes(Call::SyncFolder)?;
        if fate == Fate::LastOne {
            return Err(power_failed());
        }
        if !self.folders.contains(folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (now, later) = std::mem::take(&mut self.pending_names)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.folder() == Some(folder));
        self.pending_names = later;
        for change in now {
            let is_folder = matches!(change, NameChange::Folder(_));
            if fate == Fate::Done {
                change.apply(&mut self.durable_names, &mut self.durable_folders);
            } else if is_folder || self.roll(2) == 0 {
                self.pending_names.push(change);
            }
        }
        match fate {
            Fate::Fails => Err(failed(Call::SyncFolder)),
            _ => Ok(()),
        }
    }

    /// Makes pending content durable, sector by sector, as far as it is kept.
    fn settle(&mut self, file: &mut Inode, keep: Keep) {
        for (offset, bytes) in std::mem::take(&mut file.pending) {
            let mut done = 0;
            while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
                let at = offset + done;
                let sector = (SECTOR_BYTES - at % SECTOR_BYTES).min(rest.len());
                let survives = match keep {
                    Keep::All => true,
                    Keep::None => false,
                    Keep::OneIn(n) => self.roll(n + 1) == 0,
                };
                if survives {
                    write_into(&mut file.durable, at, rest.get(..sector).unwrap_or(rest));
                }
                done += sector;
            }
        }
    }

    /// Decides what is left after a power cut.
    pub(super) fn lose_power(&mut self) {
        let pending = std::mem::take(&mut self.pending_names);
        let cut = self.roll(pending.len() as u64 + 1);
        let in_order = self.roll(2) == 0;
        for (place, change) in pending.iter().enumerate() {
            let survives = match in_order {
                true => (place as u64) < cut,
                false => self.roll(2) == 0,
            };
            if survives {
                change.apply(&mut self.durable_names, &mut self.durable_folders);
            }
        }
        // What is in a folder that is gone cannot be reached.
        let mut reached = BTreeSet::new();
        for folder in &self.durable_folders {
            if folder
                .parent()
                .is_none_or(|parent| reached.contains(parent))
            {
                reached.insert(folder.clone());
            }
        }
        self.durable_names
            .retain(|path, _| path.parent().is_some_and(|p| reached.contains(p)));
        self.durable_folders.clone_from(&reached);
        self.folders = reached;
        self.names = self.durable_names.clone();
        // Of unsynced content: nothing, all, or any sectors.
        let keep = match self.roll(4) {
            0 => Keep::None,
            1 => Keep::All,
            n => Keep::OneIn(n - 1),
        };
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        let mut inodes = std::mem::take(&mut self.inodes);
        inodes.retain(|inode, _| named.contains(inode));
        for file in inodes.values_mut() {
            self.settle(file, keep);
            file.current.clone_from(&file.durable);
        }
        self.inodes = inodes;
        self.locks.clear();
        self.generation += 1;
    }
}

/// How much of unsynced content survives.
#[derive(Clone, Copy)]
enum Keep {
    All,
    None,
    /// One sector in n + 1.
    OneIn(u64),
}
