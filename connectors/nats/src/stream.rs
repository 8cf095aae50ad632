//! Checks that the stream exists and suits the records, and creates it if the options allow that.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode as Code;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, RequestErrorKind,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use bridge_core::amount::{Size, Span};
use bridge_core::sink::{SinkError, SinkErrorKind};

use crate::config::{CreateStream, Storage, StreamSettings, WhenFull};
use crate::connection::Connection;
use crate::error;
use crate::subjects::{covers, overlap, pattern_of};

/// How long the engine may wait, by default at most, before it sends again what a failed delivery left open. With twice
/// the timeout it is what a duplicate window has to be longer than.
const RETRY: Duration = Duration::from_secs(30);

/// How long a consumer should be able to stay away.
const AGE_LEAST: Duration = Duration::from_secs(24 * 60 * 60);

/// The requirements of the sink on the stream.
pub(crate) struct StreamSpec {
    pub(crate) name: Arc<str>,
    pub(crate) create: CreateStream,
    /// Sample subjects of the sink's records, each with the path of its record.
    pub(crate) samples: Vec<(&'static str, Arc<str>)>,
    /// The subjects of the stream if the options name none: the same for every cluster.
    pub(crate) default_subject: String,
    /// Whether it is that of a key-value bucket.
    pub(crate) is_bucket: bool,
    pub(crate) timeout: Duration,
}

/// A stream that can be used.
pub(crate) struct Fit {
    /// Settings that are allowed but may be a mistake, a sentence each.
    pub(crate) remarks: Vec<String>,
    /// The largest message that it takes, headers included; `None`: the server's limit alone.
    pub(crate) largest: Option<usize>,
}

/// Checks the stream, after creating it if it is missing and the options allow that.
pub(crate) async fn ensure(connection: &mut Connection, spec: &StreamSpec) -> Result<Fit, SinkError> {
    let config = match look(connection, spec).await? {
        Some(config) => config,
        None => match &spec.create {
            CreateStream::Yes(settings) => create(connection, spec, settings).await?,
            CreateStream::No => return Err(missing(&spec.name)),
        },
    };
    judge(&config, spec)
}

fn missing(name: &str) -> SinkError {
    SinkError::new(
        SinkErrorKind::Missing,
        format!("stream '{name}' does not exist: create it, or set create_stream so that the sink does"),
    )
}

/// The stream's settings; `None` when there is no such stream.
async fn look(connection: &mut Connection, spec: &StreamSpec) -> Result<Option<Config>, SinkError> {
    let context = connection.context().clone();
    let asked = connection.ask(context.get_stream(&*spec.name)).await?;
    match asked {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(failure) => match failure.kind() {
            GetStreamErrorKind::JetStream(said) if said.error_code() == Code::STREAM_NOT_FOUND => Ok(None),
            _ => Err(not_looked(failure, &spec.name)),
        },
    }
}

fn not_looked(failure: GetStreamError, name: &str) -> SinkError {
    use std::error::Error as _;

    let kind = match failure.kind() {
        GetStreamErrorKind::JetStream(said) => error::kind(error::of_jetstream(&said)),
        GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => SinkErrorKind::Configuration,
        GetStreamErrorKind::Request => {
            let below = failure
                .source()
                .and_then(|below| below.downcast_ref::<async_nats::jetstream::context::RequestError>());
            match below.map(|below| below.kind()) {
                // No server answers on the subjects of the API.
                Some(RequestErrorKind::NoResponders) => return without_jetstream(name),
                _ => SinkErrorKind::Unavailable,
            }
        }
    };
    SinkError::new(kind, format!("stream '{name}' cannot be looked at: {failure}")).because(failure)
}

fn without_jetstream(name: &str) -> SinkError {
    SinkError::new(
        SinkErrorKind::Missing,
        format!(
            "stream '{name}' cannot be looked at: nobody answers for JetStream; enable it in the servers' configuration \
             and for the sink's account"
        ),
    )
}

async fn create(
    connection: &mut Connection,
    spec: &StreamSpec,
    settings: &StreamSettings,
) -> Result<Config, SinkError> {
    let config = config_of(spec, settings);
    let context = connection.context().clone();
    match connection.ask(context.create_stream(config)).await? {
        Ok(stream) => {
            let made = stream.cached_info().config.clone();
            tracing::info!(stream = %spec.name, subjects = ?made.subjects, "created the stream");
            Ok(made)
        }
        Err(failure) if is_there_already(&failure) => {
            // Another worker was faster.
            look(connection, spec).await?.ok_or_else(|| missing(&spec.name))
        }
        Err(failure) => Err(not_created(failure, spec, settings)),
    }
}

fn is_there_already(failure: &CreateStreamError) -> bool {
    matches!(failure.kind(), CreateStreamErrorKind::JetStream(said) if said.error_code() == Code::STREAM_NAME_EXIST)
}

fn not_created(failure: CreateStreamError, spec: &StreamSpec, settings: &StreamSettings) -> SinkError {
    let kind = match failure.kind() {
        CreateStreamErrorKind::JetStream(said) => error::kind(error::of_jetstream(&said)),
        CreateStreamErrorKind::EmptyStreamName
        | CreateStreamErrorKind::InvalidStreamName
        | CreateStreamErrorKind::DomainAndExternalSet => SinkErrorKind::Configuration,
        CreateStreamErrorKind::JetStreamUnavailable | CreateStreamErrorKind::NotFound => {
            SinkErrorKind::Missing
        }
        CreateStreamErrorKind::TimedOut
        | CreateStreamErrorKind::Response
        | CreateStreamErrorKind::ResponseParse => SinkErrorKind::Unavailable,
    };
    let message = format!(
        "stream '{}' cannot be created with {} copies of {}: {failure}; change create_stream to what the servers can do, \
         or create the stream yourself",
        spec.name,
        settings.replicas,
        subjects_of(spec, settings).join(", ")
    );
    SinkError::new(kind, message).because(failure)
}

fn subjects_of(spec: &StreamSpec, settings: &StreamSettings) -> Vec<String> {
    if settings.subjects.is_empty() {
        return vec![spec.default_subject.clone()];
    }
    settings.subjects.clone()
}

fn config_of(spec: &StreamSpec, settings: &StreamSettings) -> Config {
    let config = settings_of(spec, settings);
    match spec.is_bucket {
        true => bucket_of(config),
        false => config,
    }
}

/// A stream as clients for buckets make it, with one entry of each key.
fn bucket_of(config: Config) -> Config {
    Config {
        max_messages_per_subject: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..config
    }
}

fn settings_of(spec: &StreamSpec, settings: &StreamSettings) -> Config {
    Config {
        name: spec.name.to_string(),
        subjects: subjects_of(spec, settings),
        num_replicas: settings.replicas as usize,
        storage: match settings.storage {
            Storage::File => StorageType::File,
            Storage::Memory => StorageType::Memory,
        },
        max_age: settings.max_age.map_or(Duration::ZERO, |age| age.0),
        max_bytes: settings
            .max_bytes
            .map_or(-1, |Size(bytes)| i64::try_from(bytes).unwrap_or(i64::MAX)),
        discard: match settings.when_full {
            WhenFull::Refuse => DiscardPolicy::New,
            WhenFull::RemoveOldest => DiscardPolicy::Old,
        },
        duplicate_window: settings.duplicate_window.0,
        ..Config::default()
    }
}

/// Whether the stream can take the records, and what its settings mean for them.
pub(crate) fn judge(config: &Config, spec: &StreamSpec) -> Result<Fit, SinkError> {
    let never = [
        (config.sealed, "it is sealed, so that it takes nothing"),
        (
            config.no_ack,
            "it acknowledges nothing (no_ack), so that nobody knows what it has",
        ),
        (
            config.mirror.is_some(),
            "it is a mirror of another stream and takes no messages itself",
        ),
    ];
    if let Some((_, reason)) = never.iter().find(|(is_so, _)| *is_so) {
        return Err(SinkError::new(
            SinkErrorKind::Configuration,
            format!(
                "stream '{}' cannot be used: {reason}; name another stream",
                spec.name
            ),
        ));
    }
    let mut remarks = Vec::new();
    remarks.extend(judge_subjects(&config.subjects, spec)?);
    remarks.extend(losses(config, spec));
    remarks.extend(judge_window(config, spec.timeout));
    Ok(Fit {
        remarks: remarks
            .into_iter()
            .map(|remark| format!("stream '{}' {remark}", spec.name))
            .collect(),
        largest: usize::try_from(config.max_message_size)
            .ok()
            .filter(|most| *most > 0),
    })
}

/// An error when the stream takes no record at all, a remark when it does not take every one.
fn judge_subjects(subjects: &[String], spec: &StreamSpec) -> Result<Option<String>, SinkError> {
    let is_taken = |subject: &str| subjects.iter().any(|pattern| covers(pattern, subject));
    let lost: Vec<_> = spec
        .samples
        .iter()
        .filter(|(_, subject)| !is_taken(subject))
        .collect();
    let Some((path, subject)) = lost.first() else {
        return Ok(None);
    };
    let all: Vec<Arc<str>> = spec
        .samples
        .iter()
        .map(|(_, subject)| Arc::clone(subject))
        .collect();
    let pattern = pattern_of(&all);
    if !subjects.iter().any(|taken| overlap(taken, &pattern)) {
        return Err(SinkError::new(
            SinkErrorKind::Missing,
            format!(
                "stream '{}' takes {}, and the records go to {pattern}: add that to the stream's subjects, or change the \
                 option subject",
                spec.name,
                subjects.join(", ")
            ),
        ));
    }
    Ok(Some(format!(
        "takes {}, and not {subject}, where a record of '{path}' would go: a record that the stream does not take is \
         parked and tried again, and other subjects go on",
        subjects.join(", ")
    )))
}

/// The settings by which the stream removes, loses or refuses messages.
fn losses(config: &Config, spec: &StreamSpec) -> Vec<String> {
    let mut found = Vec::new();
    let limits = [("max_bytes", config.max_bytes), ("max_msgs", config.max_messages)];
    if config.discard == DiscardPolicy::Old {
        for (name, limit) in limits.into_iter().filter(|(_, limit)| *limit > 0) {
            found.push(format!(
                "removes its oldest messages at {name} = {limit} (discard = old): a consumer that is slower loses records"
            ));
        }
    }
    // Without the option a stream drops the older messages of a subject, whatever it discards otherwise.
    let of_subject = config.max_messages_per_subject;
    if of_subject > 0 && config.discard_new_per_subject {
        found.push(format!(
            "refuses a message to a subject that has {of_subject} (discard_new_per_subject): later changes of a path wait \
             until a consumer or a person has removed the earlier ones"
        ));
    } else if of_subject > 0 && !spec.is_bucket {
        found.push(format!(
            "keeps only the newest {of_subject} of each subject: a consumer that is slower loses records"
        ));
    }
    if config.retention == RetentionPolicy::Interest {
        found.push(
            "keeps messages only for consumers that are there: without one, records are lost".to_owned(),
        );
    }
    if spec.is_bucket && !config.max_age.is_zero() {
        found.push(format!(
            "removes entries after {}: the bucket lacks znodes that have not changed for so long",
            Span(config.max_age)
        ));
    }
    if !spec.is_bucket && !config.max_age.is_zero() && config.max_age < AGE_LEAST {
        found.push(format!(
            "removes messages after {}: a consumer that stays away for longer loses records",
            Span(config.max_age)
        ));
    }
    if config.storage == StorageType::Memory {
        found.push("is kept in memory: what was delivered is gone when its servers are".to_owned());
    }
    found
}

fn judge_window(config: &Config, timeout: Duration) -> Option<String> {
    let least = timeout * 2 + RETRY;
    (config.duplicate_window < least).then(|| {
        format!(
            "knows the ids of its messages for {} (duplicate_window): a record that is sent again later than that is stored \
             twice; give it {} or more",
            Span(config.duplicate_window),
            Span(least)
        )
    })
}
