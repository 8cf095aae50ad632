//! The costs of an event: rows that are read and written, their bytes, and allocations. Counts are the same on every
//! machine, so they show a change that makes events dearer even if times vary.
//!
//! A count beyond its bound is not forbidden: measure what it costs with `make bench SCENARIO=services`, say it in the
//! commit, and raise the bound.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use std::alloc::System;
use std::sync::Arc;

use bridge_core::derive::{Derivation, DerivedRow, DerivedState, ObservedChange, RestOfTransaction};
use bridge_core::journal::JournalError;
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, Op, ServiceEventType, Timestamp};
use bridge_services::{MemoryState, ServiceConfig, ServiceMachine};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Rows in memory that count what is asked of them.
#[derive(Default)]
struct CountedState {
    rows: MemoryState,
    reads: usize,
    writes: usize,
    lists: usize,
    written_bytes: usize,
}

impl DerivedState for CountedState {
    fn get(&mut self, key: &[u8]) -> Result<Option<Arc<[u8]>>, JournalError> {
        self.reads += 1;
        self.rows.get(key)
    }

    fn put(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<(), JournalError> {
        self.writes += 1;
        self.written_bytes += key.len() + row.map_or(0, <[u8]>::len);
        self.rows.put(key, row)
    }

    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DerivedRow>, JournalError> {
        self.lists += 1;
        self.rows.scan(prefix, after, limit)
    }
}

const INSTANCES: usize = 500;

/// A write of each instance. Returns the events.
fn write_all(machine: &mut ServiceMachine, state: &mut CountedState, version: i32) -> usize {
    let mut events = 0;
    for instance in 0..INSTANCES {
        let path = ZnodePath::parse(&format!("/services/pay/i-{instance:05}")).unwrap();
        let text = format!("host=10.0.0.7&port=8080&version={version}&zone=a");
        let czxid = 0x10 + instance as u64;
        let zxid = Zxid(czxid + 0x1000 * u64::from(version.cast_unsigned()));
        let change = ObservedChange {
            root: None,
            path: &path,
            op: if version == 0 { Op::Create } else { Op::Update },
            id: Uuid::from_u128(zxid.0.into()),
            zxid: Some(zxid),
            is_exact: true,
            czxid: Zxid(czxid),
            owner: SessionId(7),
            fidelity: Fidelity::Exact,
            missed: Some(0),
            changed: None,
            captured: Timestamp(1_795_355_000_000),
            data: Some(&Data::limited(text.as_bytes(), DataForm::Auto, 1 << 20)),
            txn: None,
        };
        machine.change(&change, state).unwrap();
        let found = machine.complete(RestOfTransaction::None, state).unwrap();
        let kind = match version {
            0 => ServiceEventType::InstanceUp,
            _ => ServiceEventType::InstanceChanged,
        };
        events += found.iter().filter(|derived| derived.event.kind == kind).count();
    }
    events
}

#[track_caller]
fn check(what: &str, counted: usize, bound: f64) {
    let each = counted as f64 / INSTANCES as f64;
    println!("{what}: {each:.2} of {bound}");
    assert!(
        each <= bound,
        "{what}: {each:.2} for each event, more than {bound}"
    );
    assert!(
        each * 2.0 >= bound,
        "{what}: only {each:.2} for each event, so the bound of {bound} guards nothing any more: lower it"
    );
}

#[test]
fn an_instance_that_changes_reads_few_rows_writes_two_short_ones_and_lists_none() {
    let config: ServiceConfig = serde_json::from_value(serde_json::json!({
        "format": "generic",
        "path": "/services/{service}/{instance}",
        "decode": "query",
        "identity": "{instance}",
        "version": "/version",
        "zone": "/zone",
        "endpoints": {"host": "/host", "port": "/port"},
    }))
    .unwrap();
    let mut machine = ServiceMachine::new("main", &[config]).unwrap();
    let mut state = CountedState::default();
    machine.begin(&mut state).unwrap();
    machine.filled();
    assert_eq!(write_all(&mut machine, &mut state, 0), INSTANCES);
    assert_eq!(write_all(&mut machine, &mut state, 1), INSTANCES);
    state = CountedState {
        rows: state.rows,
        ..CountedState::default()
    };
    let region = Region::new(ALLOCATOR);
    assert_eq!(write_all(&mut machine, &mut state, 2), INSTANCES);
    let change = region.change();
    // Those of the znode and the instance, and once more that of the znode, and the service.
    check("rows read", state.reads, 4.0);
    check("rows written", state.writes, 2.0);
    assert_eq!(state.lists, 0, "the newest registration is known");
    check("bytes of rows written", state.written_bytes, 300.0);
    check("allocations", change.allocations + change.reallocations, 200.0);
}
