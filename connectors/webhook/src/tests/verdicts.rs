//! Our requests checked by other libraries: Standard Webhooks, ed25519 and CloudEvents, all in Python.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bridge_core::format::Format;
use bridge_core::secret::Secret;
use bridge_servers::{Python, real_servers};
use serde_json::{Value, json};

use super::receiver::Received;
use super::*;

const SCRIPT: &str = include_str!("verdict.py");

const OTHER: &str = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVy";
const PRIVATE: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
const OTHER_PUBLIC: &str = "whpk_CcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDg=";

async fn requests(change: impl FnOnce(&mut WebhookConfig), records: &[Arc<Record>]) -> Vec<Received> {
    let receiver = Receiver::start().await;
    let mut config = config(&receiver);
    config.parallel = 1;
    change(&mut config);
    deliver(&mut opened(&config).await, records).await.unwrap();
    receiver.taken()
}

/// A question: is this request genuine, or which event is it?
fn question(how: &str, key: &str, request: &Received) -> Value {
    json!({"how": how, "key": key, "headers": request.headers, "body": STANDARD.encode(&request.body)})
}

async fn verdicts(questions: &[Value]) -> Vec<String> {
    let lines: Vec<String> = questions.iter().map(Value::to_string).collect();
    let printed = Python::WEBHOOKS
        .run(SCRIPT, lines.join("\n").as_bytes())
        .await
        .unwrap();
    printed.lines().map(str::to_owned).collect()
}

fn with_secrets(secrets: &[&str]) -> impl FnOnce(&mut WebhookConfig) {
    let secrets = secrets.iter().map(|text| Secret::new(*text)).collect();
    |config| config.secrets = secrets
}

#[tokio::test]
async fn the_official_library_takes_what_we_sign_and_nothing_else() {
    real_servers!("the official library of Standard Webhooks takes what we sign");
    let records = [a_record().path("/services/ü \"x\"").arc()];
    let one = requests(with_secrets(&[SECRET]), &records).await.remove(0);
    let rotating = requests(with_secrets(&[SECRET, OTHER]), &records).await.remove(0);
    let mixed = requests(with_secrets(&[PRIVATE, OTHER]), &records)
        .await
        .remove(0);
    let batch = requests(
        |config| {
            with_secrets(&[SECRET])(config);
            config.batch = 5;
        },
        &of_paths(&["/a", "/b"]),
    )
    .await
    .remove(0);
    let changed = |change: &dyn Fn(&mut Received)| {
        let mut changed = one.clone();
        change(&mut changed);
        changed
    };
    let other_body = changed(&|request| request.body[10] ^= 1);
    let other_id = changed(&|request| drop(request.headers.insert("webhook-id".into(), "x".into())));
    let old = changed(&|request| {
        drop(
            request
                .headers
                .insert("webhook-timestamp".into(), "1614265330".into()),
        )
    });

    let found = verdicts(&[
        question("standard", SECRET, &one),
        question("standard", SECRET, &rotating),
        question("standard", OTHER, &rotating),
        question("standard", OTHER, &mixed),
        question("standard", SECRET, &batch),
        question("standard", OTHER, &one),
        question("standard", SECRET, &mixed),
        question("standard", SECRET, &other_body),
        question("standard", SECRET, &other_id),
        question("standard", SECRET, &old),
    ])
    .await;

    assert_eq!(found.len(), 10, "{found:?}");
    for (at, verdict) in found.iter().enumerate() {
        match at {
            0..=4 => assert_eq!(verdict, "ok", "question {at}"),
            _ => assert!(verdict.starts_with("refused: "), "question {at}: {verdict}"),
        }
    }
}

#[tokio::test]
async fn an_independent_ed25519_takes_what_we_sign_with_a_private_key() {
    real_servers!("an independent ed25519 takes what we sign");
    let request = requests(with_secrets(&[SECRET, PRIVATE]), &of_paths(&["/a"]))
        .await
        .remove(0);
    let mut changed = request.clone();
    changed.body.push(b' ');
    let found = verdicts(&[
        question("ed25519", PUBLIC, &request),
        question("ed25519", OTHER_PUBLIC, &request),
        question("ed25519", PUBLIC, &changed),
    ])
    .await;
    assert_eq!(
        found,
        [
            "ok",
            "refused: no signature of this key",
            "refused: no signature of this key"
        ]
    );
}

#[tokio::test]
async fn the_official_sdk_reads_our_cloudevents_in_both_modes() {
    real_servers!("the official CloudEvents SDK reads our events");
    let records = [
        a_record().seq(7).path("/services/ü %\"x\"").after("wert ü").arc(),
        a_record().seq(8).control(bridge_core::record::Op::GapBegin).arc(),
    ];
    for format in [Format::Cloudevents, Format::CloudeventsBinary] {
        let sent = requests(|config| config.format = format, &records).await;
        let questions: Vec<Value> = sent
            .iter()
            .map(|request| question("cloudevent", "", request))
            .collect();
        let found = verdicts(&questions).await;
        assert_eq!(found.len(), records.len());
        for (record, found) in records.iter().zip(found) {
            let event: Value = serde_json::from_str(&found).unwrap();
            let attributes = &event["attributes"];
            assert_eq!(attributes["specversion"], "1.0");
            assert_eq!(attributes["id"], json!(record.id.to_string()));
            assert_eq!(attributes["source"], "/zkbridge/main");
            let subject = record.path.as_ref().or(record.root.as_ref()).unwrap();
            assert_eq!(attributes["subject"], json!(subject.as_str()), "{format:?}");
            assert_eq!(attributes["sequence"], json!(format!("{:020}", record.seq.0)));
            assert_eq!(attributes["datacontenttype"], "application/json");
            let json: Value = serde_json::from_slice(&record.to_json()).unwrap();
            assert_eq!(event["data"], json, "{format:?}");
        }
    }
}
