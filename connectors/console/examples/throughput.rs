//! How fast the console sink is beside bare writes of the same lines. Prints one row of the table of `make bench-sinks`.
//!
//! `cargo run --release -p bridge-console --example throughput`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_console::{ConsoleSink, Format, Style};
use bridge_core::record::Record;
use bridge_core::sink::{Delivery, Sink};
use bridge_core::testing::{Ratio, some_records};

const RECORDS: u64 = 200_000;
const BATCH: usize = 1_000;
const ROUNDS: usize = 5;

fn output() -> File {
    File::options().write(true).open("/dev/null").unwrap()
}

async fn by_the_sink(sink: &mut ConsoleSink, records: &[Arc<Record>]) -> Duration {
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        let records = batch.to_vec();
        sink.deliver(&Delivery { records }).await.unwrap();
    }
    began.elapsed()
}

fn bare(output: &mut File, records: &[Arc<Record>]) -> Duration {
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        let mut lines = Vec::new();
        for record in batch {
            lines.extend_from_slice(&record.to_json());
            lines.push(b'\n');
        }
        output.write_all(&lines).unwrap();
        output.flush().unwrap();
    }
    began.elapsed()
}

#[tokio::main]
async fn main() {
    let records = some_records(RECORDS, 1_000);
    let mut sink = ConsoleSink::with_writer(Format::Record, Style::PLAIN, Box::new(output()));
    let mut ratio = Ratio::new("console", "write of the same lines", RECORDS);
    for _ in 0..ROUNDS {
        ratio.add(
            by_the_sink(&mut sink, &records).await,
            bare(&mut output(), &records),
        );
    }
    println!("{ratio}");
}
