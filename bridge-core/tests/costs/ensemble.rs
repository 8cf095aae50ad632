//! A tree of znodes that answers the machine's requests at once, on a server that sends zxids with its events. Its own
//! work is not counted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bridge_core::capture::{Event, EventKind, Input, Outcome, ReadRequest, SessionFate};
use bridge_core::journal::Journal;
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::pipeline::{Flow, PipelineEvent};
use bridge_core::record::{Stat, Timestamp};
use bridge_core::source::{Connection, SourceEvent, SourceRequest};

use super::allocations;

const NOW: Timestamp = Timestamp(1_795_348_800_000);
const DATA_BYTES: usize = 100;

pub struct Ensemble {
    znodes: BTreeMap<ZnodePath, Stat>,
    paths: Vec<ZnodePath>,
    data: Arc<[u8]>,
    zxid: u64,
    connections: u64,
    requests: usize,
    untold: Vec<(ZnodePath, Zxid)>,
}

impl Ensemble {
    /// `/a` with so many children.
    pub fn new(children: usize) -> Ensemble {
        let root = ZnodePath::parse("/a").unwrap();
        let paths: Vec<ZnodePath> = (0..children)
            .map(|child| root.child(&format!("instance-{child:06}")))
            .collect();
        let mut this = Ensemble {
            znodes: BTreeMap::new(),
            paths,
            data: vec![b'x'; DATA_BYTES].into(),
            zxid: 0x1_0000_0000,
            connections: 0,
            requests: 0,
            untold: Vec::new(),
        };
        for path in std::iter::once(root.clone()).chain(this.paths.clone()) {
            let zxid = this.next_zxid();
            let stat = Stat {
                czxid: zxid,
                mzxid: zxid,
                pzxid: zxid,
                ctime: NOW.0,
                mtime: NOW.0,
                data_length: DATA_BYTES as i32,
                ..Stat::default()
            };
            this.znodes.insert(path, stat);
        }
        let last = Zxid(this.zxid);
        if let Some(root) = this.znodes.get_mut(&root) {
            root.pzxid = last;
            root.num_children = i32::try_from(children).unwrap();
        }
        this
    }

    fn next_zxid(&mut self) -> Zxid {
        self.zxid += 1;
        Zxid(self.zxid)
    }

    /// Requests since the last call.
    pub fn requests(&mut self) -> usize {
        std::mem::take(&mut self.requests)
    }

    /// Writes these children.
    pub fn set(&mut self, children: impl Iterator<Item = usize>) {
        for child in children {
            let zxid = self.next_zxid();
            let path = self.paths[child].clone();
            if let Some(stat) = self.znodes.get_mut(&path) {
                stat.mzxid = zxid;
                stat.version += 1;
            }
            self.untold.push((path, zxid));
        }
    }

    /// Connects, and answers until nothing is asked any more.
    pub fn walk(&mut self, flow: &mut Flow<Journal>, counted: &mut usize) {
        self.connections += 1;
        let connected = SourceEvent::Connected {
            connection: Connection(self.connections),
            session: SessionFate::New,
            server: None,
        };
        self.play(flow, connected, counted);
    }

    /// Sends the events of the writes, and answers until no request is left.
    pub fn send(&mut self, flow: &mut Flow<Journal>, kind: EventKind, counted: &mut usize) {
        let event = |(path, zxid)| Event {
            path,
            kind,
            zxid: Some(zxid),
        };
        let events = std::mem::take(&mut self.untold).into_iter().map(event).collect();
        self.play(flow, SourceEvent::Input(Input::Events(events)), counted);
    }

    fn play(&mut self, flow: &mut Flow<Journal>, first: SourceEvent, counted: &mut usize) {
        let mut reports = VecDeque::from([first]);
        while let Some(report) = reports.pop_front() {
            let mut orders = Vec::with_capacity(16);
            allocations(counted, || {
                flow.report(report, NOW).unwrap();
                while let Some(event) = flow.next_event() {
                    orders.push(event);
                }
            });
            reports.extend(orders.into_iter().filter_map(|event| self.follow(event)));
        }
    }

    fn follow(&mut self, event: PipelineEvent) -> Option<SourceEvent> {
        match event {
            PipelineEvent::Request(request) => match request.request {
                SourceRequest::Arm(_) => Some(SourceEvent::Input(Input::Armed)),
                SourceRequest::Read { ticket, reads } => {
                    self.requests += 1;
                    let outcomes = reads.iter().map(|read| self.read(read)).collect();
                    Some(SourceEvent::Input(Input::Answer { ticket, outcomes }))
                }
                SourceRequest::WriteCanary { .. } | SourceRequest::ReadAcls { .. } => None,
                SourceRequest::Resume { .. } | SourceRequest::ReadStage { .. } | SourceRequest::Follow => {
                    unreachable!("the machine of a watched tree requests no transactions")
                }
                SourceRequest::Reconnect { .. } => panic!("nothing is wrong with this connection"),
            },
            PipelineEvent::Connected(_) | PipelineEvent::Server(_) | PipelineEvent::Feed(_) => None,
            other => panic!("nothing is wrong: {other:?}"),
        }
    }

    fn read(&self, read: &ReadRequest) -> Outcome {
        let Some(stat) = self.znodes.get(&read.path) else {
            return Outcome::Missing;
        };
        let has_children = stat.num_children > 0;
        let names = || self.paths.iter().map(|path| path.name().into()).collect();
        Outcome::Found {
            stat: *stat,
            data: Arc::from(&*self.data),
            children: read
                .children
                .then(|| if has_children { names() } else { Vec::new() }),
        }
    }
}
