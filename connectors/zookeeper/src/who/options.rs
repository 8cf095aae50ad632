//! Where the owners of sessions are found: typed, documented, checked without asking anyone.

use std::path::PathBuf;

use bridge_core::amount::Span;
use bridge_core::issue::ConfigIssue;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Connect;

/// Audit logs at most: one for each server of any ensemble.
const LOGS_MAX: usize = 32;

/// Servers at most, of each kind.
const SERVERS_MAX: usize = 32;

/// A server lists all of its connections for each question.
const EVERY_MIN: Span = Span::secs(1);

/// With longer waits most sessions would have ended.
const EVERY_MAX: Span = Span::secs(3_600);

/// Where `txn.client` and `txn.user` come from, for sources that read transactions. What is not known yet when a record
/// is journalled stays null.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhoOptions {
    /// Client ports of servers that may be asked with the four-letter word `cons`, as in `zk1:2181,zk2:2181`. The servers
    /// must allow it (`4lw.commands.whitelist`), over connections without encryption.
    #[serde(default)]
    pub servers: Option<Connect>,
    /// The AdminServers of servers, as in `zk1:8080,zk2:8080`, which are asked for `/commands/connections` over HTTP.
    #[serde(default)]
    pub admin: Option<Connect>,
    /// Files into which servers write their audit log (`audit.enable`).
    #[serde(default)]
    pub audit_logs: Vec<PathBuf>,
    /// How often the servers are asked. A session that is not known is asked for sooner, at most once a second.
    #[serde(default = "default_every")]
    pub every: Span,
}

fn default_every() -> Span {
    Span::secs(5)
}

impl WhoOptions {
    /// Everything that cannot work. Keys are relative to `who`.
    pub(crate) fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        if self.servers.is_none() && self.admin.is_none() && self.audit_logs.is_empty() {
            found.push(ConfigIssue::error(
                "who",
                "[source.who] names neither a server nor an audit log",
                "give servers, admin or audit_logs, or leave the section out",
            ));
        }
        for (key, servers) in [("who.servers", &self.servers), ("who.admin", &self.admin)] {
            let Some(servers) = servers else { continue };
            if servers.chroot().is_some() {
                found.push(ConfigIssue::error(
                    key,
                    format!(
                        "'{}' has a chroot, which servers do not need here",
                        servers.as_str()
                    ),
                    "name the servers alone, as in \"zk1:2181,zk2:2181\"",
                ));
            }
            if servers.servers().len() > SERVERS_MAX {
                found.push(ConfigIssue::error(
                    key,
                    format!(
                        "{} servers are named, and {SERVERS_MAX} are allowed",
                        servers.servers().len()
                    ),
                    "name the servers of one ensemble",
                ));
            }
        }
        if self.audit_logs.len() > LOGS_MAX {
            found.push(ConfigIssue::error(
                "who.audit_logs",
                format!(
                    "{} files are named, and {LOGS_MAX} are allowed",
                    self.audit_logs.len()
                ),
                "name one file for each server of one ensemble",
            ));
        }
        if !(EVERY_MIN..=EVERY_MAX).contains(&self.every) {
            found.push(ConfigIssue::error(
                "who.every",
                format!("{} is not between {EVERY_MIN} and {EVERY_MAX}", self.every),
                "give a time such as \"5s\"",
            ));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_names_nothing_or_too_much_is_refused() {
        let keys = |text: &str| {
            let options: WhoOptions = serde_json::from_str(text).unwrap();
            let issues = options.objections();
            issues.into_iter().map(|issue| issue.key).collect::<Vec<_>>()
        };
        assert_eq!(keys("{}"), ["who"]);
        assert_eq!(keys(r#"{"servers": "a:2181"}"#), [] as [&str; 0]);
        assert_eq!(
            keys(r#"{"admin": "a:8080/app", "every": "10ms"}"#),
            ["who.admin", "who.every"]
        );
        let logs = vec!["\"/a\""; LOGS_MAX + 1].join(",");
        assert_eq!(keys(&format!("{{\"audit_logs\": [{logs}]}}")), ["who.audit_logs"]);
    }
}
