//! Real ZooKeeper, Kafka and NATS servers and a faulty network, for tests and the demo.
//!
//! * [`ZooKeeper`], [`Kafka`] and [`Nats`]: the real servers of any version, fetched once, on free ports, paused, killed and
//!   restarted at will.
//! * [`Registrar`], [`Provider`] and [`KafkaBroker`]: processes that register with Apache Curator, with Apache Dubbo, and as
//!   the brokers of a Kafka that needs ZooKeeper.
//! * [`Python`]: libraries of another language, for independent verdicts.
//! * [`Tool`]: Helm, promtool and nginx, to check the files that they read.
//! * [`Proxy`]: a network between a client and a server that breaks in every way that matters.
//! * [`Child`]: a program under test, its output, its signals, its end.
//! * [`page_of`], [`status_of`], [`is_at_rest`]: the pages and the status of a bridge under test.
//! * [`eventually`]: waiting for a condition with a bound.
//! * [`Port`]: a free port for a program under test.
//!
//! Nothing that is started here outlives the process that started it, however that ends, and nothing uses a fixed
//! port. This crate must never depend on another of the workspace: it is the outside world.

mod black_hole;
mod bridge;
mod child;
mod curator;
mod daemon;
mod distribution;
mod dubbo;
mod error;
mod guarded;
mod kafka;
mod kafka_broker;
mod machine;
mod nats;
mod offline;
mod patience;
mod ports;
mod proxy;
mod python;
mod tool;
mod zookeeper;

pub use black_hole::BlackHole;
pub use bridge::{is_at_rest, page_of, status_of};
pub use child::{Child, Line, Stream};
pub use curator::Registrar;
pub use distribution::{
    Distribution, KAFKA_NEWEST, NATS_LINES, NATS_NEWEST, ZOOKEEPER_LINES, ZOOKEEPER_NEWEST, cache,
};
pub use dubbo::Provider;
pub use error::{Error, Result};
pub use kafka::{Kafka, KafkaBuilder};
pub use kafka_broker::KafkaBroker;
pub use nats::{Nats, NatsBuilder};
pub use offline::{offline, skipped};
pub use patience::{Look, eventually};
pub use ports::Port;
pub use proxy::{Direction, Proxy};
pub use python::Python;
pub use tool::Tool;
pub use zookeeper::{Mode, ZooKeeper, ZooKeeperBuilder};
