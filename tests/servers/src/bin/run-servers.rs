//! Starts servers for experiments, prints their addresses, and runs them until Ctrl-C.
//!
//! `run-servers zookeeper-3.9.5 kafka-4.1.0`; by default the newest of both.

use std::process::ExitCode;

use bridge_servers::{Error, KAFKA_NEWEST, Kafka, ZOOKEEPER_NEWEST, ZooKeeper};

const USAGE: &str = "\
usage: run-servers [SERVER...]

Starts each SERVER on free ports of 127.0.0.1 with temporary data, prints its address, and runs it until Ctrl-C.
SERVER is zookeeper-VERSION or kafka-VERSION; without one, the newest of both.";

/// The kind of a server by its name, and its version.
enum Named<'a> {
    ZooKeeper(&'a str),
    Kafka(&'a str),
}

impl Named<'_> {
    fn of(name: &str) -> Option<Named<'_>> {
        match name.split_once('-')? {
            ("zookeeper", version) => Some(Named::ZooKeeper(version)),
            ("kafka", version) => Some(Named::Kafka(version)),
            _ => None,
        }
    }
}

/// Servers that run until this is dropped.
#[derive(Default)]
struct Running {
    zookeepers: Vec<ZooKeeper>,
    kafkas: Vec<Kafka>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    if names.iter().any(|name| name == "--help" || name == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = names.iter().find(|name| Named::of(name).is_none()) {
        eprintln!("run-servers: there is no server {unknown:?}\n\n{USAGE}");
        return ExitCode::from(2);
    }
    if names.is_empty() {
        names = vec![
            format!("zookeeper-{ZOOKEEPER_NEWEST}"),
            format!("kafka-{KAFKA_NEWEST}"),
        ];
    }
    match run(&names).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("run-servers: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(names: &[String]) -> Result<(), Error> {
    let mut running = Running::default();
    for name in names {
        running.start(name).await?;
    }
    let count = running.zookeepers.len() + running.kafkas.len();
    println!("running {count} of {} servers until Ctrl-C", names.len());
    tokio::signal::ctrl_c().await.map_err(|source| Error::Io {
        action: "wait for Ctrl-C".to_owned(),
        source,
    })
}

impl Running {
    async fn start(&mut self, name: &str) -> Result<(), Error> {
        match Named::of(name) {
            Some(Named::ZooKeeper(version)) => {
                let zookeeper = ZooKeeper::builder().version(version).start().await?;
                print_started(name, &zookeeper.connect_string(), zookeeper.process_id(0));
                println!(
                    "{name} has its snapshots and transaction logs in {}",
                    zookeeper.data_dir(0).display()
                );
                self.zookeepers.push(zookeeper);
            }
            Some(Named::Kafka(version)) => {
                let kafka = Kafka::builder().version(version).start().await?;
                print_started(name, &kafka.bootstrap(), kafka.process_id());
                self.kafkas.push(kafka);
            }
            // They were all looked at before the first was started.
            None => {}
        }
        Ok(())
    }
}

fn print_started(name: &str, address: &str, process: Option<u32>) {
    match process {
        Some(id) => println!("{name} {address} process {id}"),
        None => println!("{name} {address} has ended: see its log"),
    }
}
