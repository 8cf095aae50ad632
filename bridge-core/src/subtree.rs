//! The present state of a subtree: the contract between a sink that writes states and the journal's image.
//!
//! A sink gets records in order. One that writes the present state of a subtree, as a file made by a template, reads the
//! state from the image instead, and takes records as the sign that it has changed. So it keeps no copy of the tree that
//! could differ from the journal's, and a repeated or replayed record never leads it back to an older state.

use std::sync::Arc;

use crate::journal::JournalError;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Data, Stat};

/// Reads subtrees of one source's image. Calls block on the disk.
pub trait SubtreeReader: Send {
    /// The existing znodes at and below a path, after a record that is durable when the call begins or after a later one.
    ///
    /// # Errors
    ///
    /// If the image cannot be read, or the subtree exceeds the limit.
    fn subtree(&mut self, path: &ZnodePath, limit: SubtreeLimit) -> Result<Subtree, SubtreeError>;
}

/// The largest subtree that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubtreeLimit {
    /// The most znodes.
    pub znodes: usize,
    /// The most bytes of data in all of them.
    pub bytes: usize,
}

/// The existing znodes at and below a path.
#[derive(Clone, Debug, PartialEq)]
pub struct Subtree {
    /// The name of the source.
    pub cluster: Arc<str>,
    /// The path at the top.
    pub path: ZnodePath,
    /// The state is that after this record. If the subtree changes while it is read, and is too large for one
    /// transaction, parts of it may be newer; the records of these changes come later.
    pub at: Seq,
    /// Whether this is all of it.
    pub completeness: SubtreeCompleteness,
    /// Each before those below it.
    znodes: Vec<SubtreeZnode>,
    /// Bytes of data in all of them.
    bytes: usize,
}

/// Whether a subtree was captured as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubtreeCompleteness {
    /// All of it, as far as the source may read it.
    Complete,
    /// No root of the source covers the path.
    NotWatched,
    /// The first listing of this root is not complete.
    Listing {
        /// The root.
        root: ZnodePath,
    },
    /// A gap of this root is open: a part of the state may be older than the rest.
    InGap {
        /// The root.
        root: ZnodePath,
        /// The record that began it.
        begin: Seq,
    },
}

/// An existing znode.
#[derive(Clone, Debug, PartialEq)]
pub struct SubtreeZnode {
    /// Its path.
    pub path: ZnodePath,
    /// Its Stat; `None` if it was never read.
    pub stat: Option<Stat>,
    /// Its data, if it was read and the source keeps it.
    pub data: Option<Data>,
}

/// Why there is no subtree.
#[derive(Debug, thiserror::Error)]
pub enum SubtreeError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It exceeds the limit.
    #[error("{path} has more than {max} {unit}")]
    TooLarge {
        /// The path at the top.
        path: ZnodePath,
        /// The limit.
        max: usize,
        /// The unit of the limit.
        unit: SubtreeUnit,
    },
}

/// The unit of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubtreeUnit {
    /// Znodes.
    Znodes,
    /// Bytes of data.
    Bytes,
}

impl std::fmt::Display for SubtreeUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SubtreeUnit::Znodes => "znodes at and below it",
            SubtreeUnit::Bytes => "bytes of data at and below it",
        })
    }
}

impl Subtree {
    /// A subtree without znodes.
    pub fn new(cluster: Arc<str>, path: ZnodePath, at: Seq, completeness: SubtreeCompleteness) -> Subtree {
        Subtree {
            cluster,
            path,
            at,
            completeness,
            znodes: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds a znode after the one above it and after its smaller siblings with all below them.
    ///
    /// # Errors
    ///
    /// If the limit does not allow one more.
    pub fn add(&mut self, znode: SubtreeZnode, limit: SubtreeLimit) -> Result<(), SubtreeError> {
        let too_large = |max, unit| SubtreeError::TooLarge {
            path: self.path.clone(),
            max,
            unit,
        };
        let bytes = self.bytes + znode.data.as_ref().map_or(0, |data| data.bytes.len());
        if self.znodes.len() >= limit.znodes {
            return Err(too_large(limit.znodes, SubtreeUnit::Znodes));
        }
        if bytes > limit.bytes {
            return Err(too_large(limit.bytes, SubtreeUnit::Bytes));
        }
        self.bytes = bytes;
        self.znodes.push(znode);
        Ok(())
    }

    /// The znodes: each before those below it, siblings in the order of the bytes of their names. Empty: the path does
    /// not exist.
    pub fn znodes(&self) -> &[SubtreeZnode] {
        &self.znodes
    }
}
