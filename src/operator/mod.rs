//! Orders of an operator to sinks: the same whether a bridge runs, which then gets them through its control socket, or
//! none does, and the journal is written here.
//!
//! Nothing is decided here: the machine of the sink does, in the bridge or in this process.

mod journals;
mod message;
mod new_sinks;
mod socket;

pub use journals::{Carried, Journals, SinkLetters};
pub use message::{Answer, Ask, ReloadAnswer};
pub use new_sinks::NewSink;
#[cfg(test)]
pub use socket::ask;
pub use socket::{SOCKET, SocketPath, ask_reload, ask_status};
