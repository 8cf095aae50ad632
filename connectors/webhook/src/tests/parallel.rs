//! How requests share the transport.

use bridge_core::testing::some_records;
use hyper::Version;

use super::receiver::Reply;
use super::*;
use crate::HttpVersion;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_paths_are_in_flight_and_of_each_one_record() {
    for parallel in [1, 4] {
        let receiver = Receiver::start().await;
        receiver.answer(|_| Reply::Slow(Duration::from_millis(5)));
        let mut config = config(&receiver);
        config.parallel = parallel;
        let mut sink = opened(&config).await;
        let records = some_records(120, 12);

        deliver(&mut sink, &records).await.unwrap();

        assert_eq!(receiver.most_in_flight(), parallel);
        let arrived = taken(&receiver);
        assert_eq!(arrived.len(), records.len());
        if parallel == 1 {
            assert!(arrived.is_sorted(), "{arrived:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_path_holds_back_no_other() {
    let receiver = Receiver::start().await;
    receiver.answer(|request| match &*path_in(&request.body) {
        "/slow" => Reply::Slow(Duration::from_millis(400)),
        _ => Reply::Status(200),
    });
    let mut sink = opened(&config(&receiver)).await;
    let mut paths = vec!["/slow", "/slow"];
    paths.extend(["/a", "/b"].iter().cycle().take(60));

    deliver(&mut sink, &of_paths(&paths)).await.unwrap();

    let arrived = taken(&receiver);
    let second = arrived.iter().position(|seq| *seq == 2).unwrap();
    assert_eq!(second, arrived.len() - 1, "{arrived:?}");
}

#[tokio::test]
async fn connections_are_used_again_and_closed_when_idle() {
    let receiver = Receiver::start().await;
    let mut config = config(&receiver);
    config.parallel = 1;
    let mut sink = opened(&config).await;
    deliver(&mut sink, &of_paths(&["/a", "/b", "/c"])).await.unwrap();
    assert_eq!(receiver.used_connections(), 1);

    config.idle_timeout = Span::millis(0);
    let mut sink = opened(&config).await;
    deliver(&mut sink, &of_paths(&["/a", "/b", "/c"])).await.unwrap();
    assert_eq!(receiver.used_connections(), 1 + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_carries_all_requests_over_one_connection_also_without_tls() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::Slow(Duration::from_millis(5)));
    let mut config = config(&receiver);
    config.http = HttpVersion::Two;
    let mut sink = opened(&config).await;

    deliver(&mut sink, &some_records(100, 20)).await.unwrap();

    assert_eq!(receiver.used_connections(), 1);
    assert!(
        receiver
            .taken()
            .iter()
            .all(|request| request.version == Version::HTTP_2)
    );
    assert!(receiver.most_in_flight() > 1);
}
