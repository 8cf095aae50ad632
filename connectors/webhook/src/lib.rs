//! The webhook sink: change records as HTTP requests, signed after Standard Webhooks 1.0, at least once, in order per
//! path.
//!
//! | file | role |
//! | --- | --- |
//! | `config` | the options that users see |
//! | `signature` | secrets, and what they sign |
//! | `encode` | records as bodies; pure |
//! | `written` | requests that a user's templates write; pure |
//! | `preset` | messages for Slack, Teams, Discord, PagerDuty, Opsgenie and Alertmanager; pure |
//! | `path_queues` | which records go next; pure |
//! | `address` | which addresses may be reached; pure |
//! | `resolve` | names to addresses, checked where the connection is made |
//! | `transport` | proxy, TLS and the client |
//! | `http_sender` | one request and its answer |
//! | `consent` | the consent of the receiver, and the rate that it allows |
//! | `memory` | which failures are of one path and which of the receiver, from call to call |
//! | `sink` | the conversation with the receiver |
//! | `error` | answers and failures as kinds of the engine |
//!
//! This crate must never report a record as delivered before a 2xx answer to the request that held it, never have two
//! requests of a path in flight, never follow a redirect, and never show a secret, a path or a query of an address.

mod address;
mod config;
mod consent;
mod encode;
mod error;
mod http_sender;
mod memory;
mod path_queues;
mod preset;
mod resolve;
mod signature;
mod sink;
#[cfg(test)]
mod tests;
mod transport;
mod written;

pub use config::{Consent, HttpVersion, Tls, WebhookConfig};
pub use preset::{Preset, PresetMessages, PresetRequest};
pub use sink::WebhookSink;
