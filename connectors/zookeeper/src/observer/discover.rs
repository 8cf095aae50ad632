//! Finds the quorum ports of an ensemble in its own configuration (3.5 and newer), over its client port.

use std::time::Duration;

use bridge_core::source::{SourceError, SourceErrorKind};
use tokio::time::timeout;

use super::attempts::ServerOrder;
use super::driver::CONNECT_TIMEOUT;
use super::members::{QuorumAddress, members};
use super::options::ObserverOptions;
use crate::config::ZookeeperConfig;
use crate::connect::connect;
use crate::error::words;

/// How long the answer may take once there is a session.
const BOUND: Duration = Duration::from_secs(10);

/// The quorum ports to try, in order, each once. The ensemble is asked for its configuration if the order needs it. May
/// be cancelled.
///
/// # Errors
///
/// If no server is known, why the ensemble names none.
pub(super) async fn candidates(
    order: &mut ServerOrder,
    options: &ObserverOptions,
    config: &ZookeeperConfig,
) -> Result<Vec<QuorumAddress>, SourceError> {
    if order.asks(options) {
        let knows_any = order.knows_any(options);
        // Servers that are known do not wait for client ports that are silent.
        let bound = if knows_any { CONNECT_TIMEOUT } else { Duration::MAX };
        match timeout(bound, configuration_of(config)).await {
            Ok(Ok(text)) => order.configured(members(&text)),
            Ok(Err(error)) if !knows_any => return Err(error),
            Ok(Err(error)) => tracing::debug!(%error, "the servers that are known are tried again"),
            Err(_) => tracing::debug!("no client port answers: the servers that are known are tried again"),
        }
    }
    Ok(order.order(options))
}

/// The configuration of the ensemble, which names at least one server.
pub(super) async fn configuration_of(config: &ZookeeperConfig) -> Result<Vec<u8>, SourceError> {
    let connected = connect(config).await?;
    let unavailable = |reason: String| SourceError {
        kind: SourceErrorKind::Unavailable,
        message: format!(
            "the quorum ports of '{}' cannot be found: {reason}; name them in observer.servers, as in \"zk1:2888\"",
            config.connect.as_str()
        ),
    };
    let (text, _) = match timeout(BOUND, connected.client.get_config()).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(unavailable(format!("/zookeeper/config: {}", words(&error)))),
        Err(_) => return Err(unavailable(format!("no answer within {} s", BOUND.as_secs()))),
    };
    if members(&text).iter().all(|member| member.addresses.is_empty()) {
        return Err(unavailable(
            "/zookeeper/config names no server, as that of a standalone server does (standaloneEnabled=false gives it a \
             quorum port)"
                .to_owned(),
        ));
    }
    Ok(text)
}
