//! Whether the files of an open journal are still those at their paths.
//!
//! What can be noticed: a journal that was removed, moved, replaced or made shorter, the files beside it that were removed
//! or replaced, and a log that is shorter than SQLite knows. What another program writes into the files can not.

use super::companions::{COMPANIONS, LOGS, beside};
use super::error::{JournalError, JournalErrorKind};
use super::lock::FileId;
use super::writer::Journal;

/// The files as they were when they were last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JournalPlace {
    /// The first of [`COMPANIONS`], which are kept open, once each is there: the log, and its index.
    companions: [Option<FileId>; 2],
    length: u64,
}

impl Journal {
    /// Looks whether the open file is still the one at its path, and locked. To be called every second or so: what is
    /// written to a file without a name is lost.
    ///
    /// # Errors
    ///
    /// If the file was removed, moved or replaced ([`JournalErrorKind::Moved`]), or another process has locked it.
    pub fn verify_place(&mut self) -> Result<(), JournalError> {
        let found = FileId::at(&self.file)
            .map_err(|error| JournalError::of_io(&self.file, "looking at it", error))?;
        if found == Some(self.gate.file()) {
            self.verify_content()?;
            return self.lock.verify();
        }
        let what = match found {
            None => "its file was removed or moved away",
            Some(_) => "another file was put in its place",
        };
        Err(JournalError::new(
            JournalErrorKind::Moved,
            &self.file,
            format!(
                "{what} while it was open, so nothing more is written to it: put it back with the files beside it, or \
                 restore it from a copy, and start again; without it the source begins anew, with a snapshot"
            ),
        ))
    }

    /// Looks whether SQLite's files beside the journal are still the open ones, and the journal is as long as it was.
    fn verify_content(&mut self) -> Result<(), JournalError> {
        let looked = |error| JournalError::of_io(&self.file, "looking at it", error);
        let length = std::fs::metadata(&self.file).map_err(looked)?.len();
        if length < self.place.length {
            return Err(self.changed("its end was cut off"));
        }
        let mut opened = self.place.companions;
        for (suffix, opened) in COMPANIONS.iter().zip(&mut opened) {
            let found = FileId::at(&beside(&self.file, suffix)).map_err(looked)?;
            match *opened {
                None => *opened = found,
                Some(_) if *opened == found => {}
                Some(_) => {
                    let what = format!("the file {suffix} beside it was removed or replaced");
                    return Err(self.changed(&what));
                }
            }
        }
        if let Ok(log) = std::fs::metadata(beside(&self.file, LOGS[0]))
            && log.len() < self.bytes_of_log()
        {
            return Err(self.changed("the end of the file -wal beside it was cut off"));
        }
        self.place = JournalPlace {
            companions: opened,
            length,
        };
        Ok(())
    }

    fn changed(&self, what: &str) -> JournalError {
        JournalError::new(
            JournalErrorKind::Moved,
            &self.file,
            format!(
                "{what} while it was open, so nothing more is written to it: stop this process in an orderly way, which \
                 keeps what SQLite still has; then look with 'zkbridge journal check', restore the journal from a copy if \
                 it is damaged, and start again"
            ),
        )
    }

    /// The file may be shorter from now on.
    pub(super) fn was_vacuumed(&mut self) {
        self.place.length = 0;
    }
}
