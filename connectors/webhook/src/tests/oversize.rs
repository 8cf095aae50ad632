//! Records that are larger than a receiver takes.

use bridge_core::amount::Size;
use bridge_core::format::Format;
use bridge_core::record::Data;

use super::receiver::Reply;
use super::*;

const LARGE: usize = 900_000;

/// A receiver that takes bodies of so many bytes.
async fn taking(most: usize) -> Receiver {
    let receiver = Receiver::start().await;
    receiver.answer(move |request| match request.body.len() {
        bytes if bytes > most => Reply::Status(413),
        _ => Reply::Status(200),
    });
    receiver
}

/// A large one of `/a` between small ones of `/a` and `/b`.
fn with_a_large_one() -> Vec<Arc<Record>> {
    let large = "x".repeat(LARGE);
    let large = a_record().seq(2).path("/a").before(&large).after(&large).arc();
    vec![
        a_record().seq(1).path("/a").arc(),
        large,
        a_record().seq(3).path("/a").arc(),
        a_record().seq(4).path("/b").arc(),
    ]
}

fn record_in(body: &[u8]) -> Record {
    let event: serde_json::Value = serde_json::from_slice(body).unwrap();
    serde_json::from_value(event["data"].clone()).unwrap()
}

fn data_after(record: &Record) -> Data {
    record.after.clone().unwrap().data.unwrap()
}

#[tokio::test]
async fn a_record_answered_with_413_is_sent_again_with_half_its_size_until_it_is_accepted() {
    let receiver = taking(100_000).await;
    let mut sink = opened(&config(&receiver)).await;
    let records = with_a_large_one();

    deliver(&mut sink, &records).await.unwrap();

    assert_eq!((sink.take_shrunk(), sink.take_shrunk()), (1, 0));
    let of_a: Vec<u64> = taken(&receiver).into_iter().filter(|seq| *seq != 4).collect();
    assert_eq!(of_a, [1, 2, 3], "in order");
    let taken = receiver.taken();
    let request = taken
        .iter()
        .find(|request| seqs_in(&request.body) == [2])
        .unwrap();
    assert!(request.body.len() > 50_000, "{}", request.body.len());
    assert_eq!(request.header("webhook-id"), records[1].id.to_string());
    let record = record_in(&request.body);
    let data = data_after(&record);
    assert!(data.truncated && data.size as usize == LARGE);
    assert!(record.before.unwrap().data.unwrap().bytes.is_empty());
    let refused = receiver.requests().len() - taken.len();
    assert_eq!(refused, 5, "1.8 MB, 900 kB, 450, 225 and 113");
}

#[tokio::test]
async fn a_refusal_for_the_size_is_the_same_after_a_restart() {
    let receiver = taking(100_000).await;
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let mut sink = opened(&config(&receiver)).await;
        deliver(&mut sink, &with_a_large_one()).await.unwrap();
        let taken = receiver.taken();
        let of_large = |body: &[u8]| seqs_in(body) == [2];
        bodies = taken
            .into_iter()
            .map(|request| request.body)
            .filter(|body| of_large(body))
            .collect();
    }
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn no_body_is_larger_than_max_body() {
    for (format, batch) in [
        (Format::Record, 1),
        (Format::Record, 10),
        (Format::Cloudevents, 10),
        (Format::CloudeventsBinary, 1),
        (Format::Raw, 1),
    ] {
        let receiver = Receiver::start().await;
        let mut config = config(&receiver);
        (config.format, config.batch, config.max_body) = (format, batch, Some(Size(20_000)));
        let mut sink = opened(&config).await;
        let mut records = with_a_large_one();
        // Small in memory, and twice as large in a body.
        for seq in 5..9 {
            let path = format!("/control-{seq}");
            records.push(
                a_record()
                    .seq(seq)
                    .path(&path)
                    .before("")
                    .after([b'"'; 7_500])
                    .arc(),
            );
        }

        deliver(&mut sink, &records).await.unwrap();

        assert_eq!(sink.take_shrunk(), 1, "{format:?}");
        let sizes: Vec<usize> = receiver.requests().iter().map(|one| one.body.len()).collect();
        assert!(
            sizes.iter().all(|bytes| *bytes <= 20_000),
            "{format:?}: {sizes:?}"
        );
        assert!(sizes.iter().any(|bytes| *bytes > 19_990), "{format:?}: {sizes:?}");
    }
}

#[tokio::test]
async fn raw_bytes_are_cut_and_the_header_says_how_many_there_are() {
    let receiver = taking(500_000).await;
    let mut config = config(&receiver);
    config.format = Format::Raw;
    let mut sink = opened(&config).await;
    let records = [
        a_record().seq(1).after("x".repeat(LARGE)).arc(),
        a_record().seq(2).arc(),
    ];
    deliver(&mut sink, &records).await.unwrap();
    let taken = receiver.taken();
    assert_eq!(taken[0].body.len(), LARGE / 2);
    assert_eq!(taken[0].header("zkbridge-truncated"), LARGE.to_string());
    assert_eq!(taken[1].header("zkbridge-truncated"), "");
}

#[tokio::test]
async fn a_record_that_cannot_be_cut_to_max_body_is_rejected_and_nothing_is_sent_of_it() {
    let receiver = Receiver::start().await;
    let mut config = config(&receiver);
    config.max_body = Some(Size(4_096));
    let mut sink = opened(&config).await;
    let long = format!("/{}", "long".repeat(1_000));
    let error = deliver(&mut sink, &of_paths(&["/a", &long, "/b"]))
        .await
        .unwrap_err();
    assert_eq!(
        (error.done, error.rejected.len(), error.error.is_none()),
        (3, 1, true),
        "{error:?}"
    );
    assert!(error.rejected[0].reason.contains("raise max_body"), "{error:?}");
    assert_eq!(taken(&receiver), [1, 3]);
    assert_eq!(receiver.requests().len(), 2);
}

#[tokio::test]
async fn a_receiver_that_takes_no_body_gets_less_and_less_and_then_a_rejection() {
    let receiver = Receiver::start().await;
    receiver.answer(|request| match path_in(&request.body).as_str() {
        "/a" => Reply::Status(413),
        _ => Reply::Status(200),
    });
    let mut config = config(&receiver);
    config.reject_after = 1;
    let mut sink = opened(&config).await;
    let large = a_record().seq(1).path("/a").after("x".repeat(LARGE)).arc();
    let other = a_record().seq(2).path("/b").arc();
    let error = deliver(&mut sink, &[large, other]).await.unwrap_err();
    assert_eq!((error.done, error.rejected.len()), (2, 1), "{error:?}");
    assert!(
        error.rejected[0].reason.contains("without data, too"),
        "{error:?}"
    );
    assert!(
        (5..20).contains(&receiver.requests().len()),
        "{}",
        receiver.requests().len()
    );
    assert_eq!(sink.take_shrunk(), 0);
}

#[test]
fn a_max_body_that_holds_no_record_is_refused() {
    let mut config = local("https://hooks.example.com/zk");
    config.max_body = Some(Size(1_000));
    let keys: Vec<String> = config.objections().into_iter().map(|found| found.key).collect();
    assert!(keys.contains(&"max_body".to_owned()), "{keys:?}");
}
