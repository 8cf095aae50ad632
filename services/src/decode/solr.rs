//! Solr: live nodes, and the leaders that the overseer's and the shards' leader znodes name.
//!
//! The queues of its elections only count: a node that joins at the head takes the number of the second.

use super::{Candidate, Decoded, Decoder, Leader, Mode, Place, Znode, leader};
use crate::payload::{host_port, object, text_of};
use crate::registration::Registration;
use crate::url::form_decode;

const SERVICE: &str = "solr";

pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    match *names {
        ["live_nodes", node] => live_node(decoder, node),
        ["overseer_elect", "leader"] => {
            leader(znode, decoder.at_base("overseer_elect"), "overseer", named_by_id)
        }
        ["overseer_elect", "election", name] => {
            candidate(decoder.at_base("overseer_elect"), "overseer".to_owned(), name)
        }
        ["collections", collection, "leaders", shard, "leader"] => leader(
            znode,
            shard_election(decoder, collection, shard),
            format!("{collection} {shard}"),
            named_by_node,
        ),
        ["collections", collection, "leader_elect", shard, "election", name] => candidate(
            shard_election(decoder, collection, shard),
            format!("{collection} {shard}"),
            name,
        ),
        _ => Decoded::Nothing,
    }
}

fn shard_election(decoder: &Decoder, collection: &str, shard: &str) -> String {
    decoder.at_base(&format!("collections/{collection}/leaders/{shard}"))
}

/// `host:port_context`, the context in URL encoding.
fn live_node(decoder: &Decoder, node: &str) -> Decoded {
    let place = Place::new(SERVICE, decoder.at_base("live_nodes"));
    let mut registration = Registration::default();
    let (address, context) = node.rsplit_once('_').unwrap_or((node, ""));
    let Some((host, port)) = host_port(address) else {
        return place
            .of(node)
            .unreadable("a name that is not 'host:port_context'".to_owned());
    };
    registration.endpoint(None, None, &host, port);
    if let Some(context) = form_decode(context).filter(|context| !context.is_empty()) {
        registration.meta("context", &context.into());
    }
    place.live(node.to_owned(), registration)
}

fn named_by_id(bytes: &[u8]) -> Option<Leader> {
    let id = text_of(&object(bytes).ok()?, "id")?;
    Some(Leader {
        name: Some(node_of(&id)?.to_owned()),
        endpoints: Vec::new(),
    })
}

fn named_by_node(bytes: &[u8]) -> Option<Leader> {
    let found = object(bytes).ok()?;
    let name = text_of(&found, "node_name").or_else(|| text_of(&found, "core"))?;
    Some(Leader {
        name: Some(name),
        endpoints: Vec::new(),
    })
}

/// The node in `{session}-{node}-n_{sequence}`.
fn node_of(id: &str) -> Option<&str> {
    let (_, rest) = id.split_once('-')?;
    rest.rsplit_once("-n_").map(|(node, _)| node)
}

fn candidate(election: String, service: String, name: &str) -> Decoded {
    Decoded::Candidate {
        election,
        service,
        candidate: Candidate {
            name: Some(node_of(name).unwrap_or(name).to_owned()),
            order: name.to_owned(),
            sequence: None,
            mode: Mode::Write,
            is_lock: false,
            only_counts: true,
        },
    }
}
