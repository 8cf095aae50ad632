//! The errors of real servers, with what to do.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a server, a child or a wait failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that real servers need is not installed.
    #[error(
        "`{tool}` is not on the PATH, and real servers need it: run `make setup`, \
         or set ZKBRIDGE_TESTS=offline to skip what needs real servers"
    )]
    MissingTool {
        /// The program's name.
        tool: &'static str,
    },

    /// Maven, Go or apt ran and could not bring it.
    #[error(
        "could not fetch {title} with {tool} ({status}): check that {tool} can reach its repository, \
         or set ZKBRIDGE_TESTS=offline to skip what needs real servers; {tool} said:\n{output}"
    )]
    Fetch {
        /// The distribution or package.
        title: String,
        /// The tool: `mvn`, `go`, `apt-get`.
        tool: &'static str,
        /// How that ended.
        status: ExitStatus,
        /// The start of its output.
        output: String,
    },

    /// Python ran and could not bring the packages.
    #[error(
        "could not fetch {title} with pip ({status}): check that pip can reach its index, \
         or set ZKBRIDGE_TESTS=offline to skip what needs it; it said:\n{output}"
    )]
    Packages {
        /// The distribution or package.
        title: String,
        /// How it ended.
        status: ExitStatus,
        /// Its output.
        output: String,
    },

    /// A server ended, or did not serve in time.
    #[error("{server} did not start: {reason}; the end of its log {}:\n{tail}", log.display())]
    Start {
        /// The server's name.
        server: String,
        /// The observed state.
        reason: String,
        /// Its log file, gone together with the server.
        log: PathBuf,
        /// The last lines of that log.
        tail: String,
    },

    /// A child ended before a condition was met.
    #[error("{program} ended ({status}) before {what}; the end of its output:\n{tail}")]
    Ended {
        /// The child's program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The condition.
        what: String,
        /// Its last lines.
        tail: String,
    },

    /// A condition was not met within its bound.
    #[error("waited {bound:?} in vain for {what}")]
    TimedOut {
        /// The condition.
        what: String,
        /// How long.
        bound: Duration,
    },

    /// The server was killed or stopped earlier and is asked for something that needs it running.
    #[error("{server} is not running: start it with `restart` first")]
    NotRunning {
        /// The server's name.
        server: String,
    },

    /// The proxy's task has ended with its runtime.
    #[error("the proxy at {addr} has ended: keep the tokio runtime that started it alive")]
    ProxyEnded {
        /// Where it listened.
        addr: std::net::SocketAddr,
    },

    /// A tool of the server's own distribution failed.
    #[error("{tool} failed ({status}):\n{output}")]
    Tool {
        /// The tool's main class.
        tool: String,
        /// How it ended.
        status: ExitStatus,
        /// All that it printed.
        output: String,
    },

    /// No loopback port was free.
    #[error("no free port on 127.0.0.1 between {low} and {high}: end some of the servers that run there")]
    NoFreePort {
        /// The lowest port tried.
        low: u16,
        /// The highest port tried.
        high: u16,
    },

    /// The operating system refused something.
    #[error("could not {action}: {source}")]
    Io {
        /// The action, with the path or address.
        action: String,
        /// The error of the system.
        source: std::io::Error,
    },
}

impl Error {
    /// An `Io` error for an attempt on a path.
    pub(crate) fn io(verb: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let action = format!("{verb} {}", path.display());
        move |source| Self::Io { action, source }
    }

    /// An `Io` error for any attempt.
    pub(crate) fn attempt(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// Whether another process took a port between our reservation and the server's bind.
    pub(crate) fn is_port_clash(&self) -> bool {
        matches!(self, Self::Start { tail, .. }
            if ["BindException", "Address already in use", "address already in use"]
                .iter()
                .any(|words| tail.contains(words)))
    }
}
