//! The number of free pages in the head of the file.

use std::fs;

use super::scratch::*;

#[test]
fn more_free_pages_than_there_are_pages_are_measured_as_a_journal_without_any_in_use() {
    let scratch = Scratch::new();
    append_all(&mut scratch.open(), [created("/a", 5, "x")]);
    // The number of free pages is in the head of the file, at the offset 36 (the SQLite file format, section 1.3).
    let mut bytes = fs::read(scratch.file()).unwrap();
    bytes[36..40].copy_from_slice(&u32::MAX.to_be_bytes());
    fs::write(scratch.file(), bytes).unwrap();
    let stats = scratch.open().stats().unwrap();
    assert_eq!(stats.used_bytes, 0);
}
