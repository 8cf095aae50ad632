//! A file that appears under its name when it is complete.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bridge_core::folder::{folder_of, sync_folder};
use tempfile::{Builder, NamedTempFile};

/// The beginning and the end of the name of a file that is being written. One that a killed export has left may be
/// removed.
const PART: (&str, &str) = (".zkbridge-export.", ".part");

/// A file that is being written in the folder of its name. Dropped, it is removed.
#[derive(Debug)]
pub struct NewFile {
    /// Mode 0600 from the beginning.
    part: NamedTempFile,
    to: PathBuf,
}

impl NewFile {
    /// Begins a file of this name.
    ///
    /// # Errors
    ///
    /// If there is one already, or the folder cannot be written to.
    pub fn create(to: &Path) -> io::Result<NewFile> {
        if to.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let part = Builder::new()
            .prefix(PART.0)
            .suffix(PART.1)
            .tempfile_in(folder_of(to))?;
        Ok(NewFile {
            part,
            to: to.to_owned(),
        })
    }

    /// Where it is while it is written.
    pub(super) fn part(&self) -> &Path {
        self.part.path()
    }

    /// To write into it.
    ///
    /// # Errors
    ///
    /// If the process has no file descriptor left.
    pub fn output(&self) -> io::Result<File> {
        self.part.as_file().try_clone()
    }

    /// Writes the content to the disk, then gives the file its name.
    ///
    /// # Errors
    ///
    /// If another file has got the name meanwhile, or the disk fails.
    pub fn put(self) -> io::Result<()> {
        self.part.as_file().sync_all()?;
        self.part
            .persist_noclobber(&self.to)
            .map_err(|error| error.error)?;
        sync_folder(folder_of(&self.to))
    }
}
