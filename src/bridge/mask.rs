//! The masks of a source, and the file of their key beside its journal.
//!
//! The key is made with the first mask and never changed. Without it, values that were masked cannot be compared with
//! later ones; their digests name another key then. It opens nothing: a digest has no way back.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_config::{Config, SourceConfig};
use bridge_core::file_path::read_regular;
use bridge_core::folder::{folder_of, remove_if_there, sync_folder};
use bridge_core::record::{MaskKey, Masking};

use super::{configuration, environment};
use crate::exit::Failure;

/// More than a key and a line feed.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// Read and write for the owner only.
const OWNER_ONLY: u32 = 0o600;

/// The file of a source's key.
pub fn key_file(config: &Config, source: &SourceConfig) -> PathBuf {
    config.data_dir.join(format!("{}.mask-key", source.name))
}

/// The masks of a source; `None` if it has none. Makes the key if there is none yet, and blocks on the disk. `had_masks`
/// says that the journal has digests of a key.
///
/// # Errors
/// If the file of the key cannot be read or written, or holds no key: the source must not run without its masks.
pub fn masking(
    source: &SourceConfig,
    key_file: &Path,
    had_masks: bool,
) -> Result<Option<Arc<Masking>>, Failure> {
    if source.mask.is_empty() {
        return Ok(None);
    }
    let key = match read_key(key_file)? {
        Some(content) => parsed(key_file, &content)?,
        None => {
            let key = new_key(key_file)?;
            if had_masks {
                tracing::warn!(
                    source = &*source.name,
                    file = %key_file.display(),
                    help = "stop the bridge and restore the file from a copy of data_dir; without one, leave it so",
                    "the key of masked values is gone and a new one was made: no digest equals one of before"
                );
            }
            key
        }
    };
    let globs = source.mask.iter().map(bridge_zookeeper::config::PathGlob::glob);
    let masking = Masking::new(globs, key)
        .map_err(|error| configuration(format!("mask of source '{}': {error}", source.name)))?;
    Ok(Some(Arc::new(masking)))
}

/// The text of the file of a key; `None` if there is none.
///
/// # Errors
/// If it cannot be read, or holds no key.
pub fn read_key(file: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let content = match read_regular(file, KEY_FILE_BYTES_MAX) {
        Ok(content) => content.unwrap_or_default(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(environment(format!(
                "the key of masked values {} cannot be read: {error}\nhelp: give this user permission to read it",
                file.display()
            )));
        }
    };
    parsed(file, &content)?;
    Ok(Some(content))
}

fn parsed(file: &Path, content: &[u8]) -> Result<MaskKey, Failure> {
    let key = std::str::from_utf8(content).ok().and_then(MaskKey::parse);
    key.ok_or_else(|| {
        environment(format!(
            "{} holds no key of masked values\nhelp: restore it from a copy; or remove it to start with a new key, with \
             which no digest equals an earlier one",
            file.display()
        ))
    })
}

fn new_key(file: &Path) -> Result<MaskKey, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        environment(format!(
            "the key of masked values {} cannot be made: {error}\nhelp: make room, and give this user permission to \
             write there",
            file.display()
        ))
    };
    let key = MaskKey::generate().map_err(|error| failed(&error))?;
    let text = format!("{}\n", key.to_text());
    // Whole or not at all: a part of a key would be refused at every start.
    let fresh = file.with_extension("mask-key.new");
    write_new(&fresh, &text)
        .and_then(|()| std::fs::rename(&fresh, file))
        .and_then(|()| sync_folder(folder_of(file)))
        .map_err(|error| failed(&error))?;
    tracing::info!(
        file = %file.display(),
        "the key of masked values was made: keep a copy of it with those of the journal"
    );
    Ok(key)
}

/// A file that nobody else has: one of a start that was interrupted is removed, and a link is not followed.
fn write_new(file: &Path, text: &str) -> std::io::Result<()> {
    remove_if_there(file)?;
    let mut open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(file)?;
    open.write_all(text.as_bytes())?;
    open.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_a_damaged_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("main.mask-key");
        assert_eq!(read_key(&file).unwrap(), None);
        let key = new_key(&file).unwrap();
        let content = read_key(&file).unwrap().unwrap();
        assert_eq!(parsed(&file, &content).unwrap(), key);
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_ne!(new_key(&folder.path().join("other.mask-key")).unwrap(), key);
        assert!(!folder.path().join("main.mask-key.new").exists());
        // Of a start that was interrupted, with a link in its place: what the link names stays as it is.
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, "kept").unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.path().join("third.mask-key.new")).unwrap();
        new_key(&folder.path().join("third.mask-key")).unwrap();
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "kept");
        for damaged in ["", "0123", &"z".repeat(64), &"é".repeat(32)] {
            std::fs::write(&file, damaged).unwrap();
            let refused = read_key(&file).unwrap_err();
            assert!(refused.message.contains("restore it from a copy"), "{refused:?}");
        }
    }
}
