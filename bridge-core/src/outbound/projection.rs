//! Projects a record into its messages for a destination: none, one or several.
//!
//! A sink chooses its projection. The present ones are the [`Format`]s, which make at most one message of a record.
//!
//! *Invariants.*
//!
//! * A projection is pure: the same record gives the same messages, in the same order, with the same bytes and ids.
//! * The messages of a record are sent in their order, and none of a later record of the path before the last of them.
//! * A record counts as delivered when its last message is durable; one without a message, when those before it are. If
//!   only some of its messages became durable, all of them come again, under the same ids.

use std::iter::FusedIterator;

use uuid::Uuid;

use crate::format::{Body, Format, Message};
use crate::record::Record;

/// Makes the messages of a record.
pub trait Projection: Send + Sync {
    /// A message as the sink sends it.
    type Message;

    /// The messages of a record, in the order in which they are sent.
    ///
    /// # Errors
    ///
    /// Why the destination can never have a message of this record, with the value and what to do: it is rejected.
    fn project(&self, record: &Record) -> Result<Messages<Self::Message>, String>;
}

/// The messages of one record. One is not on the heap, as nearly every record has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Messages<M> {
    /// The record has no message: the sink passes over it.
    #[default]
    None,
    /// One.
    One(M),
    /// Several, in order. An empty list is as good as `None`.
    Several(Vec<M>),
}

/// The position of a message among those of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePlace {
    /// From 0.
    pub index: usize,
    /// Whether the record has no further message: only this one makes the record count as delivered.
    pub is_last: bool,
}

impl<M> Messages<M> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Messages::None => 0,
            Messages::One(_) => 1,
            Messages::Several(all) => all.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same with each message changed; the function also gets its index, from 0.
    pub fn map<N>(self, mut change: impl FnMut(usize, M) -> N) -> Messages<N> {
        match self {
            Messages::None => Messages::None,
            Messages::One(message) => Messages::One(change(0, message)),
            Messages::Several(all) => {
                let all = all.into_iter().enumerate();
                Messages::Several(all.map(|(index, message)| change(index, message)).collect())
            }
        }
    }

    /// The same with one more message after the others.
    #[must_use]
    pub fn followed_by(self, last: M) -> Messages<M> {
        match self {
            Messages::None => Messages::One(last),
            Messages::One(message) => Messages::Several(vec![message, last]),
            Messages::Several(mut all) => {
                all.push(last);
                Messages::Several(all)
            }
        }
    }

    /// Each message, by reference.
    pub fn iter(&self) -> impl Iterator<Item = &M> {
        let (one, several) = match self {
            Messages::None => (None, &[][..]),
            Messages::One(message) => (Some(message), &[][..]),
            Messages::Several(all) => (None, &all[..]),
        };
        one.into_iter().chain(several)
    }

    /// Each message with its place.
    pub fn placed(self) -> impl FusedIterator<Item = (MessagePlace, M)> {
        let count = self.len();
        let (one, several) = match self {
            Messages::None => (None, Vec::new()),
            Messages::One(message) => (Some(message), Vec::new()),
            Messages::Several(all) => (None, all),
        };
        let place = move |(index, message)| {
            let is_last = index + 1 == count;
            (MessagePlace { index, is_last }, message)
        };
        one.into_iter().chain(several).enumerate().map(place).fuse()
    }
}

impl MessagePlace {
    /// The place of the only message.
    pub const ONLY: MessagePlace = MessagePlace {
        index: 0,
        is_last: true,
    };
}

/// The id of a record's message with this index: the record's own for the first, and a UUIDv5 of it for each other, so
/// that a destination that knows duplicates by their id keeps all of them.
pub fn message_id(record: &Record, index: usize) -> Uuid {
    match index {
        0 => record.id,
        index => Uuid::new_v5(&record.id, index.to_string().as_bytes()),
    }
}

impl Projection for Format {
    type Message = Message;

    /// Never fails.
    fn project(&self, record: &Record) -> Result<Messages<Message>, String> {
        let message = self.encode(record);
        Ok(match message.body {
            Body::Nothing => Messages::None,
            Body::Bytes(_) | Body::Deleted => Messages::One(message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::Tally;
    use crate::record::Op;
    use crate::testing::a_record;

    fn places(messages: Messages<char>) -> Vec<(usize, bool, char)> {
        let placed = messages.placed();
        placed
            .map(|(place, message)| (place.index, place.is_last, message))
            .collect()
    }

    #[test]
    fn only_the_last_message_of_a_record_is_its_last() {
        assert_eq!(places(Messages::None), []);
        assert_eq!(places(Messages::Several(vec![])), []);
        assert_eq!(places(Messages::One('a')), [(0, true, 'a')]);
        let several = Messages::Several(vec!['a', 'b', 'c']);
        assert_eq!(several.iter().collect::<String>(), "abc");
        assert_eq!(Messages::None.followed_by('a'), Messages::One('a'));
        assert_eq!(Messages::One('a').followed_by('b').followed_by('c'), several);
        let numbered = several.clone().map(|index, letter| format!("{letter}{index}"));
        assert_eq!(numbered.iter().map(String::as_str).collect::<String>(), "a0b1c2");
        assert_eq!(
            places(several),
            [(0, false, 'a'), (1, false, 'b'), (2, true, 'c')]
        );
    }

    #[test]
    fn the_messages_of_a_record_have_ids_of_their_own_that_never_change() {
        let record = a_record().build();
        let id = |index| message_id(&record, index);
        assert_eq!(id(0), record.id);
        assert_ne!(id(1), id(2));
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), record.id);
    }

    #[test]
    fn a_record_counts_as_delivered_when_its_last_message_is() {
        let counts = [1, 0, 3, 0, 2];
        let all: Vec<(usize, bool)> = counts
            .iter()
            .enumerate()
            .flat_map(|(at, count)| match count {
                0 => vec![(at, true)],
                count => (1..=*count).map(|nth| (at, nth == *count)).collect(),
            })
            .collect();
        for fails_at in 0..=all.len() {
            let mut tally = Tally::default();
            let mut expected = 0;
            for (at, is_last) in &all[..fails_at] {
                let messages = Messages::Several(vec!['m'; counts[*at]]);
                match messages.placed().last() {
                    None => tally.passed(*at),
                    Some((place, _)) if *is_last => {
                        assert!(place.is_last);
                        tally.took(*at);
                    }
                    Some(_) => continue,
                }
                expected = at + 1;
            }
            assert_eq!(tally.done(), expected, "the sending failed at message {fails_at}");
        }
    }

    #[test]
    fn a_format_makes_one_message_or_none() {
        let write = a_record().after("x").build();
        let control = a_record().control(Op::GapEnd).build();
        let event = a_record().control(Op::Service).build();
        for &format in Format::ALL {
            let is_of_services = format.is_of_services();
            assert_eq!(
                format.project(&write).unwrap().len(),
                usize::from(!is_of_services),
                "{format:?}"
            );
            let expected = usize::from(!matches!(format, Format::Raw | Format::Flat) && !is_of_services);
            assert_eq!(format.project(&control).unwrap().len(), expected, "{format:?}");
            assert_eq!(
                format.project(&event).unwrap().len(),
                usize::from(is_of_services),
                "{format:?}"
            );
        }
    }
}
