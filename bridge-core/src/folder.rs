//! Names in folders: the folder of a file, and what makes its names durable.

use std::fs::{self, File};
use std::io;
use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;

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
