//! Streams: nothing lost and nothing doubled, from wherever they resume.

use bridge_config::TokenConfig;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::api::stream::STREAMS_MAX;

/// The ids and names of the events of a stream, until one of them is that of the record.
async fn events_until(response: Response<Body>, last: u64) -> Vec<(u64, String, String)> {
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.into_body();
    let (mut text, mut events) = (String::new(), Vec::new());
    loop {
        let frame = timeout(BOUND, body.frame()).await.expect("an event arrives");
        let bytes = frame.expect("the stream goes on").unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&bytes).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| {
                let lines = event.lines();
                lines
                    .filter_map(|line| line.strip_prefix(&format!("{name}: ")))
                    .map(str::to_owned)
                    .next()
            };
            if let (Some(id), Some(kind)) = (field("id"), field("event")) {
                events.push((id.parse().unwrap(), kind, field("data").unwrap_or_default()));
            }
            text = rest.to_owned();
        }
        if events.iter().any(|(id, _, _)| *id >= last) {
            return events;
        }
    }
}

fn records(events: &[(u64, String, String)]) -> Vec<u64> {
    let records = events.iter().filter(|(_, kind, _)| kind == "record");
    records.map(|(id, _, _)| *id).collect()
}

#[tokio::test]
async fn a_stream_resumes_exactly_after_the_last_event_that_arrived() {
    let mut served = Served::new();
    let bearer = format!("Bearer {TOKEN}");
    let mut random = StdRng::seed_from_u64(7);
    let (mut seen, mut last) = (Vec::new(), 0_u64);
    let mut written = 0;
    for _ in 0..60 {
        let more = random.random_range(1..12);
        for _ in 0..more {
            written += 1;
            served.write(&[("/a", written, "x")]);
        }
        let id = last.to_string();
        let headers = [("authorization", bearer.as_str()), ("last-event-id", id.as_str())];
        let response = served.send(request("/sources/main/stream", &headers)).await;
        // The connection breaks after some of the events.
        let until = random.random_range(last + 1..=written);
        let events = events_until(response, until).await;
        for seq in records(&events) {
            seen.push(seq);
            last = seq;
            if seq == until {
                break;
            }
        }
    }
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_begins_at_the_end_and_names_what_its_rate_skips() {
    let mut served = Served::new();
    served.write(&[("/a", 1, "before")]);
    let response = served.ask(TOKEN, "/sources/main/stream?rate=3").await;
    let mut body = response.into_body();
    // The first chunk comes before the end of the journal is known.
    let begin = timeout(BOUND, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(begin.into_data().unwrap(), "retry: 2000\n\n");
    let later = served.ask(TOKEN, "/sources/main/stream?rate=3&after=1").await;
    let changes: Vec<(&str, u64, &str)> = (2..=40).map(|zxid| ("/a", zxid, "x")).collect();
    served.write(&changes);
    let events = events_until(later, 40).await;
    let sent = records(&events);
    let skipped: u64 = events
        .iter()
        .filter(|(_, kind, _)| kind == "skipped")
        .map(|(_, _, data)| {
            serde_json::from_str::<Value>(data).unwrap()["count"]
                .as_u64()
                .unwrap()
        })
        .sum();
    assert_eq!(sent.len() as u64 + skipped, 39, "{events:?}");
    assert!(sent.len() <= 6 && !sent.contains(&1), "{sent:?}");
}

#[tokio::test]
async fn records_that_retention_removed_are_named_before_the_stream_goes_on() {
    let mut served = Served::new();
    served.write(&[("/a", 1, "x"), ("/b", 2, "x")]);
    served.write(&[("/c", 1_000_000, "x")]);
    let now = Timestamp(NOON + 1_000_000_000);
    while served.journal.maintain(now, 100).unwrap().more {}
    let events = events_until(served.ask(TOKEN, "/sources/main/stream?after=0").await, 3).await;
    let kinds: Vec<&str> = events.iter().map(|(_, kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["lost", "record"], "{events:?}");
    let lost: Value = serde_json::from_str(&events[0].2).unwrap();
    assert_eq!((&lost["from"], &lost["to"]), (&1.into(), &2.into()));
}

#[tokio::test]
async fn a_filter_leaves_records_out_and_a_stream_ends_with_its_session() {
    let mut served = Served::new();
    let id = served.access.log_in(None, Some(TOKEN)).unwrap();
    let cookie = format!("zkbridge-session={id}");
    let asked = request("/sources/main/stream?after=0&under=/b", &[("cookie", &cookie)]);
    served.write(&[("/a", 1, "x"), ("/b", 2, "x")]);
    let mut stream = served.send(asked).await.into_body();
    let mut text = String::new();
    while !text.contains("event: record") {
        let frame = timeout(BOUND, stream.frame()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    assert!(text.contains("id: 2") && !text.contains("id: 1\n"), "{text}");
    let caller = served.access.by_session(&id).unwrap();
    served.access.log_out(&caller);
    assert!(
        timeout(BOUND, stream.frame()).await.unwrap().is_none(),
        "it has ended"
    );
}

#[tokio::test]
async fn more_streams_than_there_may_be_are_refused_and_one_that_ends_makes_room() {
    let served = Served::new();
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        open.push(served.ask(TOKEN, "/sources/main/stream").await);
    }
    let refused = served.ask(TOKEN, "/sources/main/stream").await;
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(problem(refused).await.0, 503);
    open.pop();
    assert_eq!(
        served.ask(TOKEN, "/sources/main/stream").await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_stream_says_at_once_where_it_begins_and_what_a_restored_journal_has_lost() {
    let mut served = Served::new();
    served.write(&[("/a", 1, "x"), ("/a", 2, "x")]);
    let begun = events_until(served.ask(TOKEN, "/sources/main/stream").await, 2).await;
    assert_eq!((begun.len(), begun[0].0, begun[0].1.as_str()), (1, 2, "position"));
    // Its last event was of record 9, and the journal that was put back ends with record 2.
    let response = served.ask(TOKEN, "/sources/main/stream?after=9").await;
    let lost = events_until(response, 2).await;
    assert_eq!((lost[0].0, lost[0].1.as_str()), (2, "lost"));
    let named: Value = serde_json::from_str(&lost[0].2).unwrap();
    assert_eq!((&named["from"], &named["to"]), (&3.into(), &9.into()));
}

#[tokio::test]
async fn streams_that_share_a_page_show_each_caller_no_more_than_its_token_allows() {
    let token = |name: &str, paths: &[&str], values| TokenConfig {
        name: name.parse().unwrap(),
        token: Secret::new(name),
        paths: paths.iter().map(|glob| glob.parse().unwrap()).collect(),
        values,
    };
    let mut served = Served::with(HttpConfig {
        tokens: vec![token("open", &["/open"], true), token("blind", &[], false)],
        ..HttpConfig::default()
    });
    served.write(&[
        ("/open", 1, "public"),
        ("/closed", 2, "secret"),
        ("/open/x", 3, "public"),
    ]);
    // The last one reads the pages of the first.
    let check = async |token: &str, expected: &[u64], words: &[&str]| {
        let events = events_until(served.ask(token, "/sources/main/stream?after=0").await, 3).await;
        assert_eq!(records(&events), expected, "{token}");
        for word in ["public", "secret"] {
            let has = events.iter().any(|(_, _, data)| data.contains(word));
            assert_eq!(has, words.contains(&word), "{token} {word}: {events:?}");
        }
    };
    for _ in 0..2 {
        check(TOKEN, &[1, 2, 3], &["public", "secret"]).await;
        check("open", &[1, 3], &["public"]).await;
        check("blind", &[1, 2, 3], &[]).await;
    }
}
