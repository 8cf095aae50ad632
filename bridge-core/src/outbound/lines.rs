//! A batch as lines of text, for destinations that write it as a whole.

use std::sync::Arc;

use super::{Projection, Tally};
use crate::record::Record;

/// The initial capacity for each record, enough for a small value.
const LINE_GUESS: usize = 800;

/// Every message of these records on a line of its own, and the tally of the batch if all lines become durable. A message
/// must hold no line feed.
pub fn lines<P: Projection<Message = Vec<u8>>>(projection: &P, records: &[Arc<Record>]) -> (Vec<u8>, Tally) {
    let mut text = Vec::with_capacity(records.len() * LINE_GUESS);
    let mut tally = Tally::default();
    for (at, record) in records.iter().enumerate() {
        match projection.project(record) {
            Ok(messages) => {
                for message in messages.iter() {
                    text.extend_from_slice(message);
                    text.push(b'\n');
                }
                tally.took(at);
            }
            Err(reason) => tally.rejected(at, record.seq, reason),
        }
    }
    (text, tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Seq;
    use crate::outbound::Messages;
    use crate::testing::a_record;

    /// As many messages as the name of the path has letters; "never" has none for another reason.
    struct Letters;

    impl Projection for Letters {
        type Message = Vec<u8>;

        fn project(&self, record: &Record) -> Result<Messages<Vec<u8>>, String> {
            let path = record.path.as_deref().unwrap_or("/");
            if path == "/never" {
                return Err("never".to_owned());
            }
            let letters = path[1..].bytes().map(|letter| vec![letter]);
            Ok(letters.fold(Messages::None, Messages::followed_by))
        }
    }

    #[test]
    fn a_record_has_a_line_for_each_of_its_messages_and_one_that_has_none_is_rejected_or_passed_over() {
        let paths = ["/ab", "/", "/never", "/c"].into_iter().zip(1..);
        let records: Vec<_> = paths
            .map(|(path, seq)| a_record().seq(seq).path(path).arc())
            .collect();
        let (text, tally) = lines(&Letters, &records);
        assert_eq!(text, b"a\nb\nc\n");
        let report = tally.ended().unwrap_err();
        let rejected: Vec<Seq> = report.rejected.iter().map(|one| one.seq).collect();
        assert_eq!((report.done, rejected), (4, vec![Seq(3)]));
    }
}
