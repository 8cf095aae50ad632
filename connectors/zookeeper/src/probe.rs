//! Asks servers for their version and role, with the four-letter word `srvr` (the one allowed by default since 3.5.3).

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Server;

/// How long one server may take to answer.
const PROBE_BOUND: Duration = Duration::from_secs(2);
/// No answer to `srvr` is longer.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// Characters of a version or a role: the version goes into every record.
const WORD_MAX: usize = 32;

/// The answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It serves; the version and role as it names them.
    Serves {
        /// `3.9.5`
        version: String,
        /// `leader`, `follower`, `observer`, `standalone`
        mode: String,
    },
    /// It answered, but not as a serving ZooKeeper would: the word is not allowed, or it is not serving now.
    Mute(String),
    /// No server answered.
    Unreachable(String),
}

/// Asks one server. Never takes longer than about two seconds.
pub async fn probe(server: &Server) -> Probe {
    let asked = async {
        let mut stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
        ask(&mut stream).await
    };
    match timeout(PROBE_BOUND, asked).await {
        Ok(Ok(answer)) => understand(&answer),
        Ok(Err(error)) => Probe::Unreachable(error.to_string()),
        Err(_) => Probe::Unreachable(format!("no answer within {} s", PROBE_BOUND.as_secs())),
    }
}

/// The answer to `srvr`.
pub(crate) async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<String> {
    stream.write_all(b"srvr").await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

pub(crate) fn understand(answer: &str) -> Probe {
    let after = |label: &str| {
        answer
            .lines()
            .find_map(|line| line.strip_prefix(label))
            .map(str::trim)
    };
    match (after("Zookeeper version:"), after("Mode:")) {
        (Some(version), Some(mode)) => {
            let version = version.split(['-', ',', ' ']).next().unwrap_or_default();
            let cut = |text: &str| text.chars().take(WORD_MAX).collect();
            Probe::Serves {
                version: cut(version),
                mode: cut(mode),
            }
        }
        _ => Probe::Mute(
            answer
                .lines()
                .next()
                .unwrap_or("an empty answer")
                .chars()
                .take(120)
                .collect(),
        ),
    }
}

/// Whether a version is one that has recursive watches; `true` for a text that is no version.
pub(crate) fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= (3, 6),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_and_role_are_read_from_the_answer() {
        let answer =
            "Zookeeper version: 3.9.5-abc, built on 2026-01-01\nLatency min/avg/max: 0/0/0\nMode: leader\n";
        let expected = Probe::Serves {
            version: "3.9.5".into(),
            mode: "leader".into(),
        };
        assert_eq!(understand(answer), expected);
    }

    #[test]
    fn a_server_that_does_not_serve_or_does_not_allow_the_word_is_mute() {
        for answer in [
            "This ZooKeeper instance is not currently serving requests\n",
            "srvr is not executed\n",
            "",
        ] {
            assert!(matches!(understand(answer), Probe::Mute(_)), "{answer}");
        }
    }

    #[test]
    fn versions_before_3_6_are_too_old() {
        for (version, expected) in [
            ("3.4.14", false),
            ("3.5.10", false),
            ("3.6.0", true),
            ("3.10.1", true),
            ("4.0", true),
            ("?", true),
        ] {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
    }
}
