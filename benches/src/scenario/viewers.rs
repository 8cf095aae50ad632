//! Viewers of the API's stream at a steady rate of changes: the processor time of the bridge, beside the same bridge without
//! viewers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::idle::CPU;
use super::{OTHERS, in_turn};
use crate::figures::{Figures, Measures};
use crate::settings::Settings;
use crate::stage::{HEAP, Stage};
use crate::subject::{Linger, Orders, Running, Subject, TOKEN, address};
use crate::topic::Watch;
use crate::tree;
use crate::writer::{flat_out, paced};

/// The scenario's name.
pub const NAME: &str = "32 viewers, 10,000 changes/s";
/// Records that a viewer got, in the middle of all viewers.
pub const SENT: &str = "records sent to each viewer, %";
/// The rate of the writer.
const RATE: &str = "writes/s";

/// As many as a bridge takes.
const VIEWERS: usize = 32;

/// Records a second that the page asks for.
const PAGE_RATE: u32 = 50;

/// How long a round may take to come to rest.
const REST_BOUND: Duration = Duration::from_secs(120);

const SUBJECTS: [Subject; 3] = [Subject::Bridge, Subject::BridgeViewers, Subject::BridgeStreams];

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let stage = Stage::start(HEAP).await?;
    let paths = tree::flat(settings.sizes.written_znodes);
    tree::plant(stage.client(), paths.iter().cloned(), settings.sizes.value_bytes).await?;
    for repetition in 0..settings.sizes.repetitions {
        for subject in in_turn(&SUBJECTS, settings, repetition) {
            let measures = Box::pin(round(&stage, settings, subject, &paths)).await;
            let measures = measures.with_context(|| format!("{NAME}, {subject}"))?;
            figures.add(NAME, repetition, subject, measures);
        }
    }
    Ok(())
}

async fn round(stage: &Stage, settings: &Settings, subject: Subject, paths: &[String]) -> Result<Measures> {
    let sizes = &settings.sizes;
    let topic = stage.topic().await?;
    let orders = Orders {
        server: stage.server(),
        bootstrap: &stage.bootstrap(),
        topic: &topic,
        linger: Linger::Millis(5),
        transactions: None,
    };
    let mut running = Running::start(subject, settings, &orders)?.context("this subject has no process")?;
    running.ready().await?;
    let warming = flat_out(
        stage.server(),
        paths.to_vec(),
        sizes.warming_writes,
        sizes.value_bytes,
    );
    warming.await?;
    topic.rest(1, sizes.quiet, REST_BOUND, Watch::Loosely).await?;

    let viewers = Viewers::open(subject, &mut running).await?;
    let before = stage.costs(Some(&running))?;
    let written = paced(
        stage.server(),
        paths.to_vec(),
        sizes.viewed_writes,
        sizes.viewed_rate,
        sizes.value_bytes,
    );
    let written = written.await?;
    let spent = stage.costs(Some(&running))?.since(&before);
    topic.rest(1, sizes.quiet, REST_BOUND, Watch::Loosely).await?;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let sent = 100.0 * viewers.middle() as f64 / sizes.viewed_writes as f64;
    let measures = Measures::from([
        (
            CPU,
            100.0 * spent.subject.as_secs_f64() / spent.time.as_secs_f64(),
        ),
        (RATE, written.rate()),
        (SENT, sent),
        (OTHERS, spent.others_percent()),
    ]);
    drop(viewers);
    running.end().await?;
    topic.remove().await?;
    Ok(measures)
}

/// The open streams; dropping it closes them.
struct Viewers {
    /// Lines of events, by viewer.
    lines: Vec<Arc<AtomicU64>>,
    tasks: JoinSet<()>,
}

impl Viewers {
    async fn open(subject: Subject, running: &mut Running) -> Result<Viewers> {
        let mut viewers = Viewers {
            lines: Vec::new(),
            tasks: JoinSet::new(),
        };
        let query = match subject {
            Subject::BridgeViewers => format!("?rate={PAGE_RATE}"),
            Subject::BridgeStreams => String::new(),
            _ => return Ok(viewers),
        };
        let address = address(running.child()).await?;
        for _ in 0..VIEWERS {
            let stream = begin(address, &query).await?;
            let lines = Arc::new(AtomicU64::new(0));
            viewers.lines.push(Arc::clone(&lines));
            viewers.tasks.spawn(view(stream, lines));
        }
        Ok(viewers)
    }

    /// The records that the middle one of all viewers got.
    fn middle(&self) -> u64 {
        let mut counts: Vec<u64> = self
            .lines
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        counts.sort_unstable();
        counts.get(counts.len() / 2).map_or(0, |lines| lines / LINES)
    }
}

async fn begin(address: SocketAddr, query: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /api/v1/sources/main/stream{query} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    ensure!(head.ends_with(b"200"), "{}", String::from_utf8_lossy(&head));
    Ok(stream)
}

/// Line feeds of an event: after `id`, `event` and `data`, and the empty line.
const LINES: u64 = 4;

/// Counts the lines of events until the stream ends. JSON has neither line feeds nor carriage returns; the frame of a chunk
/// has one of both.
async fn view(mut stream: TcpStream, lines: Arc<AtomicU64>) {
    let mut buffer = vec![0_u8; 256 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let count_of = |byte: u8| buffer[..count].iter().filter(|one| **one == byte).count() as u64;
        // A frame may be cut between the two: the sum is right after the next read.
        lines.fetch_add(count_of(b'\n').wrapping_sub(count_of(b'\r')), Ordering::Relaxed);
    }
}
