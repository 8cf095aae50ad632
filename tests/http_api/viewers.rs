//! Many callers at once: streams that break, viewers that never read, half requests, and questions about everything.

use std::collections::VecDeque;
use std::time::Duration;

use bridge_servers::{eventually, real_servers};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use zookeeper_client::{Acls, CreateMode, CreateOptions};

use crate::bridge::{BOUND, Bridge};
use crate::caller::{Answered, TOKEN, ask, json, with_token};
use crate::resident::Resident;
use crate::stage::Stage;

/// Times that all viewers together resume.
const RESUMES: u64 = 1_000;

/// Viewers that resume at the same time.
const VIEWERS: u64 = 4;

/// The most streams of a bridge, which docs/api.md names.
const STREAMS_MAX: usize = 32;

/// A peer that takes nothing is let go after 30 s.
const UNREAD: Duration = Duration::from_secs(30);

/// Half requests in all, and those that are held at the same time: fewer than a usual limit of open files.
const HALF_REQUESTS: usize = 10_000;
const HELD_MAX: usize = 500;

/// Resident memory that the callers may cost: shared pages, and a chunk for each stream.
const MEMORY_MAX: u64 = 128 << 20;

/// A bridge with a token, and a znode `hot` below its root.
async fn stage(name: &str) -> Stage {
    let mut stage = Stage::set(name).await;
    with_token(&stage.bridge);
    stage.bridge.start_ready().await;
    stage.create("hot", "0").await;
    stage
}

/// The numbers of all records of the journal, page by page.
async fn all_seqs(bridge: &Bridge) -> Vec<u64> {
    let (mut seqs, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = json(
            bridge.address(),
            &format!("/sources/main/changes?limit=1000{cursor}"),
        )
        .await;
        let items = page["items"].as_array().unwrap();
        seqs.extend(items.iter().map(|record| record["seq"].as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seqs,
        }
    }
}

fn options() -> CreateOptions<'static> {
    CreateMode::Persistent.with_acls(Acls::anyone_all())
}

/// Creates this number of znodes with values of this size, in transactions of at most 512 KiB.
async fn create_many(stage: &Stage, count: usize, size: usize) {
    let data = vec![b'x'; size];
    let each = ((512 << 10) / (size + 100)).clamp(1, 500);
    let paths: Vec<String> = (0..count).map(|at| stage.path(&format!("many{at}"))).collect();
    for some in paths.chunks(each) {
        let mut multi = stage.client.new_multi_writer();
        for path in some {
            multi.add_create(path, &data, &options()).unwrap();
        }
        multi.commit().await.unwrap();
    }
    stage.bridge.at_rest().await;
}

/// The next event of a stream with an id: its name and id.
fn next_event(text: &mut String) -> Option<(String, u64)> {
    loop {
        let (event, rest) = text.split_once("\n\n")?;
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let found = field("event: ").zip(field("id: "));
        let found = found.map(|(event, id)| (event.to_owned(), id.parse().unwrap()));
        *text = rest.to_owned();
        if found.is_some() {
            return found;
        }
    }
}

/// Resumes a stream many times after the last event that arrived. Returns the records that it got.
async fn resume(bridge: &Bridge, seed: u64, until: u64) -> Vec<u64> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut records, mut last) = (Vec::new(), 0);
    for resumed in 0..RESUMES / VIEWERS {
        // The last ones read to the end.
        let most = match resumed + 1 == RESUMES / VIEWERS {
            true => usize::MAX,
            false => random.random_range(1..usize::try_from(until * VIEWERS * 2 / RESUMES).unwrap()),
        };
        let mut answered = resumed_after(bridge, last).await;
        let mut text = chunks_of(&mut answered.begin);
        let mut taken = 0;
        while taken < most && last < until {
            while taken < most
                && let Some((event, id)) = next_event(&mut text)
            {
                if event == "record" {
                    records.push(id);
                    taken += 1;
                }
                assert!(event == "record" || event == "position", "seed {seed}: {event}");
                last = id;
            }
            if taken < most && last < until {
                let mut read = vec![0; 16 << 10];
                let count = timeout(BOUND, answered.socket.read(&mut read)).await;
                let count = count.expect("an event in time").unwrap();
                assert!(count > 0, "the stream goes on");
                answered.begin.extend_from_slice(&read[..count]);
                text.push_str(&chunks_of(&mut answered.begin));
            }
        }
        if last >= until {
            break;
        }
    }
    records
}

/// A stream after a record. The places of streams that have just been left may not be free yet.
async fn resumed_after(bridge: &Bridge, last: u64) -> Answered {
    let header = format!("Last-Event-ID: {last}\r\n");
    let begun = eventually("a place for a stream", BOUND, || async {
        let answered = ask(bridge.address(), "/sources/main/stream", &header).await?;
        assert!(answered.code == 200 || answered.code == 503, "{}", answered.head);
        (answered.code == 200).then_some(answered)
    });
    begun.await.unwrap()
}

/// Takes the complete chunks of a body in chunks.
fn chunks_of(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let begin = end + 2;
        if bytes.len() < begin + size + 2 {
            break;
        }
        text.push_str(std::str::from_utf8(&bytes[begin..begin + size]).unwrap());
        bytes.drain(..begin + size + 2);
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_break_a_thousand_times_lose_and_double_no_record() {
    real_servers!("streams that break");
    let stage = stage("broken-streams").await;
    let seed = std::env::var("ZKBRIDGE_SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    create_many(&stage, 1_000, 10).await;
    // Some records are there before the streams begin, the others come meanwhile.
    let bridge = &stage.bridge;
    let until = all_seqs(bridge).await.len() as u64 + 200;
    let writing = async {
        for number in 0..400 {
            let path = stage.path(&format!("later{number}"));
            let created = stage.client.create(&path, b"x", &options()).await;
            created.unwrap();
        }
        stage.bridge.at_rest().await;
    };
    let viewers = (0..VIEWERS).map(|viewer| resume(bridge, seed + viewer, until));
    let (seen, ()) = tokio::join!(futures::future::join_all(viewers), writing);
    let expected = all_seqs(bridge).await;
    for records in seen {
        assert!(records.last() >= Some(&until), "seed {seed}: it reads to the end");
        assert_eq!(records, expected[..records.len()], "seed {seed}");
    }
}

/// A stream from the begin of the journal whose peer has a small buffer and reads nothing.
async fn unread(bridge: &Bridge) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = socket.connect(bridge.address()).await.unwrap();
    let request = format!(
        "GET /api/v1/sources/main/stream?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // It has its place before the next one asks. Nothing is taken out of the socket.
    let mut head = [0; 12];
    while timeout(BOUND, stream.peek(&mut head)).await.unwrap().unwrap() < head.len() {
        tokio::task::yield_now().await;
    }
    assert_eq!(head, *b"HTTP/1.1 200");
    stream
}

async fn stream_code(bridge: &Bridge) -> u16 {
    ask(bridge.address(), "/sources/main/stream", "")
        .await
        .map_or(0, |answered| answered.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_that_never_read_are_cut_off_cost_bounded_memory_and_hold_nothing_back() {
    real_servers!("viewers that never read");
    let mut stage = stage("unread-streams").await;
    // More than a socket takes.
    create_many(&stage, 160, 100_000).await;
    let process = stage.bridge.child().id();
    let before = Resident::of(process).now;
    let mut held = Vec::new();
    for _ in 0..STREAMS_MAX {
        held.push(unread(&stage.bridge).await);
    }
    let began = Instant::now();
    let full = eventually("all places to be taken", BOUND, || async {
        stream_code(&stage.bridge).await == 503
    });
    full.await.unwrap();
    // Capture and delivery go on.
    stage.create("meanwhile", "x").await;
    let resident = Resident::of(process);
    assert!(
        resident.now < before + MEMORY_MAX,
        "{} MB before, then {resident}",
        before / 1_000_000
    );
    let free = eventually("a place that is free again", UNREAD + BOUND, || async {
        stream_code(&stage.bridge).await == 200
    });
    free.await.unwrap();
    assert!(began.elapsed() > UNREAD / 2, "they had time to read");
    drop(held);
    stage.bridge.terminate().await;
}

/// The open files of a process.
fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_half_requests_end_no_stream_and_keep_nobody_from_an_answer() {
    real_servers!("ten thousand half requests");
    let mut stage = stage("half-requests").await;
    let process = stage.bridge.child().id();
    let (before, files) = (Resident::of(process).now, descriptors(process));
    let address = stage.bridge.address();
    let mut viewer = ask(address, "/sources/main/stream?after=0", "").await.unwrap();
    let (mut held, mut most) = (VecDeque::new(), 0);
    for made in 0..HALF_REQUESTS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A connection that the bridge has already closed cannot be written to.
        let _ = stream
            .write_all(b"GET /api/v1/sources HTTP/1.1\r\nHost: a\r\n")
            .await;
        held.push_back(stream);
        if held.len() > HELD_MAX {
            held.pop_front();
        }
        if made % 500 == 0 {
            most = most.max(descriptors(process));
            assert_eq!(stage.bridge.get("/readyz").await.0, 200, "others are answered");
        }
    }
    // The port holds at most 64 connections; those that end and those that wait for their task are a few more.
    assert!(most < files + 3 * 64, "{files} open files, then {most}");
    let resident = Resident::of(process);
    assert!(
        resident.now < before + MEMORY_MAX,
        "{} MB before, then {resident}",
        before / 1_000_000
    );
    stage.write("hot", "seen").await;
    let mut read = Vec::new();
    let seen = timeout(BOUND, async {
        while !String::from_utf8_lossy(&read).contains("\"seen\"") {
            assert!(
                viewer.socket.read_buf(&mut read).await.unwrap() > 0,
                "the stream goes on"
            );
        }
    });
    seen.await.unwrap();
    drop(held);
    stage.bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_everything_get_pages_or_a_clear_problem() {
    real_servers!("questions about everything");
    let mut stage = stage("everything").await;
    create_many(&stage, 3_000, 100).await;
    let address = stage.bridge.address();
    let process = stage.bridge.child().id();
    let before = Resident::of(process).now;
    // Each list in pages, however many items are asked for.
    for (target, least) in [
        ("/sources/main/changes?limit=4294967295", 3_000),
        ("/sources/main/changes?limit=4294967295&order=newest", 3_000),
        ("/sources/main/children?path=/everything&limit=4294967295", 3_001),
        ("/sources/main/diff?a=1&limit=4294967295", 3_001),
    ] {
        let (mut count, mut cursor) = (0, String::new());
        loop {
            let page = json(address, &format!("{target}{cursor}")).await;
            let items = page["items"].as_array().unwrap().len();
            assert!(items <= 1_000, "{target}: {items}");
            count += items;
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert!(count >= least, "{target}: {count}");
    }
    // At once: one is answered after the other, and those that would wait too long are asked to come again.
    let asked = (0..60).map(|_| ask(address, "/sources/main/diff?a=1&limit=1000", ""));
    let (mut answered, mut busy) = (0, 0);
    for one in futures::future::join_all(asked).await {
        // All places of the port may be taken by requests under way.
        let Some(one) = one else { continue };
        match one.code {
            200 => answered += 1,
            503 => {
                busy += 1;
                assert!(!one.header("retry-after").is_empty(), "{}", one.head);
                let problem: Value = serde_json::from_str(&one.body().await).unwrap();
                assert_eq!(problem["type"], "urn:zkbridge:problem:busy");
            }
            code => panic!("{code}: {}", one.head),
        }
    }
    assert!(answered > 0, "{answered} answered, {busy} busy");
    let resident = Resident::of(process);
    assert!(
        resident.now < before + 2 * MEMORY_MAX,
        "{} MB before, then {resident}",
        before / 1_000_000
    );
    stage.create("afterwards", "x").await;
    stage.bridge.terminate().await;
}
