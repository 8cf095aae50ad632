//! Requests as a user's templates write them: body, headers, and the path and query of the address.
//!
//! *Invariant.* A template never chooses the receiver: scheme, host and port have no values in them, and no value makes a
//! step towards the root of a path.

use bridge_core::format::Format;
use bridge_core::issue::ConfigIssue;
use bridge_core::outbound::headers::Header;
use bridge_core::outbound::{BodyTemplate, MessageSubject, MessageTemplate, TemplateForm};
use bridge_core::record::Record;
use reqwest::Url;

use crate::config::{WebhookConfig, shown};

/// The templates of a sink.
#[derive(Default)]
pub(crate) struct WrittenParts {
    pub(crate) body: Option<BodyTemplate>,
    address: Option<AddressTemplate>,
    headers: Vec<(String, MessageTemplate)>,
}

/// A template of an address.
pub(crate) struct AddressTemplate {
    /// Scheme, host and port, with the path `/`.
    pub(crate) base: Url,
    rest: MessageTemplate,
}

/// Whether a text has values in it.
pub(crate) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

impl WrittenParts {
    /// The templates of options that were checked.
    pub(crate) fn of(config: &WebhookConfig) -> WrittenParts {
        let subject = MessageSubject::of_format(config.format);
        let headers = config
            .headers
            .iter()
            .filter(|(_, value)| is_template(value.reveal()));
        let headers = headers.filter_map(|(name, value)| {
            let template = MessageTemplate::parse(value.reveal(), TemplateForm::Header, subject).ok()?;
            Some((name.to_ascii_lowercase(), template))
        });
        let (body, media_type) = (config.body.as_deref(), config.content_type.as_deref());
        WrittenParts {
            body: BodyTemplate::of_checked(body, media_type, config.format),
            address: AddressTemplate::parse(config.url.reveal(), config.format).and_then(Result::ok),
            headers: headers.collect(),
        }
    }

    /// The address of a record's request, if it has one of its own, and its further headers.
    pub(crate) fn place(&self, record: &Record) -> Result<(Option<Url>, Vec<Header>), String> {
        let address = self.address.as_ref().map(|address| address.of_record(record));
        let headers = self.headers.iter().map(|(name, template)| {
            let value = template.render(record).map_err(|failure| {
                format!(
                    "the header {name} has no value: {}: correct headers.{name}, then retry the record",
                    failure.reason
                )
            })?;
            Ok((name.clone().into(), value))
        });
        Ok((address.transpose()?, headers.collect::<Result<_, String>>()?))
    }
}

impl AddressTemplate {
    /// The template of an address; `None` if it has no values.
    pub(crate) fn parse(text: &str, format: Format) -> Option<Result<AddressTemplate, String>> {
        is_template(text).then(|| AddressTemplate::parsed(text, format))
    }

    fn parsed(text: &str, format: Format) -> Result<AddressTemplate, String> {
        let (base, rest) = parts(text)?;
        let base = Url::parse(base).map_err(|error| error.to_string())?;
        let subject = MessageSubject::of_format(format);
        let rest = MessageTemplate::parse(rest, TemplateForm::Address, subject)?;
        Ok(AddressTemplate { base, rest })
    }

    /// Everything about the template that is wrong, or probably a mistake.
    pub(crate) fn objections(text: &str, format: Format) -> Vec<ConfigIssue> {
        match parts(text) {
            Ok((_, rest)) => {
                let subject = MessageSubject::of_format(format);
                MessageTemplate::objections("url", rest, TemplateForm::Address, subject)
            }
            Err(reason) => vec![ConfigIssue::error(
                "url",
                reason,
                "give an address such as \"https://hooks.example.com/{{ cluster }}\"",
            )],
        }
    }

    fn of_record(&self, record: &Record) -> Result<Url, String> {
        let refused = |reason: String| {
            let receiver = shown(&self.base);
            format!("{receiver} has no address for it: {reason}: correct url, then retry the record")
        };
        let rest = self
            .rest
            .render(record)
            .map_err(|failure| refused(failure.reason))?;
        let (path, _) = rest.split_once('?').unwrap_or((&rest, ""));
        if let Some(step) = path.split('/').find(|segment| is_step(segment)) {
            return Err(refused(format!("a part of its path is '{step}'")));
        }
        let mut url = self.base.clone();
        let joined = Url::parse(&format!("{}{rest}", self.base.as_str().trim_end_matches('/')));
        let joined = joined.map_err(|error| refused(error.to_string()))?;
        if joined.origin() != url.origin() {
            return Err(refused("it leads to another receiver".to_owned()));
        }
        url.set_path(joined.path());
        url.set_query(joined.query());
        Ok(url)
    }
}

/// Whether a segment leads to another folder.
fn is_step(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    matches!(&*plain, "." | "..")
}

/// The text up to the path, and the rest.
fn parts(text: &str) -> Result<(&str, &str), String> {
    let host = text.find("://").map(|at| at + 3).ok_or("it has no scheme")?;
    let path = text[host..].find(['/', '?']).map_or(text.len(), |at| host + at);
    let (base, rest) = text.split_at(path);
    match base.contains(['{', '}']) {
        true => Err(
            "scheme, host and port cannot have values in them: a record would choose the receiver".to_owned(),
        ),
        false if !rest.starts_with('/') => Err("a path must follow the host".to_owned()),
        false => Ok((base, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bridge_core::testing::a_record;

    fn address(template: &str, path: &str, data: &str) -> Result<String, String> {
        let template = AddressTemplate::parse(template, Format::Record).unwrap()?;
        let url = template.of_record(&a_record().path(path).after(data).build())?;
        Ok(url.to_string())
    }

    #[test]
    fn an_address_has_the_values_of_the_record_in_its_path_and_query() {
        let check = |template: &str, data: &str, expected: &str| {
            assert_eq!(
                address(template, "/a/b c", data).as_deref(),
                Ok(expected),
                "{template}"
            );
        };
        check("https://h/{{ name }}", "", "https://h/b%20c");
        check(
            "https://h:8443/x/{{ op }}?v={{ after.data.value }}",
            "a&b=c#d",
            "https://h:8443/x/update?v=a%26b%3Dc%23d",
        );
        check(
            "https://h/{{ after.data.value }}",
            "../../admin",
            "https://h/..%2F..%2Fadmin",
        );
        check(
            "https://h/{{ after.data.value }}",
            "@evil/",
            "https://h/%40evil%2F",
        );
    }

    #[test]
    fn no_record_chooses_the_receiver_or_a_folder_above() {
        for template in [
            "https://{{ name }}/x",
            "https://h{{ name }}",
            "https://h:{{ name }}/",
            "{{ name }}",
            "https://h?x={{ name }}",
        ] {
            assert!(address(template, "/a", "").is_err(), "{template}");
            assert!(
                !AddressTemplate::objections(template, Format::Record).is_empty(),
                "{template}"
            );
        }
        for data in ["..", "."] {
            let refused = address("https://h/a/{{ after.data.value }}/b", "/a", data).unwrap_err();
            assert!(refused.contains("a part of its path"), "{refused}");
        }
    }
}
