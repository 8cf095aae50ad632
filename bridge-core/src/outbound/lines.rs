//! A batch as lines of text, for destinations that write it as a whole.

use std::sync::Arc;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{BodyTemplate, Messages, Projection, Tally};
use crate::format::{Body, Format};
use crate::issue::ConfigIssue;
use crate::record::Record;

/// The initial capacity for each record, enough for a small value.
const LINE_GUESS: usize = 800;

/// Records as lines. JSON escapes line feeds, so a line holds none.
pub enum LineProjection {
    /// In this format.
    Form(Format),
    /// As a template writes them.
    Own(Box<BodyTemplate>),
}

impl LineProjection {
    /// The lines of options that were checked.
    ///
    /// # Panics
    ///
    /// If [`BodyTemplate::objections`] has an error.
    pub fn of_checked(format: Format, body: Option<&str>, media_type: Option<&str>) -> LineProjection {
        match BodyTemplate::of_checked(body, media_type, format) {
            Some(body) => LineProjection::Own(Box::new(body)),
            None => LineProjection::Form(format),
        }
    }

    /// Everything about the options `format`, `body` and `content_type` that cannot work, or is probably a mistake.
    pub fn objections(format: Format, body: Option<&str>, media_type: Option<&str>) -> Vec<ConfigIssue> {
        let against_format = reason_against_lines(format).map(|reason| {
            ConfigIssue::error(
                "format",
                format!("'{}' cannot be written as lines: {reason}", format.as_str()),
                "give \"record\", \"flat\" or \"cloudevents\"",
            )
        });
        let against_body = BodyTemplate::objections(body, media_type, format);
        against_format.into_iter().chain(against_body).collect()
    }

    /// The schema of the option `format` of a sink that writes lines.
    pub fn schema_of_formats(_: &mut SchemaGenerator) -> Schema {
        let formats = Format::ALL.iter();
        let words: Vec<&str> = formats
            .filter(|format| reason_against_lines(**format).is_none())
            .map(|format| format.as_str())
            .collect();
        json_schema!({"type": "string", "enum": words, "default": Format::Record.as_str()})
    }
}

impl Projection for LineProjection {
    type Message = Vec<u8>;

    fn project(&self, record: &Record) -> Result<Messages<Vec<u8>>, String> {
        let format = match self {
            LineProjection::Own(body) => return body.line(record),
            LineProjection::Form(format) => *format,
        };
        if let Some(reason) = reason_against_lines(format) {
            return Err(reason.to_owned());
        }
        let messages = format.project(record)?;
        Ok(messages.map(|_, message| match message.body {
            Body::Bytes(line) => line,
            Body::Deleted | Body::Nothing => Vec::new(),
        }))
    }
}

/// Why no line can hold this format.
fn reason_against_lines(format: Format) -> Option<&'static str> {
    match format {
        Format::Record
        | Format::Flat
        | Format::Cloudevents
        | Format::Service
        | Format::ServiceCloudevents => None,
        Format::CloudeventsBinary | Format::ServiceCloudeventsBinary => {
            Some("a line has no headers for the attributes of the event")
        }
        Format::ConnectJson => Some("only Kafka Connect reads it"),
        Format::Raw => Some("the data of a znode may hold line feeds, and says nothing of its path"),
    }
}

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

    #[test]
    fn a_format_either_gives_lines_of_every_record_or_is_refused() {
        let record = a_record().after("1\n2").build();
        for &format in Format::ALL {
            let issues = LineProjection::objections(format, None, None);
            let projected = LineProjection::of_checked(format, None, None).project(&record);
            assert_eq!(issues.is_empty(), projected.is_ok(), "{format:?}: {issues:?}");
            for line in projected.iter().flat_map(Messages::iter) {
                assert!(!line.contains(&b'\n'), "{format:?}");
            }
        }
        let body = Some("{{ path }}");
        assert_eq!(LineProjection::objections(Format::Record, body, None), []);
        assert_eq!(LineProjection::objections(Format::Raw, body, None).len(), 2);
    }
}
