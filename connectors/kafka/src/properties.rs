//! The properties of librdkafka: which the sink sets, which a user may set, and which would break a promise.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bridge_core::file_path::looks_like_contents;
use bridge_core::issue::ConfigIssue;
use bridge_core::secret::MASK;
use bridge_core::sink::{SinkError, SinkErrorKind};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config::{CreateTopics, KafkaConfig};

/// The largest message that is handed to the brokers. ZooKeeper's 1 MiB takes twice its size as JSON at most (a quote is
/// `\"`), before and after a change, plus the record around it. The rest is room for servers with a larger
/// `jute.maxbuffer`. The brokers' own limit decides.
const MESSAGE_BYTES_MAX: u32 = 16 << 20;

/// The largest answer of a broker that is taken in; librdkafka's own 100 MB would let some hostile brokers fill the memory
/// of the bridge. Answers to a producer have acknowledgements and the metadata of its own topics.
const ANSWER_BYTES_MAX: u32 = 16 << 20;

/// How much may wait in the producer's memory; a full queue holds the batch back, and loses nothing. Four of the
/// largest messages.
const QUEUE_KBYTES_MAX: u32 = 64 << 10;

/// How many messages may wait: small records, so that `QUEUE_KBYTES_MAX` is not reached.
const QUEUE_MESSAGES_MAX: u32 = 100_000;

/// An OpenSSL that is built from its sources looks for certificates where that build would install them, which is no place
/// of a distribution. With this word librdkafka takes the first of the places that distributions use.
const PROBE: &str = "probe";

/// The limits to which a user may raise these two, so that memory stays bounded.
const USER_QUEUE_KBYTES_MAX: u32 = 1 << 20;
const USER_QUEUE_MESSAGES_MAX: u32 = 1_000_000;

/// The default wait of a message in the producer: none. The engine delivers whole batches, and the next one when a
/// batch is durable, so that no further message arrives while the last ones of a batch wait. Measured on two cores: a
/// lone record takes 0.35 ms, and 1.5 ms with a wait of 1 ms, while batches of 1,000 are as fast without it
/// (`examples/throughput.rs`).
const LINGER_MS: &str = "0";

/// [`LINGERS`] asks for larger batches than the load makes: the engine waits that long before it delivers a batch, and
/// the producer 1 ms while it takes the batch. Without this wait the first messages of a batch are sent alone.
const LINGER_MS_WITHIN_A_BATCH: f64 = 1.0;

/// The two names of the property for the time that a message waits for further ones, in milliseconds.
const LINGERS: [&str; 2] = ["linger.ms", "queue.buffering.max.ms"];

/// The longest pause between two attempts to connect, in ms: a broker that is back is found soon.
const RECONNECT_MS_MAX: u32 = 2_000;

/// How long one address of a broker's name may take to answer, in ms. librdkafka then tries the next one; an attempt of
/// `open` has time for two.
const ADDRESS_MS_MAX: u32 = 4_000;

/// Texts by name. Shows the names only: the values may be secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// One of them.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Sets one of them.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.keys().map(|key| (key, MASK)))
            .finish()
    }
}

impl JsonSchema for Properties {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Properties".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Texts, numbers and switches by name.",
            "additionalProperties": {"type": ["string", "integer", "number", "boolean"]},
        })
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = BTreeMap::<String, Plain>::deserialize(deserializer)?;
        let texts = values.into_iter().map(|(key, Plain(text))| (key, text));
        Ok(Properties(texts.collect()))
    }
}

/// A text, number or switch, as a text.
struct Plain(String);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PlainVisitor;

        impl Visitor<'_> for PlainVisitor {
            type Value = Plain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Plain, E> {
                Ok(Plain(value.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Plain, E> {
                Ok(Plain(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Plain, E> {
                Ok(Plain(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Plain, E> {
                Ok(Plain(value.to_string()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Plain, E> {
                Ok(Plain(value.to_string()))
            }
        }

        deserializer.deserialize_any(PlainVisitor)
    }
}

/// The values of a property that keep the promises.
enum Allowed {
    /// Nothing: it is said elsewhere or would break a promise.
    Nothing,
    /// These values, which say what is so anyway.
    Values(&'static [&'static str]),
    /// Whole numbers from 1 to this.
    UpTo(u32),
}

const TRUE: Allowed = Allowed::Values(&["true", "t", "1"]);
const FALSE: Allowed = Allowed::Values(&["false", "f", "0"]);

/// Properties with a limit: name, what is allowed, and why no more.
const LIMITED: [(&str, Allowed, &str); 24] = [
    (
        "bootstrap.servers",
        Allowed::Nothing,
        "the brokers are named by the option brokers",
    ),
    (
        "metadata.broker.list",
        Allowed::Nothing,
        "the brokers are named by the option brokers",
    ),
    ("acks", Allowed::Values(&["all", "-1"]), WITHOUT_ACKS),
    (
        "request.required.acks",
        Allowed::Values(&["all", "-1"]),
        WITHOUT_ACKS,
    ),
    (
        "enable.idempotence",
        TRUE,
        "without idempotence a retry duplicates and reorders records",
    ),
    (
        "enable.gapless.guarantee",
        TRUE,
        "without it records pass an earlier one that a broker refused",
    ),
    ("max.in.flight", Allowed::UpTo(5), MANY_IN_FLIGHT),
    (
        "max.in.flight.requests.per.connection",
        Allowed::UpTo(5),
        MANY_IN_FLIGHT,
    ),
    ("retries", Allowed::Nothing, GIVEN_UP),
    ("message.send.max.retries", Allowed::Nothing, GIVEN_UP),
    ("message.timeout.ms", Allowed::Values(&["0"]), TIMED_OUT),
    ("delivery.timeout.ms", Allowed::Values(&["0"]), TIMED_OUT),
    (
        "transactional.id",
        Allowed::Nothing,
        "the sink does not write in transactions",
    ),
    (
        "transaction.timeout.ms",
        Allowed::Nothing,
        "the sink does not write in transactions",
    ),
    (
        "partitioner",
        Allowed::Values(&["murmur2_random", "murmur2"]),
        "the sink chooses the partition of a key itself, as Java producers do, to keep the order of a path",
    ),
    (
        "queuing.strategy",
        Allowed::Values(&["fifo"]),
        "another strategy reorders the records of a path",
    ),
    (
        "queue.buffering.max.messages",
        Allowed::UpTo(USER_QUEUE_MESSAGES_MAX),
        UNBOUNDED,
    ),
    (
        "queue.buffering.max.kbytes",
        Allowed::UpTo(USER_QUEUE_KBYTES_MAX),
        UNBOUNDED,
    ),
    (
        "delivery.report.only.error",
        FALSE,
        "without reports the sink cannot know what is durable",
    ),
    (
        "compression.type",
        Allowed::Nothing,
        "compression is chosen by the option compression",
    ),
    (
        "compression.codec",
        Allowed::Nothing,
        "compression is chosen by the option compression",
    ),
    (
        "allow.auto.create.topics",
        FALSE,
        "creating topics is chosen by the option create_topics",
    ),
    (
        "log.queue",
        Allowed::Nothing,
        "librdkafka's log is already part of the bridge's own",
    ),
    (
        "topic.blacklist",
        Allowed::Nothing,
        "a topic that is there would be treated as missing",
    ),
];

const WITHOUT_ACKS: &str = "fewer acknowledgements than all lose records when a broker dies";
const MANY_IN_FLIGHT: &str = "brokers keep order and uniqueness for five requests in flight, no more";
const GIVEN_UP: &str = "a message that librdkafka gives up leaves a gap that later ones pass; how the sink tries again is the option retry";
const TIMED_OUT: &str = "a message that librdkafka gives up leaves a gap that later ones pass; how long to wait is the option timeout";
const UNBOUNDED: &str = "the memory of the producer must have a bound";

/// Properties of Java clients, and what to give instead.
const OF_JAVA: [(&str, &str); 9] = [
    ("sasl.jaas.config", "give \"sasl.username\" and \"sasl.password\""),
    (
        "ssl.truststore.location",
        "give the authority as a PEM file in \"ssl.ca.location\"",
    ),
    (
        "ssl.truststore.password",
        "give the authority as a PEM file in \"ssl.ca.location\", without a password",
    ),
    (
        "ssl.truststore.type",
        "give the authority as a PEM file in \"ssl.ca.location\"",
    ),
    (
        "ssl.truststore.certificates",
        "give the authority as a text in \"ssl.ca.pem\"",
    ),
    (
        "ssl.keystore.type",
        "leave it out: \"ssl.keystore.location\" names a PKCS#12 file",
    ),
    ("ssl.keystore.key", "give the key as a text in \"ssl.key.pem\""),
    ("key.serializer", "leave it out: keys are texts"),
    ("value.serializer", "leave it out: the option format decides"),
];

/// The properties that choose the authentication of the sink.
const MECHANISMS: [&str; 2] = ["sasl.mechanism", "sasl.mechanisms"];

/// librdkafka's mechanism where none is named: Kerberos.
const MECHANISM_DEFAULT: &str = "GSSAPI";

/// Whether a connection is encrypted and authenticated.
const PROTOCOL: &str = "security.protocol";

/// The properties that only an authenticated connection reads.
const CREDENTIALS: [&str; 4] = [
    "sasl.username",
    "sasl.password",
    "sasl.mechanism",
    "sasl.mechanisms",
];

/// The only way to a token in this build: one that no authority signed, for tests.
const UNSIGNED_TOKENS: &str = "enable.sasl.oauthbearer.unsecure.jwt";

/// Parts of the names of properties whose values no message may show.
const SECRET_PARTS: [&str; 6] = [
    "password",
    "secret",
    "passphrase",
    "key.pem",
    "jaas",
    "oauthbearer.config",
];

/// Everything about these properties that cannot work.
pub(crate) fn objections(properties: &Properties) -> Vec<ConfigIssue> {
    let each = properties.iter();
    let each = each.filter_map(|(key, value)| objection(key, value));
    each.chain(objection_to_mechanism(properties)).collect()
}

/// Objects to properties that contradict the mechanism of authentication: librdkafka accepts each of them alone.
fn objection_to_mechanism(properties: &Properties) -> Option<ConfigIssue> {
    let given = MECHANISMS.iter();
    let given: Vec<_> = given
        .filter_map(|key| Some((*key, properties.get(key)?)))
        .collect();
    let named = |name: &str| {
        given
            .iter()
            .find(|(_, mechanism)| mechanism.eq_ignore_ascii_case(name))
    };
    let protocol = properties.get(PROTOCOL).unwrap_or("plaintext");
    let is_sasl = protocol.to_ascii_lowercase().starts_with("sasl");
    let others = "use SCRAM-SHA-512, SCRAM-SHA-256, PLAIN or a certificate (\"ssl.certificate.location\")";
    if let Some((key, _)) = named("OAUTHBEARER") {
        // It would wait for a token that is never fetched.
        let is_unsigned = properties
            .get(UNSIGNED_TOKENS)
            .is_some_and(|value| value == "true");
        let message = format!("{key} = OAUTHBEARER: this build cannot fetch tokens (OIDC)");
        return (!is_unsigned).then(|| ConfigIssue::error(format!("properties.\"{key}\""), message, others));
    }
    let kerberos = match named(MECHANISM_DEFAULT) {
        Some((key, mechanism)) => Some((*key, format!("{key} = {mechanism}"))),
        None if given.is_empty() => {
            let means = format!("{PROTOCOL} = {protocol} without sasl.mechanism means {MECHANISM_DEFAULT}");
            Some((PROTOCOL, means))
        }
        None => None,
    };
    if let Some((key, said)) = kerberos.filter(|_| is_sasl && !cfg!(feature = "gssapi")) {
        return Some(ConfigIssue::error(
            format!("properties.\"{key}\""),
            format!("{said}, and this build has no Kerberos"),
            format!("name a mechanism: {others}; or build with --features gssapi"),
        ));
    }
    let key = CREDENTIALS.iter().find(|key| properties.get(key).is_some())?;
    (!is_sasl).then(|| {
        ConfigIssue::warning(
            format!("properties.\"{key}\""),
            format!("{key} has no effect: {PROTOCOL} is {protocol}"),
            format!("set \"{PROTOCOL}\" to \"SASL_SSL\" or, without encryption, \"SASL_PLAINTEXT\""),
        )
    })
}

fn objection(key: &str, value: &str) -> Option<ConfigIssue> {
    let place = format!("properties.\"{key}\"");
    if key.starts_with("test.") {
        let message = format!("{key} is for tests of librdkafka: the records would go nowhere");
        return Some(ConfigIssue::error(place, message, "leave it out"));
    }
    if key.ends_with(".location") && looks_like_contents(value) {
        let message = format!("the contents of a file are given where {key} wants its path");
        return Some(ConfigIssue::error(place, message, "give the path of the file"));
    }
    if let Some((_, allowed, why)) = LIMITED.iter().find(|(name, ..)| *name == key)
        && let Some(remedy) = allowed.remedy(value)
    {
        return Some(ConfigIssue::error(
            place,
            format!("{key} = {value}: {why}"),
            remedy,
        ));
    }
    if let Some((_, remedy)) = OF_JAVA.iter().find(|(name, _)| *name == key) {
        let message = format!("{key} is a property of Java clients");
        return Some(ConfigIssue::error(place, message, *remedy));
    }
    let reason = reason_of_librdkafka(key, value)?;
    let remedy = "see librdkafka's CONFIGURATION.md for names and values";
    Some(ConfigIssue::error(place, reason, remedy))
}

impl Allowed {
    /// The remedy for a value that is not allowed.
    fn remedy(&self, value: &str) -> Option<String> {
        match self {
            Allowed::Nothing => Some("leave it out".to_owned()),
            Allowed::Values(values) if values.contains(&value.to_lowercase().as_str()) => None,
            Allowed::Values([only, ..]) if values_are_one(self) => {
                Some(format!("leave it out, or give \"{only}\""))
            }
            Allowed::Values(values) => Some(format!("leave it out, or give one of {}", values.join(", "))),
            Allowed::UpTo(most) if value.parse().is_ok_and(|count: u32| (1..=*most).contains(&count)) => None,
            Allowed::UpTo(most) => Some(format!("leave it out, or give a whole number from 1 to {most}")),
        }
    }
}

/// Whether the values are several spellings of one.
fn values_are_one(allowed: &Allowed) -> bool {
    matches!(
        allowed,
        Allowed::Values(["true" | "false" | "all" | "0" | "fifo", ..])
    )
}

/// The error of librdkafka for one property alone.
fn reason_of_librdkafka(key: &str, value: &str) -> Option<String> {
    let mut alone = ClientConfig::new();
    alone.set(key, value);
    match alone.create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(_, _, _, _)) if is_secret(key) => Some(format!(
            "librdkafka does not take the value of {key}, which is not shown"
        )),
        // The value of a property that does not exist may be that of a secret one whose name was mistyped.
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Some(format!("librdkafka has no property {key}"))
        }
        Err(KafkaError::ClientConfig(_, reason, _, _)) => {
            Some(format!("librdkafka refuses {key} = {value}: {reason}"))
        }
        Err(_) => Some(format!(
            "librdkafka refuses {key}: its name or value holds a NUL character"
        )),
    }
}

/// Whether a property's value must not be shown.
pub(crate) fn is_secret(key: &str) -> bool {
    SECRET_PARTS.iter().any(|part| key.contains(part))
}

/// A text of librdkafka without the values of secret properties and of paths: it repeats both, and people put the
/// contents of a file where its path is wanted.
pub(crate) fn without_values(text: &str, client: &ClientConfig) -> String {
    let values = client.config_map().into_iter();
    let hidden =
        values.filter(|(key, value)| !value.is_empty() && (is_secret(key) || key.ends_with(".location")));
    hidden.fold(text.to_owned(), |text, (_, value)| text.replace(value, MASK))
}

/// All properties of a producer: the promises, the defaults, and what the user says.
pub(crate) fn client_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set_log_level(RDKafkaLogLevel::Info);
    set_defaults(&mut client);
    if cfg!(feature = "vendored") && is_encrypted(&config.properties) {
        client.set("ssl.ca.location", PROBE);
    }
    let users = config.properties.iter();
    for (key, value) in users.filter(|(key, _)| !LINGERS.contains(key)) {
        client.set(key, value);
    }
    if let Some(millis) = linger_ms(config) {
        client.set("linger.ms", millis.min(LINGER_MS_WITHIN_A_BATCH).to_string());
    }
    set_promises(&mut client, config);
    client
}

/// Checks the files that librdkafka opens itself: opening a named pipe would wait for its writer, and nothing could end
/// that. One that is missing is left to librdkafka. Blocks on the disk.
pub(crate) fn check_files(client: &ClientConfig) -> Result<(), SinkError> {
    for (key, path) in client.config_map() {
        let found = key.ends_with(".location").then(|| std::fs::metadata(path));
        let Some(Ok(found)) = found else { continue };
        if !found.is_file() && !found.is_dir() {
            let message = format!(
                "properties.\"{key}\" names something that is no regular file: give the path of a file"
            );
            return Err(SinkError::new(SinkErrorKind::Configuration, message));
        }
    }
    Ok(())
}

/// Whether connections to brokers are encrypted.
fn is_encrypted(properties: &Properties) -> bool {
    let protocol = properties.get(PROTOCOL).unwrap_or_default();
    protocol.to_ascii_lowercase().ends_with("ssl")
}

/// How long a record waits for further ones before it is sent to the producer.
pub(crate) fn linger(config: &KafkaConfig) -> Duration {
    let millis = linger_ms(config).unwrap_or_default();
    Duration::try_from_secs_f64(millis / 1_000.0).unwrap_or_default()
}

/// The user's value. librdkafka itself has checked it: a number from 0 to 900,000.
fn linger_ms(config: &KafkaConfig) -> Option<f64> {
    let wanted = LINGERS.iter().find_map(|key| config.properties.get(key));
    wanted.and_then(|millis| millis.trim().parse().ok())
}

fn set_defaults(client: &mut ClientConfig) {
    client
        .set("client.id", "zkbridge")
        .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
        .set("receive.message.max.bytes", ANSWER_BYTES_MAX.to_string())
        .set("queue.buffering.max.kbytes", QUEUE_KBYTES_MAX.to_string())
        .set("queue.buffering.max.messages", QUEUE_MESSAGES_MAX.to_string())
        .set("reconnect.backoff.max.ms", RECONNECT_MS_MAX.to_string())
        .set("socket.connection.setup.timeout.ms", ADDRESS_MS_MAX.to_string())
        .set("socket.keepalive.enable", "true")
        .set("linger.ms", LINGER_MS);
}

fn set_promises(client: &mut ClientConfig, config: &KafkaConfig) {
    client
        .set("bootstrap.servers", &config.brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // A message that a broker refuses for good stops the producer, so that no later one of its partition passes it.
        .set("enable.gapless.guarantee", "true")
        // A message is never given up by librdkafka: while a producer lives it is sent again under the same sequence
        // number, so that brokers that were cut off or stopped take it once and in its place.
        .set("message.timeout.ms", "0")
        .set("compression.type", config.compression.as_str());
    if config.create_topics != CreateTopics::No {
        // Else a broker creates the topic with its own settings before the sink can.
        client.set("allow.auto.create.topics", "false");
    }
}
