//! Copies the tree that follows a SNAP. It has no length, so its structure must be followed to find its end.
//!
//! The copy runs at the speed of the network: a leader queues every later transaction without a bound while an observer
//! reads its tree.

use std::io::{Read, Write};

use super::ended;
use super::stream::{PacketError, array, closed, int, length_within};

/// The text that a leader writes after the tree.
pub const SNAPSHOT_END: &[u8] = b"BenWasHere";

/// The most sessions or access control lists.
const COUNT_MAX: i32 = 1 << 28;

/// The longest path, name of a scheme or id.
const TEXT_MAX: usize = 16 << 20;

/// The largest data of a znode.
const DATA_MAX: usize = 256 << 20;

/// How much data of a znode is copied at a time.
const PIECE: u64 = 64 << 10;

/// The bytes of a persisted Stat.
const STAT: usize = 60;

/// The path after the last znode.
const LAST_PATH: &[u8] = b"/";

/// Copies the body of a snapshot, without the mark of its end, and returns its length.
///
/// # Errors
/// If the stream ends or fails, if the bytes are no tree, if it is longer than `max` bytes, or if the copy cannot be
/// written.
pub fn copy_snapshot(from: &mut impl Read, to: &mut impl Write, max: u64) -> Result<u64, PacketError> {
    let mut copy = SnapshotCopy {
        from,
        to,
        length: 0,
        max,
        scratch: Vec::new(),
    };
    copy.sessions()?;
    copy.acls()?;
    copy.nodes()?;
    let length = copy.length;
    let mark = int(from)?;
    let mark = length_within(mark, SNAPSHOT_END.len(), "the end of the snapshot")?;
    let mut end = vec![0; mark];
    from.read_exact(&mut end).map_err(closed)?;
    if end != SNAPSHOT_END {
        return Err(PacketError::Malformed(
            "a snapshot without the mark of its end".to_owned(),
        ));
    }
    Ok(length)
}

/// A copy under way.
struct SnapshotCopy<'a, R, W> {
    from: &'a mut R,
    to: &'a mut W,
    length: u64,
    max: u64,
    /// The last text.
    scratch: Vec<u8>,
}

impl<R: Read, W: Write> SnapshotCopy<'_, R, W> {
    fn sessions(&mut self) -> Result<(), PacketError> {
        for _ in 0..self.count("sessions")? {
            self.fixed::<12>()?;
        }
        Ok(())
    }

    fn acls(&mut self) -> Result<(), PacketError> {
        for _ in 0..self.count("access control lists")? {
            self.fixed::<8>()?;
            for _ in 0..self.count("entries of an access control list")? {
                self.fixed::<4>()?;
                self.text("the scheme of an access control list")?;
                self.text("the id of an access control list")?;
            }
        }
        Ok(())
    }

    fn nodes(&mut self) -> Result<(), PacketError> {
        loop {
            self.text("a path")?;
            if self.scratch == LAST_PATH {
                return Ok(());
            }
            self.data()?;
            self.fixed::<8>()?;
            self.fixed::<STAT>()?;
        }
    }

    /// The number of elements; a null is none.
    fn count(&mut self, what: &str) -> Result<i32, PacketError> {
        let count = i32::from_be_bytes(self.fixed()?);
        if !(-1..=COUNT_MAX).contains(&count) {
            return Err(PacketError::Malformed(format!(
                "a snapshot announces {count} {what}, and the limit is {COUNT_MAX}"
            )));
        }
        Ok(count)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], PacketError> {
        let bytes = array::<N>(self.from)?;
        self.write(&bytes)?;
        Ok(bytes)
    }

    fn text(&mut self, what: &str) -> Result<(), PacketError> {
        let length = i32::from_be_bytes(self.fixed()?);
        self.scratch.clear();
        if length == -1 {
            return Ok(());
        }
        let length = length_within(length, TEXT_MAX, what)?;
        let read = Read::take(&mut *self.from, length as u64).read_to_end(&mut self.scratch)?;
        if read < length {
            return Err(ended().into());
        }
        let text = std::mem::take(&mut self.scratch);
        self.write(&text)?;
        self.scratch = text;
        Ok(())
    }

    fn data(&mut self) -> Result<(), PacketError> {
        let length = i32::from_be_bytes(self.fixed()?);
        if length == -1 {
            return Ok(());
        }
        let length = length_within(length, DATA_MAX, "the data of a znode")? as u64;
        self.grow(length)?;
        let mut rest = length;
        let mut piece = std::mem::take(&mut self.scratch);
        while rest > 0 {
            piece.resize(rest.min(PIECE) as usize, 0);
            self.from.read_exact(&mut piece).map_err(closed)?;
            self.to.write_all(&piece).map_err(PacketError::Copy)?;
            rest -= piece.len() as u64;
        }
        self.scratch = piece;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PacketError> {
        self.grow(bytes.len() as u64)?;
        self.to.write_all(bytes).map_err(PacketError::Copy)
    }

    fn grow(&mut self, by: u64) -> Result<(), PacketError> {
        self.length += by;
        if self.length > self.max {
            return Err(PacketError::TooLarge { max: self.max });
        }
        Ok(())
    }
}
