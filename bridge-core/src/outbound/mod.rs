//! Shared parts of the sinks that send messages.
//!
//! A [`Projection`] makes messages of a record, [`fit`] makes them no larger than the destination takes, [`NameTemplate`]
//! names where they go, a [`BodyTemplate`] writes their bodies as a user wants them, [`SendQueue`] holds those in flight,
//! and [`Tally`] settles a batch and makes the report of `deliver` from it. A [`TreeTemplate`] writes a file of the znodes
//! of a subtree.
//!
//! *Invariants.* Nothing in here depends on a destination, a client library or a protocol.

mod fitting;
pub mod headers;
mod json_only;
mod lines;
mod message_body;
mod message_filters;
mod message_template;
mod message_variables;
mod name_template;
mod plain;
mod projection;
mod queue;
mod tag_length;
mod tally;
mod template;
mod tree_template;
mod tree_values;

pub use fitting::{Fitted, Misfit, fit, least_size};
pub use json_only::{JsonOnly, NotJson};
pub use lines::{LineProjection, lines};
pub use message_body::{BodyTemplate, JSON_MEDIA_TYPE};
pub use message_filters::cut;
pub use message_template::{MessageTemplate, TemplateFailure, TemplateForm};
pub use message_variables::MessageSubject;
pub use name_template::{NameRules, NameTemplate, escaped_name, hashed_rest};
pub use projection::{MessagePlace, Messages, Projection, message_id};
pub use queue::{MessageTicket, SendOutcome, SendQueue};
pub use tally::Tally;
pub use tree_template::TreeTemplate;
