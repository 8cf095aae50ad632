//! What goes over the control socket. Internal to the command: both ends are the same version of it.

use bridge_core::delivery::Order;
use bridge_core::journal::SinkRun;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use serde::{Deserialize, Serialize};

use crate::bridge::Reloaded;

/// An order for the deliveries of one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The source whose records are meant.
    pub source: String,
    /// The sink.
    pub sink: String,
    /// What to do.
    pub order: Word,
}

/// An order as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Let the sink go on.
    Enable,
    /// Try these dead letters again.
    Retry(Vec<Seq>),
    /// Let these dead letters go.
    Drop(Vec<Seq>),
    /// Send the present state again.
    Restate(Box<SinkRun>),
    /// Deliver these records once more.
    Replay(Vec<(Seq, Option<ZnodePath>)>),
}

/// What the bridge says to it; `None`: it takes the order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why it does not.
    pub refused: Option<String>,
}

/// What became of a wish for another configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// Why nothing was changed.
    pub refused: Option<String>,
    /// What was done.
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

impl From<Word> for Order {
    fn from(word: Word) -> Order {
        match word {
            Word::Enable => Order::Enable,
            Word::Retry(seqs) => Order::Retry(seqs),
            Word::Drop(seqs) => Order::Drop(seqs),
            Word::Restate(run) => Order::Restate(run),
            Word::Replay(records) => Order::Replay(records),
        }
    }
}

impl From<&Order> for Word {
    fn from(order: &Order) -> Word {
        match order {
            Order::Enable => Word::Enable,
            Order::Retry(seqs) => Word::Retry(seqs.clone()),
            Order::Drop(seqs) => Word::Drop(seqs.clone()),
            Order::Restate(run) => Word::Restate(run.clone()),
            Order::Replay(records) => Word::Replay(records.clone()),
        }
    }
}
