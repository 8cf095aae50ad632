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
use bridge_core::record::{MaskKey, Masking};

use super::{configuration, environment};
use crate::exit::Failure;

/// More than a key and a line feed.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// Read and write for the owner only.
const OWNER_ONLY: u32 = 0o600;

/// The file of a source's key.
pub(super) fn key_file(config: &Config, source: &SourceConfig) -> PathBuf {
    config.data_dir.join(format!("{}.mask-key", source.name))
}

/// The masks of a source; `None` if it has none. Makes the key if there is none yet, and blocks on the disk.
///
/// # Errors
/// If the file of the key cannot be read or written, or holds no key: the source must not run without its masks.
pub(super) fn masking(source: &SourceConfig, key_file: &Path) -> Result<Option<Arc<Masking>>, Failure> {
    if source.mask.is_empty() {
        return Ok(None);
    }
    let key = match read_key(key_file)? {
        Some(key) => key,
        None => new_key(key_file)?,
    };
    let globs = source.mask.iter().map(bridge_zookeeper::config::PathGlob::glob);
    let masking = Masking::new(globs, key)
        .map_err(|error| configuration(format!("mask of source '{}': {error}", source.name)))?;
    Ok(Some(Arc::new(masking)))
}

fn read_key(file: &Path) -> Result<Option<MaskKey>, Failure> {
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
    let key = std::str::from_utf8(&content).ok().and_then(MaskKey::parse);
    key.map(Some).ok_or_else(|| {
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
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(OWNER_ONLY)
        .open(&fresh)
        .and_then(|mut open| {
            open.write_all(text.as_bytes())?;
            open.sync_all()
        })
        .and_then(|()| std::fs::rename(&fresh, file));
    written.map_err(|error| failed(&error))?;
    tracing::info!(
        file = %file.display(),
        "the key of masked values was made: keep a copy of it with those of the journal"
    );
    Ok(key)
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
        assert_eq!(read_key(&file).unwrap(), Some(key.clone()));
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_ne!(new_key(&folder.path().join("other.mask-key")).unwrap(), key);
        for damaged in ["", "0123", &"z".repeat(64), &"é".repeat(32)] {
            std::fs::write(&file, damaged).unwrap();
            let refused = read_key(&file).unwrap_err();
            assert!(refused.message.contains("restore it from a copy"), "{refused:?}");
        }
    }
}
