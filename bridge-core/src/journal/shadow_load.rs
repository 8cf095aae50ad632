//! The rows of the proof of a whole tree, put into the order of their keys before they are inserted.
//!
//! The keys are hashes. Rows that come in the order of paths each change another page of the table, which took most of the
//! time of a first listing of a million znodes. So they are first written into a file without a name, in buckets by the
//! first byte of their keys; then each bucket is sorted in memory and inserted, page after page.
//!
//! Nothing of it outlives the process: a snapshot whose comparison is cut is compared from its begin.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::committed::{RAW_STAT_BYTES, ShadowKey, ShadowNode, encode_raw_stat};

/// One for each first byte of a key. With ten million znodes, a bucket has 3 MB.
const BUCKETS: usize = 256;

/// Rows of a bucket in memory before they are written: 4 MB for all buckets.
const WAITING_ROWS: usize = 200;

const KEY_BYTES: usize = 16;
const CRC_BYTES: usize = 4;
const ROW_BYTES: usize = KEY_BYTES + CRC_BYTES + RAW_STAT_BYTES;

/// A row as it is stored: the key first, so that the order of the bytes is that of the keys.
type SortedBytes = [u8; ROW_BYTES];

/// The rows of one first byte.
#[derive(Debug, Default)]
struct Bucket {
    waiting: Vec<SortedBytes>,
    /// The rows in the file: where they begin, and how many there are.
    written: Vec<(u64, usize)>,
}

/// Rows that wait to be inserted.
#[derive(Debug)]
pub(super) struct ShadowLoad {
    file: File,
    end: u64,
    buckets: Vec<Bucket>,
}

/// A row that is inserted.
pub(super) struct LoadedRow {
    bytes: SortedBytes,
}

impl LoadedRow {
    pub(super) fn key(&self) -> &[u8] {
        &self.bytes[..KEY_BYTES]
    }

    pub(super) fn crc(&self) -> u32 {
        let bytes = self.bytes[KEY_BYTES..KEY_BYTES + CRC_BYTES].try_into();
        u32::from_be_bytes(bytes.expect("four bytes were cut out"))
    }

    pub(super) fn stat(&self) -> &[u8] {
        &self.bytes[KEY_BYTES + CRC_BYTES..]
    }
}

impl ShadowLoad {
    /// With a file beside this journal, which has no name once this returns.
    pub(super) fn beside(journal: &Path) -> io::Result<ShadowLoad> {
        let path = journal.with_extension("sort");
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(ShadowLoad {
            file,
            end: 0,
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
        })
    }

    pub(super) fn add(&mut self, key: &ShadowKey, node: &ShadowNode) -> io::Result<()> {
        let mut row = [0; ROW_BYTES];
        row[..KEY_BYTES].copy_from_slice(&key.0);
        row[KEY_BYTES..KEY_BYTES + CRC_BYTES].copy_from_slice(&node.crc.to_be_bytes());
        row[KEY_BYTES + CRC_BYTES..].copy_from_slice(&encode_raw_stat(&node.stat));
        let bucket = &mut self.buckets[usize::from(row[0])];
        bucket.waiting.push(row);
        if bucket.waiting.len() < WAITING_ROWS {
            return Ok(());
        }
        let bytes = bucket.waiting.as_flattened();
        self.file.write_all_at(bytes, self.end)?;
        bucket.written.push((self.end, bucket.waiting.len()));
        self.end += bytes.len() as u64;
        bucket.waiting.clear();
        Ok(())
    }

    /// Gives all rows to `insert`, in the order of their keys.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or a row not inserted.
    pub(super) fn insert_all<E>(
        self,
        of_file: impl Fn(io::Error) -> E,
        mut insert: impl FnMut(&LoadedRow) -> Result<(), E>,
    ) -> Result<(), E> {
        for bucket in self.buckets {
            let mut rows = bucket.waiting;
            for (begin, count) in bucket.written {
                let first = rows.len();
                rows.resize(first + count, [0; ROW_BYTES]);
                let read = self.file.read_exact_at(rows[first..].as_flattened_mut(), begin);
                read.map_err(&of_file)?;
            }
            rows.sort_unstable();
            for bytes in rows {
                insert(&LoadedRow { bytes })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::committed::RawStat;

    #[test]
    fn all_rows_come_back_in_the_order_of_their_keys_and_no_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut load = ShadowLoad::beside(&folder.path().join("main.journal")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        // Some buckets are written several times, and most never.
        let count = 3 * u32::try_from(WAITING_ROWS).unwrap() + 7;
        let mut expected = Vec::new();
        for number in 0..count {
            let mut key = ShadowKey::of(&number.to_string());
            key.0[0] %= 2;
            let stat = RawStat {
                version: i32::try_from(number).unwrap(),
                ..RawStat::default()
            };
            load.add(&key, &ShadowNode { crc: number, stat }).unwrap();
            expected.push((key.0.to_vec(), number, encode_raw_stat(&stat).to_vec()));
        }
        expected.sort();
        let mut found = Vec::new();
        let inserted: io::Result<()> = load.insert_all(
            |error| error,
            |row| {
                found.push((row.key().to_vec(), row.crc(), row.stat().to_vec()));
                Ok(())
            },
        );
        inserted.unwrap();
        assert_eq!(found, expected);
    }
}
