//! Records and service events as examples: templates are checked with them, and a sink is tested with one.
//!
//! *Invariant.* They are marked as what they are: no znode has their path, and their values say so.

use std::sync::Arc;

use uuid::Uuid;

use crate::number::{Seq, SessionId, Zxid};
use crate::outbound::MessageSubject;
use crate::path::ZnodePath;
use crate::record::{
    Acl, Data, DataForm, DownCause, Endpoint, Fidelity, FieldChange, InstanceStatus, Liveness, Mode, Op,
    Origin, Record, SchemaName, ServiceEvent, ServiceEventType, Stat, State, Times, Timestamp, ZxidKind,
};

/// A record with the word that selects it.
#[derive(Clone, Debug)]
pub struct ExampleRecord {
    /// The op, or the type of the event.
    pub name: String,
    /// The record.
    pub record: Record,
}

/// The znode of the records. Bridges never report one below `/zkbridge`.
const PATH: &str = "/zkbridge/example/10.0.0.7:8080";

/// 2026-11-22, 13:40.
const MOMENT: Timestamp = Timestamp(1_795_354_800_125);

/// One example of each record that a message can have: of each op that changes a znode, or of each type of event.
///
/// # Panics
///
/// Never: the path is valid.
pub fn examples(subject: MessageSubject) -> Vec<ExampleRecord> {
    let of_op = |op: &Op| ExampleRecord {
        name: op.as_str().to_owned(),
        record: change(*op, MOMENT),
    };
    let of_type = |kind: &ServiceEventType| ExampleRecord {
        name: kind.as_str().to_owned(),
        record: event_record(event(*kind, MOMENT)),
    };
    match subject {
        MessageSubject::Changes => Op::ALL.iter().filter(|op| !op.is_control()).map(of_op).collect(),
        MessageSubject::Services => ServiceEventType::ALL.iter().map(of_type).collect(),
    }
}

/// The records that a test of a sink sends: one record of now, of a kind for which most templates have a result. Where
/// the destination keeps something open, one that opens it and one that closes it.
pub fn test_records(subject: MessageSubject, keeps_open: bool, cluster: &str, now: Timestamp) -> Vec<Record> {
    let texts = [
        "TEST of zkbridge: an example, nothing is down",
        "TEST of zkbridge: the end of the example",
    ];
    let kinds = [ServiceEventType::InstanceDown, ServiceEventType::InstanceUp];
    let of_events = |kinds: &[ServiceEventType]| {
        let record = |kind: &ServiceEventType| event_record(event(*kind, now));
        kinds.iter().map(record).collect()
    };
    let mut records: Vec<Record> = match (subject, keeps_open) {
        (MessageSubject::Changes, false) => vec![change(Op::Update, now)],
        (MessageSubject::Changes, true) => [Op::Delete, Op::Create].map(|op| change(op, now)).into(),
        (MessageSubject::Services, false) => of_events(&kinds[..1]),
        (MessageSubject::Services, true) => of_events(&kinds),
    };
    for (at, record) in records.iter_mut().enumerate() {
        let name = format!("{cluster}\n{at}\n{}", now.0);
        record.id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        record.seq = Seq(at as u64 + 1);
        record.cluster = cluster.into();
        if let Some(event) = &mut record.event {
            let event = Arc::make_mut(event);
            (event.id, event.seq, event.cluster) = (record.id, record.seq, cluster.to_owned());
            event.text = texts[at].to_owned();
        }
    }
    records
}

/// The record of an event, as a journal makes it.
pub fn event_record(event: ServiceEvent) -> Record {
    Record {
        id: event.id,
        seq: event.seq,
        cluster: event.cluster.clone().into(),
        path: ZnodePath::parse(&event.path).ok(),
        op: Op::Service,
        zxid: event.zxid,
        fidelity: event.fidelity,
        time: event.time,
        before: None,
        after: None,
        ephemeral: None,
        acl: None,
        event: Some(Arc::new(event)),
        ..change(Op::Create, MOMENT)
    }
}

fn change(op: Op, now: Timestamp) -> Record {
    let path = ZnodePath::parse(PATH).expect("the path of the example is valid");
    let state = |text: &str, version| {
        Some(State {
            data: Some(Data::limited(text.as_bytes(), DataForm::Auto, usize::MAX)),
            stat: Some(Stat {
                czxid: Zxid(0x3_0000_1a00),
                mzxid: Zxid(0x3_0000_1a00),
                pzxid: Zxid(0x3_0000_1a00),
                ctime: now.0,
                mtime: now.0,
                version,
                ephemeral_owner: SessionId(0x0100_002f_037b_0000),
                data_length: i32::try_from(text.len()).unwrap_or(i32::MAX),
                ..Stat::default()
            }),
        })
    };
    let (old, new) = (state("example, weight 10", 0), state("example, weight 20", 1));
    let (before, after) = match op {
        Op::Delete => (old, None),
        Op::Update => (old, new),
        Op::Acl => (old.clone(), old),
        _ => (None, old),
    };
    Record {
        schema: SchemaName::V1,
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, op.as_str().as_bytes()),
        seq: Seq(1),
        cluster: "main".into(),
        root: Some(ZnodePath::slash()),
        path: Some(path),
        op,
        zxid: Some(Zxid(0x3_0000_1a01)),
        zxid_kind: ZxidKind::Exact,
        fidelity: Fidelity::Exact,
        missed: Some(0),
        superseded: Vec::new(),
        ephemeral: Some(true),
        before,
        after,
        txn: None,
        time: Times {
            changed: Some(now),
            captured: now,
        },
        source: Origin {
            mode: Mode::Watch,
            server: Some("3.9.5".into()),
        },
        acl: (op == Op::Acl).then(|| {
            vec![Acl {
                scheme: "world".to_owned(),
                id: "anyone".to_owned(),
                perms: "cdrwa".to_owned(),
            }]
        }),
        lifetime: None,
        gap: None,
        run: None,
        event: None,
    }
}

fn event(kind: ServiceEventType, now: Timestamp) -> ServiceEvent {
    use ServiceEventType as Type;
    let mut event = ServiceEvent::of_type(kind);
    event.id = Uuid::new_v5(&Uuid::NAMESPACE_OID, kind.as_str().as_bytes());
    event.seq = Seq(1);
    event.zxid = Some(Zxid(0x3_0000_1a01));
    (event.cluster, event.section, event.format) = ("main".into(), "curator".into(), "curator".into());
    event.service = "example".to_owned();
    event.path = PATH.to_owned();
    event.missed = Some(0);
    event.time = Times {
        changed: Some(now),
        captured: now,
    };
    let said = match kind {
        Type::InstanceUp | Type::InstanceListed => "10.0.0.7:8080 is up",
        Type::InstanceDown => "10.0.0.7:8080 is down: its session ended",
        Type::InstanceChanged => "10.0.0.7:8080 changed: weight 10 to 20",
        Type::InstanceRestarted => "10.0.0.7:8080 restarted",
        Type::InstanceFlapping => "10.0.0.7:8080 is flapping: 5 times down within 10 minutes",
        Type::InstancesDown => "and 3 more services: 40 instances are down: their sessions ended",
        Type::RuleChanged => "has another rule",
        Type::ServiceAvailable => "is available: 1 instance",
        Type::ServiceUnavailable => "is unavailable: no instance is left",
        Type::LeaderElected | Type::LeaderChanged => "is led by 10.0.0.7:8080",
        Type::LeaderLost => "has no leader: the session ended",
        Type::RegistrationUnreadable => "has a registration that cannot be read",
        Type::RegistrationReadable => "has a registration that can be read again",
        Type::QueueChanged => "has a new candidate: 10.0.0.8:8080",
        Type::LockAcquired => "is locked by 10.0.0.7:8080",
        Type::LockReleased => "was released by 10.0.0.7:8080",
    };
    event.text = format!("example {said}");
    match kind {
        Type::RegistrationReadable => {}
        Type::InstanceUp
        | Type::InstanceDown
        | Type::InstanceChanged
        | Type::InstanceRestarted
        | Type::InstanceListed => {
            of_instance(&mut event);
        }
        Type::ServiceAvailable => event.instances = Some(1),
        Type::ServiceUnavailable => event.instances = Some(0),
        Type::LeaderElected | Type::LeaderChanged | Type::LeaderLost | Type::QueueChanged => {
            event.election = Some("/zkbridge/example".to_owned());
            event.leader = (kind != Type::LeaderLost).then(|| "10.0.0.7:8080".to_owned());
            event.previous = (kind != Type::LeaderElected).then(|| "10.0.0.6:8080".to_owned());
            event.queue = Some(2);
            event.joined = (kind == Type::QueueChanged).then(|| "10.0.0.8:8080".to_owned());
        }
        Type::InstanceFlapping => {
            event.instance = Some("10.0.0.7:8080".to_owned());
            event.downs = Some(5);
        }
        Type::InstancesDown => {
            event.instances = Some(40);
            event.unavailable = Some(0);
            event.by_service = [("example".to_owned(), 37), ("other".to_owned(), 3)].into();
        }
        Type::RuleChanged => {
            event.changes = vec![FieldChange {
                field: "rule".to_owned(),
                from: serde_json::Value::Null,
                to: serde_json::json!({"disables": true, "host": "10.0.0.7", "port": 8080}),
            }];
        }
        Type::RegistrationUnreadable => event.reason = Some("the data is no JSON".to_owned()),
        Type::LockAcquired | Type::LockReleased => {
            event.lock = Some("/zkbridge/example".to_owned());
            event.mode = Some("write".to_owned());
            event.holder = Some("10.0.0.7:8080".to_owned());
            event.waiting = Some(0);
        }
    }
    if matches!(kind, Type::InstanceDown | Type::InstancesDown | Type::LeaderLost) {
        event.cause = Some(DownCause::SessionEnded);
    }
    event
}

fn of_instance(event: &mut ServiceEvent) {
    event.instance = Some("10.0.0.7:8080".to_owned());
    event.status = Some(InstanceStatus::Up);
    event.version = Some("2.3.1".to_owned());
    event.zone = Some("az-1".to_owned());
    event.weight = Some(20.into());
    event.endpoints = vec![Endpoint {
        name: None,
        scheme: Some("http".to_owned()),
        host: "10.0.0.7".to_owned(),
        port: Some(8080),
    }];
    event.liveness = Some(Liveness::Session);
    event.session = Some(SessionId(0x0100_002f_037b_0000));
    if event.kind == ServiceEventType::InstanceChanged {
        event.changes = vec![FieldChange {
            field: "weight".to_owned(),
            from: 10.into(),
            to: 20.into(),
        }];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_that_can_have_a_message_has_an_example_that_reads_back() {
        for (subject, count) in [(MessageSubject::Changes, 5), (MessageSubject::Services, 18)] {
            let all = examples(subject);
            assert_eq!(all.len(), count);
            for ExampleRecord { name, record } in all {
                let read: Record = serde_json::from_slice(&record.to_json()).unwrap();
                assert_eq!(read, record, "{name}");
                assert_eq!(MessageSubject::of_record(&record), subject, "{name}");
            }
        }
    }

    #[test]
    fn each_test_of_a_sink_sends_records_with_ids_of_their_own() {
        for subject in [MessageSubject::Changes, MessageSubject::Services] {
            let ids = |cluster, ms| {
                let records = test_records(subject, true, cluster, Timestamp(ms));
                records.iter().map(|record| record.id).collect::<Vec<_>>()
            };
            let all = [ids("main", 1), ids("main", 2), ids("other", 1)].concat();
            let different: std::collections::BTreeSet<_> = all.iter().collect();
            assert_eq!(different.len(), all.len());
        }
    }
}
