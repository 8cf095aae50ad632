//! The journal: one SQLite file per source, which is checkpoint, image and history at once.

mod error;
mod note;

pub use error::{JournalError, JournalErrorKind};
pub use note::Note;
