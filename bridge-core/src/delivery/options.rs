//! The delivery options of every sink: plain values, read from a configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::amount::{Patience, Span};
use crate::issue::ConfigIssue;
use crate::number::Seq;

/// Selects the records of a sink. Records that are filtered out move the sink's cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Globs of paths, after the source's roots: `*` within one name, `**` across names. Empty: every path. Control
    /// records have no path and are chosen by `ops` alone.
    pub paths: Vec<String>,
    /// The operations whose records are delivered.
    pub ops: Vec<OpClass>,
    /// The kinds of znodes whose records are delivered.
    pub ephemeral: Ephemeral,
    /// Globs of services whose events are delivered, as in `payments*`; empty means all. Like the next three only for
    /// formats of service events.
    pub services: Vec<String>,
    /// Globs of instances whose events are delivered; empty means all. Other events have no instance and pass.
    pub instances: Vec<String>,
    /// Globs of types of service events, as in `instance.*`; empty means all.
    pub events: Vec<String>,
    /// Globs of zones; empty means all. Events without a zone pass only where it is empty.
    pub zones: Vec<String>,
    /// Deliver one `instances.down` in the place of the many `instance.down` and `service.unavailable` of one moment. For
    /// people; a program wants each event.
    pub summaries: bool,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter {
            paths: Vec::new(),
            ops: OpClass::ALL.to_vec(),
            ephemeral: Ephemeral::Any,
            services: Vec::new(),
            instances: Vec::new(),
            events: Vec::new(),
            zones: Vec::new(),
            summaries: false,
        }
    }
}

/// An operation as filters name it: control records are one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, VariantArray)]
#[serde(rename_all = "snake_case")]
pub enum OpClass {
    /// A znode was created.
    Create,
    /// Its data was written.
    Update,
    /// It was deleted.
    Delete,
    /// Its access control list was changed.
    Acl,
    /// It existed when a snapshot listed it.
    Snapshot,
    /// The beginning and end of snapshots and gaps, and heartbeats.
    Control,
}

impl OpClass {
    /// Every class, the default of a sink.
    pub const ALL: &[OpClass] = OpClass::VARIANTS;
}

/// The kinds of znodes whose records a sink gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ephemeral {
    /// All.
    #[default]
    Any,
    /// Those that are known to be ephemeral.
    Only,
    /// All but those that are known to be ephemeral.
    Never,
}

/// The start of a sink that has no cursor in the journal.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Start {
    /// With the present state: every znode that exists, once, and then each change. Deleted znodes, earlier values, and
    /// znodes that the source no longer watches are left out.
    #[default]
    Snapshot,
    /// With the next change. Right for notifications.
    Now,
    /// With the oldest record that the journal holds: the history of the source.
    Earliest,
}

/// Where the delivery to a new sink begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstCursor {
    /// Records up to it are not delivered.
    pub cursor: Seq,
    /// Whether the sink first gets a run of its own with the present state ([`crate::journal::SinkRun`]).
    pub has_snapshot: bool,
}

impl Start {
    /// As in a configuration.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The cursor of a new sink. `oldest` is the first record that the journal still holds, `tail` the last that it
    /// ever held. An empty journal needs no snapshot: the first listing of the source is one.
    pub fn first_cursor(self, oldest: Option<Seq>, tail: Seq) -> FirstCursor {
        let before_oldest = oldest.map_or(tail, |oldest| Seq(oldest.0.saturating_sub(1)));
        FirstCursor {
            cursor: match self {
                Start::Snapshot | Start::Now => tail,
                Start::Earliest => before_oldest,
            },
            has_snapshot: self == Start::Snapshot && tail > Seq::ZERO,
        }
    }
}

/// Retries of a failed delivery: exponential backoff with full jitter, reset by a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The upper bound of the wait before the first retry; it doubles with each failure. At least 1ms.
    pub first: Span,
    /// The upper bound of every wait.
    pub max: Span,
    /// The time after which the sink halts instead, or a record whose path fails alone becomes a dead letter, counted from
    /// the first of the failures.
    pub give_up_after: Patience,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            first: Span::millis(100),
            max: Span::secs(30),
            give_up_after: Patience::Never,
        }
    }
}

impl Retry {
    /// Everything about the options that cannot work, or is surely not meant.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        if self.first < Span::millis(1) {
            found.push(ConfigIssue::error(
                "retry.first",
                format!("a destination that is down would be asked every {}", self.first),
                "give \"1ms\" or more",
            ));
        }
        if self.max < self.first {
            found.push(ConfigIssue::error(
                "retry.max",
                format!("{} is shorter than retry.first, {}", self.max, self.first),
                "give a longer max or a shorter first",
            ));
        }
        found
    }
}

/// The handling of records that a destination can never accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RejectPolicy {
    /// The action for a record that the destination can never accept.
    pub on_reject: OnReject,
    /// The action for the later records of its path.
    pub rejected_path: RejectedPath,
}

/// The action for a rejected record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnReject {
    /// The record is stored as a dead letter with its reason, and delivery goes on.
    #[default]
    DeadLetter,
    /// The sink halts before the record. Later records that were in flight with it may have arrived; they are delivered
    /// again after it.
    Halt,
}

/// The action for the later records of a rejected record's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectedPath {
    /// They are delivered.
    #[default]
    Continue,
    /// They become dead letters after it, in order, until an operator retries or drops them; none overtakes the
    /// rejected one. A batch then holds at most one record of a path, so paths that change often are slower.
    Block,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_to_be_chosen() {
        let filter: Filter = serde_json::from_str("{}").unwrap();
        assert_eq!(filter, Filter::default());
        let retry: Retry = serde_json::from_str(r#"{"max": "5s"}"#).unwrap();
        assert_eq!(retry.max, Span::secs(5));
        assert_eq!(retry.first, Retry::default().first);
        let policy: RejectPolicy = serde_json::from_str(r#"{"rejected_path": "block"}"#).unwrap();
        assert_eq!(
            (policy.on_reject, policy.rejected_path),
            (OnReject::DeadLetter, RejectedPath::Block)
        );
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = serde_json::from_str::<Retry>(r#"{"maximum": "5s"}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `maximum`"), "{error}");
    }

    #[test]
    fn retries_without_a_pause_or_with_crossed_bounds_are_refused() {
        let check = |first, max, expected: &[&str]| {
            let retry = Retry {
                first: Span::millis(first),
                max: Span::millis(max),
                give_up_after: Patience::Never,
            };
            let keys: Vec<String> = retry.objections().into_iter().map(|found| found.key).collect();
            assert_eq!(keys, expected, "{retry:?}");
        };
        check(100, 30_000, &[]);
        check(10, 10, &[]);
        check(0, 10, &["retry.first"]);
        check(20, 10, &["retry.max"]);
    }

    #[test]
    fn a_new_sink_starts_with_the_present_state_the_next_change_or_the_history() {
        let check = |start: Start, oldest: Option<u64>, tail, cursor, has_snapshot| {
            let expected = FirstCursor {
                cursor: Seq(cursor),
                has_snapshot,
            };
            assert_eq!(
                start.first_cursor(oldest.map(Seq), Seq(tail)),
                expected,
                "{start:?}"
            );
        };
        check(Start::Earliest, Some(1), 9, 0, false);
        check(Start::Earliest, Some(4), 9, 3, false);
        check(Start::Earliest, None, 9, 9, false);
        check(Start::Earliest, None, 0, 0, false);
        check(Start::Now, Some(4), 9, 9, false);
        // Never the history, whether retention has removed its first records or not.
        check(Start::Snapshot, Some(1), 9, 9, true);
        check(Start::Snapshot, Some(4), 9, 9, true);
        check(Start::Snapshot, None, 9, 9, true);
        check(Start::Snapshot, None, 0, 0, false);
    }
}
