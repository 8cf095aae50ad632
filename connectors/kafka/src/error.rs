//! Classifies Kafka's errors as kinds of failure.

use bridge_core::sink::{SinkError, SinkErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// The meaning of an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Something is wrong with the destination or the way to it.
    Trouble(SinkErrorKind),
    /// Something is wrong with a record of the batch that the brokers refused as a whole.
    Record,
    /// Another failure came before, and this message was given up with it.
    Aftermath,
}

/// Classifies an error code. The library may add codes, so that the match cannot be exhaustive; what it does not name
/// is tried again with a new producer.
pub(crate) fn meaning(code: Code) -> Meaning {
    use Meaning::Trouble;
    match code {
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidDifferentRecord
        | Code::InvalidTimestamp => Meaning::Record,
        Code::PurgeQueue | Code::PurgeInflight | Code::Fatal | Code::GaplessGuarantee => Meaning::Aftermath,
        code if is_unavailable(code) => Trouble(SinkErrorKind::Unavailable),
        Code::ThrottlingQuotaExceeded => Trouble(SinkErrorKind::Throttled),
        Code::KafkaStorageError | Code::LogDirNotFound => Trouble(SinkErrorKind::Full),
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => {
            Trouble(SinkErrorKind::Missing)
        }
        Code::Authentication
        | Code::SSL
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::DelegationTokenExpired
        | Code::DelegationTokenNotFound => Trouble(SinkErrorKind::Authentication),
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::DelegationTokenAuthorizationFailed => Trouble(SinkErrorKind::Authorization),
        code if is_configuration(code) => Trouble(SinkErrorKind::Configuration),
        _ => Trouble(SinkErrorKind::Broken),
    }
}

fn is_unavailable(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::BrokerDestroy
            | Code::DestroyBroker
            | Code::UnknownBroker
            | Code::Resolve
            | Code::MessageTimedOut
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::RequestTimedOut
            | Code::WaitCache
            | Code::ISRInsufficient
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NetworkException
            | Code::NotController
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::StaleBrokerEpoch
            | Code::StaleControllerEpoch
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::ListenerNotFound
            | Code::EligibleLeadersNotAvailable
            | Code::PreferredLeaderNotAvailable
            | Code::ReassignmentInProgress
    )
}

fn is_configuration(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidTopic
            | Code::InvalidArgument
            | Code::InvalidConfig
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidReplicaAssignment
            | Code::InvalidRequiredAcks
            | Code::InvalidRequest
            | Code::PolicyViolation
            | Code::SecurityDisabled
            | Code::UnsupportedCompressionType
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedFeature
            | Code::UnsupportedVersion
            | Code::NotImplemented
            | Code::NotConfigured
            | Code::CriticalSystemResource
    )
}

/// Whether it may be about one topic of several: it is not there, the sink may not use it, or a policy forbids it.
pub(crate) fn is_about_topic(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::TopicAuthorizationFailed
            | Code::PolicyViolation
    )
}

/// Whether it says that a message, or a batch of them, is too large.
pub(crate) fn is_about_size(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize
    )
}

/// The kind of an error that is about no single record.
pub(crate) fn kind(code: Code) -> SinkErrorKind {
    match meaning(code) {
        Meaning::Trouble(kind) => kind,
        Meaning::Record | Meaning::Aftermath => SinkErrorKind::Broken,
    }
}

/// TLS alerts by which a broker says that it does not like the client's certificate, or that there is none (RFC 8446,
/// section 6.2): bad, unsupported, revoked, expired, unknown, of an unknown authority, access denied, required.
const CERTIFICATE_ALERTS: [&str; 8] = ["42", "43", "44", "45", "46", "48", "49", "116"];

/// The code of an error of a connection, corrected by librdkafka's text: an alert after the handshake, as in TLS 1.3,
/// is a transport failure to librdkafka.
pub(crate) fn code_of_transport(code: Code, reason: &str) -> Code {
    let alert = reason.split_once("SSL alert number ").map(|(_, rest)| rest);
    let number = alert.and_then(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next());
    match number {
        Some(number) if code == Code::BrokerTransportFailure && CERTIFICATE_ALERTS.contains(&number) => {
            Code::SSL
        }
        _ => code,
    }
}

/// The remedy for an error of a connection, if the error shows it.
pub(crate) fn remedy_of_transport(code: Code, reason: &str) -> Option<&'static str> {
    match code {
        Code::SSL if reason.contains("SSL alert number") => Some(
            "the broker refuses the sink's certificate or misses one: give properties.\"ssl.certificate.location\" and \
             \"ssl.key.location\" of a certificate that its truststore knows",
        ),
        Code::SSL if reason.contains("certificate verify failed") => Some(
            "properties.\"ssl.ca.location\" must name the authority that signed the broker's certificate, and brokers must \
             name the hosts as the certificate does",
        ),
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => Some(
            "look at properties.\"sasl.mechanism\", \"sasl.username\" and \"sasl.password\", and at the user's \
             credentials in the cluster",
        ),
        _ => None,
    }
}

/// The right that a producer needs before it may write anywhere.
pub(crate) const RIGHT_TO_PRODUCE: &str = "grant the sink's user WRITE on its topics (with brokers older than 2.8 also \
    IDEMPOTENT_WRITE on the cluster)";

/// The code inside an error, where there is one.
pub(crate) fn code_of(error: &KafkaError) -> Code {
    error.rdkafka_error_code().unwrap_or(Code::Fail)
}

/// An error about a topic, with what to do about it.
pub(crate) fn about_topic(code: Code, brokers: &str, topic: &str) -> SinkError {
    let message = match kind(code) {
        SinkErrorKind::Missing => format!(
            "topic '{topic}' does not exist at {brokers} ({code}): create it, or set create_topics so that the sink does"
        ),
        SinkErrorKind::Authorization => format!(
            "{brokers} refuses topic '{topic}' ({code}): grant the sink's user DESCRIBE and WRITE on the topic, and \
             IDEMPOTENT_WRITE on the cluster where brokers are older than 2.8"
        ),
        _ => format!("topic '{topic}' at {brokers}: {code}"),
    };
    error(code, message)
}

/// An error with its cause.
pub(crate) fn error(code: Code, message: String) -> SinkError {
    SinkError::new(kind(code), message).because(code)
}

/// Why a record that the brokers, or librdkafka before them, refuse can never be delivered.
pub(crate) fn refusal(code: Code, topic: &str, bytes: usize) -> String {
    match code {
        code if is_about_size(code) => format!(
            "a message of {bytes} bytes is too large for topic '{topic}' without its data, too ({code}): raise max.message.bytes of the topic \
             (and replica.fetch.max.bytes of the brokers), and properties.\"message.max.bytes\" of the sink if it is \
             smaller; then retry the record"
        ),
        _ => format!(
            "topic '{topic}' does not take the message of {bytes} bytes ({code}): see the topic's settings and the \
             broker's log; then retry the record"
        ),
    }
}
