//! The registry of sinks: a new one is a new crate, and one arm in each match here.

use bridge_config::SinkKind;
use bridge_console::ConsoleSink;
use bridge_core::issue::ConfigIssue;
use bridge_core::sink::Sink;
use bridge_exec::ExecSink;
use bridge_file::FileSink;
use bridge_kafka::KafkaSink;
use bridge_nats::NatsSink;
use bridge_render::RenderSink;
use bridge_webhook::WebhookSink;

use super::configuration;
use crate::exit::Failure;

/// A sink of this name with these options for the records of one source. Nothing is connected or opened yet.
pub fn sink(kind: &SinkKind, name: &str, cluster: &str) -> Result<Box<dyn Sink>, Failure> {
    Ok(match kind {
        SinkKind::Kafka(options) => Box::new(kafka(options, cluster)?.metered(name, cluster)),
        SinkKind::Nats(options) => Box::new(nats(options, cluster)?),
        SinkKind::Webhook(options) => Box::new(WebhookSink::new(options).map_err(|found| refused(&found))?),
        SinkKind::File(options) => Box::new(FileSink::new(options.clone())),
        SinkKind::Exec(options) => Box::new(ExecSink::new(options).metered(name, cluster)),
        SinkKind::Render(options) => Box::new(RenderSink::new(options.clone())),
        SinkKind::Console(options) => Box::new(ConsoleSink::new(options)),
    })
}

fn kafka(options: &bridge_kafka::KafkaConfig, cluster: &str) -> Result<KafkaSink, Failure> {
    KafkaSink::new(options, cluster).map_err(|found| refused(&found))
}

fn nats(options: &bridge_nats::NatsConfig, cluster: &str) -> Result<NatsSink, Failure> {
    NatsSink::new(options, cluster).map_err(|found| refused(&found))
}

/// The issues in the form of every message: what is wrong, then what to do.
fn refused(issues: &[ConfigIssue]) -> Failure {
    let texts: Vec<String> = issues
        .iter()
        .map(|issue| format!("{}: {}\nhelp: {}", issue.key, issue.message, issue.remedy))
        .collect();
    configuration(texts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_a_sink_refuses_is_named_with_the_cause_and_what_to_do() {
        let issue = ConfigIssue::error("url", "the scheme is ftp", "give an https address");
        assert_eq!(
            refused(&[issue]).message,
            "url: the scheme is ftp\nhelp: give an https address"
        );
    }
}
