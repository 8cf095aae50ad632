//! Programs of which each runs in a process of its own, so that the kernel tells what it costs: the bare watcher, the
//! bare pipeline and the raw walk.
//!
//! They are what zkbridge is measured by, so they share nothing with it but the client libraries, and do nothing that
//! their purpose does not need: no journal, no comparison, no promise.

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

/// As zkbridge's own default.
const SESSION: Duration = Duration::from_secs(10);

/// The word with which a program says that it follows and has told what there was.
pub const READY: &str = "ready";

async fn connect(servers: &str) -> Result<Client> {
    let connector = Client::connector().with_session_timeout(SESSION);
    Ok(connector.connect(servers).await?)
}

/// Prints a line at once, also into a pipe.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Who does not listen any more has no use for it.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
