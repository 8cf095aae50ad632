//! `zkbridge sink test`: sends one marked example to a destination, as the bridge would send a record.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bridge_config::{SinkConfig, SinkKind};
use bridge_core::example::test_records;
use bridge_core::format::Format;
use bridge_core::outbound::{BodyTemplate, MessageSubject};
use bridge_core::record::{Record, Timestamp};
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkError};
use clap::Args;
use serde_json::json;

use super::sink::configured;
use super::{print, print_json};
use crate::bridge;
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};

pub(super) const EXAMPLES: &str = "\
Examples:
  zkbridge sink test hook
  zkbridge sink test hook --source main --json

Sends one example through the sink's own encoding and connection, marked as a
test: a znode below /zkbridge/example, or an event whose text begins with TEST.
The presets pagerduty, opsgenie and alertmanager get a second one, which closes
what the first has opened. Filters are not applied, no cursor moves, and a
running bridge is not disturbed.

Exit codes: 0 the destination took it, 1 it refused it or did not answer, or the
template leaves it out, 2 no such sink, or one that cannot be tested, 3 the
destination cannot be used";

/// The longest test. A destination that needs longer has its own limits, which are shorter by default.
const TEST_BOUND: Duration = Duration::from_secs(120);

/// Options of `sink test`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct TestArgs {
    /// Name of the sink
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    config: ConfigFlag,
    /// Name of the source that the example seems to come from; the default is the first of the sink
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print a JSON document: the sink, its type, the ids and the answer
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) async fn test(args: &TestArgs) -> Result<(), Failure> {
    let loaded = args.config.load()?;
    let sink = configured(&loaded.config, &args.name)?;
    if let Some(reason) = reason_against(sink) {
        let message = format!("sink '{}' cannot be tested: {reason}", sink.name);
        return Err(Failure::new(Exit::Configuration, message));
    }
    let source = source(sink, args.source.as_deref())?;
    let records = records(&sink.kind, source);
    if let Some(record) = records.iter().find(|record| leaves_out(&sink.kind, record)) {
        let message = format!(
            "the body template of sink '{}' writes nothing for the example, a record with the op '{}': nothing was sent\n\
             help: such records are left out at work, too; 'zkbridge template' shows the messages of others",
            sink.name,
            record.op.as_str()
        );
        return Err(Failure::new(Exit::Runtime, message));
    }
    let ids: Vec<String> = records.iter().map(|record| record.id.to_string()).collect();
    let mut destination = bridge::sink(&sink.kind, &sink.name, source)?;
    let sent = tokio::time::timeout(TEST_BOUND, send(destination.as_mut(), records)).await;
    let answer = sent.unwrap_or_else(|_| {
        let message = format!(
            "sink '{}' has not answered for {} s\nhelp: look whether the destination works",
            sink.name,
            TEST_BOUND.as_secs()
        );
        Err(Failure::new(Exit::Runtime, message))
    })?;
    let kind = sink.kind.type_name();
    if args.json {
        return print_json(&json!({
            "sink": &*sink.name, "type": kind, "source": source, "ids": ids, "answer": answer,
        }));
    }
    let answer = answer.map_or_else(
        || "the destination has it".to_owned(),
        |answer| format!("it answered {answer}"),
    );
    let answer = bridge_console::text::escaped(&answer).into_owned();
    print(&format!(
        "sink '{}' ({kind}) sent a test, id {}: {answer}\n",
        sink.name,
        ids.join(", ")
    ))
}

/// Why a test would do harm.
fn reason_against(sink: &SinkConfig) -> Option<&'static str> {
    match &sink.kind {
        SinkKind::Nats(options) if options.bucket.is_some() => Some(
            "its bucket mirrors the tree, and an example is no znode\nhelp: use 'zkbridge check --connect'",
        ),
        SinkKind::Nats(options) if options.fence => Some(
            "with fence = true the stream would refuse the bridge's next message\nhelp: use 'zkbridge check --connect'",
        ),
        SinkKind::Render(_) => Some(
            "it renders the journal's image, and an example is no znode\nhelp: use 'zkbridge check --connect'",
        ),
        _ => None,
    }
}

fn source<'a>(sink: &'a SinkConfig, named: Option<&str>) -> Result<&'a str, Failure> {
    let found = match named {
        Some(named) => sink.sources.iter().find(|source| ***source == *named),
        None => sink.sources.first(),
    };
    found.map(|source| &**source).ok_or_else(|| {
        let known: Vec<&str> = sink.sources.iter().map(|source| &**source).collect();
        let message = format!(
            "sink '{}' has no source '{}'\nhelp: give one of: {}",
            sink.name,
            named.unwrap_or_default(),
            known.join(", ")
        );
        Failure::new(Exit::Configuration, message)
    })
}

/// The examples for a sink of this type.
fn records(kind: &SinkKind, cluster: &str) -> Vec<Arc<Record>> {
    let keeps_open = match kind {
        SinkKind::Webhook(options) => options.preset.is_some_and(|preset| !preset.is_chat()),
        _ => false,
    };
    let now = Timestamp::of(SystemTime::now());
    let (format, _) = messages(kind);
    let all = test_records(MessageSubject::of_format(format), keeps_open, cluster, now);
    all.into_iter().map(Arc::new).collect()
}

/// Whether the template of a sink writes nothing for a record. One that fails is reported by the sink itself.
fn leaves_out(kind: &SinkKind, record: &Record) -> bool {
    let (format, (body, content_type)) = messages(kind);
    let template = BodyTemplate::of_checked(body, content_type, format);
    template.is_some_and(|template| template.project(record).is_ok_and(|messages| messages.is_empty()))
}

/// The format of a sink, and its template with the media type.
fn messages(kind: &SinkKind) -> (Format, (Option<&str>, Option<&str>)) {
    macro_rules! of {
        ($options:expr, $format:expr) => {
            (
                $format,
                ($options.body.as_deref(), $options.content_type.as_deref()),
            )
        };
    }
    match kind {
        SinkKind::Kafka(options) => of!(options, options.format),
        SinkKind::Nats(options) => of!(options, options.format.unwrap_or_default()),
        SinkKind::Webhook(options) => of!(options, options.format),
        SinkKind::File(options) => of!(options, options.format),
        SinkKind::Exec(options) => of!(options, options.format),
        _ => (Format::default(), (None, None)),
    }
}

/// Sends the records one after another, and returns the last answer.
async fn send(sink: &mut dyn Sink, records: Vec<Arc<Record>>) -> Result<Option<String>, Failure> {
    sink.open()
        .await
        .map_err(|error| failure(Exit::Environment, &error))?;
    let mut answer = None;
    for record in records {
        let records = vec![record];
        let delivered = sink.deliver(&Delivery { records }).await;
        delivered.map_err(|refused| Failure::new(Exit::Runtime, reason(&refused)))?;
        answer = sink.take_answer();
    }
    sink.close()
        .await
        .map_err(|error| failure(Exit::Runtime, &error))?;
    Ok(answer)
}

fn failure(exit: Exit, error: &SinkError) -> Failure {
    Failure::new(exit, error.message.clone())
}

/// Why a test was not taken.
fn reason(refused: &DeliverError) -> String {
    let rejected = refused.rejected.iter().map(|one| one.reason.clone());
    let deferred = refused.deferred.iter().map(|one| one.error.message.clone());
    let error = refused.error.iter().map(|error| error.message.clone());
    let all: Vec<String> = rejected.chain(error).chain(deferred).collect();
    format!("the test was not taken: {}", all.join("; "))
}
