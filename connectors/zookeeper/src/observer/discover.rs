//! Finds the quorum ports of an ensemble in its own configuration (3.5 and newer), over its client port.

use std::time::Duration;

use bridge_core::source::{SourceError, SourceErrorKind};
use tokio::time::timeout;

use super::members::{Member, members};
use crate::config::ZookeeperConfig;
use crate::connect::connect;
use crate::error::words;

/// How long the answer may take once there is a session.
const BOUND: Duration = Duration::from_secs(10);

/// The servers in the configuration of the ensemble.
pub(super) async fn members_of(config: &ZookeeperConfig) -> Result<Vec<Member>, SourceError> {
    let text = configuration_of(config).await?;
    Ok(members(&text))
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
