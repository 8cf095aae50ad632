//! Commands that fail, and deliveries that are given up at any moment.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::amount::Span;
use bridge_core::record::Op;
use bridge_core::sink::{Delivery, Sink, SinkErrorKind};

use super::{Place, deliver, lines};

#[tokio::test]
async fn a_reload_that_fails_is_shown_and_runs_again_until_it_succeeds() {
    let mut place = Place::with(&[("a", "1")]);
    place.config.reload = place.script(&format!(
        "echo x >> {}; test -e {} || {{ echo 'port 80 is taken' >&2; exit 3; }}",
        place.at("reloads"),
        place.at("ready")
    ));
    let refused = place.sink().open().await.unwrap_err();
    assert_eq!(refused.kind, SinkErrorKind::Unavailable);
    for part in ["app.conf", "reload failed", "status 3", "port 80 is taken"] {
        assert!(refused.message.contains(part), "{part}: {refused}");
    }
    assert_eq!(place.text(), "a=1\n", "the file is written");
    // A new process: the file is equal, and the reload is still due.
    assert!(place.sink().open().await.is_err());
    fs::write(place.at("ready"), "").unwrap();
    place.sink().open().await.unwrap();
    assert_eq!(lines(place.at("reloads")), 3);
    place.sink().open().await.unwrap();
    assert_eq!(lines(place.at("reloads")), 3, "nothing is due any more");
}

#[tokio::test]
async fn a_reload_that_does_not_end_is_killed_and_counts_as_failed() {
    let mut place = Place::with(&[("a", "1")]);
    place.config.reload = place.script("exec sleep 600");
    place.config.timeout = Span::millis(200);
    let refused = place.sink().open().await.unwrap_err();
    assert!(refused.message.contains("200ms"), "{refused}");
}

#[tokio::test]
async fn a_text_that_the_check_refuses_never_takes_the_place_of_the_file() {
    let mut place = Place::with(&[("a", "1")]);
    place.config.reload = place.script(&format!("echo x >> {}", place.at("reloads")));
    place.config.verify = place.script("! grep -q bad \"$0\" || { echo \"bad line in $0\" >&2; exit 1; }");
    place.config.verify.as_mut().unwrap().push("{file}".to_owned());
    let mut sink = place.sink();
    sink.open().await.unwrap();
    assert_eq!((place.text().as_str(), lines(place.at("reloads"))), ("a=1\n", 1));
    let bad = place.change(Op::Update, "/app/a", "bad");
    let refused = deliver(&mut sink, &bad).await.unwrap_err();
    assert_eq!(refused.kind, SinkErrorKind::Content);
    assert!(refused.message.contains("bad line in"), "{refused}");
    assert_eq!((place.text().as_str(), lines(place.at("reloads"))), ("a=1\n", 1));
    assert_eq!(
        place.names(),
        ["app.conf", "reloads"],
        "the refused text is removed"
    );
    let good = place.change(Op::Update, "/app/a", "2");
    sink.open().await.unwrap();
    deliver(&mut sink, &good).await.unwrap();
    assert_eq!((place.text().as_str(), lines(place.at("reloads"))), ("a=2\n", 2));
}

#[tokio::test]
async fn a_program_that_is_missing_is_found_before_anything_is_written() {
    let mut place = Place::with(&[("a", "1")]);
    place.config.reload = Some(vec![place.at("nowhere")]);
    let refused = place.sink().open().await.unwrap_err();
    assert_eq!(refused.kind, SinkErrorKind::Missing);
    assert!(refused.message.contains("nowhere"), "{refused}");
    assert_eq!(place.names(), [""; 0]);
}

/// Given up at each moment of a delivery, as at a shutdown: the file is one whole text, and the next sink shows the present
/// state and reloads it.
#[tokio::test]
async fn a_delivery_that_is_given_up_at_any_moment_leaves_a_whole_file_and_no_reload_out() {
    let large = "x".repeat(5_000);
    let mut moments_with_change = 0;
    for polls in 1..=14 {
        let mut place = Place::with(&[("a", "1")]);
        let reloaded = place.at("reloaded");
        place.config.reload = place.script(&format!("cp {} {reloaded}", place.file().display()));
        let mut sink = place.sink();
        sink.open().await.unwrap();
        let record = place.change(Op::Update, "/app/a", &large);
        let batch = Delivery {
            records: vec![Arc::clone(&record)],
        };
        {
            let mut delivery = std::pin::pin!(sink.deliver(&batch));
            for _ in 0..polls {
                let ended = tokio::time::timeout(Duration::from_millis(1), &mut delivery).await;
                if ended.is_ok() {
                    break;
                }
            }
        }
        drop(sink);
        let text = place.text();
        assert!(
            text == "a=1\n" || text == format!("a={large}\n"),
            "{polls}: {} bytes",
            text.len()
        );
        moments_with_change += usize::from(text != "a=1\n");
        let mut next = place.sink();
        next.open().await.unwrap();
        deliver(&mut next, &record).await.unwrap();
        assert_eq!(place.text(), format!("a={large}\n"), "{polls}");
        assert_eq!(fs::read_to_string(&reloaded).unwrap(), place.text(), "{polls}");
        assert!(
            place.names().iter().all(|name| !name.ends_with("-new")),
            "{:?}",
            place.names()
        );
    }
    println!("{moments_with_change} of 14 were given up after the file was replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_sinks_of_one_file_write_one_after_the_other() {
    let place = Place::with(&[("a", "1")]);
    let mut sinks: Vec<_> = (0..8).map(|_| place.sink()).collect();
    let opened = futures::future::join_all(sinks.iter_mut().map(Sink::open)).await;
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    assert_eq!((place.text().as_str(), place.names().len()), ("a=1\n", 1));
}
