//! The leaders of Hadoop: HDFS name nodes and YARN resource managers.

use bridge_core::record::Endpoint;

use super::{Decoded, Decoder, Leader, Znode, leader};
use crate::protobuf::{fields, port, text};

/// The znode of the leader. `ActiveBreadCrumb` beside it names a node to fence and is no leader.
const LOCK: &str = "ActiveStandbyElectorLock";

/// `{base}/{nameservice}/ActiveStandbyElectorLock`: 1 nameservice, 2 id, 3 host, 4 port.
pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    let &[service, LOCK] = names else {
        return Decoded::Nothing;
    };
    leader(znode, decoder.at_base(service), service, |bytes| {
        let found = fields(bytes)?;
        let endpoint = text(&found, 3).map(|host| Endpoint {
            host,
            port: port(&found, 4),
            ..Endpoint::default()
        });
        Some(Leader {
            name: Some(text(&found, 2)?),
            endpoints: endpoint.into_iter().collect(),
        })
    })
}

/// `{base}/{cluster}/ActiveStandbyElectorLock`: 1 cluster, 2 id of the resource manager.
pub(super) fn decode_yarn(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    let &[cluster, LOCK] = names else {
        return Decoded::Nothing;
    };
    leader(znode, decoder.at_base(cluster), cluster, |bytes| {
        Some(Leader {
            name: Some(text(&fields(bytes)?, 2)?),
            endpoints: Vec::new(),
        })
    })
}
