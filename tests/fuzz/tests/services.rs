//! Registrations that a stranger wrote or a disk changed: no decoder panics, and nothing that is written makes an instance
//! or a leader disappear.

use bolero::check;
use bridge_core::derive::{Derivation, ObservedChange, RestOfTransaction};
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, Op, ServiceEventType, Timestamp};
use bridge_fuzz::{Edit, Executions, cases, mutilated};
use bridge_services::{MemoryState, ServiceConfig, ServiceFormat, ServiceMachine};
use serde_json::Value;

/// Texts that mean something in one of the formats.
const WORDS: &[&str] = &[
    "{",
    "}",
    "\"",
    "null",
    "-1",
    "%",
    "%2F",
    "+",
    "://",
    "@",
    ":",
    "_c_",
    "-lock-",
    "2147483648",
    "PBUF",
    "\u{7f}",
    "/",
    "members",
    "providers",
    "9999999999999999999999",
    "host",
    "[[[[",
];

/// A registration that is valid: its section, its path, its bytes.
struct Valid {
    config: ServiceConfig,
    path: String,
    bytes: Vec<u8>,
}

fn valid() -> Vec<Valid> {
    let file: Value =
        serde_json::from_str(include_str!("../../../services/tests/vectors.json")).expect("it is JSON");
    let vectors = file["vectors"].as_array().expect("a list");
    let mut found = Vec::new();
    for vector in vectors {
        let format = match vector["format"].as_str().expect("a text") {
            "curator-queue" => "queue",
            format => format,
        };
        let mut options = vector["options"].as_object().expect("a table").clone();
        options.insert("format".to_owned(), format.into());
        options.remove("payload");
        options.remove("ephemeral");
        let config: ServiceConfig = serde_json::from_value(Value::Object(options)).expect("options");
        for record in vector["records"].as_array().expect("a list") {
            if let (Some(path), Some(text)) = (record["path"].as_str(), record["text"].as_str()) {
                found.push(Valid {
                    config: config.clone(),
                    path: path.to_owned(),
                    bytes: text.into(),
                });
            }
        }
    }
    for (format, path, bytes) in [
        (
            ServiceFormat::Hbase,
            "/hbase/master",
            &b"\xff\0\0\0\x02xxPBUF\x0a\x06\x0a\x02hm\x10\x10\x18\x7d"[..],
        ),
        (
            ServiceFormat::HadoopHa,
            "/hadoop-ha/c/ActiveStandbyElectorLock",
            b"\x0a\x01c\x12\x03nn1\x1a\x01h\x20\xd4\x3e",
        ),
        (
            ServiceFormat::Bookkeeper,
            "/ledgers/available/h:1",
            b"\x32\x0a\x0a\x01b\x10\x50\x1a\x01h\x22\x00",
        ),
        (
            ServiceFormat::Pulsar,
            "/loadbalance/brokers/b:1",
            br#"{"webServiceUrl":"http://b:1"}"#,
        ),
        (
            ServiceFormat::Sofarpc,
            "/sofa-rpc/s/providers/bolt%3A%2F%2Fh%3A1%3Fa%3Db",
            b"\x01",
        ),
        (
            ServiceFormat::Helix,
            "/LIVEINSTANCES/h_1",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
        ),
    ] {
        let base = (format == ServiceFormat::Helix).then(ZnodePath::slash);
        let config = ServiceConfig {
            format,
            base,
            ..ServiceConfig::default()
        };
        found.push(Valid {
            config,
            path: path.to_owned(),
            bytes: bytes.to_vec(),
        });
    }
    found
}

/// The events of writes, in which nothing may go.
fn play(machine: &mut ServiceMachine, writes: &[(&ZnodePath, &[u8])]) {
    let mut state = MemoryState::default();
    machine.begin(&mut state).expect("rows in memory");
    machine.filled();
    for (at, (path, bytes)) in (1_u64..).zip(writes) {
        let data = Data::limited(bytes, DataForm::Auto, usize::MAX);
        let change = ObservedChange {
            root: None,
            path,
            op: if at == 1 { Op::Create } else { Op::Update },
            id: Default::default(),
            zxid: Some(Zxid(at)),
            is_exact: true,
            czxid: Zxid(1),
            owner: SessionId(7),
            fidelity: Fidelity::Exact,
            missed: Some(0),
            changed: None,
            captured: Timestamp(0),
            data: Some(&data),
            txn: None,
        };
        if machine.covers(path) {
            machine.change(&change, &mut state).expect("rows in memory");
        }
        for derived in machine
            .complete(RestOfTransaction::None, &mut state)
            .expect("rows in memory")
        {
            let kind = derived.event.kind;
            assert!(
                !matches!(
                    kind,
                    ServiceEventType::InstanceDown | ServiceEventType::LeaderLost
                ),
                "{path} was written, and that is {}",
                kind.as_str()
            );
            assert!(derived.event.text.len() < 1_024, "{}", derived.event.text);
            derived.event.to_json();
        }
    }
}

#[test]
fn a_registration_that_was_changed_is_read_or_unreadable_and_nothing_goes() {
    let valid = valid();
    let executions = Executions::of("service registrations");
    check!()
        .with_iterations(cases(3_000))
        .with_type::<(u8, Vec<Edit>, Vec<Edit>)>()
        .for_each(|(which, of_path, of_bytes)| {
            let at = usize::from(*which) % valid.len();
            let Valid { config, path, bytes } = &valid[at];
            let machine = ServiceMachine::new("main", std::slice::from_ref(config));
            let mut machine = machine.expect("the options are valid");
            let edited = mutilated(path.as_bytes(), of_path, WORDS);
            let edited = String::from_utf8_lossy(&edited);
            let broken = mutilated(bytes, of_bytes, WORDS);
            for path in [path.as_str(), &*edited] {
                let Ok(path) = ZnodePath::parse(path) else {
                    continue;
                };
                let writes = [
                    (&path, &**bytes),
                    (&path, &*broken),
                    (&path, &**bytes),
                    (&path, &[][..]),
                ];
                play(&mut machine, &writes);
            }
            executions.one();
        });
}
