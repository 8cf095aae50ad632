//! Values that are not JSON, before a destination that can parse nothing else.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use std::sync::{Arc, Mutex};

use bridge_core::number::Seq;
use bridge_core::outbound::JsonOnly;
use bridge_core::record::{Data, DataForm, DataValue, Record, State};
use bridge_core::sink::{Deferred, DeliverError, Delivery, Rejected, Sink, SinkError, SinkErrorKind};
use bridge_core::testing::a_record;
use futures::FutureExt;
use futures::future::BoxFuture;

/// A sink that takes the records before one of this seq, and answers for it as the test wants.
struct Scripted {
    got: Vec<u64>,
    fails_at: Option<u64>,
    defers: Option<u64>,
    rejects: Option<u64>,
}

impl Sink for Scripted {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        self.got.extend(batch.records.iter().map(|record| record.seq.0));
        let down = || SinkError::new(SinkErrorKind::Unavailable, "down");
        let fails = self.fails_at.map(Seq);
        let done = batch
            .records
            .iter()
            .take_while(|record| Some(record.seq) != fails);
        let done = done.count();
        let of = |seq: Option<u64>| seq.filter(|seq| batch.records.iter().any(|one| one.seq.0 == *seq));
        let report = DeliverError {
            done,
            rejected: of(self.rejects)
                .map(|seq| Rejected::at_once(Seq(seq), "never"))
                .into_iter()
                .collect(),
            deferred: of(self.defers)
                .map(|seq| Deferred {
                    seq: Seq(seq),
                    error: down(),
                })
                .into_iter()
                .collect(),
            error: (done < batch.records.len()).then(down),
            ..DeliverError::default()
        };
        async move {
            let is_whole = report.error.is_none() && report.rejected.is_empty() && report.deferred.is_empty();
            if is_whole { Ok(()) } else { Err(report) }
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}

/// A record of each letter, numbered from 1: `j` has JSON, `t` a text, `-` no data.
fn records(letters: &str) -> Vec<Arc<Record>> {
    let record = |(letter, seq): (char, u64)| {
        let mut record = a_record().seq(seq).path(&format!("/{seq}")).after("x").build();
        let bytes: &[u8] = match letter {
            'j' => br#"{"n":1.10}"#,
            't' => b"no document",
            _ => b"",
        };
        if let Some(State { data, .. }) = &mut record.after {
            *data = Some(Data::limited(bytes, DataForm::Json, 99));
        }
        Arc::new(record)
    };
    letters.chars().zip(1..).map(record).collect()
}

#[tokio::test]
async fn records_whose_value_is_not_json_are_rejected_and_the_sink_gets_the_others() {
    let check =
        async |letters: &str, [fails_at, defers, rejects]: [u64; 3], got: &[u64], done, rejected: &[u64]| {
            let records = records(letters);
            let some = |seq: u64| (seq > 0).then_some(seq);
            let (fails_at, defers, rejects) = (some(fails_at), some(defers), some(rejects));
            let seen = Scripted {
                got: Vec::new(),
                fails_at,
                defers,
                rejects,
            };
            let seen = Arc::new(Mutex::new(seen));
            let mut sink = JsonOnly::new(Box::new(Shared(Arc::clone(&seen))));
            let report = sink
                .deliver(&Delivery {
                    records: records.clone(),
                })
                .await;
            assert_eq!(seen.lock().unwrap().got, got, "{letters}");
            let Err(report) = report else {
                assert_eq!((done, rejected), (letters.len(), &[][..]), "{letters}");
                return;
            };
            let seqs: Vec<u64> = report.rejected.iter().map(|one| one.seq.0).collect();
            assert_eq!((report.done, &*seqs), (done, rejected), "{letters}: {report:?}");
            assert_eq!(report.error.is_some(), fails_at.is_some(), "{letters}");
        };
    check("jj-", [0, 0, 0], &[1, 2, 3], 3, &[]).await;
    check("tjtj", [0, 0, 0], &[2, 4], 4, &[1, 3]).await;
    check("tt", [0, 0, 0], &[], 2, &[1, 2]).await;
    // The second record is not delivered, and nothing after it is settled.
    check("tjtj", [2, 0, 0], &[2, 4], 1, &[1]).await;
    check("tjtj", [4, 0, 0], &[2, 4], 3, &[1, 3]).await;
    check("jtj", [0, 1, 3], &[1, 3], 3, &[2, 3]).await;
}

struct Shared(Arc<Mutex<Scripted>>);

impl Sink for Shared {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        let answered = self.0.lock().unwrap().deliver(batch).now_or_never();
        async move { answered.unwrap() }.boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}

/// The reason why a sink that takes nothing but JSON gets no record with this data.
async fn refused(data: Option<Data>) -> Option<String> {
    let mut record = a_record().seq(1).after("x").build();
    match (&mut record.after, data) {
        (Some(after), Some(data)) => after.data = Some(data),
        (after, _) => *after = None,
    }
    let seen = Scripted {
        got: Vec::new(),
        fails_at: None,
        defers: None,
        rejects: None,
    };
    let mut sink = JsonOnly::new(Box::new(Shared(Arc::new(Mutex::new(seen)))));
    let records = vec![Arc::new(record)];
    let report = sink.deliver(&Delivery { records }).await.err()?;
    Some(report.rejected[0].reason.clone())
}

#[tokio::test]
async fn the_reason_says_what_is_wrong_and_holds_no_value() {
    let json = |text: &str| Some(Data::limited(text.as_bytes(), DataForm::Json, 20));
    assert_eq!(refused(json(r#"{"n":1.10}"#)).await, None);
    assert_eq!(refused(json("")).await, None);
    assert_eq!(refused(None).await, None);
    for (text, words) in [
        ("s3cr3t", "expected value at line 1 column 1"),
        (r#"{"s3cr3t":1,"s3cr3t":2}"#, "cut to 20 of 23 bytes"),
        (r#"{"a":1,"a":2}"#, "a repeated key"),
        ("1e999", "number out of range"),
    ] {
        let reason = refused(json(text)).await.unwrap();
        assert!(reason.contains(words) && !reason.contains("s3cr3t"), "{reason}");
    }
    let reason = refused(Some(Data::limited(b"{}", DataForm::Auto, 9)))
        .await
        .unwrap();
    assert!(reason.contains("data = \"json\""), "{reason}");
}

#[test]
fn the_reason_against_json_is_there_if_and_only_if_the_data_is_not_written_as_json() {
    let texts = [
        "{\"n\":1.10}",
        "[]",
        "no",
        "{\"a\":1,\"a\":1}",
        "\u{1}",
        "1e999",
        "1e308",
        " 1 ",
    ];
    for text in texts {
        for form in [DataForm::Json, DataForm::Auto, DataForm::Base64] {
            for max in [1, 99] {
                let data = Data::limited(text.as_bytes(), form, max);
                let is_json = matches!(data.value(), DataValue::Json(_));
                assert_eq!(
                    data.why_not_json().is_none(),
                    is_json,
                    "{text:?}, {form:?}, {max}"
                );
            }
        }
    }
    assert_eq!(Data::limited(b"", DataForm::Auto, 9).why_not_json(), None);
}
