//! Four-letter words: the questions that a ZooKeeper server answers in plain text.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Error, Result};

/// How long an answer may take; a paused server takes the connection and never answers.
const ANSWER_BOUND: Duration = Duration::from_secs(2);

/// The part that a serving server plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Alone.
    Standalone,
    /// Leads the ensemble.
    Leader,
    /// Follows the leader and votes.
    Follower,
    /// Follows the leader and does not vote.
    Observer,
}

/// Asks one word.
pub(super) async fn ask(server: SocketAddr, word: &str) -> Result<String> {
    let what = || format!("ask {server} `{word}`");
    match timeout(ANSWER_BOUND, converse(server, word)).await {
        Ok(answered) => answered.map_err(Error::attempt(what())),
        Err(_) => Err(Error::TimedOut {
            what: format!("the answer of {server} to `{word}`"),
            bound: ANSWER_BOUND,
        }),
    }
}

async fn converse(server: SocketAddr, word: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(word.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The mode in an answer to `srvr`; a server that is up and does not serve gives none.
pub(super) fn mode(answer: &str) -> Option<Mode> {
    let mode = answer.lines().find_map(|line| line.strip_prefix("Mode: "))?;
    match mode.trim() {
        "standalone" => Some(Mode::Standalone),
        "leader" => Some(Mode::Leader),
        "follower" => Some(Mode::Follower),
        "observer" => Some(Mode::Observer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_serve_has_no_mode() {
        assert_eq!(
            mode("Zxid: 0x0\nMode: follower\nNode count: 5\n"),
            Some(Mode::Follower)
        );
        assert_eq!(
            mode("This ZooKeeper instance is not currently serving requests\n"),
            None
        );
    }
}
