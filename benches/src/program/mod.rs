//! The baselines, each in a process of its own, so that the kernel measures its costs: the bare watcher, the bare pipeline
//! and the raw walk.
//!
//! They share only the client libraries with zkbridge, and do only what their purpose needs: no journal, no comparison, no
//! promises.

mod pipeline;
mod record;
mod walk;
mod watcher;

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use zookeeper_client::Client;

pub use pipeline::{Pipeline, pipeline};
pub use walk::walk;
pub use watcher::watcher;

/// The default of zkbridge.
const SESSION: Duration = Duration::from_secs(10);

/// The line that a program prints once it follows changes and has delivered the existing tree.
pub const READY: &str = "ready";

async fn connect(servers: &str) -> Result<Client> {
    let connector = Client::connector().with_session_timeout(SESSION);
    Ok(connector.connect(servers).await?)
}

/// Prints a line at once, also into a pipe.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The reader may have closed the pipe.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
