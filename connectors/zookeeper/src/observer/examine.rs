//! Finds out whether an ensemble would accept the observer of a source, for `doctor` and `check --connect`.
//!
//! The ports are those that the source tries, by the same rule ([`ServerOrder`]). Each gets at most one handshake, the one
//! that the source itself begins with, until a leader has answered; then the connection is closed. A connection that says nothing would keep followers out of a leader with SASL. The
//! handshake has an id of its own, so that a running bridge keeps its place.

use std::path::Path;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use bridge_core::amount::Span;
use bridge_transactions::quorum::ObserverId;
use tokio::time::{Instant, timeout_at};

use super::attempts::{ServerOrder, failed_server};
use super::conversation::{Arrival, Conversation, ConversationEnd, ConversationOptions};
use super::discover::configuration_of;
use super::driver::ObserverSource;
use super::members::{QuorumAddress, has_id, members};
use super::options::ObserverOptions;
use super::refusal;
use super::spool::{Batch, Spool, SpoolLimits};
use super::transport::Interrupt;
use crate::config::ZookeeperConfig;

/// How long a leader may take to answer the handshake. It does at once.
const ANSWER_BOUND: Span = Span::secs(10);

/// How long all handshakes together may take.
const WHOLE_BOUND: Duration = Duration::from_secs(60);

/// The findings about the quorum ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumExamination {
    /// The leader that accepts the observer, and its epoch; otherwise why none does, with the remedy.
    pub leader: Result<(QuorumAddress, u32), String>,
    /// The configuration of the ensemble; `None` where it cannot be read.
    pub ensemble: Option<EnsembleMembers>,
}

/// The configuration of an ensemble, beside the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleMembers {
    /// Servers, one address of each, that `servers` and `observer_masters` do not name, although they name others.
    pub not_named: Vec<QuorumAddress>,
    /// Addresses of `servers` that no server of the configuration has.
    pub unknown: Vec<QuorumAddress>,
    /// The id of the observer is the one of a server.
    pub has_id: bool,
}

impl EnsembleMembers {
    fn new(config: &[u8], options: &ObserverOptions, id: ObserverId) -> EnsembleMembers {
        let members = members(config);
        let is_named = |address: &QuorumAddress| {
            options.servers.contains(address) || options.observer_masters.contains(address)
        };
        let others = members
            .iter()
            .filter(|member| !member.addresses.iter().any(is_named));
        let not_named = others.filter_map(|member| member.addresses.first().cloned());
        let is_of_member =
            |address: &&QuorumAddress| members.iter().any(|member| member.addresses.contains(address));
        let unknown = options.servers.iter().filter(|address| !is_of_member(address));
        // Without names, servers are found in the configuration; where that is not used, its addresses are others.
        let (not_named, unknown) = match options.discover && !options.servers.is_empty() {
            true => (not_named.collect(), unknown.cloned().collect()),
            false => (Vec::new(), Vec::new()),
        };
        EnsembleMembers {
            not_named,
            unknown,
            has_id: has_id(config, id),
        }
    }
}

/// Examines the quorum ports of a source of this name. `folder` is for a spool, which gets no transaction.
pub async fn examine_quorum(
    name: &str,
    config: &ZookeeperConfig,
    options: &ObserverOptions,
    folder: &Path,
) -> QuorumExamination {
    let found = configuration_of(config).await;
    let id = options.observer_id(name);
    let ensemble = found
        .as_ref()
        .ok()
        .map(|text| EnsembleMembers::new(text, options, id));
    let mut order = ServerOrder::default();
    if let Ok(text) = &found {
        order.configured(members(text));
    }
    let mut candidates = order.order(options);
    if let (true, Err(error)) = (candidates.is_empty(), found) {
        let leader = Err(error.message);
        return QuorumExamination { leader, ensemble };
    }
    let until = Instant::now() + WHOLE_BOUND;
    let mut first = None;
    let leader = loop {
        let tried = shake_hands(name, config, options, folder, candidates.clone(), until).await;
        let (refusal, server) = match tried {
            Ok(leader) => break Ok(leader),
            Err(refusal) => refusal,
        };
        let refusal = match &server {
            Some(server) => order.explained(server, options, &config.connect, &refusal),
            None => refusal,
        };
        let refusal = first.get_or_insert(refusal);
        // The source tries the others next.
        let at = candidates
            .iter()
            .position(|candidate| Some(candidate) == server.as_ref());
        candidates.drain(..at.map_or(candidates.len(), |at| at + 1));
        if candidates.is_empty() {
            break Err(refusal.clone());
        }
    };
    QuorumExamination { leader, ensemble }
}

/// Why no leader was found, and the server that ended the attempt before those after it were tried.
type Refusal = (String, Option<QuorumAddress>);

async fn shake_hands(
    name: &str,
    config: &ZookeeperConfig,
    options: &ObserverOptions,
    folder: &Path,
    candidates: Vec<QuorumAddress>,
    until: Instant,
) -> Result<(QuorumAddress, u32), Refusal> {
    let own = ObserverOptions {
        id: None,
        init_timeout: options.init_timeout.min(ANSWER_BOUND),
        ..options.clone()
    };
    let id = own.observer_id(&format!("{name}\nexamination"));
    let source = ObserverSource::new(name, config.clone(), own.clone(), folder.to_owned());
    let spool = Arc::new(Spool::new(SpoolLimits {
        folder: folder.to_owned(),
        memory: 0,
        total: 0,
    }));
    let interrupt = Arc::new(Interrupt::default());
    // Without a position the conversation ends as soon as a leader asks for one.
    let (_, positions) = std_mpsc::channel();
    let conversation = Conversation {
        options: ConversationOptions {
            id,
            transport: source.transport().map_err(|message| (message, None))?,
            sync_timeout: own.sync_timeout.0,
            folder: folder.to_owned(),
            tree_bytes_max: 0,
        },
        candidates,
        spool: Arc::clone(&spool),
        interrupt: Arc::clone(&interrupt),
        positions,
        measures: bridge_core::source::FeedMeasures::default(),
    };
    let thread = tokio::task::spawn_blocking(move || conversation.run());
    let answer = timeout_at(until, first_arrival(&spool, options)).await;
    interrupt.set();
    // It ends within the bound of a connection.
    let _panic_is_an_end = thread.await;
    answer.unwrap_or_else(|_| {
        let message = format!(
            "no quorum port has answered within {} s; check that firewalls let the bridge reach them",
            WHOLE_BOUND.as_secs()
        );
        Err((message, None))
    })
}

/// Waits for a leader, or for the end of the attempts.
async fn first_arrival(
    spool: &Spool<Arrival>,
    options: &ObserverOptions,
) -> Result<(QuorumAddress, u32), Refusal> {
    loop {
        match spool.next(1).await.map_err(|error| (error.to_string(), None))? {
            Batch::Other(Arrival::Led { leader, epoch }) => return Ok((leader, epoch)),
            Batch::Other(Arrival::Ended(end)) => {
                return Err((reason(&end, options), failed_server(&end).cloned()));
            }
            Batch::Other(_) | Batch::Transactions(_) => {}
        }
    }
}

/// Nothing but the first packet was sent: a leader that ends the connection then requires something else first.
fn reason(end: &ConversationEnd, options: &ObserverOptions) -> String {
    let ConversationEnd::Lost { leader, error, .. } = end else {
        return refusal::explain(end).1;
    };
    let cause = match (&options.tls, &options.sasl) {
        (None, None) => {
            "it requires authentication (quorum.auth.serverRequireSasl), so that [source.observer.sasl] is missing, or \
             encryption (sslQuorum), so that [source.observer.tls] is missing"
        }
        (None, Some(_)) => "it requires encryption (sslQuorum), so that [source.observer.tls] is missing",
        (Some(_), None) => {
            "it does not accept the certificate of [source.observer.tls], which must be signed by an authority of its \
             ssl.quorum.trustStore and name the address of the bridge; or it requires authentication \
             (quorum.auth.serverRequireSasl), so that [source.observer.sasl] is missing"
        }
        (Some(_), Some(_)) => {
            "it does not accept the certificate of [source.observer.tls], which must be signed by an authority of its \
             ssl.quorum.trustStore and name the address of the bridge"
        }
    };
    format!("{leader} ends the connection before it answers ({error}): its log says why; probably {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_compared_with_the_configuration_of_the_ensemble() {
        let config = b"server.1=zk1:2888:3888\nserver.2=zk2:2888:3888|b2:2888:3888\nserver.3=zk3:2888:3888\n";
        let at = |text: &str| text.parse::<QuorumAddress>().unwrap();
        let mut options = ObserverOptions::new(vec![at("zk1:2888"), at("b2:2888"), at("old:2888")]);
        let id = options.observer_id("main");
        let found = EnsembleMembers::new(config, &options, id);
        assert_eq!(found.not_named, [at("zk3:2888")]);
        assert_eq!(found.unknown, [at("old:2888")]);
        assert!(!found.has_id);
        options.observer_masters = vec![at("zk3:2888")];
        assert_eq!(EnsembleMembers::new(config, &options, id).not_named, []);
        let found = EnsembleMembers::new(config, &ObserverOptions::new(Vec::new()), id);
        assert_eq!((found.not_named, found.unknown), (Vec::new(), Vec::new()));
        options.discover = false;
        let found = EnsembleMembers::new(config, &options, id);
        assert_eq!((found.not_named, found.unknown), (Vec::new(), Vec::new()));
        let clash = format!("server.{}=zk9:2888:3888", id.get());
        assert!(EnsembleMembers::new(clash.as_bytes(), &options, id).has_id);
    }
}
