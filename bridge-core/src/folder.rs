//! Names in folders: the folder of a file, what makes its names durable, and files that others could put in their place.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// The folder of a file; that of the process for a name alone.
pub fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Makes the names in a folder durable: a new or another name of a file is on the disk once its folder is.
///
/// # Errors
///
/// If the folder cannot be opened or the disk fails.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file, which need not be there.
///
/// # Errors
///
/// If it is there and cannot be removed.
pub fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens or creates a file that only this program uses, for reading and writing, without changing it. `None` if it is a
/// link, has a second name, or is no plain file: in a folder where others write, its text would go elsewhere, and a pipe
/// or a device has no end.
///
/// # Errors
///
/// If it cannot be opened or created.
pub fn open_plain(file: &Path, mode: u32) -> io::Result<Option<File>> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(file);
    let opened = match opened {
        Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => return Ok(None),
        other => other?,
    };
    let metadata = opened.metadata()?;
    // Without a name it was removed since it was opened.
    let is_plain = metadata.is_file() && metadata.nlink() <= 1;
    Ok(is_plain.then_some(opened))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_this_program_is_opened_and_a_link_a_second_name_or_a_pipe_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("other"), "kept").unwrap();
        std::os::unix::fs::symlink(at("other"), at("link")).unwrap();
        fs::hard_link(at("other"), at("second")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["link", "second", "pipe"] {
            assert!(open_plain(&at(name), 0o600).unwrap().is_none(), "{name}");
        }
        assert_eq!(fs::read_to_string(at("other")).unwrap(), "kept");
        for _ in 0..2 {
            let opened = open_plain(&at("own"), 0o600).unwrap().unwrap();
            assert_eq!(opened.metadata().unwrap().mode() & 0o777, 0o600);
        }
        assert!(open_plain(folder.path(), 0o600).is_err());
    }

    #[test]
    fn a_name_alone_is_in_the_folder_of_the_process() {
        let check =
            |file: &str, folder: &str| assert_eq!(folder_of(Path::new(file)), Path::new(folder), "{file}");
        check("/a/b", "/a");
        check("a/b", "a");
        check("b", ".");
        sync_folder(folder_of(Path::new("b"))).unwrap();
    }

    #[test]
    fn a_file_that_is_not_there_is_removed_and_a_folder_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        remove_if_there(&file).unwrap();
        fs::write(&file, "").unwrap();
        remove_if_there(&file).unwrap();
        assert!(!file.exists());
        assert!(remove_if_there(folder.path()).is_err());
    }
}
