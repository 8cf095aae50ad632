//! A server, a stream, and what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, Context};
use bridge_core::amount::Span;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkErrorKind};
use bridge_core::testing::Arrived;
use bridge_nats::{NatsConfig, NatsSink};
use bridge_servers::{NATS_NEWEST, Nats};
use futures::StreamExt;
use tokio::sync::OnceCell;

/// Everything here takes less, also on a busy machine.
pub const BOUND: Duration = Duration::from_secs(60);

/// The largest records of the contract are larger than what servers take by themselves.
pub const LARGE: &str = "max_payload: 32MB\nmax_pending: 128MB";

/// One server of a version for all tests that do it no harm. It ends with the process.
pub async fn shared_server() -> &'static Nats {
    static SERVER: OnceCell<Nats> = OnceCell::const_new();
    let start = || async { server(NATS_NEWEST).await };
    SERVER.get_or_init(start).await
}

/// A server of its own.
pub async fn server(version: &str) -> Nats {
    Nats::builder()
        .version(version)
        .lines(LARGE)
        .start()
        .await
        .unwrap()
}

/// The same with a proxy before it.
pub async fn proxied_server(version: &str) -> Nats {
    let builder = Nats::builder().version(version).lines(LARGE).behind_proxy();
    builder.start().await.unwrap()
}

/// A name for a stream that no other test uses.
pub fn new_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("changes-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A connection of the test's own.
pub async fn context(urls: &str) -> Context {
    let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
    let client = async_nats::ConnectOptions::new()
        .retry_on_initial_connect()
        .connect(urls)
        .await
        .unwrap();
    jetstream::new(client)
}

/// The settings of a stream that takes all below its own name.
pub fn settings(name: &str) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        duplicate_window: Duration::from_secs(600),
        storage: StorageType::File,
        ..Config::default()
    }
}

/// Makes a stream that takes all below its own name, which no other test uses.
pub async fn create_stream(urls: &str) -> String {
    let name = new_name();
    context(urls).await.create_stream(settings(&name)).await.unwrap();
    name
}

/// The options for one stream, with a subject for each path.
pub fn config(servers: &str, stream: &str) -> NatsConfig {
    let mut config = NatsConfig::new(servers, stream);
    config.subject = format!("{stream}.{{{{ names | subject }}}}");
    config
}

/// The same at a server that will fail: short patience.
pub fn hasty_config(servers: &str, stream: &str) -> NatsConfig {
    let mut config = config(servers, stream);
    config.timeout = Span::millis(1_500);
    config
}

pub fn sink(config: &NatsConfig) -> NatsSink {
    NatsSink::new(config, "main").unwrap()
}

pub async fn opened(config: &NatsConfig) -> NatsSink {
    let mut sink = sink(config);
    sink.open().await.unwrap();
    sink
}

/// The failure of opening: the word of its kind, and the message.
pub async fn refusal(config: &NatsConfig) -> (SinkErrorKind, String) {
    let opened = tokio::time::timeout(BOUND, async { sink(config).open().await });
    let error = opened
        .await
        .expect("the sink answers within the bound")
        .unwrap_err();
    (error.kind, error.to_string())
}

pub async fn deliver(sink: &mut NatsSink, records: &[Arc<Record>]) -> Result<(), DeliverError> {
    let batch = Delivery {
        records: records.to_vec(),
    };
    let delivered = tokio::time::timeout(BOUND, sink.deliver(&batch)).await;
    delivered.expect("the sink answers within the bound")
}

/// Delivers as the engine does: after a failure it opens the sink again, and delivers the deferred records and the rest.
/// Returns the kinds of the errors met.
pub async fn deliver_at_last(sink: &mut NatsSink, records: &[Arc<Record>]) -> Vec<SinkErrorKind> {
    let mut kinds = Vec::new();
    let mut rest = records.to_vec();
    let give_up = Instant::now() + BOUND;
    loop {
        let Err(failure) = deliver(sink, &rest).await else {
            return kinds;
        };
        assert_eq!(failure.rejected, []);
        // No stream takes a subject while the stream has no leader.
        let deferred = |record: &Arc<Record>| failure.deferred.iter().any(|held| held.seq == record.seq);
        let held = rest[..failure.done].iter().filter(|record| deferred(record));
        rest = held.chain(&rest[failure.done..]).cloned().collect();
        kinds.extend(failure.deferred.iter().map(|held| held.error.kind));
        kinds.extend(failure.error.as_ref().map(|error| error.kind));
        assert!(
            Instant::now() < give_up,
            "not delivered in time: {:?}, {kinds:?}",
            failure.error
        );
        kinds.extend(open_at_last(sink).await);
    }
}

/// Opens as the engine does, again and again. Returns the kinds of the errors met.
pub async fn open_at_last(sink: &mut NatsSink) -> Vec<SinkErrorKind> {
    let mut kinds = Vec::new();
    let give_up = Instant::now() + BOUND;
    while let Err(error) = sink.open().await {
        assert!(Instant::now() < give_up, "not opened in time: {error}");
        kinds.push(error.kind);
        // Refused at once by a server that is not there yet.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kinds
}

/// One message as it lies in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub subject: String,
    pub headers: BTreeMap<String, String>,
    pub payload: Vec<u8>,
}

impl Message {
    pub fn arrived(&self) -> Arrived {
        Arrived::from_json(&self.payload)
    }

    pub fn seq(&self) -> u64 {
        self.arrived().seq.0
    }
}

/// All messages of a stream, from its beginning. A cluster that has just lost a server may refuse a reader, or forget
/// it, so it is asked again.
pub async fn messages(urls: &str, stream: &str) -> Vec<Message> {
    let context = context(urls).await;
    let give_up = Instant::now() + BOUND;
    loop {
        match read(&context, stream).await {
            Ok(messages) => return messages,
            Err(error) => assert!(
                Instant::now() < give_up,
                "the stream cannot be read in time: {error}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn read(
    context: &Context,
    stream: &str,
) -> Result<Vec<Message>, Box<dyn std::error::Error + Send + Sync>> {
    let mut stream = context.get_stream(stream).await?;
    let expected = stream.info().await?.state.messages;
    let consumer = pull::Config {
        ack_policy: AckPolicy::None,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(consumer).await?;
    let mut messages = Vec::new();
    while (messages.len() as u64) < expected {
        let mut fetched = consumer.fetch().max_messages(500).messages().await?;
        let before = messages.len();
        while let Some(message) = fetched.next().await {
            messages.push(owned(&message?));
        }
        if messages.len() == before {
            return Err("the consumer has nothing more".into());
        }
    }
    Ok(messages)
}

fn owned(message: &jetstream::Message) -> Message {
    let headers = message.headers.iter().flat_map(|headers| headers.iter());
    Message {
        subject: message.subject.to_string(),
        headers: headers
            .map(|(name, values)| (name.to_string(), values[0].to_string()))
            .collect(),
        payload: message.payload.to_vec(),
    }
}

/// How many messages a stream has.
pub async fn count(context: &Context, stream: &str) -> u64 {
    let mut stream = context.get_stream(stream).await.unwrap();
    stream.info().await.unwrap().state.messages
}

/// The connection of the user `owner`, which has created the stream `changes`.
pub async fn changes_of_owner(nats: &Nats) -> async_nats::jetstream::Context {
    let owner = async_nats::ConnectOptions::with_user_and_password("owner".into(), "owner".into());
    let context = async_nats::jetstream::new(owner.connect(nats.urls()).await.unwrap());
    context.create_stream(settings("changes")).await.unwrap();
    context
}
