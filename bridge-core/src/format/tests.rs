//! Each form of each kind of record.

use serde_json::{Value, json};

use super::*;
use crate::testing::{RecordBuilder, a_record};

fn bytes(body: Body) -> Vec<u8> {
    match body {
        Body::Bytes(bytes) => bytes,
        other => panic!("no bytes: {other:?}"),
    }
}

fn attribute<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let found = message.attributes.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| value.as_str())
}

#[test]
fn the_words_of_the_configuration_name_the_forms() {
    for &format in Format::ALL {
        let word: Format = serde_json::from_value(json!(format.as_str())).unwrap();
        assert_eq!(word, format);
    }
}

#[test]
fn a_structured_event_is_the_record_with_attributes_around_it() {
    let record = a_record().seq(42).path("/services/ü").build();
    let message = Format::Cloudevents.encode(&record);
    assert_eq!(
        message.content_type,
        "application/cloudevents+json; charset=utf-8"
    );
    let event: Value = serde_json::from_slice(&bytes(message.body)).unwrap();
    let expected = json!({
        "specversion": "1.0",
        "id": record.id.to_string(),
        "source": "/zkbridge/main",
        "type": "zkbridge.znode.updated",
        "subject": "/services/ü",
        "time": record.time.changed.unwrap().to_string(),
        "dataschema": "urn:zkbridge:change:1",
        "zxid": record.zxid.unwrap().to_string(),
        "sequence": "00000000000000000042",
        "datacontenttype": "application/json",
        "data": serde_json::from_slice::<Value>(&record.to_json()).unwrap(),
    });
    assert_eq!(event, expected);
}

#[test]
fn a_binary_event_has_the_same_attributes_beside_the_record() {
    let record = a_record().build();
    let message = Format::CloudeventsBinary.encode(&record);
    assert_eq!(message.content_type, "application/json");
    assert_eq!(message.body, Body::Bytes(record.to_json()));
    let structured = bytes(Format::Cloudevents.encode(&record).body);
    let structured: Value = serde_json::from_slice(&structured).unwrap();
    for (name, value) in &message.attributes {
        assert_eq!(structured[name], json!(value), "{name}");
    }
    assert_eq!(
        message.attributes.len() + 2,
        structured.as_object().unwrap().len(),
        "but datacontenttype and data"
    );
}

#[test]
fn names_of_attributes_are_those_that_every_binding_takes() {
    for (name, _) in Format::CloudeventsBinary.encode(&a_record().build()).attributes {
        assert!(
            name.chars()
                .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit()),
            "{name}"
        );
    }
}

#[test]
fn a_field_without_a_value_is_no_attribute() {
    let gap = a_record().control(Op::GapBegin).build();
    let message = Format::CloudeventsBinary.encode(&gap);
    assert_eq!(attribute(&message, "zxid"), None);
    assert_eq!(attribute(&message, "subject"), gap.root.as_deref());
    assert_eq!(
        attribute(&message, "time"),
        Some(gap.time.captured.to_string().as_str())
    );
}

#[test]
fn every_op_has_a_type_of_its_own() {
    let mut types: Vec<_> = Op::ALL.iter().map(|op| event_type(*op)).collect();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), Op::ALL.len());
}

#[test]
fn raw_is_the_bytes_of_the_znode_and_nothing_else() {
    let check = |record: RecordBuilder, expected: Body| {
        let record = record.build();
        let message = Format::Raw.encode(&record);
        assert_eq!(message.body, expected, "{:?}", record.op);
        assert!(message.attributes.is_empty());
    };
    check(a_record().after([0xff, 0]), Body::Bytes(vec![0xff, 0]));
    check(a_record().op(Op::Create).after("1"), Body::Bytes(b"1".to_vec()));
    check(a_record().op(Op::Snapshot).after(""), Body::Bytes(Vec::new()));
    check(a_record().op(Op::Delete), Body::Deleted);
    check(a_record().op(Op::Acl), Body::Nothing);
    check(a_record().control(Op::SnapshotBegin), Body::Nothing);
}

#[test]
fn a_create_that_nobody_read_has_no_raw_form() {
    let mut record = a_record().op(Op::Create).build();
    record.after = Some(crate::record::State {
        data: None,
        stat: None,
    });
    assert_eq!(Format::Raw.encode(&record).body, Body::Nothing);
}

#[test]
fn attributes_hold_no_character_that_cloudevents_excludes() {
    let record = a_record().path("/a/\u{7f}\u{fdd0}x%").build();
    let message = Format::CloudeventsBinary.encode(&record);
    assert_eq!(attribute(&message, "subject"), Some("/a/%7F%EF%B7%90x%"));
}

#[test]
fn header_values_are_visible_ascii() {
    let check = |value: &str, expected: &str| assert_eq!(header_value(value), expected);
    check("/services/a:8080", "/services/a:8080");
    check("/a b", "/a%20b");
    check("/\"ü\"%", "/%22%C3%BC%22%25");
    check("/😀", "/%F0%9F%98%80");
}

#[test]
fn a_flat_row_has_the_same_seven_columns_for_every_change() {
    let row = |record: &Record| String::from_utf8(bytes(Format::Flat.encode(record).body)).unwrap();
    let zxid = |record: &Record| record.zxid.unwrap().to_string();
    let changed = |record: &Record| record.time.changed.unwrap().to_string();

    let written = a_record().path("/a/b").after("x \"y\"").build();
    let version = written.after.as_ref().unwrap().stat.as_ref().unwrap().version;
    assert_eq!(
        row(&written),
        format!(
            r#"{{"path":"/a/b","value":"x \"y\"","op":"update","zxid":"{}","version":{version},"deleted":false,"changed":"{}"}}"#,
            zxid(&written),
            changed(&written)
        )
    );
    let deleted = a_record().path("/a").op(Op::Delete).build();
    let row_of_delete: Value = serde_json::from_str(&row(&deleted)).unwrap();
    assert_eq!(
        (
            &row_of_delete["value"],
            &row_of_delete["version"],
            &row_of_delete["deleted"]
        ),
        (&Value::Null, &Value::Null, &json!(true))
    );
    let mut document = a_record().after("{\"n\": 1.10}").build();
    let data = document
        .after
        .as_mut()
        .and_then(|state| state.data.as_mut())
        .unwrap();
    *data = crate::record::Data::limited(b"{\"n\": 1.10}", crate::record::DataForm::Json, 99);
    assert!(
        row(&document).contains(r#""value":{"n":1.10},"#),
        "{}",
        row(&document)
    );
    let binary = a_record().after([0xff, 0]).build();
    assert!(row(&binary).contains(r#""value":"/wA=","#), "{}", row(&binary));
}

#[test]
fn records_that_change_no_row_have_no_row() {
    for &op in Op::ALL {
        let record = match op.is_control() {
            true => a_record().control(op).build(),
            false => a_record().op(op).build(),
        };
        let has_row = matches!(op, Op::Create | Op::Update | Op::Delete | Op::Snapshot);
        assert_eq!(
            Format::Flat.encode(&record).body != Body::Nothing,
            has_row,
            "{op:?}"
        );
    }
}
