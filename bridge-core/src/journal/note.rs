//! What the delivery workers tell the journal. Notes travel over a bounded channel to the one writer, which stores
//! them in its next transaction: a reader never writes.

use std::sync::Arc;

use crate::number::Seq;
use crate::sink::Rejected;

/// One piece of news from the worker of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The sink's name.
    pub sink: Arc<str>,
    /// Everything up to it is durable at the destination, filtered out, or rejected. Never goes back.
    pub cursor: Seq,
    /// Records that the destination will never accept, kept as dead letters; all at or before `cursor`.
    pub rejected: Vec<Rejected>,
}
