//! Servers that announce or send more than anybody could keep: the process must allocate by what has come, and go on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bridge_core::capture::{Input, ReadRequest, Ticket};
use bridge_core::path::ZnodePath;
use bridge_core::source::{SourceErrorKind, SourceEvent, SourceRequest};
use bridge_zookeeper::{Survey, test_connection};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout};

use crate::driver::{BOUND, Driver, Server};
use crate::wire::{
    ADD_WATCH, PING, REMOVE_WATCHES, Request, SASL, SYNC, created, failure, frame, header, request, text,
};

/// More than any machine has: of elements of 24 bytes it is 48 GiB.
const LARGEST: [u8; 4] = i32::MAX.to_be_bytes();
const GET_CHILDREN: i32 = 8;
const MULTI_READ: i32 = 22;
const SESSION_EXPIRED: i32 = -112;
const STAT_BYTES: usize = 68;

/// Answers what arming and keeping a session takes; gives back any other request.
async fn other(stream: &mut TcpStream) -> io::Result<Request> {
    loop {
        let request = request(stream).await?;
        match request.operation {
            ADD_WATCH => frame(stream, &header(request.xid, 4)).await?,
            SYNC => frame(stream, &[header(request.xid, 5), text("/a")].concat()).await?,
            PING => frame(stream, &header(request.xid, 5)).await?,
            _ => return Ok(request),
        }
    }
}

/// One part of the answer to a MultiRead: the header, then its body.
fn part(operation: i32, body: &[u8]) -> Vec<u8> {
    [&operation.to_be_bytes()[..], &[0], &0i32.to_be_bytes(), body].concat()
}

/// The znode `/a` without data, and this for the names of its children.
fn answer_to_multi_read(xid: i32, children: &[u8]) -> Vec<u8> {
    let data = [&0i32.to_be_bytes()[..], &[0; STAT_BYTES]].concat();
    let end = [&(-1i32).to_be_bytes()[..], &[1], &(-1i32).to_be_bytes()].concat();
    [header(xid, 5), part(4, &data), part(GET_CHILDREN, children), end].concat()
}

#[tokio::test]
async fn a_child_list_that_announces_more_than_it_holds_is_trouble_and_tried_again() {
    let server = Server::start(10_000, async |mut stream| {
        loop {
            let asked = other(&mut stream).await?;
            assert_eq!(asked.operation, MULTI_READ);
            frame(&mut stream, &answer_to_multi_read(asked.xid, &LARGEST)).await?;
        }
    })
    .await;
    let mut driver = Driver::run(server.config());
    driver.until_trouble("a read failed").await;
    driver
        .until(|report| matches!(report, SourceEvent::Connected { .. }))
        .await;
    assert!(server.sessions() >= 2);
    driver.end().await;
}

#[tokio::test]
async fn a_first_look_at_a_server_survives_a_child_list_that_announces_more_than_it_holds() {
    let server = Server::start(10_000, async |mut stream| {
        loop {
            let asked = other(&mut stream).await?;
            frame(&mut stream, &[header(asked.xid, 5), LARGEST.to_vec()].concat()).await?;
        }
    })
    .await;
    let error = timeout(BOUND, test_connection(&server.config())).await.unwrap();
    assert_eq!(error.unwrap_err().kind, SourceErrorKind::Unavailable);
}

/// `doctor`, `verify` and the commands that read the tree have a session of this kind.
#[tokio::test]
async fn a_survey_of_a_server_survives_a_child_list_that_announces_more_than_it_holds_and_a_source_beside_it_goes_on()
 {
    let flood = Server::start(10_000, async |mut stream| {
        loop {
            let asked = other(&mut stream).await?;
            frame(&mut stream, &answer_to_multi_read(asked.xid, &LARGEST)).await?;
        }
    })
    .await;
    let sound = Server::start(10_000, async |mut stream| {
        let none = 0i32.to_be_bytes();
        loop {
            let asked = other(&mut stream).await?;
            frame(&mut stream, &answer_to_multi_read(asked.xid, &none)).await?;
        }
    })
    .await;
    let mut beside = Driver::run(sound.config());
    let is_answer = |report: &SourceEvent| matches!(report, SourceEvent::Input(Input::Answer { .. }));
    beside.until(is_answer).await;

    let survey = Survey::open(&flood.config()).await.unwrap();
    let root = ZnodePath::parse("/a").unwrap();
    let error = timeout(BOUND, survey.read(&[root])).await.unwrap().unwrap_err();

    assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
    let again = SourceRequest::Read {
        ticket: Ticket(2),
        reads: vec![ReadRequest {
            path: ZnodePath::parse("/a").unwrap(),
            children: true,
        }],
    };
    beside.request_now(again).await;
    beside
        .until(|report| {
            matches!(
                report,
                SourceEvent::Input(Input::Answer {
                    ticket: Ticket(2),
                    ..
                })
            )
        })
        .await;
    assert_eq!(sound.sessions(), 1, "{:?}", beside.reports);
    beside.end().await;
}

#[tokio::test]
async fn a_frame_beyond_the_limit_ends_the_connection_before_it_is_buffered() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let server = Server::start(10_000, move |mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            let _read = other(&mut stream).await?;
            stream.write_all(&LARGEST).await?;
            let bytes = vec![0; 1 << 20];
            loop {
                stream.write_all(&bytes).await?;
                counted.fetch_add(bytes.len(), Ordering::Relaxed);
            }
        }
    })
    .await;
    let mut driver = Driver::run(server.config());
    driver.until_trouble("a frame of 2147483647 bytes").await;
    assert!(sent.load(Ordering::Relaxed) < 16 << 20, "{sent:?}");
    driver.end().await;
}

#[tokio::test]
async fn events_that_nothing_watches_fill_no_queue() {
    let removals = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&removals);
    let server = Server::start(10_000, move |mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            let asked = other(&mut stream).await?;
            for at in 0..20_000 {
                frame(&mut stream, &created(&format!("/elsewhere/{at}"), 6)).await?;
            }
            frame(&mut stream, &answer_to_multi_read(asked.xid, &0i32.to_be_bytes())).await?;
            while other(&mut stream).await?.operation == REMOVE_WATCHES {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    })
    .await;
    let mut driver = Driver::run(server.config());
    driver
        .until(|report| matches!(report, SourceEvent::Input(Input::Answer { .. })))
        .await;
    driver.end().await;
    // As many as may wait unanswered.
    assert!(removals.load(Ordering::Relaxed) <= 1024, "{removals:?}");
}

#[tokio::test]
async fn more_bytes_of_paths_than_may_wait_end_the_connection_as_an_overflow() {
    let cut_off = Arc::new(Notify::new());
    let signal = Arc::clone(&cut_off);
    let server = Server::start(10_000, move |mut stream| {
        let signal = Arc::clone(&signal);
        async move {
            let _read = other(&mut stream).await?;
            let long = "x".repeat(50_000);
            let mut at = 0;
            while frame(&mut stream, &created(&format!("/a/{long}{at}"), 6))
                .await
                .is_ok()
            {
                at += 1;
            }
            signal.notify_one();
            Ok(())
        }
    })
    .await;
    let mut driver = Driver::run(server.config());
    driver
        .until(|report| matches!(report, SourceEvent::Input(Input::Events(_))))
        .await;
    // Nothing is taken meanwhile, as by a pipeline that waits for its disk.
    timeout(BOUND, cut_off.notified())
        .await
        .expect("the server is cut off");
    driver
        .until(|report| matches!(report, SourceEvent::Input(Input::Overflow)))
        .await;
    driver.end().await;
}

/// Held by a test while it measures the memory of this process.
static MEASURES: Mutex<()> = Mutex::const_new(());

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes << 10
}

#[tokio::test]
async fn events_that_arrive_while_the_watches_are_armed_are_not_kept() {
    let _alone = MEASURES.lock().await;
    let grown = Arc::new(AtomicU64::new(0));
    let measured = Arc::clone(&grown);
    let server = Server::start(10_000, move |mut stream| {
        let measured = Arc::clone(&measured);
        async move {
            let mut operation = 0;
            while operation != ADD_WATCH {
                let asked = request(&mut stream).await?;
                frame(&mut stream, &header(asked.xid, 4)).await?;
                operation = asked.operation;
            }
            let before = resident_bytes();
            let long = "x".repeat(50_000);
            // 250 MB in all. The socket holds a few of them, so all others are with the client.
            for at in 0..5_000 {
                frame(&mut stream, &created(&format!("/a/{long}{at}"), 5)).await?;
            }
            measured.store(resident_bytes().saturating_sub(before), Ordering::Relaxed);
            let asked = other(&mut stream).await?;
            frame(&mut stream, &answer_to_multi_read(asked.xid, &0i32.to_be_bytes())).await?;
            // A socket that is closed with unread pings resets the connection, and the answer may be lost with it.
            while other(&mut stream).await.is_ok() {}
            Ok(())
        }
    })
    .await;
    let mut driver = Driver::run(server.config());
    driver
        .until(|report| matches!(report, SourceEvent::Input(Input::Answer { .. })))
        .await;
    driver.end().await;
    // Other tests of this process fill queues up to their bounds, far below.
    let grown = grown.load(Ordering::Relaxed);
    assert!(grown < 150 << 20, "{grown}");
}

/// Answers the first read with this, and returns how much resident memory grew meanwhile.
async fn memory_of_answer(answer: impl Fn(i32) -> Vec<u8> + Send + Sync + 'static) -> u64 {
    let grown = Arc::new(AtomicU64::new(0));
    let (measured, answer) = (Arc::clone(&grown), Arc::new(answer));
    let server = Server::start(10_000, move |mut stream| {
        let (measured, answer) = (Arc::clone(&measured), Arc::clone(&answer));
        async move {
            let asked = other(&mut stream).await?;
            let bytes = answer(asked.xid);
            let before = resident_bytes();
            let watch = async {
                loop {
                    let now = resident_bytes().saturating_sub(before);
                    measured.fetch_max(now, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let end = async {
                frame(&mut stream, &bytes).await?;
                while other(&mut stream).await.is_ok() {}
                Ok(())
            };
            tokio::select! {
                ended = end => ended,
                () = watch => unreachable!("it watches without end"),
            }
        }
    })
    .await;
    let mut driver = Driver::run(server.config());
    driver.until_trouble("more than the 67108864 allowed").await;
    driver.end().await;
    grown.load(Ordering::Relaxed)
}

#[tokio::test]
async fn millions_of_empty_elements_in_a_frame_are_refused_before_they_take_memory() {
    let _alone = MEASURES.lock().await;
    let names = |count: i32| [&count.to_be_bytes()[..], &vec![0; 4 * count as usize]].concat();
    let of_names = memory_of_answer(move |xid| answer_to_multi_read(xid, &names(12_000_000))).await;
    // Each list is small enough alone.
    let of_lists = memory_of_answer(move |xid| {
        let list = part(GET_CHILDREN, &names(1_000_000));
        [header(xid, 5), list.repeat(12)].concat()
    })
    .await;
    let error = part(-1, &(-101i32).to_be_bytes());
    let of_errors = memory_of_answer(move |xid| [header(xid, 5), error.repeat(2_000_000)].concat()).await;
    // The frame in this server and in the client, what may be decoded of it, and the other tests of this process.
    for (which, grown) in [("names", of_names), ("lists", of_lists), ("errors", of_errors)] {
        assert!(grown < 330 << 20, "{which}: {} MiB", grown >> 20);
    }
}

#[tokio::test]
async fn a_child_without_a_name_is_refused_by_name() {
    let server = Server::start(10_000, async |mut stream| {
        loop {
            let asked = other(&mut stream).await?;
            let nameless = [1i32.to_be_bytes(), 0i32.to_be_bytes()].concat();
            frame(&mut stream, &answer_to_multi_read(asked.xid, &nameless)).await?;
        }
    })
    .await;
    let mut driver = Driver::run(server.config());
    driver
        .until_trouble("a child of /a that cannot exist: \"\"")
        .await;
    driver.end().await;
}

/// Servers that end each connection early, and how.
async fn is_asked_seldom(words: &str, script: impl Fn(Request) -> Vec<u8> + Clone + Send + Sync + 'static) {
    let server = Server::start(10_000, move |mut stream| {
        let script = script.clone();
        async move {
            loop {
                let asked = request(&mut stream).await?;
                match asked.operation {
                    PING => frame(&mut stream, &header(asked.xid, 5)).await?,
                    _ => frame(&mut stream, &script(asked)).await?,
                }
            }
        }
    })
    .await;
    let mut driver = Driver::run(server.config());
    let began = Instant::now();
    driver.until_trouble(words).await;
    driver.until_trouble(words).await;
    // At most one in 50 ms in the beginning, and fewer then.
    let most = 5 + began.elapsed().as_millis() / 50;
    assert!(
        (server.sessions() as u128) < most,
        "{} of {most}",
        server.sessions()
    );
    driver.end().await;
}

#[tokio::test]
async fn a_server_that_ends_each_session_with_its_first_answer_is_asked_seldom() {
    is_asked_seldom("ends each connection soon", |asked| {
        failure(asked.xid, 5, SESSION_EXPIRED)
    })
    .await;
}

#[tokio::test]
async fn a_server_that_answers_what_was_not_asked_is_asked_seldom() {
    is_asked_seldom("adding a recursive watch failed", |asked| {
        header(asked.xid + 1_000, 5)
    })
    .await;
}

/// Answers each attempt to authenticate with this realm.
async fn challenges(mut stream: TcpStream, realm: &'static str) -> io::Result<()> {
    let challenge = format!("realm=\"{realm}\",nonce=\"n\",charset=utf-8,algorithm=md5-sess");
    loop {
        let asked = request(&mut stream).await?;
        match asked.operation {
            SASL => frame(&mut stream, &[header(asked.xid, 0), text(&challenge)].concat()).await?,
            _ => frame(&mut stream, &header(asked.xid, 5)).await?,
        }
    }
}

#[tokio::test]
async fn a_challenge_with_escaped_characters_neither_panics_nor_goes_on_without_end() {
    for realm in ["a\\\u{e9}", "a\\\\\\\"b\\'"] {
        let server = Server::start(10_000, move |stream| challenges(stream, realm)).await;
        let mut config = server.config();
        let auth = serde_json::json!({"sasl": "digest-md5", "user": "u", "password": "p"});
        config.auth = serde_json::from_value(auth).unwrap();
        let looked = timeout(Duration::from_secs(20), test_connection(&config)).await;
        assert!(looked.expect("it ends in time").is_err(), "{realm}");
    }
}
