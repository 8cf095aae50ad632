//! The state and the counters of a machine, as an operator sees them.

use std::collections::BTreeMap;

use strum::IntoStaticStr;

use crate::number::Zxid;
use crate::record::{Fidelity, GapReason, Op};

/// The state of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CaptureState {
    /// No connection.
    Detached,
    /// The watches are being armed.
    Arming,
    /// The tree is being listed and compared.
    Walking,
    /// Every change is recorded from its event.
    Live,
    /// Stopped until an operator decides.
    Halted,
}

impl CaptureState {
    /// The word in metrics, logs and `/status`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether there is a connection.
    pub fn is_connected(self) -> bool {
        match self {
            CaptureState::Arming | CaptureState::Walking | CaptureState::Live => true,
            CaptureState::Detached | CaptureState::Halted => false,
        }
    }

    /// Whether a change that happens now gives an event.
    pub fn is_armed(self) -> bool {
        match self {
            CaptureState::Walking | CaptureState::Live => true,
            CaptureState::Detached | CaptureState::Arming | CaptureState::Halted => false,
        }
    }
}

/// The history of a machine that takes transactions, for its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryReport {
    /// The last transaction that the journal has applied; `None` before the first connection.
    pub position: Option<Zxid>,
    /// How it is proved.
    pub proof: ProofReport,
    /// Znodes of a staged tree that were compared, while one is.
    pub compared: Option<u64>,
}

/// How the history is proved. Counted since the machine was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofReport {
    /// The option `proof`, or what is left of it where the journal has masks.
    pub mode: &'static str,
    /// The last transaction that a digest has proved.
    pub zxid: Option<Zxid>,
    /// Transactions whose digest was compared and equal.
    pub checked: u64,
    /// Transactions that change something and were taken without a comparison of digests.
    pub unproven: u64,
    /// Digests that were another one. Each is a gap.
    pub mismatched: u64,
    /// Why nothing is compared at present, although the mode compares digests.
    pub suspended: Option<&'static str>,
}

/// Counters since the machine was created. They only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Watch events.
    pub events: u64,
    /// Znodes read.
    pub reads: u64,
    /// MultiReads sent.
    pub requests: u64,
    /// Records by op and fidelity.
    pub records: RecordCounts,
    /// Versions that were never read.
    pub missed: u64,
    /// Versions known to be overwritten before they could be read.
    pub superseded: u64,
    /// Gaps by reason.
    pub gaps: BTreeMap<&'static str, u64>,
    /// Samples that equal the image, and events of the canary: each proves that the watch is active.
    pub liveness_checks: u64,
    /// `acl` records without the list, although the options ask for it.
    pub unread_acls: u64,
    /// Values that are not JSON, although the options ask for it.
    pub not_json: u64,
    /// Finished walks.
    pub walks: u64,
}

/// The number of records of each op and fidelity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    total: u64,
    each: [[u64; FIDELITIES.len()]; Op::ALL.len()],
}

const FIDELITIES: [(Fidelity, &str); 2] = [(Fidelity::Exact, "exact"), (Fidelity::Reconciled, "reconciled")];

impl RecordCounts {
    /// All records.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The counts that are not zero, with the names of op and fidelity.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let kinds = Op::ALL
            .iter()
            .flat_map(|op| FIDELITIES.map(|fidelity| (*op, fidelity)));
        kinds
            .map(|(op, (fidelity, name))| (op.as_str(), name, self.each[op as usize][fidelity as usize]))
            .filter(|(.., count)| *count > 0)
    }
}

impl Counters {
    pub(crate) fn record(&mut self, op: Op, fidelity: Fidelity) {
        self.records.total += 1;
        self.records.each[op as usize][fidelity as usize] += 1;
    }

    pub(crate) fn exact_updates(&self) -> u64 {
        self.records.each[Op::Update as usize][Fidelity::Exact as usize]
    }

    pub(crate) fn gap(&mut self, reason: GapReason) {
        *self.gaps.entry(reason.as_str()).or_default() += 1;
    }
}
