//! The messages of the control socket. They may change at any time: both ends are the same version of the command.

use bridge_core::delivery::OperatorRequest;
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
    pub order: OperatorRequest,
}

/// The bridge's answer to an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why the bridge rejects the order; `None` if it accepts it.
    pub refused: Option<String>,
}

/// The bridge's answer to a request for a login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginAnswer {
    /// The address of the HTTP listener; `None` if there is none.
    pub address: Option<std::net::SocketAddr>,
    /// A code that opens one session within a minute.
    pub code: Option<String>,
}

/// The bridge's answer to a request for a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// Why the reload was rejected; `None` if it was done.
    pub refused: Option<String>,
    /// The result of the reload.
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
