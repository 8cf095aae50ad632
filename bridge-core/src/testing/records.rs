//! Records for tests.

use std::sync::Arc;

use uuid::Uuid;

use crate::number::{Epoch, Seq, SessionId, Zxid};
use crate::path::ZnodePath;
use crate::record::{
    Data, DataForm, Fidelity, Gap, GapReason, Identity, Mode, Op, Origin, Record, Run, SchemaName,
    ServiceEvent, ServiceEventType, Stat, State, Times, Timestamp, ZxidKind,
};

/// Builds a record; what is not said is an `update` of `/services/a` with seq 1 from `1` to `2`.
#[derive(Clone, Debug)]
pub struct RecordBuilder {
    seq: u64,
    path: String,
    op: Op,
    before: Vec<u8>,
    after: Vec<u8>,
    ephemeral: Option<bool>,
    fidelity: Fidelity,
    missed: Option<u64>,
    captured_ms: i64,
    limit: usize,
    nodes: u64,
    reason: GapReason,
}

/// A record to change.
pub fn a_record() -> RecordBuilder {
    RecordBuilder {
        seq: 1,
        path: "/services/a".into(),
        op: Op::Update,
        before: b"1".to_vec(),
        after: b"2".to_vec(),
        ephemeral: Some(false),
        fidelity: Fidelity::Exact,
        missed: Some(0),
        captured_ms: 1_795_354_800_125,
        limit: usize::MAX,
        nodes: 12,
        reason: GapReason::Disconnected,
    }
}

impl RecordBuilder {
    /// Its position; also the version, so that records of one path have different ids.
    pub fn seq(mut self, seq: u64) -> Self {
        self.seq = seq;
        self
    }

    /// Its znode.
    pub fn path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    /// The operation.
    pub fn op(mut self, op: Op) -> Self {
        self.op = op;
        self
    }

    /// A control record.
    ///
    /// # Panics
    ///
    /// If the op is not that of a control record.
    pub fn control(self, op: Op) -> Self {
        assert!(op.is_control(), "{op:?} is no control record");
        self.op(op)
    }

    /// The data before.
    pub fn before(mut self, data: impl AsRef<[u8]>) -> Self {
        self.before = data.as_ref().to_vec();
        self
    }

    /// The data after.
    pub fn after(mut self, data: impl AsRef<[u8]>) -> Self {
        self.after = data.as_ref().to_vec();
        self
    }

    /// Whether the znode is ephemeral, if that is known.
    pub fn ephemeral(mut self, ephemeral: Option<bool>) -> Self {
        self.ephemeral = ephemeral;
        self
    }

    /// Found by comparing.
    pub fn reconciled(mut self) -> Self {
        self.fidelity = Fidelity::Reconciled;
        self
    }

    /// Versions that nobody could read.
    pub fn missed(mut self, missed: Option<u64>) -> Self {
        self.missed = missed;
        self
    }

    /// When it was captured, in ms since 1970.
    pub fn captured_ms(mut self, ms: i64) -> Self {
        self.captured_ms = ms;
        self
    }

    /// The size at which data is cut.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Znodes in a `snapshot_end`.
    pub fn nodes(mut self, nodes: u64) -> Self {
        self.nodes = nodes;
        self
    }

    /// Why there is a gap.
    pub fn reason(mut self, reason: GapReason) -> Self {
        self.reason = reason;
        self
    }

    /// The record, shared.
    pub fn arc(self) -> Arc<Record> {
        Arc::new(self.build())
    }

    /// The record.
    ///
    /// # Panics
    ///
    /// If the parts do not make a valid record.
    pub fn build(self) -> Record {
        let is_control = self.op.is_control();
        let zxid = Zxid(0x3_0000_0000 + self.seq);
        let has_zxid = !is_control && self.op != Op::Acl;
        Record {
            schema: SchemaName::V1,
            id: self.id(),
            seq: Seq(self.seq),
            cluster: "main".into(),
            root: (self.op != Op::Heartbeat).then(ZnodePath::slash),
            path: (!is_control || self.op == Op::Service)
                .then(|| ZnodePath::parse(&self.path).expect("a test gives a path")),
            op: self.op,
            zxid: has_zxid.then_some(zxid),
            zxid_kind: if has_zxid {
                ZxidKind::Exact
            } else {
                ZxidKind::Unknown
            },
            fidelity: self.fidelity,
            missed: self.missed.filter(|_| !is_control && self.op != Op::Snapshot),
            superseded: Vec::new(),
            ephemeral: self.ephemeral.filter(|_| !is_control),
            before: self.state_before(),
            after: self.state_after(),
            txn: None,
            time: Times {
                changed: has_zxid.then(|| Timestamp(self.captured_ms - 2)),
                captured: Timestamp(self.captured_ms),
            },
            source: Origin {
                mode: Mode::Watch,
                server: Some("3.9.5".into()),
            },
            acl: None,
            lifetime: None,
            gap: self.gap(),
            run: self.run(),
            event: self.event(),
        }
    }

    /// An instance of the service `/services/a` is down.
    fn event(&self) -> Option<Arc<ServiceEvent>> {
        let mut event = ServiceEvent::of_type(ServiceEventType::InstanceDown);
        event.id = self.id();
        event.seq = Seq(self.seq);
        event.cluster = "main".to_owned();
        event.format = "curator".to_owned();
        event.service = "a".to_owned();
        event.instance = Some("10.0.0.7:8080".to_owned());
        event.zone = Some("az-1".to_owned());
        event.path = format!("{}/i-1", self.path);
        event.time.captured = Timestamp(self.captured_ms);
        event.text = "a 10.0.0.7:8080 is down: its session ended".to_owned();
        (self.op == Op::Service).then(|| Arc::new(event))
    }

    fn czxid(&self) -> Zxid {
        Zxid(0x3_0000_0000)
    }

    fn version(&self) -> i32 {
        i32::try_from(self.seq).unwrap_or(i32::MAX)
    }

    fn id(&self) -> Uuid {
        let (czxid, version) = (self.czxid(), self.version());
        let run = Uuid::nil();
        let identity = match self.op {
            Op::Create => Identity::Create { czxid, version },
            Op::Update => Identity::Update { czxid, version },
            Op::Delete => Identity::DeleteUnseen {
                bound: None,
                seq: Seq(self.seq),
            },
            Op::Acl => Identity::Acl {
                czxid,
                aversion: version,
            },
            Op::Snapshot => Identity::Snapshot {
                czxid,
                version,
                aversion: 0,
                run: &run,
            },
            op @ (Op::SnapshotBegin | Op::SnapshotEnd) => Identity::RunMark { op, run: &run },
            op @ (Op::GapBegin | Op::GapEnd) => Identity::GapMark {
                op,
                from_zxid: czxid,
                epoch: Epoch(self.seq),
            },
            Op::Heartbeat | Op::Service => Identity::Heartbeat { seq: Seq(self.seq) },
        };
        identity.id("main", if self.op.is_control() { "/" } else { &self.path })
    }

    fn state(&self, data: &[u8]) -> Option<State> {
        let owner = match self.ephemeral {
            Some(true) => SessionId(0x0100_002f_037b_0000),
            _ => SessionId::NONE,
        };
        Some(State {
            data: Some(Data::limited(data, DataForm::Auto, self.limit)),
            stat: Some(Stat {
                czxid: self.czxid(),
                mzxid: Zxid(0x3_0000_0000 + self.seq),
                pzxid: self.czxid(),
                version: self.version(),
                ephemeral_owner: owner,
                data_length: i32::try_from(data.len()).unwrap_or(i32::MAX),
                ..Stat::default()
            }),
        })
    }

    fn state_before(&self) -> Option<State> {
        match self.op {
            Op::Update | Op::Delete | Op::Acl => self.state(&self.before),
            _ => None,
        }
    }

    fn state_after(&self) -> Option<State> {
        match self.op {
            Op::Create | Op::Update | Op::Snapshot => self.state(&self.after),
            Op::Acl => self.state(&self.before),
            _ => None,
        }
    }

    fn gap(&self) -> Option<Gap> {
        let is_end = self.op == Op::GapEnd;
        matches!(self.op, Op::GapBegin | Op::GapEnd).then(|| Gap {
            epoch: Epoch(self.seq),
            from_zxid: self.czxid(),
            to_zxid: is_end.then_some(Zxid(0x3_0000_0000 + self.seq)),
            reason: self.reason,
            since: None,
            differences: is_end.then_some(3),
        })
    }

    fn run(&self) -> Option<Run> {
        let is_end = self.op == Op::SnapshotEnd;
        matches!(self.op, Op::Snapshot | Op::SnapshotBegin | Op::SnapshotEnd).then(|| Run {
            id: Uuid::nil(),
            index: if self.op == Op::SnapshotBegin { 0 } else { self.seq },
            nodes: is_end.then_some(self.nodes),
            unreadable: is_end.then_some(0),
        })
    }
}

/// Records from seq 1, over the paths in turn, with a control record now and then.
pub fn some_records(count: u64, paths: u64) -> Vec<Arc<Record>> {
    (1..=count)
        .map(|seq| {
            if seq % 17 == 0 {
                return a_record().seq(seq).control(Op::Heartbeat).arc();
            }
            let round = seq / paths.max(1);
            let op = match round % 5 {
                0 => Op::Create,
                4 => Op::Delete,
                _ => Op::Update,
            };
            let path = format!("/services/node-{}", seq % paths.max(1));
            a_record()
                .seq(seq)
                .path(&path)
                .op(op)
                .after(format!("value {seq}"))
                .arc()
        })
        .collect()
}

/// Changes of znodes without a control record, from seq 1: what measurements deliver. Among [`some_records`] each
/// seventeenth is a heartbeat, which a bridge sends only if it is configured, and only without other records; sinks
/// that keep control records in order would be measured by them.
pub fn some_changes(count: u64, paths: u64) -> Vec<Arc<Record>> {
    let records = some_records(count + count / 16 + 1, paths).into_iter();
    let changes = records.filter(|record| record.path.is_some());
    changes
        .zip(1..=count)
        .map(|(record, seq)| {
            let mut record = Arc::unwrap_or_clone(record);
            record.seq = Seq(seq);
            Arc::new(record)
        })
        .collect()
}

/// Records at the limits of what ZooKeeper can hold, from seq 1: odd names, no data, binary data, a full megabyte.
pub fn limit_records() -> Vec<Arc<Record>> {
    let names = [
        "/with space",
        "/with.dots.and..more",
        "/ünï/日本語/🦀",
        "/100%/%2F/%s",
        "/quo\"te/and'back\\slash",
        "/line\nfeed/and\ttab\r",
        "/\u{1b}[31mred\u{7}",
        "/a*b/c>d/e?f",
        "/{{ cluster }}",
        "/10.0.0.7:8080",
        "/",
    ];
    let binary: Vec<u8> = (0..=255).collect();
    let megabyte: Vec<u8> = b"0123456789abcdef".repeat(65_536);
    let mut records: Vec<RecordBuilder> = names.iter().map(|name| a_record().path(name)).collect();
    records.push(a_record().path(&format!("/{}", "long".repeat(50))));
    for (name, data) in [
        ("/empty", &[][..]),
        ("/binary", &binary),
        ("/large", &megabyte),
        ("/newlines", b"a\nb\r\n\n"),
    ] {
        records.push(a_record().path(name).op(Op::Create).after(data));
        records.push(a_record().path(name).op(Op::Update).before(data).after(data));
        records.push(a_record().path(name).op(Op::Delete).before(data));
    }
    let control = [
        Op::SnapshotBegin,
        Op::SnapshotEnd,
        Op::GapBegin,
        Op::GapEnd,
        Op::Heartbeat,
    ];
    records.extend(control.map(|op| a_record().control(op)));
    records
        .into_iter()
        .zip(1..)
        .map(|(record, seq)| record.seq(seq).arc())
        .collect()
}
