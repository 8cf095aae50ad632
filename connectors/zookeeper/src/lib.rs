//! The ZooKeeper source: one session, its watches and its reads.
//!
//! [`ZookeeperSource`] keeps a session and does what the capture machine asks for. It decides nothing about changes:
//! it hands over every event and every answer in the order of the connection.

pub mod acl;
mod canary;
pub mod config;
mod connect;
mod convert;
mod error;
mod handshake;
pub mod observer;
mod own_thread;
mod probe;
mod reads;
mod reconnects;
mod serve;
mod source;
mod survey;
mod throttle;
mod tree_writer;
pub mod txnlog;
mod watchers;
pub mod who;

pub use canary::fresh_canary;
pub use connect::{Checked, RootFound, ask_server, remark_on_timeout, test_connection};
pub use handshake::probe_encrypted;
pub use probe::{Probe, probe};
pub use source::ZookeeperSource;
pub use survey::Survey;
pub use tree_writer::{TreeWrite, TreeWriter, WriteError, WriteRefusal};
