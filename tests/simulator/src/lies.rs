//! Wrong habits that concern what a bridge believes of its answers: the answers are forged before the machine sees them,
//! so that it decides as a machine with that habit would.

use std::collections::HashMap;

use bridge_core::capture::{AclOutcome, CaptureState, Input, Outcome};
use bridge_core::image_txn::ImageTxn;
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::pipeline::Flow;
use bridge_core::record::Stat;
use bridge_core::source::SourceEvent;

use crate::controls::Habit;
use crate::journal::Tap;

/// Forges reports.
pub struct Liar {
    habit: Option<Habit>,
    /// The last event of each path.
    events: HashMap<ZnodePath, Zxid>,
    /// The paths of each read under way.
    reads: HashMap<u64, Vec<ZnodePath>>,
    /// The last Stat of each path.
    stats: HashMap<ZnodePath, Stat>,
}

impl Liar {
    /// Without a habit it never lies.
    pub fn new(habit: Option<Habit>) -> Liar {
        Liar {
            habit,
            events: HashMap::new(),
            reads: HashMap::new(),
            stats: HashMap::new(),
        }
    }

    /// Remembers what a read asked for.
    pub fn asked(&mut self, ticket: u64, paths: Vec<ZnodePath>) {
        if self.habit.is_some() {
            self.reads.insert(ticket, paths);
        }
    }

    /// Changes what a bridge with the habit would not have noticed.
    pub fn forge(&mut self, report: &mut SourceEvent, flow: &mut Flow<Tap>) {
        match (self.habit, report) {
            (Some(Habit::WrongZxid), SourceEvent::Input(Input::Events(events))) => {
                let known = events
                    .iter()
                    .filter_map(|event| Some((event.path.clone(), event.zxid?)));
                self.events.extend(known);
            }
            (Some(habit), SourceEvent::Input(Input::Answer { ticket, outcomes })) => {
                let paths = self.reads.remove(&ticket.0).unwrap_or_default();
                for (path, outcome) in paths.iter().zip(outcomes) {
                    match habit {
                        Habit::VersionOnly => same_version_is_same(path, outcome, flow),
                        Habit::WrongZxid => self.value_of_last_event(path, outcome),
                        Habit::ListUnchecked => self.remember(path, outcome),
                        _ => {}
                    }
                }
            }
            (Some(Habit::ListUnchecked), SourceEvent::Input(Input::Acls { ticket, outcomes })) => {
                let paths = self.reads.remove(&ticket.0).unwrap_or_default();
                for (path, outcome) in paths.iter().zip(outcomes) {
                    if let (Some(known), AclOutcome::Found { stat, .. }) = (self.stats.get(path), outcome) {
                        *stat = *known;
                    }
                }
            }
            _ => {}
        }
    }

    fn remember(&mut self, path: &ZnodePath, outcome: &Outcome) {
        if let Outcome::Found { stat, .. } = outcome {
            self.stats.insert(path.clone(), *stat);
        }
    }

    /// The value that was read is taken for that of the event that led to the read.
    fn value_of_last_event(&self, path: &ZnodePath, outcome: &mut Outcome) {
        if let (Some(event), Outcome::Found { stat, .. }) = (self.events.get(path), outcome)
            && *event > stat.czxid
        {
            stat.mzxid = *event;
        }
    }
}

fn same_version_is_same(path: &ZnodePath, outcome: &mut Outcome, flow: &mut Flow<Tap>) {
    if flow.machine().state() != CaptureState::Walking {
        return;
    }
    let known = flow
        .journal()
        .node(path)
        .ok()
        .flatten()
        .and_then(|node| node.stat);
    if let (Some(known), Outcome::Found { stat, .. }) = (known, outcome)
        && known.version == stat.version
    {
        (stat.czxid, stat.mzxid) = (known.czxid, known.mzxid);
        stat.pzxid = stat.pzxid.max(known.pzxid);
    }
}
