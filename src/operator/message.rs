//! The messages of the control socket. Internal to the command: both ends are the same version of it.

use bridge_core::delivery::OperatorRequest;
use bridge_core::journal::SinkRun;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use serde::{Deserialize, Serialize};

use crate::bridge::Reloaded;

/// An order for the deliveries of one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The source whose records it concerns.
    pub source: String,
    /// The sink.
    pub sink: String,
    /// The order.
    pub order: Word,
}

/// The wire form of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Resume the sink.
    Enable,
    /// Retry these dead letters.
    Retry(Vec<Seq>),
    /// Drop these dead letters.
    Drop(Vec<Seq>),
    /// Send the present state again.
    Restate(Box<SinkRun>),
    /// Deliver these records again.
    Replay(Vec<(Seq, Option<ZnodePath>)>),
}

/// The bridge's answer to an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why the bridge rejects the order; `None` if it accepts it.
    pub refused: Option<String>,
}

/// The bridge's answer to a request for a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// Why the reload was rejected; `None` if it was done.
    pub refused: Option<String>,
    /// What the reload did.
    #[serde(flatten)]
    pub done: Reloaded,
}

impl From<Result<Reloaded, String>> for ReloadAnswer {
    fn from(result: Result<Reloaded, String>) -> ReloadAnswer {
        match result {
            Ok(done) => ReloadAnswer { refused: None, done },
            Err(refused) => ReloadAnswer {
                refused: Some(refused),
                done: Reloaded::default(),
            },
        }
    }
}

impl From<Word> for OperatorRequest {
    fn from(word: Word) -> OperatorRequest {
        match word {
            Word::Enable => OperatorRequest::Enable,
            Word::Retry(seqs) => OperatorRequest::Retry(seqs),
            Word::Drop(seqs) => OperatorRequest::Drop(seqs),
            Word::Restate(run) => OperatorRequest::Snapshot(run),
            Word::Replay(records) => OperatorRequest::Replay(records),
        }
    }
}

impl From<&OperatorRequest> for Word {
    fn from(order: &OperatorRequest) -> Word {
        match order {
            OperatorRequest::Enable => Word::Enable,
            OperatorRequest::Retry(seqs) => Word::Retry(seqs.clone()),
            OperatorRequest::Drop(seqs) => Word::Drop(seqs.clone()),
            OperatorRequest::Snapshot(run) => Word::Restate(run.clone()),
            OperatorRequest::Replay(records) => Word::Replay(records.clone()),
        }
    }
}
