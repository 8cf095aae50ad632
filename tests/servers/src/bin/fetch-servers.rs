//! Brings every server that the tests start, and the tools and Python packages that they ask, into the cache, and says
//! what it does.
//!
//! `fetch-servers` takes the names of the distributions to fetch (`zookeeper-3.9.5`, `kafka-4.1.0`, `nats-2.15.2`), by
//! default all that the tests use and the packages.

use std::process::ExitCode;
use std::time::Instant;

use bridge_servers::{
    Distribution, Error, KAFKA_NEWEST, NATS_LINES, Python, Tool, ZOOKEEPER_LINES, ZOOKEEPER_NEWEST, cache,
    offline, skipped,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if offline() {
        skipped("fetching the servers");
        return ExitCode::SUCCESS;
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    for distribution in chosen(&names) {
        let fetched = match distribution {
            Ok(distribution) => fetch(&distribution).await.map_err(|error| error.to_string()),
            Err(unknown) => Err(unknown),
        };
        if let Err(reason) = fetched {
            eprintln!("fetch-servers: {reason}");
            return ExitCode::FAILURE;
        }
    }
    let packages = if names.is_empty() { Python::ALL } else { &[] };
    for python in packages {
        if let Err(reason) = fetch_packages(python).await {
            eprintln!("fetch-servers: {reason}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn fetch_packages(python: &Python) -> Result<(), Error> {
    if !python.is_cached() {
        println!("fetching {} into {}", python.title(), cache().display());
        python.fetch().await?;
    }
    Ok(())
}

fn chosen(names: &[String]) -> Vec<Result<Distribution, String>> {
    if names.is_empty() {
        let zookeepers = ZOOKEEPER_LINES
            .iter()
            .map(|version| Distribution::zookeeper(version));
        return zookeepers
            .chain([Distribution::zookeeper_with_admin(ZOOKEEPER_NEWEST)])
            .chain([
                Distribution::kafka(KAFKA_NEWEST),
                Distribution::kafka_on_zookeeper(),
            ])
            .chain([Distribution::curator(), Distribution::dubbo()])
            .chain(NATS_LINES.iter().map(|version| Distribution::nats(version)))
            .chain(Tool::all().iter().filter_map(Tool::distribution).cloned())
            .map(Ok)
            .collect();
    }
    names.iter().map(|name| named(name)).collect()
}

fn named(name: &str) -> Result<Distribution, String> {
    match name.split_once('-') {
        Some(("zookeeper", version)) => Ok(Distribution::zookeeper(version)),
        Some(("kafka", version)) => Ok(Distribution::kafka(version)),
        Some(("nats", version)) => Ok(Distribution::nats(version)),
        _ => Err(format!(
            "no distribution {name:?}: name one as zookeeper-VERSION, kafka-VERSION or nats-VERSION"
        )),
    }
}

async fn fetch(distribution: &Distribution) -> Result<(), Error> {
    if distribution.is_cached() {
        return Ok(());
    }
    println!("fetching {} into {}", distribution.title(), cache().display());
    let start = Instant::now();
    distribution.fetch().await?;
    println!(
        "fetched {} in {:.1} s",
        distribution.title(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
