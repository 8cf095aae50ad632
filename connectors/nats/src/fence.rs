//! The last message of each subject, so that the stream can refuse a message of this sink if another writer came in
//! between.
//!
//! It is kept as long as the sink, over reconnects too: a message of another writer must not become this sink's
//! baseline.

use std::collections::HashMap;
use std::sync::Arc;

use bridge_core::sink::{SinkError, SinkErrorKind};

use crate::connection::Connection;
use crate::encode::HEADER_MESSAGE_ID;
use crate::last;

/// The most subjects to remember; beyond that all are read again. A template over paths can make very many.
const KNOWN_MAX: usize = 100_000;

/// The position that a subject without messages has.
const NOTHING: u64 = 0;

/// The last message of each subject.
pub(crate) struct Fence {
    stream: Arc<str>,
    known: HashMap<Arc<str>, u64>,
}

/// The meaning of a message that the fence refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The stream has had it all along.
    Durable,
    /// The stream has removed older messages; sent again, it will be taken.
    Again,
}

struct Last {
    sequence: u64,
    message_id: Option<String>,
}

impl Fence {
    pub(crate) fn new(stream: Arc<str>) -> Fence {
        Fence {
            stream,
            known: HashMap::new(),
        }
    }

    /// The position of the last message of a subject.
    pub(crate) async fn last(
        &mut self,
        connection: &mut Connection,
        subject: &Arc<str>,
    ) -> Result<u64, SinkError> {
        if let Some(known) = self.known.get(subject) {
            return Ok(*known);
        }
        let last = self.ask(connection, subject).await?;
        self.learn(subject, last.sequence);
        Ok(last.sequence)
    }

    /// A message of this sink was acknowledged. One that the stream had already may come before others of this sink.
    pub(crate) fn acknowledged(&mut self, subject: &Arc<str>, sequence: u64) {
        let known = self.known.get(subject).copied().unwrap_or(NOTHING);
        self.learn(subject, sequence.max(known));
    }

    fn learn(&mut self, subject: &Arc<str>, sequence: u64) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(Arc::clone(subject), sequence);
    }

    /// Finds out why the stream refused a message of this id.
    pub(crate) async fn judge(
        &mut self,
        connection: &mut Connection,
        subject: &Arc<str>,
        id: &str,
    ) -> Result<Verdict, SinkError> {
        let known = self.known.get(subject).copied().unwrap_or(NOTHING);
        let last = self.ask(connection, subject).await?;
        if last.message_id.as_deref() == Some(id) {
            self.learn(subject, last.sequence);
            return Ok(Verdict::Durable);
        }
        if last.sequence <= known {
            self.learn(subject, last.sequence);
            return Ok(Verdict::Again);
        }
        Err(SinkError::new(
            SinkErrorKind::Configuration,
            format!(
                "stream '{}', subject '{subject}': message {} with the id {} was not written by this sink, whose last one \
                 there is {known}: stop the other writer, then start the bridge again, which takes what is there as given; \
                 or set fence = false",
                self.stream,
                last.sequence,
                last.message_id.as_deref().unwrap_or("(none)"),
            ),
        ))
    }

    async fn ask(&self, connection: &mut Connection, subject: &Arc<str>) -> Result<Last, SinkError> {
        let last = last::of_subject(connection, &self.stream, subject).await?;
        Ok(Last {
            sequence: last.as_ref().map_or(NOTHING, |message| message.sequence),
            message_id: last.and_then(|message| {
                let id = message.headers.get(HEADER_MESSAGE_ID);
                id.map(|id| id.as_str().to_owned())
            }),
        })
    }
}
