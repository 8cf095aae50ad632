//! A broker that answers with arrays that are null where none may be: each of them once ended the process. Needs no
//! server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bridge_core::sink::Sink;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::rig;

const TOPIC: &str = "changes";

/// No request of the sink is larger.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The place of the null array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Null {
    Nowhere,
    ApiVersions,
    Brokers,
    Topics,
    Partitions,
    Replicas,
    InSync,
}

/// The requests that the broker knows, with the newest version of each.
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;
const KNOWN: [(i16, i16); 4] = [(0, 7), (METADATA, 4), (API_VERSIONS, 3), (INIT_PRODUCER_ID, 1)];

/// Writes an answer.
#[derive(Default)]
struct Answer(Vec<u8>);

impl Answer {
    fn i16(mut self, value: i16) -> Answer {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i32(mut self, value: i32) -> Answer {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i64(mut self, value: i64) -> Answer {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn byte(mut self, value: u8) -> Answer {
        self.0.push(value);
        self
    }

    fn text(self, text: &str) -> Answer {
        let mut answer = self.i16(i16::try_from(text.len()).unwrap());
        answer.0.extend(text.as_bytes());
        answer
    }

    /// An array of one element, or a null one.
    fn array(self, is_null: bool, element: impl FnOnce(Answer) -> Answer) -> Answer {
        match is_null {
            true => self.i32(-1),
            false => element(self.i32(1)),
        }
    }
}

fn api_versions(version: i16, null: Null) -> Answer {
    let is_null = null == Null::ApiVersions;
    let answer = Answer::default().i16(0);
    if version < 3 {
        let count = i32::try_from(KNOWN.len()).unwrap();
        let answer = answer.i32(if is_null { -1 } else { count });
        let known = KNOWN.iter().filter(|_| !is_null);
        return known.fold(answer, |answer, (key, newest)| {
            answer.i16(*key).i16(0).i16(*newest)
        });
    }
    // A compact array: 0 is null, 1 empty.
    let count = u8::try_from(KNOWN.len() + 1).unwrap();
    let answer = answer.byte(if is_null { 0 } else { count });
    let known = KNOWN.iter().filter(|_| !is_null);
    let answer = known.fold(answer, |answer, (key, newest)| {
        answer.i16(*key).i16(0).i16(*newest).byte(0)
    });
    answer.i32(0).byte(0)
}

fn metadata(port: u16, null: Null) -> Answer {
    let is_null = |place| null == place;
    let answer = Answer::default().i32(0);
    let answer = answer.array(is_null(Null::Brokers), |answer| {
        answer.i32(1).text("127.0.0.1").i32(i32::from(port)).i16(-1)
    });
    let answer = answer.text("cluster").i32(1);
    answer.array(is_null(Null::Topics), |answer| {
        let answer = answer.i16(0).text(TOPIC).byte(0);
        answer.array(is_null(Null::Partitions), |answer| {
            let answer = answer.i16(0).i32(0).i32(1);
            let answer = answer.array(is_null(Null::Replicas), |answer| answer.i32(1));
            answer.array(is_null(Null::InSync), |answer| answer.i32(1))
        })
    })
}

/// Answers the requests of a connection until it ends. Counts the answers that have the null array.
async fn converse(
    mut stream: TcpStream,
    port: u16,
    null: Null,
    given: Arc<AtomicU32>,
) -> std::io::Result<()> {
    loop {
        let length = usize::try_from(stream.read_i32().await?).unwrap_or(usize::MAX);
        assert!(
            (8..=REQUEST_BYTES_MAX).contains(&length),
            "a request of {length} bytes"
        );
        let mut request = vec![0; length];
        stream.read_exact(&mut request).await?;
        let number = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
        let answer = match number(0) {
            API_VERSIONS => api_versions(number(2), null),
            METADATA => metadata(port, null),
            INIT_PRODUCER_ID => Answer::default().i32(0).i16(0).i64(1).i16(0),
            // Nothing is produced here.
            _ => return Ok(()),
        };
        let is_given = match number(0) {
            API_VERSIONS => null == Null::ApiVersions,
            METADATA => null != Null::ApiVersions,
            _ => false,
        };
        given.fetch_add(u32::from(is_given), Ordering::Relaxed);
        let mut framed = Answer::default()
            .i32(i32::try_from(answer.0.len() + 4).unwrap())
            .0;
        // The correlation id.
        framed.extend(&request[4..8]);
        framed.extend(&answer.0);
        stream.write_all(&framed).await?;
    }
}

/// Opens a sink at a broker with the null array in this place.
async fn open_at(null: Null) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let given = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&given);
    let broker = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // How a connection ends is the matter of the sink.
            tokio::spawn(converse(stream, address.port(), null, Arc::clone(&counted)));
        }
    });
    let mut sink = rig::sink(&rig::hasty_config(&address.to_string(), TOPIC));
    let opened = timeout(rig::BOUND, sink.open())
        .await
        .expect("an answer within the bound");
    assert_eq!(opened.is_ok(), null == Null::Nowhere, "{null:?}: {opened:?}");
    assert!(given.load(Ordering::Relaxed) > 0, "{null:?} was never answered");
    sink.close().await.unwrap();
    broker.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_answers_with_a_null_array_costs_an_attempt_and_no_process() {
    let attempts = [
        Null::Nowhere,
        Null::ApiVersions,
        Null::Brokers,
        Null::Topics,
        Null::Partitions,
        Null::Replicas,
        Null::InSync,
    ]
    .map(|null| tokio::spawn(open_at(null)));
    for attempt in attempts {
        attempt.await.unwrap();
    }
}
