//! Reads committed transactions from the quorum port of a leader, as an observer does.
//!
//! ```text
//!            thread of the connection                    driver
//! leader ──▶ packets ─▶ learner ─▶ spool (memory, file) ─▶ transactions, staged trees ─▶ machine
//!        ◀── answers ◀──┘                                 ◀─ position, reads of the stage ◀─┘
//! ```
//!
//! `learner` is the protocol without a socket, `transport` the connection with encryption and authentication,
//! `conversation` the thread that reads, `attempts` which
//! servers are tried in which order, and when. `spool` keeps what has arrived until it is taken. `driver` makes the
//! connections and reports to the machine, in which `filling` reads logs in place of a tree, `stop` is why it ends one, `stage` makes an exact tree of the one that a
//! leader sends, `to_core` converts transactions, `discover` finds the quorum ports and `refusal` explains why none is
//! open. `examine` tries all of it for `doctor`. Nothing here decides about records.
//!
//! Invariants:
//!
//! * The leader is never harmed: the socket is always drained, the spool has a bound, and a connection is given up
//!   rather than left to the leader's queue, which has none.
//! * Only five kinds of packets can be sent, none of which is a vote, a request, or an acknowledgement of a transaction.
//! * The id of the observer is none that a server of the ensemble has.

mod attempts;
mod conversation;
mod digest_md5;
mod discover;
mod driver;
mod examine;
mod learner;
mod members;
mod options;
mod refusal;
mod spool;
pub(crate) mod stage;
mod stop;
pub(crate) mod to_core;
mod transport;

pub use driver::ObserverSource;
pub use examine::{EnsembleMembers, QuorumExamination, examine_quorum};
pub use members::{BadQuorumAddress, QuorumAddress};
pub use options::{ObserverOptions, QuorumSasl};
