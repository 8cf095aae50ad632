//! Problems of templates.

use bridge_core::issue::ConfigIssue;
use bridge_core::outbound::{BodyTemplate, MessageSubject, MessageTemplate, TemplateForm};

use super::WebhookConfig;
use crate::written::{AddressTemplate, is_template};

impl WebhookConfig {
    pub(super) fn object_to_templates(&self, found: &mut Vec<ConfigIssue>) {
        let (body, media_type) = (self.body.as_deref(), self.content_type.as_deref());
        found.extend(BodyTemplate::objections(body, media_type, self.format));
        let mut has_template = self.body.is_some();
        let url = self.url.reveal();
        if is_template(url) {
            has_template = true;
            if self.parsed_url().is_ok() {
                found.extend(AddressTemplate::objections(url, self.format));
            }
        }
        let subject = MessageSubject::of_format(self.format);
        for (name, value) in self
            .headers
            .iter()
            .filter(|(_, value)| is_template(value.reveal()))
        {
            has_template = true;
            let key = format!("headers.{name}");
            found.extend(MessageTemplate::objections(
                &key,
                value.reveal(),
                TemplateForm::Header,
                subject,
            ));
        }
        if has_template && self.batch > 1 {
            found.push(ConfigIssue::error(
                "batch",
                "a request that a template writes holds one record",
                "leave batch out",
            ));
        }
    }
}
