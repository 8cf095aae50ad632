//! Orders of an operator to sinks. A running bridge gets them through its control socket; if none runs, they are
//! written to the journal here.
//!
//! Nothing is decided here: the machine of the sink decides, in the bridge or in this process.

mod cursors;
mod journals;
mod message;
mod socket;

pub use cursors::{NewSink, unconfigured_text};
pub use journals::{Carried, Journals, SinkLetters};
pub use message::{Answer, Ask, LoginAnswer, ReloadAnswer};
#[cfg(test)]
pub use socket::ask;
pub use socket::{SOCKET, SocketPath, ask_login, ask_reload, ask_status};
