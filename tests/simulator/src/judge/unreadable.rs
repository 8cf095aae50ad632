//! What the journal says of znodes that may not be read: of each of them, and of none since later than its state is known.

use std::collections::BTreeMap;

use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::testing::Znode;
use bridge_core::unreadable_span::{UnreadableExtent, UnreadableSpan};

use crate::ensemble::Ensemble;

/// Judges a span that has begun with the last commit.
///
/// # Panics
///
/// If its znode was changed before its begin, and the journal does not have the change.
pub fn check_begin(span: &UnreadableSpan, image: &BTreeMap<ZnodePath, Znode>, ensemble: &Ensemble) {
    let upto = span.since.zxid;
    // Of a znode that was never read nothing is claimed.
    if span.extent != UnreadableExtent::Znode || upto == Zxid::ZERO {
        return;
    }
    let lives = ensemble.truth.lives(&span.path);
    let then = lives
        .iter()
        .rev()
        .find(|life| life.czxid <= upto && life.gone.is_none_or(|gone| gone > upto));
    let then = then.map(|life| (life.gone, life.version_at(upto)));
    let path = &span.path;
    match (image.get(path).map(|znode| znode.node().mzxid()), then) {
        // A record of the same commit is later.
        (Some(known), _) if known > upto => {}
        (Some(known), then) => assert_eq!(
            then.and_then(|(_, version)| version),
            Some(known),
            "{path} is said to be known up to {upto}: its version then, and the one that the journal has"
        ),
        (None, Some((None, version))) => {
            panic!(
                "{path} is said to be known up to {upto}, was written at {version:?}, and the journal has nothing of it"
            )
        }
        (None, _) => {}
    }
}

/// Judges the spans at rest. `named`: the znodes that the bridge says it may not read.
///
/// # Panics
///
/// If a znode may not be read and has none, or has one and is not said to be unreadable.
pub fn check_open(spans: &[UnreadableSpan], named: &[ZnodePath], topmost: &[ZnodePath]) {
    let open: Vec<&UnreadableSpan> = spans.iter().filter(|span| span.until.is_none()).collect();
    for path in topmost {
        assert!(
            open.iter().any(|span| span.path.covers(path)),
            "{path} may not be read, and the journal does not say so: {open:?}"
        );
    }
    for span in open {
        assert!(
            named.iter().any(|path| path.covers(&span.path)),
            "the journal says that {} may not be read, and the bridge does not: {named:?}",
            span.path
        );
    }
}
