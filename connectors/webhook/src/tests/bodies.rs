//! Requests, byte by byte.

use bridge_core::format::Format;
use bridge_core::outbound::Messages;
use bridge_core::record::Op;
use bridge_core::secret::Secret;
use hyper::Version;
use hyper_util::client::proxy::matcher::Matcher;
use serde_json::{Value, json};
use uuid::Uuid;

use super::receiver::{Received, Reply};
use super::*;
use crate::encode::Encoded;
use crate::http_sender::{Answer, HttpSender};
use crate::resolve::no_refusal;

async fn delivered(change: impl FnOnce(&mut WebhookConfig), records: &[Arc<Record>]) -> Vec<Received> {
    let receiver = Receiver::start().await;
    let mut config = config(&receiver);
    config.parallel = 1;
    change(&mut config);
    let mut sink = opened(&config).await;
    deliver(&mut sink, records).await.unwrap();
    receiver.taken()
}

fn parsed(record: &Record) -> Value {
    serde_json::from_slice(&record.to_json()).unwrap()
}

#[tokio::test]
async fn a_record_goes_as_an_event_of_standard_webhooks() {
    let record = a_record().arc();
    let requests = delivered(|_| {}, &[Arc::clone(&record)]).await;
    let [request] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(request.method, "POST");
    assert_eq!(request.path, "/hook");
    assert_eq!(request.version, Version::HTTP_11);
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(
        request.header("user-agent"),
        concat!("zkbridge/", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(request.header("webhook-id"), record.id.to_string());
    let timestamp: u64 = request.header("webhook-timestamp").parse().unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(now - timestamp < 60, "{timestamp}");
    assert_eq!(request.header("webhook-signature"), "", "there is no secret");
    let expected = format!(
        r#"{{"type":"znode.updated","timestamp":"{}","data":{}}}"#,
        record.time.changed.unwrap(),
        String::from_utf8(record.to_json()).unwrap(),
    );
    assert_eq!(String::from_utf8(request.body.clone()).unwrap(), expected);
}

#[tokio::test]
async fn every_op_has_its_type() {
    let rows = [
        (Op::Create, "znode.created"),
        (Op::Update, "znode.updated"),
        (Op::Delete, "znode.deleted"),
        (Op::Acl, "znode.acl_changed"),
        (Op::Snapshot, "znode.listed"),
        (Op::SnapshotBegin, "snapshot.begun"),
        (Op::SnapshotEnd, "snapshot.ended"),
        (Op::GapBegin, "gap.begun"),
        (Op::GapEnd, "gap.ended"),
        (Op::Heartbeat, "bridge.heartbeat"),
    ];
    let records: Vec<_> = rows
        .iter()
        .zip(1..)
        .map(|((op, _), seq)| a_record().op(*op).seq(seq).arc())
        .collect();
    let requests = delivered(|_| {}, &records).await;
    for ((op, name), request) in rows.iter().zip(requests) {
        let event: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(event["type"], json!(name), "{op:?}");
        assert_eq!(event["data"]["op"], json!(op.as_str()));
        assert!(event["timestamp"].is_string(), "{op:?}: {event}");
    }
}

#[tokio::test]
async fn an_attempt_that_is_repeated_has_the_same_id_and_body() {
    let receiver = Receiver::start().await;
    let mut count = 0;
    receiver.answer(move |_| {
        count += 1;
        Reply::Status(if count == 1 { 500 } else { 200 })
    });
    let records = of_paths(&["/a"]);
    for _ in 0..2 {
        // As after a restart.
        let mut sink = opened(&config(&receiver)).await;
        let _ = deliver(&mut sink, &records).await;
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert_eq!(requests[0].body, requests[1].body);
}

#[tokio::test]
async fn the_messages_of_a_record_go_one_after_another_until_one_is_not_taken() {
    let receiver = Receiver::start().await;
    let config = config(&receiver);
    let guard = super::addresses::guard(&[], no_refusal);
    let no_proxy = Matcher::builder().build();
    let sender = HttpSender::new(&config, config.parsed_url().unwrap(), guard, &no_proxy).unwrap();
    let message = |text: &str| Encoded {
        address: None,
        id: Uuid::nil(),
        content_type: "text/plain".into(),
        headers: Vec::new(),
        body: text.into(),
    };
    for (failing, expected, status) in [("two", "one two", 500), ("none", "one two three", 200)] {
        let before = receiver.requests().len();
        receiver.answer(move |request| {
            Reply::Status(if request.body == failing.as_bytes() {
                500
            } else {
                200
            })
        });
        let messages = Messages::One(message("one")).followed_by(message("two"));

        let (answer, bytes) = sender
            .post_all(messages.followed_by(message("three")), None)
            .await;

        let arrived = receiver.requests().split_off(before);
        let bodies: Vec<_> = arrived
            .iter()
            .map(|one| String::from_utf8_lossy(&one.body))
            .collect();
        assert_eq!(bodies.join(" "), expected);
        assert_eq!(bytes, bodies.last().unwrap().len());
        assert!(
            matches!(answer, Answer::Status(found) if found.status == status),
            "{failing}"
        );
    }
}

#[tokio::test]
async fn several_records_go_as_a_list_with_an_id_of_their_own() {
    let records = of_paths(&["/a", "/b", "/a"]);
    let requests = delivered(|config| config.batch = 10, &records).await;
    let [request] = &requests[..] else {
        panic!("{requests:?}")
    };
    let list: Value = serde_json::from_slice(&request.body).unwrap();
    let expected: Vec<Value> = records
        .iter()
        .map(|record| {
            json!({"type": "znode.updated", "timestamp": record.time.changed, "data": parsed(record)})
        })
        .collect();
    assert_eq!(list, json!(expected));
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"zkbridge.webhook.batch");
    let ids: Vec<u8> = records.iter().flat_map(|record| *record.id.as_bytes()).collect();
    assert_eq!(
        request.header("webhook-id"),
        Uuid::new_v5(&namespace, &ids).to_string()
    );
}

#[tokio::test]
async fn a_list_of_one_has_the_id_of_its_record() {
    let records = of_paths(&["/a"]);
    let requests = delivered(|config| config.batch = 10, &records).await;
    assert!(requests[0].body.starts_with(b"[{"));
    assert_eq!(requests[0].header("webhook-id"), records[0].id.to_string());
}

#[tokio::test]
async fn cloudevents_go_in_the_structured_the_binary_and_the_batched_mode() {
    let records = of_paths(&["/services/ü", "/b"]);
    let structured = delivered(|config| config.format = Format::Cloudevents, &records).await;
    assert_eq!(structured.len(), 2);
    assert_eq!(
        structured[0].header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    let event: Value = serde_json::from_slice(&structured[0].body).unwrap();
    assert_eq!(event["subject"], json!("/services/ü"));
    assert_eq!(event["data"], parsed(&records[0]));

    let binary = delivered(|config| config.format = Format::CloudeventsBinary, &records).await;
    assert_eq!(binary[0].header("content-type"), "application/json");
    assert_eq!(binary[0].header("ce-id"), records[0].id.to_string());
    assert_eq!(binary[0].header("ce-type"), "zkbridge.znode.updated");
    assert_eq!(binary[0].header("ce-subject"), "/services/%C3%BC");
    assert_eq!(binary[0].body, records[0].to_json());

    let batched = |config: &mut WebhookConfig| (config.format, config.batch) = (Format::Cloudevents, 2);
    let batched = delivered(batched, &records).await;
    assert_eq!(
        batched[0].header("content-type"),
        "application/cloudevents-batch+json; charset=utf-8"
    );
    let list: Value = serde_json::from_slice(&batched[0].body).unwrap();
    let single: Vec<Value> = structured
        .iter()
        .map(|one| serde_json::from_slice(&one.body).unwrap())
        .collect();
    assert_eq!(list, json!(single));
}

#[tokio::test]
async fn raw_goes_as_the_bytes_of_the_znode_and_passes_over_what_has_none() {
    let records = [
        a_record().seq(1).path("/a b").after([0xff, 0x00]).arc(),
        a_record().seq(2).control(Op::GapEnd).arc(),
        a_record().seq(3).path("/a b").op(Op::Delete).arc(),
    ];
    let requests = delivered(|config| config.format = Format::Raw, &records).await;
    let [first, second] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(first.header("content-type"), "application/octet-stream");
    assert_eq!(first.body, [0xff, 0x00]);
    assert_eq!(
        (first.header("zkbridge-op"), first.header("zkbridge-path")),
        ("update", "/a%20b")
    );
    assert_eq!(second.body, b"");
    assert_eq!(
        (second.header("zkbridge-op"), second.header("webhook-id")),
        ("delete", &*records[2].id.to_string())
    );
}

#[tokio::test]
async fn a_header_that_is_longer_than_receivers_take_is_left_out() {
    let long = format!("/{}", "ü".repeat(1_000));
    let records = of_paths(&["/a", &long]);
    let requests = delivered(|config| config.format = Format::CloudeventsBinary, &records).await;
    assert_eq!(requests[0].header("ce-subject"), "/a");
    assert_eq!(requests[1].header("ce-subject"), "");
    assert_eq!(requests[1].header("ce-id"), records[1].id.to_string());
    let raw = delivered(|config| config.format = Format::Raw, &records).await;
    assert_eq!(
        (raw[0].header("zkbridge-path"), raw[1].header("zkbridge-path")),
        ("/a", "")
    );
}

#[tokio::test]
async fn every_request_has_the_headers_that_were_asked_for() {
    let change = |config: &mut WebhookConfig| {
        for (name, value) in [
            ("Authorization", "Bearer t0ken"),
            ("x-team", "core"),
            ("user-agent", "us"),
        ] {
            config.headers.insert(name.to_owned(), Secret::new(value));
        }
    };
    let requests = delivered(change, &of_paths(&["/a", "/b"])).await;
    for request in requests {
        assert_eq!(request.header("authorization"), "Bearer t0ken");
        assert_eq!(request.header("x-team"), "core");
        assert_eq!(request.header("user-agent"), "us");
    }
}
