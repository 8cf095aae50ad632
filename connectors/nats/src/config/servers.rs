//! The addresses of servers.

use bridge_core::issue::ConfigIssue;

const REMEDY: &str = "give addresses separated by commas, as in \"nats://a:4222,nats://b:4222\"";

/// Schemes that are taken, with a word on each in messages.
const SCHEMES: [&str; 2] = ["nats", "tls"];

/// Each server as a URL.
pub(super) fn urls(servers: &str) -> Vec<String> {
    let servers = servers.split(',').map(str::trim);
    servers
        .map(|server| match server.contains("://") {
            true => server.to_owned(),
            false => format!("nats://{server}"),
        })
        .collect()
}

pub(super) fn objections(servers: &str, has_tls: bool, found: &mut Vec<ConfigIssue>) {
    if servers.trim().is_empty() {
        found.push(ConfigIssue::error("servers", "no server is given", REMEDY));
        return;
    }
    for server in servers.split(',').map(str::trim) {
        if let Some(reason) = reason_against(server) {
            found.push(ConfigIssue::error("servers", reason, REMEDY));
        } else if server.starts_with("tls://") && !has_tls {
            found.push(ConfigIssue::warning(
                "servers",
                format!("'{server}' is encrypted, and [sink.tls] with the trusted authorities is missing"),
                "write [sink.tls] with ca, or ignore this if the system trusts the servers' authority",
            ));
        }
    }
}

/// The reason why it is no address. A text that may be a password is not repeated.
fn reason_against(server: &str) -> Option<String> {
    let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
    if rest.contains('@') {
        return Some("an address holds a user or a token: they belong under [sink.auth]".to_owned());
    }
    // Other services have a key after the host.
    let path = rest.find(['/', '?', '#']);
    let server = match path {
        Some(end) => format!("{scheme}://{}/…", &rest[..end]),
        None => server.to_owned(),
    };
    if matches!(scheme, "ws" | "wss") {
        return Some(format!(
            "'{server}' is an address for WebSockets, which this build does not speak: name the port for clients"
        ));
    }
    if !SCHEMES.contains(&scheme) {
        return Some(format!(
            "'{server}' is not the address of a NATS server: '{scheme}' is neither {}",
            SCHEMES.join(" nor ")
        ));
    }
    // An IPv6 address is in brackets and has colons of its own.
    let (host, port) = match rest.rfind(']') {
        Some(end) if rest.starts_with('[') => (&rest[..=end], rest[end + 1..].strip_prefix(':')),
        _ => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let because = |why: &str| Some(format!("'{server}' is not the address of a NATS server: {why}"));
    if host.is_empty() || host == "[]" {
        return because("it has no host");
    }
    if path.is_some() {
        return because("nothing comes after the host and the port");
    }
    if host.contains(char::is_whitespace) {
        return because("a host has no spaces");
    }
    match port {
        Some(port) if !matches!(port.parse::<u16>(), Ok(1..)) => {
            because(&format!("'{port}' is not a port between 1 and 65535"))
        }
        _ => None,
    }
}
