//! Asks servers for the last transaction that they have applied, with the four-letter word `srvr`.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Server;
use crate::probe::{Probe, ask, understand};

/// How long one server may take to answer.
const ASK_BOUND: Duration = Duration::from_secs(2);

/// The last transaction that a serving server has applied.
///
/// # Errors
///
/// The reason, if there is none: a server that does not serve loads its own log with all that is in there, so that its
/// answer would show nothing.
pub(super) async fn last_applied(server: &Server) -> Result<i64, String> {
    let asked = async {
        let mut stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
        ask(&mut stream).await
    };
    let answer = match timeout(ASK_BOUND, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {} s", ASK_BOUND.as_secs())),
    };
    match understand(&answer) {
        Probe::Serves { .. } => zxid_of(&answer).ok_or_else(|| "its answer to srvr has no zxid".to_owned()),
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
    use super::*;

    #[test]
    fn the_zxid_is_read_from_the_answer_of_a_server() {
        let answer = "Zookeeper version: 3.9.5-x\nZxid: 0x300001a2f\nMode: leader\n";
        assert_eq!(zxid_of(answer), Some(0x3_0000_1a2f));
        for other in ["", "Zxid: 17", "Zxid: 0x", "Zxid: 0xzz"] {
            assert_eq!(zxid_of(other), None, "{other}");
        }
    }
}
