//! Which servers an attempt tries, in which order, and how long the next attempt waits.

use std::time::Duration;

use bridge_core::backoff::{Backoff, Jitter};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::conversation::ConversationEnd;
use super::members::{Member, QuorumAddress};
use super::options::ObserverOptions;
use crate::config::Connect;
use crate::reconnects::{Reconnects, STEADY};

/// The first wait after trees that failed in a row: a leader reads its whole tree for each.
const TREE_FIRST: Duration = Duration::from_secs(30);
/// The longest such wait.
const TREE_MAX: Duration = Duration::from_secs(600);

/// The port of clients in ZooKeeper's documentation.
const CLIENT_PORT: u16 = 2181;
/// The port of elections in ZooKeeper's documentation.
const ELECTION_PORT: u16 = 3888;

/// The servers that are known, and the order in which they are tried.
#[derive(Debug, Default)]
pub(super) struct ServerOrder {
    /// The newest configuration of the ensemble.
    members: Vec<Member>,
    /// The leader that brought the observer up to date last.
    leader: Option<QuorumAddress>,
    /// Servers that accepted a connection and did not lead since, the last failure at the end.
    failed: Vec<QuorumAddress>,
    /// The known servers may all be gone.
    is_stale: bool,
    /// A leader has brought the observer up to date.
    has_followed: bool,
}

impl ServerOrder {
    /// Takes the configuration of the ensemble.
    pub(super) fn configured(&mut self, members: Vec<Member>) {
        self.members = members;
        self.is_stale = false;
    }

    /// Whether the configuration of the ensemble has to be asked for at a client port: no server is known, or those that
    /// are named have all failed. Where its addresses are not used, it shows once whether the ports that are named are its
    /// quorum ports.
    pub(super) fn asks(&self, options: &ObserverOptions) -> bool {
        let order = self.order(options);
        let all_failed = self.members.is_empty() && order.iter().all(|server| self.failed.contains(server));
        match options.discover {
            true => self.is_stale || all_failed,
            false => all_failed && !order.is_empty(),
        }
    }

    /// Whether there is a server to try.
    pub(super) fn knows_any(&self, options: &ObserverOptions) -> bool {
        !self.order(options).is_empty()
    }

    /// The observer is up to date with this leader.
    pub(super) fn followed(&mut self, leader: QuorumAddress) {
        self.failed.clear();
        self.leader = Some(leader);
        self.has_followed = true;
    }

    /// A conversation with this server ended before the observer was up to date, or in silence: it is tried last. A
    /// server whose process is stopped still accepts connections.
    pub(super) fn failed(&mut self, server: &QuorumAddress) {
        if self.leader.as_ref() == Some(server) {
            self.leader = None;
        }
        self.failed.retain(|failed| failed != server);
        self.failed.push(server.clone());
    }

    /// No known server led or answered.
    pub(super) fn found_none(&mut self) {
        self.is_stale = true;
    }

    /// The reason of a server that ended the first packets of a conversation, with the cause that its port is probably none
    /// for a quorum, if its number says so.
    pub(super) fn explained(
        &self,
        server: &QuorumAddress,
        options: &ObserverOptions,
        connect: &Connect,
        reason: &str,
    ) -> String {
        const REMEDY: &str = "name the first port of its line in zoo.cfg, as 2888 in server.1=zk1:2888:3888";
        let port = server.port;
        let quorum = || self.members.iter().flat_map(|member| &member.addresses);
        let mut election = self.members.iter().flat_map(|member| &member.election_ports);
        if quorum().any(|address| address.port == port) {
            return reason.to_owned();
        }
        let cause = if connect.servers().iter().any(|client| client.port == port) {
            format!("{port} is a client port of 'connect'")
        } else if election.any(|election| *election == port) {
            format!("{port} is a port of elections in /zookeeper/config")
        } else if let Some(known) = quorum().next() {
            let cause = format!("/zookeeper/config has no quorum port {port}, but {known}");
            if !options.discover && self.has_followed {
                return reason.to_owned();
            }
            if !options.discover {
                return format!(
                    "{reason}. Or {server} is no quorum port: {cause}; {REMEDY}, unless it is forwarded to one"
                );
            }
            cause
        } else {
            match port {
                CLIENT_PORT => format!("{port} is the usual client port"),
                ELECTION_PORT => format!("{port} is the usual port of elections"),
                _ => return reason.to_owned(),
            }
        };
        format!("{server} is probably no quorum port: {cause}; {REMEDY}. Otherwise: {reason}")
    }

    /// The quorum ports in the configuration of the ensemble, unless it has other addresses than those for the bridge.
    fn discovered(&self, options: &ObserverOptions) -> impl Iterator<Item = &QuorumAddress> {
        let members = self.members.iter().filter(|_| options.discover);
        members.flat_map(|member| &member.addresses)
    }

    /// The quorum ports to try, in order, each once.
    pub(super) fn order(&self, options: &ObserverOptions) -> Vec<QuorumAddress> {
        let known = self.discovered(options);
        let all = options.observer_masters.iter().chain(&self.leader);
        let all = all.chain(&options.servers).chain(known);
        let mut order: Vec<QuorumAddress> = Vec::new();
        for address in all {
            if !order.contains(address) {
                order.push(address.clone());
            }
        }
        // Stable: those that did not fail keep their order, before all others.
        order.sort_by_key(|address| self.failed.iter().position(|failed| failed == address));
        order
    }
}

/// The waits between attempts.
#[derive(Debug)]
pub(super) struct AttemptWaits {
    reconnects: Reconnects,
    trees: Backoff,
    random: StdRng,
    has_failed_tree: bool,
}

impl AttemptWaits {
    pub(super) fn new() -> AttemptWaits {
        AttemptWaits {
            reconnects: Reconnects::default(),
            trees: Backoff::new(TREE_FIRST, TREE_MAX, Jitter::Half),
            random: StdRng::from_os_rng(),
            has_failed_tree: false,
        }
    }

    /// Takes note of a connection that was up to date for so long.
    pub(super) fn followed(&mut self, lasted: Duration) {
        self.reconnects.lasted(lasted);
        if lasted >= STEADY {
            self.trees.succeeded();
            self.has_failed_tree = false;
        }
    }

    /// The wait after a failure.
    pub(super) fn failed(&mut self) -> Duration {
        self.reconnects.failed()
    }

    /// The wait after a failure that followed a SNAP. The first tree is requested again soon, because the tree of an
    /// ensemble at rest is exact the second time.
    pub(super) fn failed_tree(&mut self) -> Duration {
        let soon = self.reconnects.failed();
        if !std::mem::replace(&mut self.has_failed_tree, true) {
            return soon;
        }
        let wait = self.trees.failed(&mut self.random);
        tracing::warn!(
            ?wait,
            "the tree of the leader failed again; the next one is requested after a wait"
        );
        wait
    }
}

/// The server that an end names, if the end is the server's.
pub(super) fn failed_server(end: &ConversationEnd) -> Option<&QuorumAddress> {
    match end {
        ConversationEnd::Silent { leader, .. }
        | ConversationEnd::Fault { leader, .. }
        | ConversationEnd::Lost {
            leader,
            was_following: false,
            ..
        } => Some(leader),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> QuorumAddress {
        QuorumAddress {
            host: host.to_owned(),
            port: 2888,
        }
    }

    fn member(id: i64, host: &str) -> Member {
        Member {
            id,
            addresses: vec![at(host)],
            election_ports: vec![13888],
        }
    }

    fn hosts(servers: &ServerOrder, options: &ObserverOptions) -> Vec<String> {
        let order = servers.order(options).into_iter();
        order.map(|address| address.host).collect()
    }

    #[test]
    fn servers_that_failed_are_tried_last_in_turn_until_one_leads() {
        let options = ObserverOptions::new(vec![at("a"), at("b"), at("c")]);
        let mut servers = ServerOrder::default();
        servers.followed(at("b"));
        assert_eq!(hosts(&servers, &options), ["b", "a", "c"]);
        servers.failed(&at("b"));
        assert_eq!(hosts(&servers, &options), ["a", "c", "b"]);
        servers.failed(&at("a"));
        servers.failed(&at("c"));
        assert_eq!(hosts(&servers, &options), ["b", "a", "c"]);
        servers.failed(&at("b"));
        assert_eq!(hosts(&servers, &options), ["a", "c", "b"]);
        servers.followed(at("c"));
        assert_eq!(hosts(&servers, &options), ["c", "a", "b"]);
    }

    #[test]
    fn the_configuration_is_asked_for_again_when_none_of_its_servers_leads() {
        let mut options = ObserverOptions::new(Vec::new());
        let mut servers = ServerOrder::default();
        assert!(servers.asks(&options) && !servers.knows_any(&options));
        servers.configured(vec![member(1, "a")]);
        assert!(!servers.asks(&options) && servers.knows_any(&options));
        servers.found_none();
        assert!(servers.asks(&options));
        servers.configured(vec![member(2, "b")]);
        assert!(!servers.asks(&options));
        assert_eq!(hosts(&servers, &options), ["b"]);
        servers.found_none();
        options.discover = false;
        assert!(!servers.asks(&options));
    }

    #[test]
    fn the_configuration_is_asked_for_when_no_named_server_leads_and_not_before() {
        let options = ObserverOptions::new(vec![at("a"), at("b")]);
        let mut refused = ServerOrder::default();
        assert!(!refused.asks(&options));
        refused.found_none();
        assert!(refused.asks(&options));
        refused.configured(vec![member(1, "c")]);
        assert_eq!(hosts(&refused, &options), ["a", "b", "c"]);
        // A client port accepts a connection and ends it.
        let mut accepted = ServerOrder::default();
        accepted.failed(&at("a"));
        assert!(!accepted.asks(&options));
        accepted.failed(&at("b"));
        assert!(accepted.asks(&options));
        accepted.configured(vec![member(1, "c")]);
        assert_eq!(hosts(&accepted, &options), ["c", "a", "b"]);
        assert!(!accepted.asks(&options));
    }

    #[test]
    fn a_port_that_is_probably_no_quorum_port_is_known_by_the_ensemble_or_its_number() {
        let connect: Connect = "zk1:12181".parse().unwrap();
        let discovers = ObserverOptions::new(Vec::new());
        let stays = ObserverOptions {
            discover: false,
            ..discovers.clone()
        };
        let mut servers = ServerOrder::default();
        let check = |servers: &ServerOrder, port, options: &ObserverOptions, expected: &str| {
            let server = QuorumAddress { port, ..at("zk1") };
            let found = servers.explained(&server, options, &connect, "it was closed");
            assert!(found.contains(expected), "{port}: {found}");
        };
        let is_none = |servers: &ServerOrder, port, options: &ObserverOptions| {
            let server = QuorumAddress { port, ..at("zk1") };
            let found = servers.explained(&server, options, &connect, "it was closed");
            assert_eq!(found, "it was closed", "{port}");
        };
        for options in [&discovers, &stays] {
            check(
                &servers,
                12181,
                options,
                "no quorum port: 12181 is a client port of 'connect'",
            );
            check(
                &servers,
                2181,
                options,
                "no quorum port: 2181 is the usual client port",
            );
            check(&servers, 3888, options, "3888 is the usual port of elections");
            check(&servers, 3888, options, ". Otherwise: it was closed");
            is_none(&servers, 2888, options);
            is_none(&servers, 13888, options);
        }
        servers.configured(vec![member(1, "a")]);
        for options in [&discovers, &stays] {
            check(
                &servers,
                13888,
                options,
                "13888 is a port of elections in /zookeeper/config",
            );
            is_none(&servers, 2888, options);
        }
        let other = "/zookeeper/config has no quorum port 9999, but a:2888";
        check(
            &servers,
            9999,
            &discovers,
            &format!("zk1:9999 is probably no quorum port: {other}"),
        );
        // The ensemble has other addresses for itself than those that are named.
        let forwarded = format!("it was closed. Or zk1:9999 is no quorum port: {other}; name");
        check(&servers, 9999, &stays, &forwarded);
        check(&servers, 9999, &stays, "unless it is forwarded to one");
        servers.followed(QuorumAddress {
            port: 9999,
            ..at("zk1")
        });
        is_none(&servers, 9999, &stays);
    }

    #[test]
    fn the_ports_of_an_ensemble_whose_addresses_are_not_used_are_asked_for_once_when_all_named_servers_failed()
     {
        let mut options = ObserverOptions::new(vec![at("proxy"), at("b")]);
        options.discover = false;
        let mut servers = ServerOrder::default();
        servers.found_none();
        servers.failed(&at("proxy"));
        assert!(!servers.asks(&options));
        servers.failed(&at("b"));
        assert!(servers.asks(&options));
        servers.configured(vec![member(1, "a")]);
        servers.found_none();
        assert!(!servers.asks(&options));
        assert_eq!(hosts(&servers, &options), ["proxy", "b"]);
    }

    #[test]
    fn servers_that_nobody_named_are_not_tried_if_none_may_be_discovered() {
        let mut options = ObserverOptions::new(vec![at("proxy")]);
        let mut servers = ServerOrder::default();
        servers.configured(vec![member(1, "a"), member(2, "b")]);
        assert_eq!(hosts(&servers, &options), ["proxy", "a", "b"]);
        options.discover = false;
        options.observer_masters = vec![at("master")];
        servers.found_none();
        servers.failed(&at("proxy"));
        assert_eq!(hosts(&servers, &options), ["master", "proxy"]);
        options.servers.clear();
        assert!(
            !servers.asks(&options),
            "nor is the ensemble asked for its servers"
        );
    }

    #[test]
    fn trees_that_fail_in_a_row_are_requested_with_waits_of_their_own() {
        let mut waits = AttemptWaits::new();
        assert!(waits.failed_tree() < Duration::from_secs(1));
        for ceiling in [30, 60, 120, 240, 480, 600, 600] {
            // A connection that was up to date for a moment is no success.
            waits.followed(Duration::from_secs(1));
            let wait = waits.failed_tree().as_secs_f64();
            let ceiling = f64::from(ceiling);
            assert!((ceiling / 2.0..=ceiling).contains(&wait), "{wait} of {ceiling}");
        }
        waits.followed(STEADY);
        assert!(waits.failed_tree() < Duration::from_secs(1));
    }
}
