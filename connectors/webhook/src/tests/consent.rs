//! Receivers that are asked for their consent first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bridge_core::secret::Secret;
use bridge_core::sink::SinkErrorKind as Kind;

use super::receiver::{Received, Reply};
use super::*;
use crate::Consent;

const ORIGIN: &str = "zk.example.com";

fn asking(receiver: &Receiver, rate: Option<u32>) -> WebhookConfig {
    let mut config = config(receiver);
    config.consent = Some(Consent {
        origin: ORIGIN.into(),
        rate,
    });
    config
}

/// The answer to OPTIONS; everything else is taken.
fn consenting(receiver: &Receiver, reply: Reply) {
    receiver.answer(move |request| match request.method.as_str() {
        "OPTIONS" => reply.clone(),
        _ => Reply::Status(204),
    });
}

fn allowed(origin: &str, rate: &str) -> Reply {
    Reply::With(
        200,
        vec![
            ("webhook-allowed-origin", origin.to_owned()),
            ("webhook-allowed-rate", rate.to_owned()),
        ],
    )
}

fn of_method(receiver: &Receiver, method: &str) -> Vec<Received> {
    let mut requests = receiver.requests();
    requests.retain(|request| request.method == method);
    requests
}

/// The seqs of the records that the receiver took.
fn delivered(receiver: &Receiver) -> Vec<u64> {
    let sent = of_method(receiver, "POST");
    sent.iter().flat_map(|request| seqs_in(&request.body)).collect()
}

#[tokio::test]
async fn nothing_is_sent_before_the_receiver_consents_and_then_every_request_names_the_origin() {
    let receiver = Receiver::start().await;
    let mut config = asking(&receiver, Some(6_000));
    config.timeout = Span::millis(300);
    config
        .headers
        .insert("authorization".into(), Secret::new("Bearer t0ken-of-six"));
    let mut sink = WebhookSink::new(&config).unwrap();
    let check = [
        (Reply::Hold, Kind::Unavailable, "did not answer within 300ms"),
        (Reply::Cut, Kind::Unavailable, "broke before an answer came"),
        (
            Reply::Status(200),
            Kind::Authorization,
            "webhook-allowed-origin is missing",
        ),
        (Reply::Status(405), Kind::Authorization, "answered 405"),
        (Reply::Status(401), Kind::Authentication, "answered 401"),
        (Reply::Status(503), Kind::Unavailable, "answered 503"),
        (
            allowed("other.example.com", "*"),
            Kind::Authorization,
            "names another origin",
        ),
        (
            allowed(ORIGIN, "soon"),
            Kind::Authorization,
            "nor a number of requests a minute",
        ),
    ];
    for (reply, kind, part) in check {
        consenting(&receiver, reply);
        let error = sink.open().await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(part), "{error}");
        assert!(!error.message.contains("t0ken"), "{error}");
    }
    assert_eq!(of_method(&receiver, "POST").len(), 0);

    consenting(&receiver, allowed(ORIGIN, "*"));
    sink.open().await.unwrap();
    deliver(&mut sink, &of_paths(&["/a", "/b"])).await.unwrap();
    for request in of_method(&receiver, "OPTIONS") {
        assert_eq!(request.header("webhook-request-origin"), ORIGIN);
        assert_eq!(request.header("webhook-request-rate"), "6000");
        assert_eq!(request.header("authorization"), "Bearer t0ken-of-six");
        assert_eq!((request.path.as_str(), request.body.len()), ("/hook", 0));
    }
    let sent = of_method(&receiver, "POST");
    assert_eq!(sent.len(), 2);
    assert!(
        sent.iter()
            .all(|request| request.header("webhook-request-origin") == ORIGIN)
    );
}

#[tokio::test]
async fn a_receiver_is_asked_again_only_after_it_has_objected() {
    let receiver = Receiver::start().await;
    let objects = Arc::new(AtomicBool::new(false));
    let is_objecting = Arc::clone(&objects);
    receiver.answer(move |request| match request.method.as_str() {
        "OPTIONS" => allowed("*", "*"),
        _ if is_objecting.load(Ordering::SeqCst) => Reply::Status(403),
        _ => Reply::Status(204),
    });
    let mut sink = opened(&asking(&receiver, None)).await;
    sink.open().await.unwrap();
    deliver(&mut sink, &of_paths(&["/a"])).await.unwrap();
    assert_eq!(of_method(&receiver, "OPTIONS").len(), 1);
    assert_eq!(
        of_method(&receiver, "OPTIONS")[0].header("webhook-request-rate"),
        ""
    );
    objects.store(true, Ordering::SeqCst);
    deliver(&mut sink, &of_paths(&["/b"])).await.unwrap_err();
    sink.open().await.unwrap();
    assert_eq!(of_method(&receiver, "OPTIONS").len(), 2);
}

#[tokio::test]
async fn the_rate_that_a_receiver_allows_is_kept() {
    let receiver = Receiver::start().await;
    consenting(&receiver, allowed(ORIGIN, "1200"));
    let mut sink = opened(&asking(&receiver, None)).await;
    let began = Instant::now();
    deliver(&mut sink, &of_paths(&["/a", "/b", "/c", "/d", "/e"]))
        .await
        .unwrap();
    assert!(
        began.elapsed() >= Duration::from_millis(200),
        "one every 50 ms: {:?}",
        began.elapsed()
    );
    let mut seqs = delivered(&receiver);
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);

    // Two a minute: the second request would wait for half a minute.
    consenting(&receiver, allowed(ORIGIN, "2"));
    let mut sink = opened(&asking(&receiver, None)).await;
    let ended = deliver(&mut sink, &of_paths(&["/f", "/g"])).await.unwrap_err();
    let error = ended.error.unwrap();
    assert_eq!((ended.done, error.kind), (1, Kind::Throttled), "{error}");
    let wait = error.retry_after.unwrap();
    assert!(
        wait > Duration::from_secs(5) && wait <= Duration::from_secs(30),
        "{wait:?}"
    );
    assert_eq!(delivered(&receiver).len(), 6);
}
