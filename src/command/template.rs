//! `zkbridge template`: renders a template or a preset over records, and sends nothing.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bridge_console::text::{escaped, escaped_json};
use bridge_core::example::{ExampleRecord, event_record, examples};
use bridge_core::outbound::{JSON_MEDIA_TYPE, MessageSubject, MessageTemplate, TemplateForm};
use bridge_core::record::{Record, ServiceEvent};
use bridge_webhook::{Preset, PresetMessages};
use clap::Args;

use super::argument::word_of;
use super::{print, tree_preview};
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  zkbridge template body.j2                       over an example of each op
  zkbridge template body.j2 --service             over one of each event
  zkbridge template body.j2 --only delete
  zkbridge template body.j2 --record records.jsonl
  zkbridge tail --op service --json | zkbridge template body.j2 --record -
  zkbridge template --preset slack --service      the messages of a preset
  zkbridge template --sink upstream               the file of a render sink
  zkbridge template new.j2 --sink upstream        the same by a new template
  zkbridge template new.j2 --tree znodes.json     over znodes of a file

The same text is the 'body' of a sink. Each value is written as JSON, unless
--content-type names another media type. A record whose result is empty sends
nothing. docs/messages.md has the variables.

With --sink or --tree it is the 'template' of a render sink, see
docs/sinks/render.md. The znodes of --sink are those in the journal, with or
without a running bridge; those of --tree are an object of paths and values,
such as {\"/a\": \"1\"}. Nothing is written, checked or reloaded.

Exit codes: 0 every record has a result, 1 one has none or the file stays as it
is, 2 it is no template or a file cannot be read, 3 there is no journal";

/// The media type of a file that a render sink writes, unless another one is given.
pub(super) const TEXT_MEDIA_TYPE: &str = "text/plain";

/// The most bytes of a template or of records that are read.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// Options of `template`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TemplateArgs {
    /// File of the template
    #[arg(
        value_name = "FILE",
        required_unless_present_any = ["preset", "sink"],
        conflicts_with = "preset"
    )]
    pub(super) file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) config: ConfigFlag,
    /// Show the file of this render sink over the znodes in the journal
    #[arg(long, value_name = "NAME", conflicts_with_all = ["preset", "record", "service", "only", "content_type"])]
    pub(super) sink: Option<String>,
    /// Show a file over these znodes, a JSON object of paths and values; - reads
    /// standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "record", "service", "only"])]
    pub(super) tree: Option<PathBuf>,
    /// Show the messages of a preset
    #[arg(long, value_name = "NAME", value_parser = word_of(Preset::ALL, Preset::as_str))]
    preset: Option<Preset>,
    /// Records or service events, one JSON object on a line; - reads standard input
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Use examples of service events, and not of changes
    #[arg(long, conflicts_with = "record")]
    service: bool,
    /// Use the example of this op or this type of event only
    #[arg(long, value_name = "NAME", conflicts_with = "record")]
    only: Option<String>,
    /// Media type of the body; in JSON values are written as JSON [default:
    /// application/json, with --tree text/plain]
    #[arg(long, value_name = "TYPE", conflicts_with = "preset")]
    pub(super) content_type: Option<String>,
}

/// A template of the user's own, compiled once for changes and once for service events.
pub(super) struct OwnTemplate {
    form: TemplateForm,
    changes: Result<MessageTemplate, String>,
    services: Result<MessageTemplate, String>,
}

impl OwnTemplate {
    pub(super) fn parse(source: &str, form: TemplateForm) -> OwnTemplate {
        let parse = |subject| MessageTemplate::parse(source, form, subject);
        OwnTemplate {
            form,
            changes: parse(MessageSubject::Changes),
            services: parse(MessageSubject::Services),
        }
    }

    /// Why it is a template for no record at all.
    pub(super) fn objection(&self) -> Option<&str> {
        match (&self.changes, &self.services) {
            (Err(reason), Err(_)) => Some(reason),
            _ => None,
        }
    }

    /// The failure of a template that is none for a record. It may be one for the other subject.
    fn refused(&self, record: &Record, reason: &str) -> Failure {
        let subject = MessageSubject::of_record(record).as_str();
        refused(match self.objection() {
            Some(_) => format!("it is no template: {reason}"),
            None => format!(
                "it is no template for a {subject}: {reason}\nhelp: docs/messages.md has the variables of each"
            ),
        })
    }

    /// The one for a record, or why it is none.
    pub(super) fn of(&self, record: &Record) -> Result<&MessageTemplate, String> {
        let template = match MessageSubject::of_record(record) {
            MessageSubject::Changes => &self.changes,
            MessageSubject::Services => &self.services,
        };
        template.as_ref().map_err(String::clone)
    }
}

/// The writer of the messages.
enum Renderer {
    Own(Box<OwnTemplate>),
    Preset(PresetMessages),
}

/// Runs the command.
pub fn run(args: &TemplateArgs) -> Result<(), Failure> {
    if args.sink.is_some() || args.tree.is_some() {
        return tree_preview::run(args);
    }
    let renderer = match (&args.file, args.preset) {
        (_, Some(preset)) => Renderer::Preset(PresetMessages::of_nobody(preset)),
        (Some(file), None) => {
            let form = TemplateForm::of_media_type(args.content_type.as_deref().unwrap_or(JSON_MEDIA_TYPE));
            Renderer::Own(Box::new(OwnTemplate::parse(&read(file)?, form)))
        }
        (None, None) => return Err(refused("neither a template nor a preset is given".to_owned())),
    };
    let records = records(args)?;
    let is_one = records.len() == 1;
    let mut failures = Vec::new();
    for ExampleRecord { name, record } in &records {
        match renderer.render(record)? {
            Ok(text) if is_one => print(&text)?,
            Ok(text) => print(&format!("── {name}\n{text}"))?,
            Err(reason) => failures.push(format!("{name}: {reason}")),
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    let message = format!(
        "no result for {} of {} records:\n{}\nhelp: correct the template, or leave such records out with the sink's filters",
        failures.len(),
        records.len(),
        failures.join("\n")
    );
    Err(Failure::new(Exit::Runtime, message))
}

impl Renderer {
    /// The text for a record with a line feed, or why it has none.
    fn render(&self, record: &Record) -> Result<Result<String, String>, Failure> {
        const NOTHING: &str = "(nothing is sent)\n";
        Ok(match self {
            // As for a sink: a control record has no message.
            Renderer::Own(_) if record.op.is_control() && record.event.is_none() => Ok(NOTHING.to_owned()),
            Renderer::Own(own) => {
                let template = own.of(record).map_err(|reason| own.refused(record, &reason))?;
                match template.render(record) {
                    Ok(text) if text.is_empty() => Ok(NOTHING.to_owned()),
                    Ok(text) => Ok(shown(&text, own.form)),
                    Err(failure) => Err(failure.reason),
                }
            }
            Renderer::Preset(preset) => {
                let requests = preset.shown(record);
                let texts = requests.iter().map(|request| {
                    let target = request.target.as_ref().map(|target| format!("POST {target}\n"));
                    format!(
                        "{}{}",
                        target.unwrap_or_default(),
                        shown(&request.body, TemplateForm::Json)
                    )
                });
                let text: String = texts.collect();
                Ok(if text.is_empty() { NOTHING.to_owned() } else { text })
            }
        })
    }
}

/// A result with a line feed, safe for a terminal.
pub(super) fn shown(text: &str, form: TemplateForm) -> String {
    match form {
        TemplateForm::Json => escaped_json(text).into_owned() + "\n",
        _ => text.lines().map(|line| columns(line) + "\n").collect(),
    }
}

/// A line that keeps its tabs, for programs that split it there.
fn columns(line: &str) -> String {
    let columns: Vec<_> = line.split('\t').map(escaped).collect();
    columns.join("\t")
}

fn records(args: &TemplateArgs) -> Result<Vec<ExampleRecord>, Failure> {
    if let Some(file) = &args.record {
        let text = read(file)?;
        let lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty());
        let records = lines
            .map(|(at, line)| record_of(at + 1, line))
            .collect::<Result<Vec<_>, _>>()?;
        return match records.is_empty() {
            true => Err(refused(format!("{}: it has no record", file.display()))),
            false => Ok(records),
        };
    }
    let subject = match args.service {
        true => MessageSubject::Services,
        false => MessageSubject::Changes,
    };
    let mut all = examples(subject);
    let Some(only) = &args.only else {
        return Ok(all);
    };
    let known: Vec<String> = all.iter().map(|example| example.name.clone()).collect();
    all.retain(|example| example.name == *only);
    match all.is_empty() {
        true => Err(refused(format!(
            "no example has the name '{only}'\nhelp: give one of: {}",
            known.join(", ")
        ))),
        false => Ok(all),
    }
}

/// A record or a service event as a line of a sink or of `zkbridge tail --json`.
fn record_of(line: usize, text: &str) -> Result<ExampleRecord, Failure> {
    let record = match serde_json::from_str::<Record>(text) {
        Ok(record) => record,
        Err(error) => match serde_json::from_str::<ServiceEvent>(text) {
            Ok(event) => event_record(event),
            Err(_) => {
                return Err(refused(format!(
                    "line {line} is neither a record nor a service event: {error}\nhelp: give lines such as 'zkbridge \
                     tail --json' prints"
                )));
            }
        },
    };
    Ok(ExampleRecord {
        name: format!("line {line}"),
        record,
    })
}

/// The text of a file, or of standard input for `-`.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| refused(format!("{} cannot be read: {error}", path.display()));
    let mut text = String::new();
    let bytes = match path == Path::new("-") {
        true => std::io::stdin()
            .lock()
            .take(INPUT_BYTES_MAX + 1)
            .read_to_string(&mut text),
        false => File::open(path).and_then(|file| file.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text)),
    };
    let bytes = bytes.map_err(failed)?;
    match u64::try_from(bytes).is_ok_and(|bytes| bytes <= INPUT_BYTES_MAX) {
        true => Ok(text),
        false => Err(refused(format!(
            "{} has more than {} MiB\nhelp: give fewer records",
            path.display(),
            INPUT_BYTES_MAX >> 20
        ))),
    }
}

pub(super) fn refused(message: String) -> Failure {
    Failure::new(Exit::Configuration, message)
}
