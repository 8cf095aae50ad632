//! The handling of records when the receiver answers with a failure.

use bridge_core::secret::Secret;
use bridge_core::sink::SinkErrorKind as Kind;

use super::receiver::Reply;
use super::*;

/// A receiver that takes all but one path, which it answers so.
async fn refusing(path: &'static str, reply: Reply) -> Receiver {
    let receiver = Receiver::start().await;
    receiver.answer(move |request| match path_in(&request.body) == path {
        true => reply.clone(),
        false => Reply::Status(204),
    });
    receiver
}

/// A receiver that answers everything so.
async fn answering(reply: Reply) -> Receiver {
    let receiver = Receiver::start().await;
    receiver.answer(move |_| reply.clone());
    receiver
}

#[tokio::test]
async fn every_status_of_the_2xx_is_success() {
    for status in [200, 201, 202, 204] {
        let receiver = answering(Reply::Status(status)).await;
        let mut sink = opened(&config(&receiver)).await;
        deliver(&mut sink, &of_paths(&["/a"])).await.unwrap();
    }
}

#[tokio::test]
async fn a_failing_path_holds_only_itself() {
    for reply in [
        Reply::Status(500),
        Reply::Status(502),
        Reply::Status(408),
        Reply::Cut,
    ] {
        let receiver = refusing("/bad", reply.clone()).await;
        let mut sink = opened(&config(&receiver)).await;
        let records = of_paths(&["/a", "/bad", "/b", "/bad", "/a"]);

        let error = deliver(&mut sink, &records).await.unwrap_err();

        assert_eq!(
            (error.done, error.error.is_none()),
            (5, true),
            "{reply:?}: {error:?}"
        );
        assert_eq!(error.rejected, []);
        let deferred: Vec<u64> = error.deferred.iter().map(|one| one.seq.0).collect();
        assert_eq!(deferred, [2, 4], "{reply:?}");
        assert!(
            error.deferred[1].error.message.contains("waits for record 2"),
            "{error:?}"
        );
        let mut taken = taken(&receiver);
        taken.sort_unstable();
        assert_eq!(taken, [1, 3, 5], "{reply:?}");
    }
}

#[tokio::test]
async fn a_lone_path_that_fails_is_deferred_while_the_receiver_is_known_to_work() {
    let receiver = refusing("/bad", Reply::Status(500)).await;
    let mut sink = opened(&config(&receiver)).await;
    let good = of_paths(&["/a"]);
    let bad = [a_record().seq(2).path("/bad").arc()];
    let worse = [a_record().seq(3).path("/bad").arc()];
    deliver(&mut sink, &good).await.unwrap();

    let first = deliver(&mut sink, &bad).await.unwrap_err();
    assert_eq!((first.done, first.deferred.len()), (1, 1), "{first:?}");
    let again = deliver(&mut sink, &bad).await.unwrap_err();
    assert_eq!((again.done, again.deferred.len()), (1, 1), "{again:?}");
    let other = deliver(&mut sink, &worse).await.unwrap_err();
    assert_eq!(
        (other.done, other.deferred.len()),
        (0, 0),
        "nothing was taken since: {other:?}"
    );
    assert_eq!(other.error.unwrap().kind, Kind::Unavailable);
}

#[tokio::test]
async fn a_receiver_that_fails_altogether_ends_the_batch_and_gets_few_requests() {
    let receiver = answering(Reply::Status(500)).await;
    let mut config = config(&receiver);
    config.parallel = 4;
    let mut sink = opened(&config).await;
    let paths: Vec<String> = (0..500).map(|at| format!("/p{at}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let records = of_paths(&paths);

    let error = deliver(&mut sink, &records).await.unwrap_err();

    assert_eq!((error.done, error.deferred.len()), (0, 0), "{error:?}");
    assert_eq!(error.error.unwrap().kind, Kind::Unavailable);
    let requests = receiver.requests().len();
    assert!(requests <= 8 + 4, "{requests} requests");
}

#[tokio::test]
async fn however_many_paths_fail_the_others_get_through_in_the_end() {
    let receiver = Receiver::start().await;
    receiver.answer(|request| match path_in(&request.body).starts_with("/bad") {
        true => Reply::Status(500),
        false => Reply::Status(200),
    });
    let mut sink = opened(&config(&receiver)).await;
    let mut paths: Vec<String> = (0..100).map(|at| format!("/bad{at}")).collect();
    paths.push("/good".to_owned());
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let records = of_paths(&paths);

    for attempt in 1.. {
        let error = deliver(&mut sink, &records).await.unwrap_err();
        if error.done == records.len() {
            assert_eq!(error.deferred.len(), 100);
            break;
        }
        assert!(attempt < 10, "{error:?}");
    }
    assert_eq!(taken(&receiver), [101]);
}

#[tokio::test]
async fn paths_that_failed_before_others_were_taken_are_known_for_theirs() {
    let receiver = Receiver::start().await;
    receiver.answer(|request| match path_in(&request.body).starts_with("/bad") {
        true => Reply::Status(500),
        false => Reply::Status(200),
    });
    let mut sink = opened(&config(&receiver)).await;
    let bad: Vec<String> = (0..12).map(|at| format!("/bad{at}")).collect();
    let bad = of_paths(&bad.iter().map(String::as_str).collect::<Vec<_>>());
    let good = [a_record().seq(100).path("/good").arc()];

    // As after a restart, with records that an earlier life has set aside.
    let first = deliver(&mut sink, &bad).await.unwrap_err();
    assert_eq!((first.done, first.deferred.len()), (0, 0), "{first:?}");
    deliver(&mut sink, &good).await.unwrap();
    let second = deliver(&mut sink, &bad).await.unwrap_err();
    assert_eq!((second.done, second.deferred.len()), (12, 12), "{second:?}");
}

#[tokio::test]
async fn records_taken_after_a_failure_are_not_sent_again() {
    let receiver = Receiver::start().await;
    let mut count = 0;
    receiver.answer(move |_| {
        count += 1;
        match count {
            3 => Reply::With(503, vec![("retry-after", "7".to_owned())]),
            _ => Reply::Status(200),
        }
    });
    let mut config = config(&receiver);
    config.parallel = 2;
    let mut sink = opened(&config).await;
    let records = of_paths(&["/a", "/a", "/a", "/b", "/b", "/b"]);

    let error = deliver(&mut sink, &records).await.unwrap_err();
    let done = error.done;
    assert_eq!(error.error.unwrap().retry_after, Some(Duration::from_secs(7)));
    deliver(&mut sink, &records[done..]).await.unwrap();

    let mut taken = taken(&receiver);
    taken.sort_unstable();
    assert_eq!(taken, [1, 2, 3, 4, 5, 6], "once each");
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_wait_gets_nothing_more_and_the_wait_is_passed_on() {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(90));
    for (status, kind) in [(429, Kind::Throttled), (503, Kind::Unavailable)] {
        for (value, least, most) in [("30", 30, 30), (date.as_str(), 60, 90)] {
            let receiver = answering(Reply::With(status, vec![("retry-after", value.to_owned())])).await;
            let mut config = config(&receiver);
            config.parallel = 1;
            let mut sink = opened(&config).await;

            let error = deliver(&mut sink, &of_paths(&["/a", "/b", "/c"]))
                .await
                .unwrap_err();

            assert_eq!(receiver.requests().len(), 1);
            assert_eq!((error.done, error.deferred.len()), (0, 0));
            let error = error.error.unwrap();
            assert_eq!(error.kind, kind);
            let wait = error.retry_after.unwrap().as_secs();
            assert!((least..=most).contains(&wait), "{status} {value}: {wait}");
        }
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_never_followed() {
    let elsewhere = Receiver::start().await;
    for status in [301, 302, 303, 307, 308] {
        let receiver = answering(Reply::With(status, vec![("location", elsewhere.url())])).await;
        let mut sink = opened(&config(&receiver)).await;
        let error = deliver(&mut sink, &of_paths(&["/a"])).await.unwrap_err();
        assert_eq!((error.done, error.deferred.len()), (0, 0));
        let error = error.error.unwrap();
        assert_eq!(error.kind, Kind::Missing);
        assert!(error.message.contains("redirects are not followed"), "{error}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn gone_disables_the_sink_unless_that_is_switched_off() {
    let receiver = answering(Reply::Status(410)).await;
    let config = config(&receiver);
    let mut sink = opened(&config).await;
    let error = deliver(&mut sink, &of_paths(&["/a", "/b"])).await.unwrap_err();
    assert_eq!((error.done, error.error.unwrap().kind), (0, Kind::Disabled));

    let receiver = refusing("/gone", Reply::Status(410)).await;
    let mut config = self::config(&receiver);
    (config.disable_on_410, config.reject_after, config.parallel) = (false, 1, 1);
    let mut sink = opened(&config).await;
    let error = deliver(&mut sink, &of_paths(&["/a", "/gone"])).await.unwrap_err();
    assert_eq!((error.done, error.rejected.len()), (2, 1), "{error:?}");
}

#[tokio::test]
async fn a_record_is_rejected_after_so_many_refusals() {
    for status in [400, 409, 413, 422] {
        let receiver = refusing("/bad", Reply::Status(status)).await;
        let mut config = config(&receiver);
        config.reject_after = 3;
        let mut sink = opened(&config).await;
        let records = of_paths(&["/bad", "/a"]);

        for _ in 0..2 {
            let error = deliver(&mut sink, &records).await.unwrap_err();
            assert_eq!(
                (error.rejected.len(), error.deferred.len()),
                (0, 1),
                "{status}: {error:?}"
            );
        }
        let error = deliver(&mut sink, &records).await.unwrap_err();

        assert_eq!((error.done, error.deferred.len()), (2, 0), "{status}: {error:?}");
        let [rejected] = &error.rejected[..] else {
            panic!("{error:?}")
        };
        assert_eq!(rejected.seq, records[0].seq);
        assert!(
            rejected.reason.contains(&format!("{status} ")),
            "{}",
            rejected.reason
        );
        assert!(rejected.reason.contains("3 times"), "{}", rejected.reason);
        assert!(
            rejected.reason.contains(&records[0].id.to_string()),
            "{}",
            rejected.reason
        );
    }
}

#[tokio::test]
async fn a_rejected_record_does_not_hold_its_path() {
    let receiver = Receiver::start().await;
    receiver.answer(|request| match seqs_in(&request.body)[..] {
        [2] => Reply::Status(400),
        _ => Reply::Status(200),
    });
    let mut config = config(&receiver);
    config.reject_after = 1;
    let mut sink = opened(&config).await;
    let error = deliver(&mut sink, &of_paths(&["/a", "/a", "/a"]))
        .await
        .unwrap_err();
    assert_eq!(
        (error.done, error.rejected.len(), error.error.is_none()),
        (3, 1, true),
        "{error:?}"
    );
    assert_eq!(taken(&receiver), [1, 3]);
}

#[tokio::test]
async fn a_receiver_that_has_taken_nothing_yet_rejects_nothing() {
    let receiver = answering(Reply::Says(400, "timestamp too old".to_owned())).await;
    let mut config = config(&receiver);
    config.reject_after = 1;
    let mut sink = opened(&config).await;
    let records = of_paths(&["/a", "/b"]);
    for _ in 0..5 {
        let error = deliver(&mut sink, &records).await.unwrap_err();
        assert_eq!(error.rejected, []);
    }
    receiver.answer(|_| Reply::Status(200));
    deliver(&mut sink, &records).await.unwrap();
    assert_eq!(taken(&receiver).len(), 2);
}

#[tokio::test]
async fn the_text_of_a_refusal_is_shown_in_one_line_and_without_secrets() {
    let receiver = Receiver::start().await;
    receiver.answer(|request| match &*path_in(&request.body) {
        "/bad" => {
            let echo = format!("no\u{1b}[2J\nfield\u{202e} x, POST {}", request.path);
            let more = "Bearer hunter2hunter2 hunter2hunter2 ".repeat(200);
            Reply::Says(422, format!("{echo} {more}"))
        }
        _ => Reply::Status(200),
    });
    let mut config = WebhookConfig::new(&receiver.url().replace("/hook", "/t0/abcdefgh?key=t0ken12"));
    config.allow_private_addresses = true;
    (config.reject_after, config.parallel) = (1, 1);
    config
        .headers
        .insert("authorization".to_owned(), Secret::new("Bearer hunter2hunter2"));
    let mut sink = opened(&config).await;

    let error = deliver(&mut sink, &of_paths(&["/a", "/bad"])).await.unwrap_err();

    let reason = &error.rejected[0].reason;
    assert!(
        reason.contains("answered 422 Unprocessable Entity (\"no [2J field x, POST ***"),
        "{reason}"
    );
    for hidden in ["t0/abcdefgh", "abcdefgh", "hunter2"] {
        assert!(!reason.contains(hidden), "{reason}");
    }
    assert!(reason.len() < 500, "{reason}");
}

#[tokio::test]
async fn a_refusal_that_repeats_one_value_of_the_query_or_a_decoded_part_of_the_path_is_shown_without_it() {
    let receiver = Receiver::start().await;
    receiver.answer(|request| match &*path_in(&request.body) {
        "/bad" => Reply::Says(
            422,
            "bad token t0ken+%31token or t0ken 1token, no pass/word here".to_owned(),
        ),
        _ => Reply::Status(200),
    });
    let address = receiver
        .url()
        .replace("/hook", "/pass%2Fword?user=me&token=t0ken+%31token");
    let mut config = WebhookConfig::new(&address);
    config.allow_private_addresses = true;
    (config.reject_after, config.parallel) = (1, 1);
    let mut sink = opened(&config).await;

    let error = deliver(&mut sink, &of_paths(&["/a", "/bad"])).await.unwrap_err();

    let reason = &error.rejected[0].reason;
    assert!(
        reason.contains("(\"bad token *** or ***, no *** here\")"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_wrong_address_rejects_nothing_and_calls_by_its_kind() {
    let rows = [
        (401, Kind::Authentication),
        (403, Kind::Authorization),
        (404, Kind::Missing),
        (405, Kind::Missing),
    ];
    for (status, kind) in rows {
        let receiver = answering(Reply::Status(status)).await;
        let mut sink = opened(&config(&receiver)).await;
        for _ in 0..5 {
            let error = deliver(&mut sink, &of_paths(&["/a", "/b"])).await.unwrap_err();
            assert_eq!(
                (error.done, error.rejected.len(), error.deferred.len()),
                (0, 0, 0)
            );
            assert_eq!(error.error.unwrap().kind, kind);
        }
    }
}

#[tokio::test]
async fn an_answer_about_the_address_rejects_a_record_while_others_are_accepted() {
    let receiver = refusing("/bad", Reply::Status(404)).await;
    let mut sink = opened(&config(&receiver)).await;
    let records = of_paths(&["/a", "/bad"]);
    let mut last = None;
    for _ in 0..3 {
        last = deliver(&mut sink, &records).await.err();
    }
    let last = last.unwrap();
    assert_eq!((last.done, last.rejected.len()), (2, 1), "{last:?}");
}

#[tokio::test]
async fn of_a_refused_batch_only_the_guilty_record_is_rejected() {
    let receiver = Receiver::start().await;
    receiver.answer(|request| match seqs_in(&request.body).contains(&3) {
        true => Reply::Status(422),
        false => Reply::Status(200),
    });
    let mut config = config(&receiver);
    (config.batch, config.reject_after, config.parallel) = (10, 1, 1);
    let mut sink = opened(&config).await;

    let error = deliver(&mut sink, &of_paths(&["/a", "/b", "/c", "/d", "/c"]))
        .await
        .unwrap_err();

    let rejected: Vec<u64> = error.rejected.iter().map(|one| one.seq.0).collect();
    assert_eq!((error.done, rejected), (5, vec![3]), "{error:?}");
    let mut taken = taken(&receiver);
    taken.sort_unstable();
    assert_eq!(taken, [1, 2, 4, 5]);
}

#[tokio::test]
async fn an_answer_that_never_comes_fails_after_the_timeout() {
    let receiver = refusing("/bad", Reply::Hold).await;
    let mut config = config(&receiver);
    config.timeout = Span::millis(300);
    let mut sink = opened(&config).await;
    let error = deliver(&mut sink, &of_paths(&["/bad", "/a"])).await.unwrap_err();
    let [deferred] = &error.deferred[..] else {
        panic!("{error:?}")
    };
    assert!(
        deferred.error.message.contains("did not answer within 300ms"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_long_answer_is_success_and_its_rest_is_not_read() {
    let receiver = answering(Reply::Large(50_000_000)).await;
    let mut sink = opened(&config(&receiver)).await;
    deliver(&mut sink, &of_paths(&["/a", "/a"])).await.unwrap();
    assert_eq!(taken(&receiver), [1, 2]);
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_found_when_the_sink_is_opened() {
    let receiver = Receiver::start().await;
    let config = config(&receiver);
    let mut sink = opened(&config).await;
    drop(receiver);
    let error = deliver(&mut sink, &of_paths(&["/a", "/b"])).await.unwrap_err();
    assert_eq!((error.done, error.deferred.len()), (0, 0));
    assert_eq!(error.error.unwrap().kind, Kind::Unavailable);

    let error = WebhookSink::new(&config).unwrap().open().await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("cannot be reached"), "{error}");

    let mut unknown = local("http://no-such-host.invalid/t0ken");
    unknown.connect_timeout = Span::secs(5);
    let error = WebhookSink::new(&unknown).unwrap().open().await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(!format!("{error:?}").contains("t0ken"), "{error:?}");
}

#[tokio::test]
async fn opening_sends_no_request() {
    let receiver = Receiver::start().await;
    let mut sink = opened(&config(&receiver)).await;
    sink.close().await.unwrap();
    assert_eq!(receiver.requests().len(), 0);
    let error = deliver(&mut sink, &of_paths(&["/a"])).await.unwrap_err();
    assert_eq!(error.error.unwrap().kind, Kind::Broken);
}
