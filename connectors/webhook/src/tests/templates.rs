//! Requests that a user's templates write.

use bridge_core::format::Format;
use bridge_core::issue::Severity;
use bridge_core::record::Op;
use bridge_core::secret::Secret;

use super::*;

const BODY: &str = r#"{"text": {{ name ~ " is now " ~ after.data.value }}}"#;

#[tokio::test]
async fn body_headers_and_address_are_written_by_templates_and_the_body_is_signed() {
    let receiver = Receiver::start().await;
    let mut config = local(&format!("{}/{{{{ cluster }}}}/{{{{ name }}}}", receiver.url()));
    config.body = Some(BODY.to_owned());
    config.content_type = Some("application/vnd.example+json".to_owned());
    config
        .headers
        .insert("X-Path".into(), Secret::new("at {{ path }}"));
    config.headers.insert("X-Fixed".into(), Secret::new("fixed"));
    config.secrets = vec![Secret::new(SECRET)];
    assert!(
        config
            .objections()
            .iter()
            .all(|one| one.severity == Severity::Warning)
    );
    let record = a_record().path("/a/b \"c\r\nx: y").after("\"}, \"x\": {\"").arc();
    let gap = a_record().control(Op::GapBegin).seq(2).arc();

    let mut sink = opened(&config).await;
    deliver(&mut sink, &[record, gap]).await.unwrap();

    let requests = receiver.taken();
    let [request] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert_eq!(request.path, "/hook/main/b%20%22c%0D%0Ax%3A%20y");
    assert_eq!(request.header("content-type"), "application/vnd.example+json");
    assert_eq!(request.header("x-path"), "at /a/b%20%22c%0D%0Ax:%20y");
    assert_eq!(request.header("x-fixed"), "fixed");
    assert!(request.header("webhook-signature").starts_with("v1,"));
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"text": "b \"c\r\nx: y is now \"}, \"x\": {\""})
    );
    assert_eq!(sink.take_answer().as_deref(), Some("200 OK (\"ok\")"));
}

#[tokio::test]
async fn a_record_without_a_result_is_rejected_with_the_reason_and_others_go_on() {
    let receiver = Receiver::start().await;
    let mut config = config(&receiver);
    config.body = Some("{{ after.data.value | b64decode }}".to_owned());
    let records = [
        a_record().after("?").arc(),
        a_record().path("/b").seq(2).after("aGk=").arc(),
    ];

    let refused = deliver(&mut opened(&config).await, &records).await.unwrap_err();

    assert!(refused.error.is_none(), "{refused:?}");
    let [rejected] = &refused.rejected[..] else {
        panic!("{refused:?}");
    };
    assert!(
        rejected.reason.contains("b64decode: the text is no base64"),
        "{rejected:?}"
    );
    assert_eq!(receiver.taken()[0].body, b"\"hi\"");
}

#[tokio::test]
async fn an_answer_that_repeats_the_fixed_part_of_a_template_does_not_show_it() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| receiver::Reply::Says(400, "no t0ken-of-ours and no s3cret-key here".into()));
    let mut config = local(&format!("{}/t0ken-of-ours/{{{{ name }}}}", receiver.url()));
    config
        .headers
        .insert("x-key".into(), Secret::new("s3cret-key {{ op }}"));
    let mut sink = opened(&config).await;
    let error = deliver(&mut sink, &[a_record().arc()]).await.unwrap_err();
    let said = format!("{error:?}");
    assert!(said.contains("no *** and no *** here"), "{said}");
}

#[test]
fn templates_that_cannot_work_are_reported_with_their_key() {
    let check = |change: &dyn Fn(&mut WebhookConfig), expected: &[&str]| {
        let mut config = WebhookConfig::new("https://hooks.example.com/zk");
        config.secrets = vec![Secret::new(SECRET)];
        change(&mut config);
        let found = config.objections();
        let keys: Vec<&str> = found.iter().map(|one| &*one.key).collect();
        assert_eq!(keys, expected, "{found:?}");
    };
    check(&|config| config.body = Some("{{ path }}".into()), &[]);
    check(&|config| config.body = Some("{{ pth }}".into()), &["body"]);
    check(
        &|config| config.url = Secret::new("https://h/{{ pth }}"),
        &["url"],
    );
    check(
        &|config| config.url = Secret::new("https://{{ name }}/"),
        &["url"],
    );
    check(&|config| config.url = Secret::new("https://h/{{ name }}"), &[]);
    let header = |value: &'static str| {
        move |config: &mut WebhookConfig| drop(config.headers.insert("x-a".into(), Secret::new(value)))
    };
    check(&header("{{ pth }}"), &["headers.x-a"]);
    check(&header("{{ op }}"), &[]);
    check(
        &|config| {
            config.body = Some("{{ path }}".into());
            config.batch = 2;
        },
        &["batch"],
    );
    check(
        &|config| {
            config.body = Some("{{ path }}".into());
            config.format = Format::Raw;
        },
        &["body"],
    );
}
