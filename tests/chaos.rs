//! A short run of chaos: three servers, Kafka, everything failing at random for some seconds. `make chaos` goes on for
//! as long as wanted. `ZKBRIDGE_TESTS=offline` leaves it out, and says so.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use bridge_chaos::{Chaos, Length};
use bridge_servers::{ZOOKEEPER_NEWEST, real_servers};

/// The seed of the run, so that two runs of the same code make the same choices.
const SEED: u64 = 20_261_122;

#[tokio::test(flavor = "multi_thread")]
async fn after_any_fault_every_change_is_reported_or_accounted_for() {
    real_servers!("chaos");
    let chaos = Chaos {
        bridge: env!("CARGO_BIN_EXE_zkbridge").into(),
        seed: SEED,
        length: Length::Short(ZOOKEEPER_NEWEST),
        keep: concat!(env!("CARGO_TARGET_TMPDIR"), "/chaos").into(),
    };
    match Box::pin(chaos.run()).await {
        Ok(total) => println!("{total}"),
        Err(error) => panic!("{error:#}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_whose_verdict_is_known_beforehand_gets_it() {
    real_servers!("trials");
    let chaos = Chaos {
        bridge: env!("CARGO_BIN_EXE_zkbridge").into(),
        seed: SEED,
        length: Length::Short(ZOOKEEPER_NEWEST),
        keep: concat!(env!("CARGO_TARGET_TMPDIR"), "/chaos").into(),
    };
    match Box::pin(chaos.trials()).await {
        Ok(trials) => assert_eq!(trials, 4),
        Err(error) => panic!("{error:#}"),
    }
}
