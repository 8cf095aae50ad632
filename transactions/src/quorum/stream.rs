//! Bounded reads of primitive values from a stream.

use std::io::{self, Read};

use super::ended;

/// The most identities of a packet. Leaders send none.
const IDENTITIES_MAX: i32 = 1_000;

/// The longest text of an identity.
const IDENTITY_TEXT_MAX: usize = 64 << 10;

/// Memory that is reserved for a buffer before its bytes arrive.
const RESERVED_MAX: usize = 64 << 10;

/// Why no packet was read.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The stream ended or failed.
    #[error("{0}")]
    Stream(#[from] io::Error),
    /// The bytes are no packet.
    #[error("{0}; is this the quorum port of a ZooKeeper server?")]
    Malformed(String),
    /// The tree is larger than it may be.
    #[error("the tree that the leader sends is larger than the limit of {max} bytes")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// The copy of the tree cannot be written.
    #[error("the tree that the leader sends cannot be written: {0}")]
    Copy(io::Error),
}

pub(super) fn int(from: &mut impl Read) -> Result<i32, PacketError> {
    array(from).map(i32::from_be_bytes)
}

pub(super) fn long(from: &mut impl Read) -> Result<i64, PacketError> {
    array(from).map(i64::from_be_bytes)
}

pub(super) fn array<const N: usize>(from: &mut impl Read) -> Result<[u8; N], PacketError> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(closed)?;
    Ok(bytes)
}

/// A buffer of at most `max` bytes; `None` for a null.
pub(super) fn buffer(from: &mut impl Read, max: usize, what: &str) -> Result<Option<Vec<u8>>, PacketError> {
    let length = int(from)?;
    if length == -1 {
        return Ok(None);
    }
    let length = length_within(length, max, what)?;
    let mut bytes = Vec::with_capacity(length.min(RESERVED_MAX));
    let read = from.take(length as u64).read_to_end(&mut bytes)?;
    if read < length {
        return Err(ended().into());
    }
    Ok(Some(bytes))
}

/// A length that was announced, within the limit.
pub(super) fn length_within(length: i32, max: usize, what: &str) -> Result<usize, PacketError> {
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= max)
        .ok_or_else(|| {
            PacketError::Malformed(format!("{what} announces {length} bytes, and the limit is {max}"))
        })
}

/// Reads over the identities of a packet, which nothing here uses.
pub(super) fn skip_identities(from: &mut impl Read) -> Result<(), PacketError> {
    let count = int(from)?;
    if !(-1..=IDENTITIES_MAX).contains(&count) {
        return Err(PacketError::Malformed(format!(
            "a packet announces {count} identities, and the limit is {IDENTITIES_MAX}"
        )));
    }
    for _ in 0..count {
        buffer(from, IDENTITY_TEXT_MAX, "the scheme of an identity")?;
        buffer(from, IDENTITY_TEXT_MAX, "an identity")?;
    }
    Ok(())
}

/// Gives the end of the stream a message that names no function of a library.
pub(super) fn closed(error: io::Error) -> PacketError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ended().into(),
        _ => error.into(),
    }
}
