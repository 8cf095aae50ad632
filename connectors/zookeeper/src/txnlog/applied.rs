//! Asks servers for the last transaction that they have applied, with the four-letter word `srvr`.

use crate::config::{Server, ZookeeperConfig};
use crate::handshake::answer_encrypted;
use crate::probe::{Probe, answer, understand};

/// The roles of servers that have applied only what is committed. A server that serves only reads, without a quorum
/// (`read-only`), has loaded its own log with all that is in there.
const SERVING_MODES: [&str; 4] = ["leader", "follower", "observer", "standalone"];

/// The last transactions that the serving servers of a configuration have applied, at least one.
///
/// # Errors
///
/// The reason of each server, if none says it.
pub async fn applied_by_servers(config: &ZookeeperConfig) -> Result<Vec<i64>, String> {
    let servers = config.connect.servers();
    let answers = servers.iter().map(|server| last_applied(config, server));
    let answers = futures::future::join_all(answers).await;
    let mut reasons = Vec::new();
    let mut applied = Vec::new();
    for (server, answer) in servers.iter().zip(answers) {
        match answer {
            Ok(zxid) => applied.push(zxid),
            Err(reason) => reasons.push(format!("{}:{}: {reason}", server.host, server.port)),
        }
    }
    match applied.is_empty() {
        false => Ok(applied),
        true => Err(format!(
            "no server says which transactions are committed: {}",
            reasons.join("; ")
        )),
    }
}

/// The last transaction that a serving server has applied. It is asked over the same kind of connection as a session
/// would have.
///
/// # Errors
///
/// The reason, if there is none: a server that does not serve loads its own log with all that is in there, so that its
/// answer would show nothing.
async fn last_applied(config: &ZookeeperConfig, server: &Server) -> Result<i64, String> {
    let answer = match &config.tls {
        Some(tls) => answer_encrypted(server, tls).await?,
        None => answer(server).await?,
    };
    applied_by(&answer)
}

/// The last transaction that a server has applied by its answer, if that is a committed one.
fn applied_by(answer: &str) -> Result<i64, String> {
    match understand(answer) {
        Probe::Serves { mode, .. } if !SERVING_MODES.contains(&mode.as_str()) => Err(format!(
            "it is in the mode '{mode}', in which it may show transactions that are not committed"
        )),
        Probe::Serves { .. } => zxid_of(answer).ok_or_else(|| "its answer to srvr has no zxid".to_owned()),
        Probe::Mute(line) => Err(format!(
            "it does not serve, or does not allow srvr (4lw.commands.whitelist): {line}"
        )),
        Probe::Unreachable(reason) => Err(reason),
    }
}

fn zxid_of(answer: &str) -> Option<i64> {
    let text = answer.lines().find_map(|line| line.strip_prefix("Zxid:"))?.trim();
    let digits = text.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok().map(u64::cast_signed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bridge_core::file_path::FilePath;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::config::Tls;

    #[test]
    fn the_zxid_is_read_from_the_answer_of_a_server() {
        let answer = "Zookeeper version: 3.9.5-x\nZxid: 0x300001a2f\nMode: leader\n";
        assert_eq!(zxid_of(answer), Some(0x3_0000_1a2f));
        for other in ["", "Zxid: 17", "Zxid: 0x", "Zxid: 0xzz"] {
            assert_eq!(zxid_of(other), None, "{other}");
        }
    }

    #[test]
    fn only_a_server_with_a_quorum_or_alone_shows_what_is_committed() {
        let answer = |mode: &str| format!("Zookeeper version: 3.9.5-x\nZxid: 0x300001a2f\nMode: {mode}\n");
        for mode in SERVING_MODES {
            assert_eq!(applied_by(&answer(mode)), Ok(0x3_0000_1a2f), "{mode}");
        }
        for mode in ["read-only", "Leader", "leading", ""] {
            let refused = applied_by(&answer(mode)).unwrap_err();
            assert!(refused.contains(&format!("in the mode '{mode}'")), "{refused}");
        }
        let mute = applied_by("This ZooKeeper instance is not currently serving requests\n");
        assert!(mute.unwrap_err().contains("does not serve"));
    }

    #[tokio::test]
    async fn with_tls_nothing_is_asked_in_the_clear() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 4];
            stream.read_exact(&mut first).await.unwrap();
            stream.write_all(b"Zxid: 0x1\nMode: leader\n").await.unwrap();
            first
        });
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certified.cert.pem()).unwrap();
        let mut config = ZookeeperConfig::new(address.to_string().parse().unwrap());
        config.tls = Some(Tls {
            ca: Some(FilePath::from(file.path().to_owned())),
            cert: None,
            key: None,
            verify_hostname: true,
        });
        let server = config.connect.servers()[0].clone();
        last_applied(&config, &server).await.unwrap_err();
        let first = timeout(Duration::from_secs(10), heard).await.unwrap().unwrap();
        assert_eq!(first[0], 22, "a handshake, and not {first:?}");
    }
}
