//! Shrinks records that are larger than a destination takes.
//!
//! The value before the change is removed first (`before.data` becomes an empty value that is marked as cut). Then the
//! value after it is cut, as little as possible, and marked. Everything else stays, so that a shrunk record still has
//! the operation, the znode, the version and the sizes of the values. A sink only supplies how much its destination
//! takes and how it counts.
//!
//! Pure: the same record and the same limit give the same result, so that a repeated delivery is equal. A record that
//! fits is never touched. This module must never cut anything but data, nor let a cut go unmarked.

use crate::format::Format;
use crate::record::{Data, Record, State};

/// The form of a record for a destination with a limit in bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Fit {
    /// It fits as it is.
    Whole,
    /// It fits after its data was cut.
    Shrunk(Box<Record>),
    /// It does not fit even without data.
    Never {
        /// Without data.
        least: usize,
    },
}

/// Shrinks a record until it takes `most` bytes at the destination or less. `size` says how many it takes there, in
/// this format, with all that the destination counts: keys, headers, framing.
pub fn fit(record: &Record, format: Format, most: usize, size: impl Fn(&Record) -> usize) -> Fit {
    if size(record) <= most {
        return Fit::Whole;
    }
    let mut shrunk = record.clone();
    if let Some(data) = data_of(&mut shrunk.before) {
        *data = data.cut(0);
    }
    if size(&shrunk) <= most {
        return Fit::Shrunk(Box::new(shrunk));
    }
    let whole = data_of(&mut shrunk.after).map(|data| {
        let empty = data.cut(0);
        std::mem::replace(data, empty)
    });
    let least = size(&shrunk);
    if least > most {
        return Fit::Never { least };
    }
    if let (Some(whole), Some(data)) = (whole, data_of(&mut shrunk.after)) {
        *data = whole.cut(kept(&whole, format, most - least));
    }
    Fit::Shrunk(Box::new(shrunk))
}

fn data_of(state: &mut Option<State>) -> Option<&mut Data> {
    state.as_mut()?.data.as_mut()
}

/// How many bytes from the beginning of a value fit into `room` bytes of a message.
fn kept(data: &Data, format: Format, room: usize) -> usize {
    match (format, data.text()) {
        (Format::Raw, _) => room.min(data.bytes.len()),
        (_, Some(text)) => kept_of_text(text, room),
        // Four letters for each three bytes.
        _ => (room / 4 * 3).min(data.bytes.len()),
    }
}

fn kept_of_text(text: &str, room: usize) -> usize {
    let mut taken = 0;
    for (at, letter) in text.char_indices() {
        taken += written_length(letter);
        if taken > room {
            return at;
        }
    }
    text.len()
}

/// How many bytes a letter takes inside a JSON text, as `serde_json` writes it.
fn written_length(letter: char) -> usize {
    match letter {
        '"' | '\\' | '\u{8}' | '\u{c}' | '\n' | '\r' | '\t' => 2,
        '\0'..='\u{1f}' => 6,
        letter => letter.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::Body;
    use crate::record::{DataForm, Op, record_schema};
    use crate::testing::a_record;

    /// The size of a record for a destination that adds nothing of its own.
    fn length(format: Format) -> impl Fn(&Record) -> usize {
        move |record| {
            let message = format.encode(record);
            let attributes: usize = message.attributes.iter().map(|(_, value)| value.len()).sum();
            attributes
                + match message.body {
                    Body::Bytes(bytes) => bytes.len(),
                    Body::Deleted | Body::Nothing => 0,
                }
        }
    }

    fn data(state: &Option<State>) -> Option<&Data> {
        state.as_ref()?.data.as_ref()
    }

    fn some_data() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..400),
            "[a-zäß日🦀\"\\\\\n\u{1}\u{7f}]{0,200}".prop_map(String::into_bytes),
            "[0-9]{1,9}".prop_map(|number| format!("{{\"a\": [{number}, \"\\u00e9\"]}}").into_bytes()),
        ]
    }

    fn some_record() -> impl Strategy<Value = Record> {
        let forms = prop_oneof![Just(DataForm::Auto), Just(DataForm::Base64), Just(DataForm::Json)];
        let ops = proptest::sample::select(Op::ALL.to_vec());
        let cut_before = prop_oneof![Just(usize::MAX), 0..300_usize];
        (
            some_data(),
            some_data(),
            "(/[a-zé\"]{1,30}){1,3}",
            ops,
            forms,
            cut_before,
        )
            .prop_map(|(before, after, path, op, form, cut_before)| {
                let record = a_record().path(&path).op(op).before(before).after(after);
                let mut record = record.limit(cut_before).build();
                for state in [&mut record.before, &mut record.after] {
                    if let Some(data) = data_of(state) {
                        data.form = form;
                    }
                }
                record
            })
    }

    fn some_format() -> impl Strategy<Value = Format> {
        proptest::sample::select(Format::ALL.to_vec())
    }

    fn is_beginning(cut: Option<&Data>, whole: Option<&Data>) -> bool {
        match (cut, whole) {
            (Some(cut), Some(whole)) => {
                let is_shorter = cut.bytes.len() < whole.bytes.len();
                whole.bytes.starts_with(&cut.bytes)
                    && cut.size == whole.size
                    && cut.truncated == (whole.truncated || is_shorter)
            }
            (None, None) => true,
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_shrunk_record_fits_shows_the_cut_and_is_otherwise_equal(
            record in some_record(),
            format in some_format(),
            most in 0..2_500_usize,
        ) {
            let size = length(format);
            match fit(&record, format, most, &size) {
                Fit::Whole => prop_assert!(size(&record) <= most),
                Fit::Never { least } => {
                    prop_assert!(least > most);
                    prop_assert_eq!(fit(&record, format, least, &size) == Fit::Never { least }, false);
                }
                Fit::Shrunk(shrunk) => {
                    prop_assert!(size(&record) > most, "what fits is not touched");
                    prop_assert!(size(&shrunk) <= most, "{} > {most}", size(&shrunk));
                    prop_assert!(is_beginning(data(&shrunk.before), data(&record.before)));
                    prop_assert!(is_beginning(data(&shrunk.after), data(&record.after)));
                    let is_after_cut = data(&shrunk.after) != data(&record.after);
                    let left = data(&shrunk.before).map_or(0, |data| data.bytes.len());
                    prop_assert!(!is_after_cut || left == 0, "the value before goes first");
                    let mut restored = (*shrunk).clone();
                    restored.before = record.before.clone();
                    restored.after = record.after.clone();
                    prop_assert_eq!(&restored, &record);
                    prop_assert_eq!(fit(&shrunk, format, most, &size), Fit::Whole, "once is enough");
                    let json: serde_json::Value = serde_json::from_slice(&shrunk.to_json()).unwrap();
                    let schema = jsonschema::draft202012::new(&record_schema()).unwrap();
                    prop_assert!(schema.is_valid(&json), "{json}");
                    prop_assert_eq!(json["after"]["data"]["truncated"].is_boolean(), data(&shrunk.after).is_some_and(|data| data.truncated));
                }
            }
        }

        #[test]
        fn no_more_is_cut_than_has_to_be(after in "[a-zé\n🦀]{10,200}", most in 700..1_200_usize) {
            let record = a_record().before("").after(&after).build();
            let size = length(Format::Record);
            if let Fit::Shrunk(shrunk) = fit(&record, Format::Record, most, &size) {
                let kept = data(&shrunk.after).unwrap().bytes.len();
                let next = after[kept..].chars().next().unwrap();
                prop_assert!(size(&shrunk) + written_length(next) > most);
            }
        }
    }

    #[test]
    fn the_encoding_of_a_value_stays_what_it_was() {
        let check = |after: &[u8], form, expected: &str| {
            let mut record = a_record().before("").after(after).build();
            data_of(&mut record.after).unwrap().form = form;
            let size = length(Format::Record);
            let Fit::Shrunk(shrunk) = fit(&record, Format::Record, size(&record) - 40, &size) else {
                panic!("it has to be cut");
            };
            let json: serde_json::Value = serde_json::from_slice(&shrunk.to_json()).unwrap();
            assert_eq!(json["after"]["data"]["encoding"], expected, "{json}");
            assert_eq!(json["after"]["data"]["truncated"], true);
            assert_eq!(json["after"]["data"]["size"], after.len());
        };
        // Cut at its front it would be a text.
        let mut binary = b"a".repeat(300);
        binary.push(0xff);
        check(&binary, DataForm::Auto, "base64");
        check(&b"a".repeat(300), DataForm::Auto, "utf8");
        check(&b"a".repeat(300), DataForm::Base64, "base64");
        // A cut document is none.
        check(
            format!("[\"{}\"]", "a".repeat(300)).as_bytes(),
            DataForm::Json,
            "utf8",
        );
    }

    #[test]
    fn a_large_value_is_cut_to_its_limit_in_every_format() {
        let records = [
            a_record()
                .before(b"b".repeat(900_000))
                .after(b"\n".repeat(900_000)),
            a_record().before("").after([0xff, 0].repeat(450_000)),
        ];
        for record in records.map(|record| record.build()) {
            for &format in Format::ALL.iter().filter(|format| !format.is_of_services()) {
                let size = length(format);
                let Fit::Shrunk(shrunk) = fit(&record, format, 100_000, &size) else {
                    panic!("{format:?}: it has to be cut");
                };
                let taken = size(&shrunk);
                assert!((99_990..=100_000).contains(&taken), "{format:?}: {taken}");
            }
        }
    }

    #[test]
    fn a_path_that_is_too_large_alone_is_said_to_be() {
        let record = a_record().path(&format!("/{}", "long".repeat(500))).build();
        let Fit::Never { least } = fit(&record, Format::Record, 1_000, length(Format::Record)) else {
            panic!("it cannot fit");
        };
        assert!((2_000..4_000).contains(&least), "{least}");
    }
}
