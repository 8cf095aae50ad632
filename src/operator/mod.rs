//! Orders of an operator to sinks: the same whether a bridge runs, which then gets them through its control socket, or
//! none does, and the journal is written here.
//!
//! Nothing is decided here: the machine of the sink does, in the bridge or in this process.

mod cursors;
mod journals;
mod message;
mod socket;

pub use cursors::{NewSink, unconfigured_text};
pub use journals::{Carried, Journals, SinkLetters};
pub use message::{Answer, Ask, ReloadAnswer};
#[cfg(test)]
pub use socket::ask;
pub use socket::{SOCKET, SocketPath, ask_reload, ask_status};
