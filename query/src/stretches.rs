//! The greatest zxid and the latest capture of each stretch of the journal, in memory, so that a position is found
//! without reading the records before it.
//!
//! A complete stretch never gets another record, so what is known of it stays true: retention and compaction only take
//! records away, and then a stretch is read without finding one.

use bridge_core::journal::{Position, Reader};
use bridge_core::number::{Seq, Zxid};
use bridge_core::record::Timestamp;

use crate::error::QueryError;

/// Records of a stretch: some 2 ms to read.
const STRETCH: u64 = 8_192;

/// The maxima of complete stretches, from the first of the journal on. 32 bytes each: 4 MB for a thousand million records.
#[derive(Debug, Default)]
pub(crate) struct Stretches(Vec<Maxima>);

#[derive(Clone, Copy, Debug)]
struct Maxima {
    zxid: Option<Zxid>,
    captured: Option<Timestamp>,
}

impl Maxima {
    fn reaches(self, position: Position) -> bool {
        match position {
            Position::Zxid(at) => self.zxid.is_some_and(|zxid| zxid >= at),
            Position::Time(at) => self.captured.is_some_and(|captured| captured >= at),
            Position::Seq(_) => true,
        }
    }
}

impl Stretches {
    /// The same as [`Reader::first_at`]. `lend` lends a reader for one step.
    pub(crate) fn first_at<'a, R>(
        &mut self,
        position: Position,
        lend: impl Fn() -> Result<R, QueryError>,
    ) -> Result<Option<Seq>, QueryError>
    where
        R: std::ops::DerefMut<Target = Reader> + 'a,
    {
        if let Position::Seq(_) = position {
            return Ok(lend()?.first_at(position)?);
        }
        let tail = lend()?.tail()?;
        let oldest = lend()?.oldest()?.unwrap_or(Seq(1));
        let first = usize::try_from((oldest.0 - 1) / STRETCH).unwrap_or(usize::MAX);
        // Stretches that were removed before they were looked at have no maxima, and need none.
        let unread = Maxima {
            zxid: None,
            captured: None,
        };
        self.0.resize(self.0.len().max(first), unread);
        for at in first.. {
            let after = Seq(at as u64 * STRETCH);
            let until = Seq(after.0 + STRETCH);
            if after >= tail {
                return Ok(None);
            }
            let maxima = match self.0.get(at) {
                Some(maxima) => *maxima,
                None => {
                    let (zxid, captured) = lend()?.maxima(after, until)?;
                    let maxima = Maxima { zxid, captured };
                    if until <= tail {
                        self.0.push(maxima);
                    }
                    maxima
                }
            };
            if maxima.reaches(position) {
                let found = lend()?.first_between(position, after, until)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }
}
