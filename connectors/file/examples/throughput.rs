//! How fast the file sink is beside a bare file that is written and synchronised alike. Prints one row of the table of
//! `make bench-sinks`.
//!
//! `cargo run --release -p bridge-file --example throughput`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_core::amount::Threshold;
use bridge_core::record::Record;
use bridge_core::sink::{Delivery, Sink};
use bridge_core::testing::{Ratio, some_records};
use bridge_file::{FileConfig, FileSink};

const RECORDS: u64 = 200_000;
const BATCH: usize = 1_000;
const ROUNDS: usize = 5;

async fn by_the_sink(sink: &mut FileSink, records: &[Arc<Record>]) -> Duration {
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        let records = batch.to_vec();
        sink.deliver(&Delivery { records }).await.unwrap();
    }
    began.elapsed()
}

fn bare(file: &mut File, records: &[Arc<Record>]) -> Duration {
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        let mut lines = Vec::new();
        for record in batch {
            lines.extend_from_slice(&record.to_json());
            lines.push(b'\n');
        }
        file.write_all(&lines).unwrap();
        file.sync_data().unwrap();
    }
    began.elapsed()
}

#[tokio::main]
async fn main() {
    // In the working directory: where temporary files live is often no disk.
    let folder = tempfile::tempdir_in(".").unwrap();
    let records = some_records(RECORDS, 1_000);
    let mut ratio = Ratio::new("file", "write and fdatasync", RECORDS);
    for round in 0..ROUNDS {
        let mut sink = FileSink::new(FileConfig {
            rotate: Threshold::Off,
            ..FileConfig::new(folder.path().join(format!("sink-{round}")))
        });
        sink.open().await.unwrap();
        let with_sink = by_the_sink(&mut sink, &records).await;
        sink.close().await.unwrap();
        let mut file = File::create(folder.path().join(format!("bare-{round}"))).unwrap();
        ratio.add(with_sink, bare(&mut file, &records));
    }
    println!("{ratio}");
}
