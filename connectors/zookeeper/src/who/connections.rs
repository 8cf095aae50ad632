//! Asks servers for their connections: with the four-letter word `cons`, or at the AdminServer.

use std::collections::BTreeMap;
use std::time::Duration;

use bridge_core::number::SessionId;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::options::WhoOptions;
use crate::config::Server;
use crate::probe::connect;

/// How long one server may take.
const BOUND: Duration = Duration::from_secs(5);

/// The longest answer: about 200 bytes for each of the connections of a busy server.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// Connections of one answer that are taken.
const CONNECTIONS_MAX: usize = 65_536;

/// Characters of an address at most, with a port.
const ADDRESS_MAX: usize = 64;

/// How a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListingMethod {
    FourLetters,
    Admin,
}

/// A server that is asked.
struct AskedServer {
    server: Server,
    method: ListingMethod,
    /// The last failure, so that it is logged once.
    failure: Option<String>,
}

/// The servers that are asked.
pub(super) struct Asked(Vec<AskedServer>);

impl Asked {
    pub(super) fn new(options: &WhoOptions) -> Asked {
        let all = [
            (ListingMethod::FourLetters, &options.servers),
            (ListingMethod::Admin, &options.admin),
        ];
        let servers = all.into_iter().flat_map(|(method, named)| {
            let named = named.iter().flat_map(|named| named.servers());
            named.map(move |server| AskedServer {
                server: server.clone(),
                method,
                failure: None,
            })
        });
        Asked(servers.collect())
    }

    /// Asks each. Returns the sessions with the addresses of their clients.
    pub(super) async fn ask(&mut self) -> Vec<(SessionId, String)> {
        let asked = self.0.iter_mut().map(AskedServer::ask);
        futures::future::join_all(asked).await.concat()
    }
}

impl AskedServer {
    async fn ask(&mut self) -> Vec<(SessionId, String)> {
        let asked = timeout(BOUND, connections_of(&self.server, self.method)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", BOUND.as_secs())));
        match asked {
            Ok(found) => {
                self.failure = None;
                found
            }
            Err(reason) => {
                if self.failure.as_ref() != Some(&reason) {
                    let server = format!("{}:{}", self.server.host, self.server.port);
                    tracing::warn!(server, reason, "no clients of sessions from this server");
                }
                self.failure = Some(reason);
                Vec::new()
            }
        }
    }
}

/// A request to an AdminServer. With HTTP/1.0 the answer has no chunks and ends with the connection.
fn admin_request(server: &Server, command: &str) -> String {
    format!(
        "GET /commands/{command} HTTP/1.0\r\nHost: {}:{}\r\nConnection: close\r\n\r\n",
        server.host, server.port
    )
}

/// The system properties of a server, from its AdminServer.
///
/// # Errors
///
/// The reason, if there is no answer.
pub(super) async fn properties_of(server: &Server) -> Result<BTreeMap<String, String>, String> {
    let request = admin_request(server, "system_properties");
    let asked = timeout(BOUND, exchange(server, request.as_bytes())).await;
    let answer = asked.map_err(|_| format!("no answer within {} s", BOUND.as_secs()))?;
    let answer = answer.map_err(|error| error.to_string())?;
    let body = body_of(&answer)?;
    let parsed: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(body).map_err(|error| format!("its answer cannot be read: {error}"))?;
    let texts = parsed.into_iter().filter_map(|(key, value)| match value {
        serde_json::Value::String(text) => Some((key, text)),
        _ => None,
    });
    Ok(texts.collect())
}

async fn connections_of(server: &Server, method: ListingMethod) -> Result<Vec<(SessionId, String)>, String> {
    let request = match method {
        ListingMethod::FourLetters => "cons".to_owned(),
        ListingMethod::Admin => admin_request(server, "connections"),
    };
    let answer = exchange(server, request.as_bytes()).await;
    let answer = answer.map_err(|error| error.to_string())?;
    match method {
        ListingMethod::FourLetters => of_cons(&answer),
        ListingMethod::Admin => of_admin(&answer),
    }
}

async fn exchange(server: &Server, request: &[u8]) -> std::io::Result<String> {
    let mut stream = connect(server).await?;
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// ` /127.0.0.1:40722[1](queued=0,recved=8,sent=8,sid=0x1000037c1de0000,…)`. A connection without a session has no sid.
fn of_cons(answer: &str) -> Result<Vec<(SessionId, String)>, String> {
    if answer.contains("is not executed because it is not in the whitelist") {
        return Err("it does not allow cons: add it to 4lw.commands.whitelist".to_owned());
    }
    let lines = answer.lines().filter_map(|line| {
        let (address, rest) = line.trim().split_once('[')?;
        let (_, sid) = rest.split_once("sid=0x")?;
        let digits: &str = sid.split(|char: char| !char.is_ascii_hexdigit()).next()?;
        let session = u64::from_str_radix(digits, 16).ok()?;
        Some((SessionId(session), address_of(address)?))
    });
    Ok(lines.take(CONNECTIONS_MAX).collect())
}

#[derive(Deserialize)]
struct AdminAnswer {
    #[serde(default)]
    connections: Vec<AdminConnection>,
    #[serde(default)]
    secure_connections: Vec<AdminConnection>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct AdminConnection {
    #[serde(default)]
    remote_socket_address: Option<String>,
    /// A signed number.
    #[serde(default)]
    session_id: Option<i64>,
}

/// The JSON of an AdminServer, after the head of its answer.
fn body_of(answer: &str) -> Result<&str, String> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or("it is no AdminServer: its answer is not one of HTTP")?;
    let status: String = head.lines().next().unwrap_or_default().chars().take(80).collect();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body),
        _ => Err(format!("it answers '{status}' to a command of the AdminServer")),
    }
}

fn of_admin(answer: &str) -> Result<Vec<(SessionId, String)>, String> {
    let body = body_of(answer)?;
    let parsed: AdminAnswer =
        serde_json::from_str(body).map_err(|error| format!("its answer cannot be read: {error}"))?;
    if let Some(error) = parsed.error {
        let error: String = error.chars().take(200).collect();
        return Err(format!("it refuses /commands/connections: {error}"));
    }
    let all = parsed.connections.into_iter().chain(parsed.secure_connections);
    let known = all.filter_map(|connection| {
        let session = connection.session_id.filter(|session| *session != 0)?;
        let address = address_of(&connection.remote_socket_address?)?;
        Some((SessionId(session.cast_unsigned()), address))
    });
    Ok(known.take(CONNECTIONS_MAX).collect())
}

/// `/10.0.0.7:40722` or `host/10.0.0.7:40722`, as Java writes it, without what is before the slash.
fn address_of(text: &str) -> Option<String> {
    let address = text.rsplit('/').next()?;
    let is_fine = |char: char| char.is_ascii_hexdigit() || matches!(char, '.' | ':' | '%' | '[' | ']');
    (!address.is_empty() && address.len() <= ADDRESS_MAX && address.chars().all(is_fine))
        .then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sessions: &[(u64, &str)]) -> Vec<(SessionId, String)> {
        let owned = sessions.iter();
        owned
            .map(|(session, client)| (SessionId(*session), (*client).to_owned()))
            .collect()
    }

    #[test]
    fn the_sessions_of_a_server_are_read_from_its_answer_to_cons() {
        let answer = " /127.0.0.1:40722[1](queued=0,recved=8,sent=8,sid=0x1000037c1de0000,lop=PING,est=1,to=30000)\n \
                      /0:0:0:0:0:0:0:1:40730[1](queued=0,recved=1,sent=1,sid=0xff00037c1de0001,lop=NA)\n \
                      /127.0.0.1:40736[0](queued=0,recved=1,sent=0)\n\nnonsense\n";
        let expected = [
            (0x0100_0037_c1de_0000, "127.0.0.1:40722"),
            (0x0ff0_0037_c1de_0001, "0:0:0:0:0:0:0:1:40730"),
        ];
        assert_eq!(of_cons(answer).unwrap(), found(&expected));
        let refused = of_cons("cons is not executed because it is not in the whitelist.\n");
        assert!(refused.unwrap_err().contains("4lw.commands.whitelist"));
    }

    #[test]
    fn the_sessions_of_a_server_are_read_from_its_admin_page() {
        let body = r#"{"connections": [
            {"remote_socket_address": "127.0.0.1:5", "session_id": 72057833437495296},
            {"remote_socket_address": "zk/10.0.0.7:6", "session_id": -72057594037927935},
            {"remote_socket_address": "127.0.0.1:7", "session_id": 0}, {"interest_ops": 1}],
            "secure_connections": [{"remote_socket_address": "127.0.0.1:8", "session_id": 9}],
            "command": "connections", "error": null}"#;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{body}");
        let expected = [
            (72_057_833_437_495_296, "127.0.0.1:5"),
            (0xff00_0000_0000_0001, "10.0.0.7:6"),
            (9, "127.0.0.1:8"),
        ];
        assert_eq!(of_admin(&answer).unwrap(), found(&expected));
        for (answer, words) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "404"),
            ("SSH-2.0", "no AdminServer"),
            ("HTTP/1.1 200 OK\r\n\r\n<html>", "cannot be read"),
            (
                "HTTP/1.1 200 OK\r\n\r\n{\"error\": \"not serving\"}",
                "not serving",
            ),
        ] {
            let refused = of_admin(answer).unwrap_err();
            assert!(refused.contains(words), "{answer}: {refused}");
        }
    }

    #[test]
    fn an_address_with_other_letters_than_those_of_addresses_is_left_out() {
        for text in ["", "/", "/a\u{1b}[31m:5", &"1".repeat(ADDRESS_MAX + 1)] {
            assert_eq!(address_of(text), None, "{text:?}");
        }
        assert_eq!(address_of("/[fe80::1%2]:5").as_deref(), Some("[fe80::1%2]:5"));
    }
}
