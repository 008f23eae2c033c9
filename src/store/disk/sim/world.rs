//! The state of a simulated disk: what programs see, and what would survive now.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::Faults;

/// What survives a power cut of a write survives in pieces of this size.
const SECTOR_BYTES: usize = 512;

#[derive(Debug)]
pub(super) struct World {
    pub(super) random: u64,
    pub(super) faults: Faults,
    pub(super) changes: u64,
    pub(super) writes: u64,
    pub(super) syncs: u64,
    pub(super) powered: bool,
    pub(super) generation: u64,
    pub(super) next_inode: u64,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    pub(super) pending_names: Vec<NameChange>,
    pub(super) folders: BTreeSet<PathBuf>,
    pub(super) modes: BTreeMap<PathBuf, u32>,
    pub(super) locks: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) removed: Option<PathBuf>,
    pub(super) added: Option<(PathBuf, u64)>,
}

impl NameChange {
    pub(super) fn touches(&self, folder: &Path) -> bool {
        let added = self.added.as_ref().map(|(path, _)| path);
        self.removed
            .iter()
            .chain(added)
            .any(|path| path.parent() == Some(folder))
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(path) = &self.removed {
            names.remove(path);
        }
        if let Some((path, inode)) = &self.added {
            names.insert(path.clone(), *inode);
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

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
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
        }
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

    /// Counts a call that changes something; `false` if the power fails in it.
    pub(super) fn change(&mut self) -> io::Result<bool> {
        self.powered()?;
        self.changes += 1;
        self.powered = self.faults.power_cut_at != Some(self.changes);
        Ok(self.powered)
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.change()? {
            return Err(power_failed());
        }
        self.syncs += 1;
        if self.faults.failing_sync == Some(self.syncs) {
            return Err(io::Error::other("simulated sync failure"));
        }
        Ok(())
    }

    pub(super) fn name(&mut self, change: NameChange) -> io::Result<()> {
        let survives = self.change()?;
        change.apply(&mut self.names);
        self.pending_names.push(change);
        if survives {
            Ok(())
        } else {
            Err(power_failed())
        }
    }

    pub(super) fn inode(&self, path: &Path) -> io::Result<u64> {
        self.powered()?;
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn write(&mut self, inode: u64, offset: usize, bytes: &[u8]) -> io::Result<()> {
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
        let whole = bytes.len() as u64;
        let part = if fails && self.roll(2) == 0 {
            self.roll(whole)
        } else {
            whole
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
    pub(super) fn lose_power(&mut self) {
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
