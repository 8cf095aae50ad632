//! Sees that the configuration file has changed, by its content: a file that was only touched is no change, and one that
//! replaces a link, as Kubernetes does it, is.
//!
//! The files that the configuration names are not watched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bridge_core::file_path::read_regular;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// More than any configuration; a longer file is not looked at, and `zkbridge check` says why it is refused.
const BYTES_MAX: u64 = 16 << 20;

/// The changes of one file; none if no file is watched.
pub struct ConfigChanges {
    watched: Option<Watched>,
}

struct Watched {
    file: PathBuf,
    content: Option<Vec<u8>>,
    looks: Option<Interval>,
}

impl ConfigChanges {
    /// Changes from now on.
    pub fn of(file: Option<&Path>) -> ConfigChanges {
        ConfigChanges {
            watched: file.map(|file| Watched {
                file: file.to_owned(),
                content: content(file),
                looks: None,
            }),
        }
    }

    /// Returns when the file has another content than at the last call. A file that cannot be read is waited for: it may
    /// be about to be replaced. Cancel safe.
    pub async fn next(&mut self) {
        let Some(watched) = &mut self.watched else {
            return std::future::pending().await;
        };
        loop {
            watched.looks().tick().await;
            let file = watched.file.clone();
            // Blocks on a disk that does not answer, and then only this.
            let read = tokio::task::spawn_blocking(move || content(&file)).await;
            let Ok(Some(read)) = read else { continue };
            if watched.content.as_ref() != Some(&read) {
                watched.content = Some(read);
                return;
            }
        }
    }
}

impl Watched {
    /// Begins with the first wait, which is inside of a runtime.
    fn looks(&mut self) -> &mut Interval {
        self.looks.get_or_insert_with(|| {
            let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            looks
        })
    }
}

fn content(file: &Path) -> Option<Vec<u8>> {
    read_regular(file, BYTES_MAX).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Longer than two looks, in the time of the test.
    const SOON: Duration = Duration::from_secs(11);

    async fn is_seen(changes: &mut ConfigChanges) -> bool {
        tokio::time::timeout(SOON, changes.next()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_replaced_is_seen_once_and_one_that_is_touched_or_away_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(place(name), text).unwrap();
        write("first", "a = 1");
        write("second", "a = 2");
        symlink(place("first"), place("config")).unwrap();
        let mut changes = ConfigChanges::of(Some(&place("config")));
        assert!(!is_seen(&mut changes).await, "nothing has changed");
        write("first", "a = 1");
        assert!(!is_seen(&mut changes).await, "it was only touched");
        std::fs::remove_file(place("config")).unwrap();
        assert!(!is_seen(&mut changes).await, "it is away");
        symlink(place("second"), place("config")).unwrap();
        assert!(is_seen(&mut changes).await, "it has another content");
        assert!(!is_seen(&mut changes).await, "it was seen already");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_file_there_is_no_change() {
        assert!(!is_seen(&mut ConfigChanges::of(None)).await);
    }
}
