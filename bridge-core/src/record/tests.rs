//! The contract of the record: its example, its schema, its encoding.

use proptest::prelude::*;

use super::*;

/// The example of the contract, word for word but for the shortened Stat of `after`.
const EXAMPLE: &str = r#"{
  "schema": "zkbridge.change/1",
  "id": "590f094f-2a01-52a9-9179-91366077bdc2",
  "seq": 1842,
  "cluster": "main",
  "root": "/services",
  "path": "/services/payments/10.0.0.7:8080",
  "op": "update",
  "zxid": "0x0000000300001a2f",
  "zxid_kind": "exact",
  "fidelity": "exact",
  "missed": 1,
  "superseded": ["0x0000000300001a2e"],
  "ephemeral": true,
  "before": {
    "data": {"encoding": "utf8", "size": 9, "value": "{\"w\":\"1\"}"},
    "stat": {"czxid": "0x0000000300001a01", "mzxid": "0x0000000300001a01", "pzxid": "0x0000000300001a01",
             "ctime": 1795355000120, "mtime": 1795355000120, "version": 0, "cversion": 0, "aversion": 0,
             "ephemeralOwner": "0x0100002f037b0000", "dataLength": 9, "numChildren": 0}
  },
  "after": {
    "data": {"encoding": "utf8", "size": 9, "value": "{\"w\":\"3\"}"},
    "stat": {"czxid": "0x0000000300001a01", "mzxid": "0x0000000300001a2f", "pzxid": "0x0000000300001a01",
             "ctime": 1795355000120, "mtime": 1795355000123, "version": 2, "cversion": 0, "aversion": 0,
             "ephemeralOwner": "0x0100002f037b0000", "dataLength": 9, "numChildren": 0}
  },
  "txn": null,
  "time": {"changed": "2026-11-22T13:40:00.123Z", "captured": "2026-11-22T13:40:00.125Z"},
  "source": {"mode": "watch", "server": "3.9.5"}
}"#;

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&record_schema()).expect("the generated schema is a schema")
}

#[test]
fn the_example_of_the_contract_is_read_and_written_again_unchanged() {
    let expected: serde_json::Value = serde_json::from_str(EXAMPLE).unwrap();
    let record: Record = serde_json::from_str(EXAMPLE).unwrap();
    assert_eq!(serde_json::to_value(&record).unwrap(), expected);
    assert!(validator().is_valid(&expected));
}

#[test]
fn the_schema_refuses_what_the_contract_does_not_allow() {
    let validator = validator();
    let good: serde_json::Value = serde_json::from_str(EXAMPLE).unwrap();
    let spoilt = |field: &str, value: serde_json::Value| {
        let mut record = good.clone();
        record[field] = value;
        record
    };
    let refused = [
        spoilt("schema", "zkbridge.change/2".into()),
        spoilt("op", "upsert".into()),
        spoilt("zxid", "0x12".into()),
        spoilt("zxid_kind", "bound".into()),
        spoilt("missed", (-1).into()),
        spoilt("superseded", vec!["0x0000000300001a2e"; 65].into()),
        spoilt("id", 7.into()),
    ];
    for record in refused {
        assert!(!validator.is_valid(&record), "{record}");
    }
    for field in good.as_object().unwrap().keys() {
        let mut record = good.clone();
        record.as_object_mut().unwrap().remove(field);
        assert!(
            !validator.is_valid(&record),
            "a record without '{field}' must not be valid"
        );
    }
    assert!(validator.is_valid(&spoilt("a_field_of_tomorrow", 1.into())));
}

#[test]
fn the_schema_that_is_checked_in_is_the_one_of_the_types() {
    for (name, text) in [
        ("record", record_schema_text()),
        ("service", service_schema_text()),
    ] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
        let file = folder.join(format!("{name}.json"));
        if std::env::var_os("ZKBRIDGE_UPDATE_SCHEMA").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &text).unwrap();
        }
        let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            checked_in == text,
            "bridge-core/schema/{name}.json is not what the types say: \
             run ZKBRIDGE_UPDATE_SCHEMA=1 cargo test -p bridge-core schema"
        );
    }
}

#[test]
fn a_service_event_is_valid_and_survives_writing_and_reading() {
    let record = crate::testing::a_record().control(Op::Service).build();
    let event = record.event.as_deref().unwrap();
    let written = serde_json::to_value(event).unwrap();
    let validator = jsonschema::validator_for(&service_schema()).unwrap();
    assert!(validator.is_valid(&written), "{written}");
    for field in ["schema", "type", "id", "zone", "text"] {
        let mut spoilt = written.clone();
        spoilt.as_object_mut().unwrap().remove(field);
        assert!(!validator.is_valid(&spoilt), "without '{field}'");
    }
    assert_eq!(
        serde_json::from_slice::<ServiceEvent>(&event.to_json()).unwrap(),
        *event
    );
    assert_eq!(
        serde_json::from_slice::<Record>(&record.to_json()).unwrap(),
        record
    );
}

fn any_zxid() -> impl Strategy<Value = Zxid> {
    any::<i64>().prop_map(|raw| Zxid(raw.unsigned_abs()))
}

fn any_data() -> impl Strategy<Value = Data> {
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        "\\PC{0,20}".prop_map(String::into_bytes),
        Just(br#"{"weight": 3, "tags": ["a", null], "ratio": 0.5}"#.to_vec()),
    ];
    let form = prop_oneof![Just(DataForm::Auto), Just(DataForm::Base64), Just(DataForm::Json)];
    (bytes, form, 0..60usize).prop_map(|(bytes, form, max)| Data::limited(&bytes, form, max))
}

prop_compose! {
    fn any_stat()(
        zxids in proptest::array::uniform3(any_zxid()),
        times in proptest::array::uniform2(any::<i64>()),
        counts in proptest::array::uniform5(any::<i32>()),
        owner in any::<u64>(),
    ) -> Stat {
        Stat {
            czxid: zxids[0], mzxid: zxids[1], pzxid: zxids[2], ctime: times[0], mtime: times[1],
            version: counts[0], cversion: counts[1], aversion: counts[2],
            ephemeral_owner: SessionId(owner), data_length: counts[3], num_children: counts[4],
        }
    }
}

fn any_state() -> impl Strategy<Value = Option<State>> {
    let parts = (proptest::option::of(any_data()), proptest::option::of(any_stat()));
    proptest::option::of(parts.prop_map(|(data, stat)| State { data, stat }))
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (0..253_402_300_799_999i64).prop_map(Timestamp)
}

fn any_gap() -> impl Strategy<Value = Gap> {
    (
        any::<u64>(),
        any_zxid(),
        proptest::option::of(any_zxid()),
        proptest::option::of(any_time()),
        proptest::option::of(any::<u64>()),
    )
        .prop_map(|(epoch, from_zxid, to_zxid, since, differences)| Gap {
            epoch: Epoch(epoch),
            from_zxid,
            to_zxid,
            reason: GapReason::Overflow,
            since,
            differences,
        })
}

fn any_run() -> impl Strategy<Value = Run> {
    (any::<u128>(), any::<u64>(), proptest::option::of(any::<u64>())).prop_map(|(id, index, nodes)| Run {
        id: Uuid::from_u128(id),
        index,
        nodes,
        unreadable: nodes,
    })
}

prop_compose! {
    fn any_record()(
        op in proptest::sample::select(Op::ALL),
        id in any::<u128>(),
        seq in any::<u64>(),
        names in proptest::collection::vec("[^/\\x00]{1,8}", 0..4),
        zxid in proptest::option::of(any_zxid()),
        missed in proptest::option::of(any::<u64>()),
        superseded in proptest::collection::vec(any_zxid(), 0..SUPERSEDED_MAX),
        ephemeral in proptest::option::of(any::<bool>()),
        states in (any_state(), any_state()),
        times in (proptest::option::of(any_time()), any_time()),
        gap in proptest::option::of(any_gap()),
        run in proptest::option::of(any_run()),
    ) -> Record {
        let path = ZnodePath::parse(&format!("/{}", names.join("/"))).ok();
        Record {
            schema: SchemaName::V1, id: Uuid::from_u128(id), seq: Seq(seq), cluster: "main".into(),
            root: path.is_some().then(ZnodePath::slash), path, op, zxid, zxid_kind: ZxidKind::Exact,
            fidelity: Fidelity::Reconciled, missed, superseded, ephemeral, before: states.0, after: states.1,
            txn: None, time: Times { changed: times.0, captured: times.1 },
            source: Origin { mode: Mode::Watch, server: Some("3.9.5".into()) }, acl: None,
            lifetime: None, gap, run, event: None,
        }
    }
}

proptest! {
    #[test]
    fn a_record_survives_writing_and_reading_and_is_valid(record in any_record()) {
        let written = serde_json::to_value(&record).unwrap();
        let read: Record = serde_json::from_slice(&record.to_json()).unwrap();
        prop_assert_eq!(serde_json::to_value(&read).unwrap(), written.clone());
        prop_assert!(validator().is_valid(&written), "{}", written);
    }
}
