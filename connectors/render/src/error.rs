//! Failures as kinds of the engine.

use std::io;
use std::path::Path;

use bridge_core::path::ZnodePath;
pub(crate) use bridge_core::sink::file_error as at;
use bridge_core::sink::{SinkError, SinkErrorKind};
use bridge_core::subtree::SubtreeError;

use crate::config::RenderConfig;

/// A path that no attempt makes right.
pub(crate) fn unusable(path: &Path, reason: &str) -> SinkError {
    let message = format!("cannot write {}: {reason}", path.display());
    SinkError::new(SinkErrorKind::Configuration, message)
}

/// The lock leads elsewhere: whoever put it there would choose the file into which the note of a reload is written.
pub(crate) fn no_plain_lock(path: &Path) -> SinkError {
    let message = format!(
        "{} is a link or no plain file, so it is left alone: find out who made it, remove it, and let nobody else write \
         to its folder",
        path.display()
    );
    SinkError::new(SinkErrorKind::Configuration, message)
}

/// The owner of the file cannot be given to the new one.
pub(crate) fn owner_not_kept(path: &Path, owner: (u32, u32), error: io::Error) -> SinkError {
    let (user, group) = owner;
    let message = format!(
        "cannot keep the owner {user}:{group} of {}: {error}: give the file to the user of the bridge, or run the bridge \
         as one that may change owners",
        path.display()
    );
    SinkError::new(SinkErrorKind::of_file_system(&error), message).because(error)
}

/// Another process holds the lock.
pub(crate) fn locked(path: &Path, seconds: u64) -> SinkError {
    let message = format!(
        "{} is locked by another sink or process for more than {seconds} s: let only one sink write the file",
        path.display()
    );
    SinkError::new(SinkErrorKind::Unavailable, message)
}

/// The tree has no text.
pub(crate) fn no_text(config: &RenderConfig, reason: &str) -> SinkError {
    let message = format!(
        "no text for {} of the znodes at and below {}: {reason}",
        config.path.display(),
        config.tree
    );
    SinkError::new(SinkErrorKind::Content, message)
}

/// No root covers the tree: it was dropped since the configuration was checked.
pub(crate) fn not_watched(tree: &ZnodePath) -> SinkError {
    let message = format!("{tree} is in none of the source's roots: add it to roots, or correct tree");
    SinkError::new(SinkErrorKind::Configuration, message)
}

/// The image gave no subtree.
pub(crate) fn no_subtree(config: &RenderConfig, error: SubtreeError) -> SinkError {
    match error {
        SubtreeError::Journal(error) => {
            let message = format!("cannot read the znodes at and below {}: {error}", config.tree);
            SinkError::new(SinkErrorKind::Unavailable, message).because(error)
        }
        error @ SubtreeError::TooLarge { .. } => no_text(
            config,
            &format!("{error}: raise max_znodes, or give a deeper tree"),
        ),
    }
}

/// The command refuses the new text.
pub(crate) fn refused(config: &RenderConfig, sentence: &str) -> SinkError {
    let message = format!(
        "verify refuses the new text of {}, which stays as it is: {sentence}",
        config.path.display()
    );
    SinkError::new(SinkErrorKind::Content, message)
}

/// The reload failed.
pub(crate) fn not_reloaded(config: &RenderConfig, sentence: &str) -> SinkError {
    let message = format!(
        "{} is written, and its reload failed: {sentence}",
        config.path.display()
    );
    SinkError::new(SinkErrorKind::Unavailable, message)
}

/// The sink was used before it was opened, or its thread is gone: opening it again heals both.
pub(crate) fn broken(message: &str) -> SinkError {
    SinkError::new(SinkErrorKind::Broken, message)
}
