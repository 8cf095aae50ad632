//! Mutates valid input: random bytes would be rejected by the first check, so each case starts from accepted input.
//!
//! The targets are tests (`tests/`) with a bounded number of cases in `cargo test`; `make fuzz TIMES=1000` runs 1,000 times
//! as many. A failure prints its seed, `BOLERO_RANDOM_SEED`. `cargo bolero test NAME` runs the same targets guided by
//! coverage.

use std::sync::atomic::{AtomicU64, Ordering};

use bolero::TypeGenerator;

/// Cases of one target in `cargo test`: `usual` ones, multiplied by `ZKBRIDGE_FUZZ`.
///
/// # Panics
/// If that is no number.
pub fn cases(usual: usize) -> usize {
    let times = std::env::var("ZKBRIDGE_FUZZ").map_or(1, |text| {
        text.parse::<usize>()
            .expect("ZKBRIDGE_FUZZ is how many times as many cases")
    });
    usual * times
}

/// Counts the executions of one target, and prints them when it ends. `make fuzz` shows them.
pub struct Executions {
    target: &'static str,
    count: AtomicU64,
}

impl Executions {
    /// None so far.
    pub fn of(target: &'static str) -> Executions {
        Executions {
            target,
            count: AtomicU64::new(0),
        }
    }

    /// One more.
    pub fn one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Executions {
    fn drop(&mut self) {
        println!(
            "fuzz: {} executions of {}",
            self.count.load(Ordering::Relaxed),
            self.target
        );
    }
}

/// Runs `cases` of a target: the check gets one of the valid inputs with edits, and which one it was.
#[macro_export]
macro_rules! damaged {
    ($target:expr, $cases:expr, $valid:expr, $words:expr, $check:expr) => {{
        let (valid, check) = ($valid, $check);
        let executions = $crate::Executions::of($target);
        bolero::check!()
            .with_iterations($crate::cases($cases))
            .with_type::<(u8, Vec<$crate::Edit>)>()
            .for_each(|(which, edits)| {
                executions.one();
                let which = usize::from(*which) % valid.len();
                check(which, &$crate::mutilated(valid[which].as_ref(), edits, $words));
            });
    }};
}

/// Edits of one case at most.
const EDITS_MAX: usize = 8;

/// One change of some bytes. Positions are taken modulo the length.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Edit {
    /// Another byte in the place of one.
    Replace(u32, u8),
    /// A bit that flips, as a disk does it.
    Flip(u32, u8),
    /// Removes this many bytes (modulo 64).
    Remove(u32, u8),
    /// Removes everything after it.
    Cut(u32),
    /// Copies some of the bytes to another position.
    Copy(u32, u32, u8),
    /// A word of the language put in.
    Insert(u32, u8),
}

/// The valid bytes with up to eight edits; `words` are the texts to insert.
pub fn mutilated(valid: &[u8], edits: &[Edit], words: &[&str]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for edit in edits.iter().take(EDITS_MAX) {
        apply(&mut bytes, edit, words);
    }
    bytes
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit, words: &[&str]) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    let at = |position: u32| position as usize % length;
    match *edit {
        Edit::Replace(position, byte) => bytes[at(position)] = byte,
        Edit::Flip(position, bit) => bytes[at(position)] ^= 1 << (bit % 8),
        Edit::Remove(position, count) => {
            let from = at(position);
            bytes.drain(from..length.min(from + usize::from(count % 64)));
        }
        Edit::Cut(position) => bytes.truncate(at(position)),
        Edit::Copy(from, to, count) => {
            let from = at(from);
            let copy = bytes[from..length.min(from + usize::from(count))].to_vec();
            let to = at(to);
            bytes.splice(to..to, copy);
        }
        Edit::Insert(position, word) => {
            let word = words[usize::from(word) % words.len()];
            let to = at(position);
            bytes.splice(to..to, word.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_edit_changes_the_bytes_as_named() {
        let edited = |edit| {
            let bytes = mutilated(b"abcdef", &[edit], &["WORD"]);
            String::from_utf8(bytes).expect("plain text stays so here")
        };
        assert_eq!(edited(Edit::Replace(7, b'x')), "axcdef");
        assert_eq!(edited(Edit::Flip(0, 1)), "cbcdef");
        assert_eq!(edited(Edit::Remove(4, 9)), "abcd");
        assert_eq!(edited(Edit::Cut(2)), "ab");
        assert_eq!(edited(Edit::Copy(4, 0, 9)), "efabcdef");
        assert_eq!(edited(Edit::Insert(3, 5)), "abcWORDdef");
    }
}
