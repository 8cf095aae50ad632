//! Service, election and lock events: decoders of the conventions that registries keep in ZooKeeper, and a machine that
//! turns changes of znodes into events.
//!
//! ```text
//! change (raw bytes) ──▶ decode ──▶ rows: registrations, queues ──▶ compare with the announced state ──▶ events
//! ```
//!
//! *Invariants.*
//!
//! * Pure: it opens no file and no socket, reads no clock and does not wait. Its state is rows that the caller keeps
//!   ([`bridge_core::derive::DerivedState`]), so that the same changes on the same rows give the same events.
//! * No payload causes a panic, an allocation without a bound or a wrong `down`: a registration that cannot be decoded
//!   keeps its last facts, and an event names it.
//! * An event is the difference between the state that was announced last and the state after a whole transaction of the
//!   ensemble, or after a whole gap.

mod announce;
mod availability;
mod batches;
mod causes;
mod code;
mod config;
mod deadlines;
mod decode;
mod election;
mod flaps;
mod group;
mod keys;
mod levels;
mod linking;
mod locks;
mod machine;
mod memory;
mod past;
mod payload;
mod present;
mod protobuf;
mod recognition;
mod registration;
mod renaming;
mod rows;
mod sections;
mod sentence;
mod shown;
mod speaking;
mod subjects;
mod summaries;
mod template;
mod url;

pub use config::{
    DecodeFrom, Decoding, EndpointsAt, FlapLimit, SECTIONS_MAX, ServiceConfig, ServiceFormat, StatusAt,
    Unwrapping, UrlForm,
};
pub use machine::ServiceMachine;
pub use memory::MemoryState;
pub use past::{PastMoment, PastServices};
pub use present::{Present, PresentInstance, PresentLeader};
pub use recognition::{ProposedSection, Recognition};
pub use shown::{shown_endpoint, shown_instance};
