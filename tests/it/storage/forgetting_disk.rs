//! A file system of the kernel whose disk forgets: what was not synced is gone, torn or out of order
//! when its power is cut, whoever wrote it. [`SimDisk`] behind FUSE.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    AccessFlags, BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};
use renkei::store::disk::sim::SimDisk;
use renkei::store::disk::{Disk as _, DiskFile};

/// Nothing is remembered by the kernel: after a power cut it would be wrong.
const NEVER: Duration = Duration::ZERO;

/// The file system as the kernel sees it: inodes and open files of a [`SimDisk`].
struct Forgetting {
    disk: SimDisk,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    inodes: BTreeMap<PathBuf, u64>,
    open: BTreeMap<u64, Arc<dyn DiskFile>>,
    last: u64,
}

/// Mounts the disk; it is unmounted when the session is dropped.
pub(super) fn mount(disk: &SimDisk, at: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("renkei-forgetting".to_owned())];
    let state = State {
        inodes: BTreeMap::from([(PathBuf::from("/"), INodeNo::ROOT.0)]),
        last: INodeNo::ROOT.0,
        ..State::default()
    };
    let filesystem = Forgetting {
        disk: disk.clone(),
        state: Mutex::new(state),
    };
    fuser::spawn_mount(filesystem, at, &config)
}

fn errno(error: &io::Error) -> Errno {
    match error.kind() {
        io::ErrorKind::NotFound => Errno::ENOENT,
        io::ErrorKind::AlreadyExists => Errno::EEXIST,
        io::ErrorKind::StorageFull => Errno::ENOSPC,
        _ => Errno::EIO,
    }
}

impl Forgetting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, inode: INodeNo) -> io::Result<PathBuf> {
        let state = self.state();
        let found = state.inodes.iter().find(|(_, number)| **number == inode.0);
        found
            .map(|(path, _)| path.clone())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    fn attributes(&self, path: &Path) -> io::Result<FileAttr> {
        let (kind, size) = match self.disk.list(path) {
            Ok(_) => (FileType::Directory, 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (FileType::RegularFile, self.disk.open(path)?.len()?)
            }
            Err(error) => return Err(error),
        };
        let mut state = self.state();
        let next = state.last + 1;
        let inode = *state.inodes.entry(path.to_owned()).or_insert(next);
        state.last = state.last.max(inode);
        Ok(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: if kind == FileType::Directory {
                0o700
            } else {
                0o600
            },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn keep_open(&self, file: Arc<dyn DiskFile>) -> FileHandle {
        let mut state = self.state();
        state.last += 1;
        let handle = state.last;
        state.open.insert(handle, file);
        FileHandle(handle)
    }

    fn file(&self, handle: FileHandle) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.state().open.get(&handle.0).cloned();
        file.ok_or_else(|| io::Error::from_raw_os_error(libc_ebadf()))
    }

    fn move_inode(&self, from: &Path, to: &Path) {
        let mut state = self.state();
        if let Some(inode) = state.inodes.remove(from) {
            state.inodes.insert(to.to_owned(), inode);
        }
    }
}

/// EBADF on Linux.
const fn libc_ebadf() -> i32 {
    9
}

impl Filesystem for Forgetting {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self
            .child(parent, name)
            .and_then(|path| self.attributes(&path))
        {
            Ok(attributes) => reply.entry(&NEVER, &attributes, Generation(0)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.path(inode).and_then(|path| self.attributes(&path)) {
            Ok(attributes) => reply.attr(&NEVER, &attributes),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let made = self.child(parent, name).and_then(|path| {
            self.disk.create_dir(&path)?;
            self.attributes(&path)
        });
        match made {
            Ok(attributes) => reply.entry(&NEVER, &attributes, Generation(0)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.child(parent, name).and_then(|path| {
            let file = self.disk.create(&path)?;
            // The name is a new file now, whatever it was before.
            self.state().inodes.remove(&path);
            Ok((self.attributes(&path)?, self.keep_open(file)))
        });
        match made {
            Ok((attributes, handle)) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO;
                reply.created(&NEVER, &attributes, Generation(0), handle, flags);
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.path(inode).and_then(|path| self.disk.open(&path)) {
            Ok(file) => reply.opened(self.keep_open(file), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = vec![0; size as usize];
        let read = self
            .file(handle)
            .and_then(|file| file.read_at(&mut buffer, offset));
        match read {
            Ok(count) => reply.data(&buffer[..count]),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self
            .file(handle)
            .and_then(|file| file.write_at(data, offset))
        {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.state().open.remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.file(handle).and_then(|file| file.fdatasync()) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.path(inode).and_then(|path| {
            let names = self.disk.list(&path)?;
            let entries = names.into_iter().map(|name| {
                let attributes = self.attributes(&path.join(&name))?;
                Ok((attributes, name))
            });
            entries.collect::<io::Result<Vec<_>>>()
        });
        match listed {
            Ok(entries) => {
                let rest = entries
                    .iter()
                    .enumerate()
                    .skip(usize::try_from(offset).unwrap());
                for (place, (attributes, name)) in rest {
                    if reply.add(attributes.ino, place as u64 + 1, attributes.kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.path(inode).and_then(|path| self.disk.fsync_dir(&path)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.child(parent, name).and_then(|path| {
            self.disk.remove(&path)?;
            self.state().inodes.remove(&path);
            Ok(())
        });
        match removed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.child(parent, name).and_then(|from| {
            let to = self.child(new_parent, new_name)?;
            self.disk.rename(&from, &to)?;
            self.move_inode(&from, &to);
            Ok(())
        });
        match renamed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }
}
