//! Asks a stream for the last message of a subject.

use std::sync::Arc;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageError, LastRawMessageErrorKind};
use bridge_core::sink::{SinkError, SinkErrorKind};

use crate::connection::Connection;
use crate::error;

/// The last message of a subject; `None` if there is none.
///
/// # Errors
///
/// If the stream cannot be asked.
pub(crate) async fn of_subject(
    connection: &mut Connection,
    stream: &Arc<str>,
    subject: &Arc<str>,
) -> Result<Option<StreamMessage>, SinkError> {
    let context = connection.context().clone();
    let asked = connection.ask(async move {
        let stream = context.get_stream_no_info(&**stream).await;
        match stream {
            Ok(stream) => stream.get_last_raw_message_by_subject(subject).await,
            Err(failure) => Err(LastRawMessageError::with_source(
                LastRawMessageErrorKind::Other,
                failure,
            )),
        }
    });
    match asked.await? {
        Ok(message) => Ok(Some(message)),
        Err(failure) => match failure.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            kind => Err(not_asked(kind, failure, stream, subject)),
        },
    }
}

fn not_asked(
    kind: LastRawMessageErrorKind,
    failure: LastRawMessageError,
    stream: &str,
    subject: &str,
) -> SinkError {
    let kind = match kind {
        LastRawMessageErrorKind::JetStream(said) => error::kind(error::of_jetstream(&said)),
        LastRawMessageErrorKind::InvalidSubject => SinkErrorKind::Configuration,
        LastRawMessageErrorKind::NoMessageFound | LastRawMessageErrorKind::Other => {
            SinkErrorKind::Unavailable
        }
    };
    let message =
        format!("stream '{stream}': the last message of '{subject}' cannot be asked for: {failure}");
    SinkError::new(kind, message).because(failure)
}
