//! Looks for a sound record within bytes that seem to be a part of an earlier one.

use super::{FRAME_BYTES, Frame, PREFIX_BYTES, frame};

/// The fewest bytes of a payload: its header.
const PAYLOAD_BYTES_MIN: usize = 32;

/// Bytes of which checksums are computed in one search. Bytes that are no records hardly ever need one; those that somebody
/// made for it could need one at each position.
const SUMMED_BYTES_MAX: usize = 1 << 30;

/// The position, after the first byte, at which a sound record begins; also one that would cost too much to examine, since
/// bytes that cannot be explained are damage.
pub(super) fn later_record(bytes: &[u8]) -> Option<usize> {
    search(bytes, SUMMED_BYTES_MAX)
}

fn search(bytes: &[u8], summed_max: usize) -> Option<usize> {
    let mut summed = 0;
    let last = bytes.len().checked_sub(FRAME_BYTES + PAYLOAD_BYTES_MIN)?;
    for at in 1..=last {
        let rest = &bytes[at..];
        let Some(length) = possible_length(rest) else {
            continue;
        };
        // Anything shorter than the whole is refused by the frame itself before it is summed.
        if rest.get(PREFIX_BYTES + length) != Some(&super::END_OF_RECORD) {
            continue;
        }
        summed += length;
        if summed > summed_max || matches!(frame(rest), Frame::Record { .. }) {
            return Some(at);
        }
    }
    None
}

/// The length of the payload if this can be the beginning of a record: the checksum has 4 bytes, and the length has to fit.
fn possible_length(bytes: &[u8]) -> Option<usize> {
    let [0, 0, 0, 0, _, _, _, _, a, b, c, d] = *bytes.first_chunk::<PREFIX_BYTES>()? else {
        return None;
    };
    let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).ok()?;
    (length >= PAYLOAD_BYTES_MIN).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_record_is_found_at_any_later_position_and_a_changed_one_is_not() {
        let record = testing::record(&testing::payload(&testing::a_create(1, "/a")));
        for before in 1..40 {
            let mut bytes = [vec![0xff; before], record.clone(), vec![0; 20]].concat();
            assert_eq!(search(&bytes, usize::MAX), Some(before));
            bytes[before + PREFIX_BYTES] ^= 1;
            assert_eq!(search(&bytes, usize::MAX), None);
            // Unexplained once it costs more than the limit.
            assert_eq!(search(&bytes, 10), Some(before));
        }
        assert_eq!(search(&record, usize::MAX), None);
        assert_eq!(search(&[0; 4096], 0), None);
        assert_eq!(search(&[], 0), None);
    }
}
