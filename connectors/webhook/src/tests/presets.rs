//! Messages of presets at a receiver that checks the published rules of each API.

use std::time::Duration;

use bridge_core::example::{event_record, examples};
use bridge_core::format::Format;
use bridge_core::issue::Severity;
use bridge_core::outbound::MessageSubject;
use bridge_core::record::{ServiceEvent, ServiceEventType};
use bridge_core::secret::Secret;
use bridge_core::sink::SinkErrorKind;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::published::{self, reason_against};
use super::receiver::{Received, Reply};
use super::*;
use crate::Preset;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn with_preset(receiver: &Receiver, preset: Preset) -> WebhookConfig {
    let end = match preset {
        Preset::Pagerduty => "/v2/enqueue",
        Preset::Opsgenie => "/v2/alerts",
        Preset::Alertmanager => "/api/v2/alerts",
        _ => "",
    };
    let mut config = local(&format!("{}{end}", receiver.url()));
    config.preset = Some(preset);
    config.format = Format::Service;
    if matches!(preset, Preset::Pagerduty | Preset::Opsgenie) {
        config.key = Some(Secret::new(KEY));
    }
    let errors = config.objections();
    assert!(
        errors.iter().all(|one| one.severity == Severity::Warning),
        "{preset:?}: {errors:?}"
    );
    config
}

/// A receiver that refuses what its API would refuse.
async fn strict(preset: Preset) -> Receiver {
    let receiver = Receiver::start().await;
    receiver.answer(move |request| match reason_against(preset, request) {
        None => Reply::Says(published::success(preset), "ok".to_owned()),
        Some(reason) => Reply::Says(400, reason),
    });
    receiver
}

/// An event with these texts everywhere.
fn event(kind: ServiceEventType, hostile: &str) -> Arc<Record> {
    let mut event = ServiceEvent::of_type(kind);
    event.seq = bridge_core::number::Seq(1);
    event.cluster = "main".to_owned();
    event.section = "curator".to_owned();
    event.service = hostile.to_owned();
    event.instance = Some(hostile.to_owned());
    event.zone = Some(hostile.to_owned());
    event.path = format!("/services/{hostile}");
    event.text = format!("{hostile} is down: its session ended");
    Arc::new(event_record(event))
}

#[tokio::test]
async fn every_example_of_a_change_and_of_an_event_is_taken_by_every_receiver() {
    for &preset in Preset::ALL {
        for subject in [MessageSubject::Changes, MessageSubject::Services] {
            let receiver = strict(preset).await;
            let mut config = with_preset(&receiver, preset);
            config.format = subject.format();
            let mut sink = opened(&config).await;
            for (example, seq) in examples(subject).into_iter().zip(1..) {
                let mut record = example.record;
                record.seq = bridge_core::number::Seq(seq);
                let delivered = deliver(&mut sink, &[Arc::new(record)]).await;
                delivered.unwrap_or_else(|error| panic!("{preset:?}, {}: {error:?}", example.name));
            }
            assert!(receiver.taken().len() >= 2, "{preset:?}, {subject:?}");
        }
    }
}

#[tokio::test]
async fn a_preset_for_service_events_sends_no_change_and_one_for_changes_no_event() {
    for &preset in Preset::ALL {
        for (subject, other) in [
            (MessageSubject::Changes, MessageSubject::Services),
            (MessageSubject::Services, MessageSubject::Changes),
        ] {
            let receiver = strict(preset).await;
            let mut config = with_preset(&receiver, preset);
            config.format = subject.format();
            let mut sink = opened(&config).await;
            for example in examples(other) {
                let delivered = deliver(&mut sink, &[Arc::new(example.record)]).await;
                delivered.unwrap_or_else(|error| panic!("{preset:?}, {}: {error:?}", example.name));
            }
            assert_eq!(receiver.taken().len(), 0, "{preset:?}, {subject:?}");
        }
    }
}

#[tokio::test]
async fn no_name_and_no_value_makes_a_mention_a_link_or_a_field() {
    let seed = std::env::var("ZKBRIDGE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(17);
    println!("ZKBRIDGE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let parts = [
        "<!channel>",
        "<@U012>",
        "<https://evil|ok>",
        "@everyone",
        "@here",
        "[a](https://evil)",
        "https://evil.example",
        "\",\"x\":{\"",
        "\u{202e}",
        "\u{0}",
        "\r\n",
        "**",
        "`",
        "_",
        "~",
        "&lt;",
        "😀",
        "<at>all</at>",
        "x",
        " ",
        "\\",
        "${key}",
        "{{ 7 * 7 }}",
        "../",
        "/close?a=b#c",
        "\u{fffd}",
    ];
    for &preset in Preset::ALL {
        let receiver = strict(preset).await;
        let mut sink = opened(&with_preset(&receiver, preset)).await;
        for round in 0..40 {
            let length = if round % 8 == 0 {
                3_000
            } else {
                random.random_range(1..12)
            };
            let hostile: String = (0..length)
                .map(|_| parts[random.random_range(0..parts.len())])
                .collect();
            for kind in [ServiceEventType::InstanceDown, ServiceEventType::InstanceUp] {
                let delivered = deliver(&mut sink, &[event(kind, &hostile)]).await;
                delivered.unwrap_or_else(|error| panic!("{preset:?}, seed {seed}: {hostile:?}: {error:?}"));
            }
        }
        assert_eq!(receiver.taken().len(), 80, "{preset:?}");
    }
}

#[tokio::test]
async fn what_an_instance_opens_is_closed_when_it_is_back() {
    let bodies = async |preset: Preset| {
        let receiver = strict(preset).await;
        let mut sink = opened(&with_preset(&receiver, preset)).await;
        for kind in [
            ServiceEventType::InstanceDown,
            ServiceEventType::InstanceChanged,
            ServiceEventType::InstanceUp,
        ] {
            deliver(&mut sink, &[event(kind, "payments")]).await.unwrap();
        }
        let taken = receiver.taken();
        let [down, up]: [Received; 2] = taken.try_into().unwrap();
        let parsed = |request: &Received| serde_json::from_slice::<Value>(&request.body).unwrap();
        (down.clone(), parsed(&down), up.clone(), parsed(&up))
    };
    let (_, down, _, up) = bodies(Preset::Pagerduty).await;
    assert_eq!(
        (&down["event_action"], &up["event_action"]),
        (&json!("trigger"), &json!("resolve"))
    );
    assert_eq!(down["dedup_key"], up["dedup_key"]);
    assert_eq!(down["routing_key"], KEY);

    let (down, created, up, _) = bodies(Preset::Opsgenie).await;
    assert_eq!(down.header("authorization"), format!("GenieKey {KEY}"));
    assert!(down.path.ends_with("/v2/alerts"), "{}", down.path);
    let alias = created["alias"].as_str().unwrap().replace('/', "%2F");
    assert!(
        up.path.ends_with(&format!("/v2/alerts/{alias}/close")),
        "{}",
        up.path
    );

    let (_, down, _, up) = bodies(Preset::Alertmanager).await;
    assert_eq!(down[0]["labels"], up[0]["labels"]);
    assert_eq!(down[0]["labels"]["alertname"], "ZooKeeperInstanceDown");
    assert!(down[0]["endsAt"].as_str() > down[0]["startsAt"].as_str());
    assert!(up[0]["startsAt"].is_null() && up[0]["endsAt"].is_string());
}

#[tokio::test]
async fn a_receiver_that_asks_to_wait_gets_nothing_until_then() {
    let throttled = async |preset: Preset, reply: Reply| {
        let receiver = Receiver::start().await;
        receiver.answer(move |_| reply.clone());
        let mut sink = opened(&with_preset(&receiver, preset)).await;
        let refused = deliver(&mut sink, &[event(ServiceEventType::InstanceDown, "a")])
            .await
            .unwrap_err();
        let error = refused.error.unwrap();
        assert_eq!(
            (error.kind, receiver.requests().len()),
            (SinkErrorKind::Throttled, 1),
            "{error:?}"
        );
        error.retry_after
    };
    let slack = Reply::With(429, vec![("retry-after", "30".to_owned())]);
    assert_eq!(
        throttled(Preset::Slack, slack).await,
        Some(Duration::from_secs(30))
    );
    let discord = r#"{"message": "You are being rate limited.", "retry_after": 64.57, "global": false}"#;
    let discord = Reply::Says(429, discord.to_owned());
    assert_eq!(
        throttled(Preset::Discord, discord).await,
        Some(Duration::from_secs_f64(64.57))
    );
    let teams = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId";
    assert_eq!(
        throttled(Preset::Teams, Reply::Says(200, teams.to_owned())).await,
        None
    );
}

#[tokio::test]
async fn the_words_of_a_receiver_that_refuses_are_in_the_error() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::Says(400, "no_text".to_owned()));
    let mut sink = opened(&with_preset(&receiver, Preset::Slack)).await;
    let refused = deliver(&mut sink, &[event(ServiceEventType::InstanceDown, "a")])
        .await
        .unwrap_err();
    assert!(format!("{refused:?}").contains("no_text"), "{refused:?}");
}

#[test]
fn options_that_do_not_go_with_a_preset_are_reported() {
    let check = |preset: Option<Preset>, change: &dyn Fn(&mut WebhookConfig), expected: &[&str]| {
        let mut config = WebhookConfig::new("https://api.example.com/v2/enqueue");
        config.secrets = vec![Secret::new(SECRET)];
        config.preset = preset;
        change(&mut config);
        let keys: Vec<String> = config.objections().into_iter().map(|one| one.key).collect();
        assert_eq!(keys, expected, "{preset:?}");
    };
    let key = |text: &'static str| move |config: &mut WebhookConfig| config.key = Some(Secret::new(text));
    check(Some(Preset::Slack), &|_| {}, &[]);
    check(Some(Preset::Slack), &|config| config.secrets.clear(), &[]);
    check(Some(Preset::Slack), &key("k"), &["key"]);
    check(None, &key("k"), &["key"]);
    check(Some(Preset::Pagerduty), &|_| {}, &["key"]);
    check(Some(Preset::Pagerduty), &key("short"), &["key"]);
    check(Some(Preset::Pagerduty), &key(KEY), &[]);
    check(Some(Preset::Opsgenie), &key("k\r\nx"), &["key", "url"]);
    check(
        Some(Preset::Slack),
        &|config| config.format = Format::Raw,
        &["format"],
    );
    check(Some(Preset::Slack), &|config| config.batch = 2, &["batch"]);
    check(
        Some(Preset::Slack),
        &|config| config.body = Some("{{ path }}".into()),
        &["body"],
    );
    check(
        Some(Preset::Slack),
        &|config| config.url = Secret::new("https://h/{{ name }}"),
        &["url"],
    );
}
