//! Reads the image: the last journalled state of a path, and the existing znodes below it.

use std::sync::Arc;

use rusqlite::Connection;

use super::error::JournalError;
use super::image::{self, Place};
use super::read::Reader;
use super::row::data_of_value;
use super::schema::SLASH;
use crate::image_txn::Node;
use crate::path::ZnodePath;
use crate::record::Data;

/// Rows of the image that one step of a count reads: some ten thousandths of a second.
const COUNTED_AT_ONCE: usize = 1_000;

/// An existing znode, as the image has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Imaged {
    /// Its life, with the Stat of the last version that was read.
    pub node: Node,
    /// The data of that version, where it was read and is kept.
    pub data: Option<Data>,
}

impl Reader {
    /// The image of a path; `None` if the znode does not exist.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn imaged(&mut self, path: &ZnodePath) -> Result<Option<Imaged>, JournalError> {
        self.within("reading the image", |connection| {
            let place = place_of(connection, path)?;
            let Some((node, value)) = place.and_then(|place| Some((place.life.node()?, place.value))) else {
                return Ok(None);
            };
            let data = value.map(|id| data_of_value(connection, id)).transpose()?;
            Ok(Some(Imaged { node, data }))
        })
    }

    /// The names of the existing children of a path after `after`, in the order of their bytes.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn living_children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, JournalError> {
        let children = self.within("listing children in the image", |connection| {
            match place_of(connection, path)? {
                Some(place) => image::children(connection, place.id, after, limit),
                None => Ok(Vec::new()),
            }
        })?;
        Ok(children.into_iter().map(|(name, _)| Arc::from(name)).collect())
    }

    /// The number of znodes that a run of the whole image delivers at most: it leaves out those that are no longer
    /// watched.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn count_living(&mut self) -> Result<u64, JournalError> {
        let (mut count, mut last) = (0, (0, String::new()));
        let counted = self.connection.in_slices(|connection, slice| {
            loop {
                let rows = image::living_after(connection, &last, COUNTED_AT_ONCE)?;
                let Some(end) = rows.last() else {
                    return Ok(Some(()));
                };
                last.clone_from(end);
                count += rows.len() as u64;
                if slice.is_over() {
                    return Ok(None);
                }
            }
        });
        counted.map_err(|error| self.fault("counting znodes in the image", error))?;
        Ok(count)
    }
}

/// The row of a path; `None` if no kept record is of it or of a path below it.
pub(super) fn place_of(connection: &Connection, path: &ZnodePath) -> rusqlite::Result<Option<Place>> {
    let mut found = image::find(connection, 0, "")?;
    let mut id = SLASH;
    for name in path.names() {
        found = image::find(connection, id, name)?;
        match &found {
            Some(place) => id = place.id,
            None => return Ok(None),
        }
    }
    Ok(found)
}
