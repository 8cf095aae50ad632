//! Asks servers for their version and role, with the four-letter word `srvr` (the one allowed by default since 3.5.3).

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
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
    let answer = answer(server).await;
    answer.map_or_else(Probe::Unreachable, |answer| understand(&answer))
}

/// The whole answer of a server to `srvr`, or the reason why there is none.
pub(crate) async fn answer(server: &Server) -> Result<String, String> {
    let asked = async {
        let mut stream = connect(server).await?;
        ask(&mut stream).await
    };
    match timeout(PROBE_BOUND, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PROBE_BOUND.as_secs())),
    }
}

/// Connects to the address of a server that answers first, as the client library does.
pub(crate) async fn connect(server: &Server) -> std::io::Result<TcpStream> {
    let addresses = lookup_host((server.host.as_str(), server.port)).await?;
    zookeeper_client::dial::first_of(addresses, TcpStream::connect).await
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
    use std::net::SocketAddr;
    use std::time::Instant;

    use bridge_servers::BlackHole;
    use tokio::net::TcpListener;

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

    #[tokio::test]
    async fn an_address_that_does_not_answer_costs_a_quarter_of_a_second() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = server.local_addr().unwrap();
        let hole = BlackHole::at(([127, 0, 0, 2], 0).into()).await.unwrap();
        let closed = TcpListener::bind("127.0.0.3:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let check = async |addresses: &[SocketAddr], expected: Option<SocketAddr>| {
            let began = Instant::now();
            let dialled = zookeeper_client::dial::first_of(addresses.to_vec(), TcpStream::connect);
            let reached = timeout(PROBE_BOUND, dialled)
                .await
                .expect("within the bound of a probe");
            let reached = reached.ok().map(|stream| stream.peer_addr().unwrap());
            assert_eq!(reached, expected, "{addresses:?}");
            began.elapsed()
        };
        let quarter = Duration::from_millis(250);
        assert!(check(&[hole.addr(), there], Some(there)).await >= quarter);
        check(&[closed, there], Some(there)).await;
        check(&[hole.addr(), closed, hole.addr(), there], Some(there)).await;
        check(&[there, hole.addr()], Some(there)).await;
        check(&[closed], None).await;
        check(&[], None).await;
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
