//! The file. Every call here blocks.
//!
//! ```text
//! lock ─▶ stage: .NAME.zkbridge-new, synchronised ─▶ note that a reload is due ─▶ rename ─▶ synchronise the folder
//! ```
//!
//! `.NAME.zkbridge` beside the file is its lock, and holds the note: it is durable before the file is replaced, and is
//! removed after the reload. Both names end with the name of this program, so that no program that reads `*.conf` reads them.

use std::ffi::OsString;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bridge_core::folder::{open_plain, sync_folder};
use bridge_core::sink::SinkError;

use crate::config::FileMode;
use crate::error;

/// Another sink holds the lock while it renders and reloads, which its own limits bound.
const LOCK_BOUND: Duration = Duration::from_secs(10);

/// How often to ask for the lock.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// The mode of the files beside the file until they get another.
const PRIVATE: u32 = 0o600;

/// The note that a reload is due.
const DUE: &[u8] = b"reload\n";

/// A file that can be replaced, with the lock held.
pub(crate) struct Target {
    path: PathBuf,
    folder: PathBuf,
    /// The lock, with the note in it.
    lock: File,
    lock_path: PathBuf,
    is_reload_due: bool,
}

/// A text on the disk that is not in its place yet. Removed when it is dropped.
pub(crate) struct StagedFile {
    path: PathBuf,
    is_placed: bool,
}

impl Target {
    /// Finds the file, also through a link, and locks it.
    pub(crate) fn lock(path: &Path) -> Result<Target, SinkError> {
        let path = resolved(path)?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let lock_path = beside(&path, ".zkbridge");
        let opened = open_plain(&lock_path, PRIVATE);
        let opened = opened.map_err(|cause| error::at(&lock_path, "open", cause))?;
        let lock = opened.ok_or_else(|| error::no_plain_lock(&lock_path))?;
        wait_for_lock(&lock, &lock_path)?;
        let mut note = Vec::new();
        (&lock)
            .take(DUE.len() as u64)
            .read_to_end(&mut note)
            .map_err(|cause| error::at(&lock_path, "read", cause))?;
        Ok(Target {
            path,
            folder,
            lock,
            lock_path,
            is_reload_due: !note.is_empty(),
        })
    }

    /// Whether the file was replaced and not reloaded since.
    pub(crate) fn is_reload_due(&self) -> bool {
        self.is_reload_due
    }

    /// Whether the file has exactly this text.
    pub(crate) fn has(&self, text: &str) -> Result<bool, SinkError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(cause) => return Err(error::at(&self.path, "read", cause)),
        };
        let compare = || {
            if file.metadata()?.len() != text.len() as u64 {
                return Ok(false);
            }
            let mut present = Vec::with_capacity(text.len());
            (&file).take(text.len() as u64 + 1).read_to_end(&mut present)?;
            Ok(present == text.as_bytes())
        };
        compare().map_err(|cause| error::at(&self.path, "read", cause))
    }

    /// Writes a text beside the file, with the mode and owner of the file, or with `mode` if there is none.
    pub(crate) fn stage(&self, text: &str, mode: FileMode) -> Result<StagedFile, SinkError> {
        let path = beside(&self.path, ".zkbridge-new");
        // A crash can have left one.
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(error::at(&path, "remove", cause));
            }
            _ => {}
        }
        let mut options = File::options();
        options.create_new(true).write(true).mode(PRIVATE);
        let mut file = options
            .open(&path)
            .map_err(|cause| error::at(&path, "create", cause))?;
        let staged = StagedFile {
            path,
            is_placed: false,
        };
        let written = file.write_all(text.as_bytes());
        written.map_err(|cause| error::at(&staged.path, "write", cause))?;
        self.take_over(&file, &staged.path, mode)?;
        file.sync_all()
            .map_err(|cause| error::at(&staged.path, "synchronise", cause))?;
        Ok(staged)
    }

    /// Gives the new file the owner and mode of the present one.
    fn take_over(&self, file: &File, staged: &Path, mode: FileMode) -> Result<(), SinkError> {
        let at = |cause| error::at(staged, "set the mode of", cause);
        let present = match fs::metadata(&self.path) {
            Ok(present) => present,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return file.set_permissions(Permissions::from_mode(mode.0)).map_err(at);
            }
            Err(cause) => return Err(error::at(&self.path, "read the mode of", cause)),
        };
        let new = file.metadata().map_err(at)?;
        let (user, group) = (present.uid(), present.gid());
        if (new.uid(), new.gid()) != (user, group) {
            fchown(file, Some(user), Some(group))
                .map_err(|cause| error::owner_not_kept(&self.path, (user, group), cause))?;
        }
        let mode = present.mode() & 0o7777;
        file.set_permissions(Permissions::from_mode(mode)).map_err(at)
    }

    /// Puts a text in the place of the file. If a reload follows, the note of it is durable before.
    pub(crate) fn replace(&mut self, mut staged: StagedFile, has_reload: bool) -> Result<(), SinkError> {
        if has_reload {
            self.note(DUE)?;
        }
        fs::rename(&staged.path, &self.path).map_err(|cause| error::at(&self.path, "replace", cause))?;
        staged.is_placed = true;
        self.sync_folder()
    }

    /// The reload has succeeded.
    pub(crate) fn reloaded(&mut self) -> Result<(), SinkError> {
        self.note(b"")
    }

    fn note(&mut self, note: &[u8]) -> Result<(), SinkError> {
        let lock = &mut self.lock;
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(note))
            .and_then(|()| lock.sync_all());
        written.map_err(|cause| error::at(&self.lock_path, "write", cause))?;
        self.is_reload_due = !note.is_empty();
        // The name of the file of the note, too.
        self.sync_folder()
    }

    fn sync_folder(&self) -> Result<(), SinkError> {
        sync_folder(&self.folder).map_err(|cause| error::at(&self.folder, "synchronise", cause))
    }
}

impl StagedFile {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.is_placed {
            // If it cannot be removed, the next one takes its place.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The path of the file itself, if a link leads to it.
fn resolved(path: &Path) -> Result<PathBuf, SinkError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return in_folder(path),
        Err(cause) => return Err(error::at(path, "find", cause)),
    };
    if !found.is_symlink() {
        return regular(path, &found).map(|()| path.to_owned());
    }
    let target = fs::canonicalize(path).map_err(|cause| error::at(path, "follow the link", cause))?;
    let found = fs::metadata(&target).map_err(|cause| error::at(&target, "find", cause))?;
    regular(&target, &found).map(|()| target)
}

/// A file that does not exist yet, in a folder that does.
fn in_folder(path: &Path) -> Result<PathBuf, SinkError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(path.to_owned()),
        Ok(_) => Err(error::unusable(path, "what should be its folder is none")),
        Err(cause) => Err(error::at(folder, "find the folder", cause)),
    }
}

fn regular(path: &Path, found: &fs::Metadata) -> Result<(), SinkError> {
    match found.is_file() {
        true => Ok(()),
        false => Err(error::unusable(
            path,
            "it is a folder, a device or a pipe: give the path of a file",
        )),
    }
}

/// `.NAME` and an ending, in the folder of the file.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(ending);
    path.with_file_name(name)
}

fn wait_for_lock(file: &File, path: &Path) -> Result<(), SinkError> {
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_BOUND => std::thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => return Err(error::locked(path, LOCK_BOUND.as_secs())),
            Err(TryLockError::Error(cause)) => return Err(error::at(path, "lock", cause)),
        }
    }
}
