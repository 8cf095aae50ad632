//! The messages of a record, none of them larger than the destination takes.

use super::{Messages, Projection};
use crate::format::Format;
use crate::oversize::{self, Fit};
use crate::record::Record;

/// The messages of a record, none of them larger than it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted<M> {
    /// In their order.
    pub messages: Messages<M>,
    /// Whether data was cut for that.
    pub is_shrunk: bool,
}

/// Why a record can have no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The projection has none.
    Refused(String),
    /// A message is too large without any data, too.
    TooLarge {
        /// Bytes of the largest message with all of the data.
        bytes: usize,
    },
}

/// Projects a record. Where a message would take more than `most` bytes, its data is cut ([`oversize`]). `size` says how
/// many bytes a message takes at the destination, with all that counts there.
///
/// # Errors
///
/// Why the record can have no message: it is rejected.
pub fn fit<P: Projection>(
    projection: &P,
    record: &Record,
    format: Format,
    most: usize,
    size: impl Fn(&P::Message) -> usize,
) -> Result<Fitted<P::Message>, Misfit> {
    let largest = |messages: &Messages<P::Message>| messages.iter().map(&size).max().unwrap_or(0);
    let messages = projection.project(record).map_err(Misfit::Refused)?;
    let bytes = largest(&messages);
    if bytes <= most {
        let is_shrunk = false;
        return Ok(Fitted { messages, is_shrunk });
    }
    let of = |record: &Record| {
        projection
            .project(record)
            .map_or(0, |messages| largest(&messages))
    };
    let Fit::Shrunk(shrunk) = oversize::fit(record, format, most, of) else {
        return Err(Misfit::TooLarge { bytes });
    };
    let messages = projection.project(&shrunk).map_err(Misfit::Refused)?;
    let is_shrunk = true;
    Ok(Fitted { messages, is_shrunk })
}
