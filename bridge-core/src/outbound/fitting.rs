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
pub enum Misfit<M> {
    /// The projection has none.
    Refused(String),
    /// A message is too large even without any data: the largest one, with all of it.
    TooLarge(M),
}

/// Projects a record. Where a message takes more bytes (`size`) than the destination has room for it (`room`), its data
/// is cut ([`oversize`]). `size` counts all that counts at the destination; `room` must not depend on the data.
///
/// # Errors
///
/// Why the record can have no message: it is rejected.
///
/// # Panics
///
/// Never: only a record with a message is too large.
pub fn fit<P: Projection>(
    projection: &P,
    record: &Record,
    format: Format,
    room: impl Fn(&P::Message) -> usize,
    size: impl Fn(&P::Message) -> usize,
) -> Result<Fitted<P::Message>, Misfit<P::Message>> {
    let messages = projection.project(record).map_err(Misfit::Refused)?;
    if messages.iter().all(|message| size(message) <= room(message)) {
        let is_shrunk = false;
        return Ok(Fitted { messages, is_shrunk });
    }
    let most = messages.iter().map(&room).min().unwrap_or_default();
    // Counted as if each message had the room of the one that has the least.
    let taken = |message: &P::Message| (size(message) + most).saturating_sub(room(message));
    let Fit::Shrunk(shrunk) = oversize::fit(record, format, most, largest(projection, taken)) else {
        let all = messages.placed().map(|(_, message)| message);
        let largest = all.max_by_key(size);
        return Err(Misfit::TooLarge(largest.expect("a message was too large")));
    };
    let messages = projection.project(&shrunk).map_err(Misfit::Refused)?;
    // A template may write the data twice, or escape it again.
    if messages.iter().any(|message| size(message) > room(message)) {
        let all = messages.placed().map(|(_, message)| message);
        let largest = all.max_by_key(size);
        return Err(Misfit::TooLarge(largest.expect("a message was too large")));
    }
    let is_shrunk = true;
    Ok(Fitted { messages, is_shrunk })
}

/// The size of the record's largest message without any data; 0 if it has none.
pub fn least_size<P: Projection>(
    projection: &P,
    record: &Record,
    format: Format,
    size: impl Fn(&P::Message) -> usize,
) -> usize {
    match oversize::fit(record, format, 0, largest(projection, size)) {
        Fit::Never { least } => least,
        Fit::Whole | Fit::Shrunk(_) => 0,
    }
}

/// The size of the largest message of a record.
fn largest<P: Projection>(projection: &P, size: impl Fn(&P::Message) -> usize) -> impl Fn(&Record) -> usize {
    move |record| {
        let messages = projection.project(record).unwrap_or_default();
        messages.iter().map(&size).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::a_record;

    /// Two messages with the data of the record, the second with ten bytes more than the first.
    struct Twice;

    type Pair = (usize, Vec<u8>);

    impl Projection for Twice {
        type Message = Pair;

        fn project(&self, record: &Record) -> Result<Messages<Self::Message>, String> {
            let data = record.after.as_ref().and_then(|state| state.data.as_ref());
            let data = data.map(|data| data.bytes.to_vec()).unwrap_or_default();
            Ok(Messages::One((0, data.clone())).followed_by((10, data)))
        }
    }

    fn fit_twice(data: usize, rooms: [usize; 2]) -> Result<Fitted<Pair>, Misfit<Pair>> {
        let record = a_record().after(vec![b'x'; data]).build();
        let size = |(more, data): &Pair| more + data.len();
        fit(&Twice, &record, Format::Raw, |(more, _)| rooms[more / 10], size)
    }

    #[test]
    fn data_is_cut_until_each_message_has_its_room() {
        for (data, rooms, expected) in [
            (50, [50, 60], 50),
            (50, [20, 60], 20),
            (50, [60, 20], 10),
            (50, [usize::MAX, 59], 49),
            (50, [50, usize::MAX], 50),
        ] {
            let fitted = fit_twice(data, rooms).unwrap();
            let taken: Vec<usize> = fitted.messages.iter().map(|(_, data)| data.len()).collect();
            assert_eq!(taken, [expected; 2], "{rooms:?}");
            assert_eq!(fitted.is_shrunk, expected < data, "{rooms:?}");
        }
    }

    #[test]
    fn a_record_with_a_message_that_is_too_large_without_data_has_none() {
        assert_eq!(
            fit_twice(5, [100, 9]),
            Err(Misfit::TooLarge((10, b"xxxxx".to_vec())))
        );
    }
}
