//! Bodies that a template writes in the place of a format.

use super::{MessageSubject, MessageTemplate, Messages, TemplateForm};
use crate::format::Format;
use crate::issue::ConfigIssue;
use crate::record::Record;

/// The media type of a body whose `content_type` is left out.
pub const JSON_MEDIA_TYPE: &str = "application/json";

/// The longest media type. RFC 6838 allows 127 characters for each of its two names.
const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// Writes the bodies of messages.
pub struct BodyTemplate {
    template: MessageTemplate,
    subject: MessageSubject,
    media_type: String,
}

impl BodyTemplate {
    /// A template for bodies of this media type, for the records that a sink with this format gets.
    ///
    /// # Errors
    ///
    /// Why the source is no template.
    pub fn parse(source: &str, media_type: Option<&str>, format: Format) -> Result<BodyTemplate, String> {
        let media_type = media_type.unwrap_or(JSON_MEDIA_TYPE);
        let subject = MessageSubject::of_format(format);
        let form = TemplateForm::of_media_type(media_type);
        Ok(BodyTemplate {
            template: MessageTemplate::parse(source, form, subject)?,
            subject,
            media_type: media_type.to_owned(),
        })
    }

    /// The template of options that were checked; `None` without one.
    ///
    /// # Panics
    ///
    /// If [`BodyTemplate::objections`] has an error.
    pub fn of_checked(
        source: Option<&str>,
        media_type: Option<&str>,
        format: Format,
    ) -> Option<BodyTemplate> {
        let parsed = BodyTemplate::parse(source?, media_type, format);
        Some(parsed.expect("the options were checked"))
    }

    /// Everything about the options `body` and `content_type` that cannot work, or is probably a mistake.
    pub fn objections(source: Option<&str>, media_type: Option<&str>, format: Format) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        if let Some(media_type) = media_type {
            found.extend(objection_to_media_type(media_type));
        }
        let Some(source) = source else {
            if media_type.is_some() {
                found.push(ConfigIssue::error(
                    "content_type",
                    "it is the media type of a body, and there is none",
                    "give body, or leave content_type out",
                ));
            }
            return found;
        };
        let subject = MessageSubject::of_format(format);
        if format != subject.format() {
            found.push(ConfigIssue::error(
                "body",
                format!("it takes the place of the format \"{}\"", format.as_str()),
                "use the format \"record\" for changes or \"service\" for service events",
            ));
            return found;
        }
        let form = TemplateForm::of_media_type(media_type.unwrap_or(JSON_MEDIA_TYPE));
        found.extend(MessageTemplate::objections("body", source, form, subject));
        found
    }

    /// The media type of the bodies.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The body of a record. Control records have none, and neither has a record for which the template writes nothing.
    ///
    /// # Errors
    ///
    /// Why the template has no result for it.
    pub fn project(&self, record: &Record) -> Result<Messages<Vec<u8>>, String> {
        let is_meant = match self.subject {
            MessageSubject::Changes => !record.op.is_control(),
            MessageSubject::Services => record.event.is_some(),
        };
        if !is_meant {
            return Ok(Messages::None);
        }
        let rendered = self.template.render(record);
        let body = rendered.map_err(|failure| {
            format!(
                "the body template has no result: {}: correct body, then retry the record",
                failure.reason
            )
        })?;
        Ok(match body.is_empty() {
            true => Messages::None,
            false => Messages::One(body.into_bytes()),
        })
    }

    /// The same as a line: the line feeds of a JSON document are white space. A text with line feeds has no line.
    ///
    /// # Errors
    ///
    /// Why the record has none.
    pub fn line(&self, record: &Record) -> Result<Messages<Vec<u8>>, String> {
        let Messages::One(mut line) = self.project(record)? else {
            return Ok(Messages::None);
        };
        let is_json = TemplateForm::of_media_type(&self.media_type) == TemplateForm::Json;
        for byte in &mut line {
            let is_break = matches!(byte, b'\n' | b'\r');
            if is_break && is_json {
                *byte = b' ';
            } else if *byte < b' ' && *byte != b'\t' {
                return Err(format!(
                    "the text of the body template has the control character {:?}, and a line has none: write the value \
                     with the filter json, then retry the record",
                    char::from(*byte)
                ));
            }
        }
        Ok(Messages::One(line))
    }
}

fn objection_to_media_type(media_type: &str) -> Option<ConfigIssue> {
    let is_plain = media_type.len() <= MEDIA_TYPE_BYTES_MAX
        && media_type.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let (kind, rest) = media_type.split_once('/').unwrap_or_default();
    let has_names = !kind.trim().is_empty() && !rest.trim().is_empty();
    (!is_plain || !has_names).then(|| {
        ConfigIssue::error(
            "content_type",
            format!("\"{}\" is no media type", media_type.escape_debug()),
            "give one such as \"application/json\" or \"text/plain; charset=utf-8\"",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Op;
    use crate::testing::a_record;

    fn body(source: &str, media_type: &str, record: &Record) -> Result<Messages<Vec<u8>>, String> {
        let format = MessageSubject::of_record(record).format();
        BodyTemplate::parse(source, Some(media_type), format)
            .unwrap()
            .line(record)
    }

    #[test]
    fn a_body_of_json_is_one_line_and_a_text_with_line_feeds_is_none() {
        let record = a_record().after("1\n2").build();
        let json = body(
            "{\n  \"v\": {{ after.data.value }}\n}\n",
            "application/json",
            &record,
        )
        .unwrap();
        assert_eq!(json, Messages::One(br#"{   "v": "1\n2" }"#.to_vec()));
        let refused = body("v {{ after.data.value }}", "text/plain", &record).unwrap_err();
        assert!(refused.contains("'\\n'"), "{refused}");
        let escaped = body("v {{ after.data.value | json }}", "text/plain", &record).unwrap();
        assert_eq!(escaped, Messages::One(br#"v "1\n2""#.to_vec()));
    }

    #[test]
    fn control_records_and_empty_results_have_no_body() {
        for &op in Op::ALL {
            let record = match op.is_control() {
                true => a_record().control(op).build(),
                false => a_record().op(op).build(),
            };
            let has_body = !op.is_control() || op == Op::Service;
            let made = body("1", "application/json", &record).unwrap();
            assert_eq!(made.len(), usize::from(has_body), "{op:?}");
            assert!(
                body(" {% if false %}1{% endif %} ", "application/json", &record)
                    .unwrap()
                    .is_empty()
            );
        }
    }

    #[test]
    fn options_that_do_not_go_together_are_reported() {
        let check = |source, media_type, format, expected: &[&str]| {
            let found = BodyTemplate::objections(source, media_type, format);
            let keys: Vec<&str> = found.iter().map(|one| &*one.key).collect();
            assert_eq!(keys, expected, "{source:?}, {media_type:?}: {found:?}");
        };
        check(None, None, Format::Raw, &[]);
        check(None, Some("text/plain"), Format::Record, &["content_type"]);
        check(Some("{{ path }}"), None, Format::Record, &[]);
        check(Some("{{ text }}"), None, Format::Service, &[]);
        check(Some("{{ text }}"), None, Format::Record, &["body"]);
        check(Some("{{ path }}"), None, Format::Cloudevents, &["body"]);
        check(
            Some("{{ path }}"),
            Some("text"),
            Format::Record,
            &["content_type"],
        );
        check(
            Some("{{ path }}"),
            Some("text/plain\r\na: b"),
            Format::Record,
            &["content_type"],
        );
    }
}
