//! A short run of chaos: three servers, Kafka, everything failing at random for some seconds. `make chaos` goes on for
//! as long as wanted. `ZKBRIDGE_TESTS=offline` leaves it out, and says so.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use bridge_chaos::{Capture, Chaos, Length};
use bridge_servers::{ZOOKEEPER_NEWEST, real_servers};

/// The seed of the run, so that two runs of the same code make the same choices.
const SEED: u64 = 20_261_122;

fn chaos(capture: Capture) -> Chaos {
    Chaos {
        bridge: env!("CARGO_BIN_EXE_zkbridge").into(),
        seed: SEED,
        length: Length::Short(ZOOKEEPER_NEWEST),
        capture,
        keep: format!("{}/chaos-{}", env!("CARGO_TARGET_TMPDIR"), capture.name()).into(),
    }
}

async fn run(capture: Capture) {
    match Box::pin(chaos(capture).run()).await {
        Ok(total) => println!("{total}"),
        Err(error) => panic!("{error:#}"),
    }
}

async fn trials(capture: Capture, expected: usize) {
    match Box::pin(chaos(capture).trials()).await {
        Ok(trials) => assert_eq!(trials, expected),
        Err(error) => panic!("{error:#}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_any_fault_every_change_is_reported_or_accounted_for() {
    real_servers!("chaos");
    run(Capture::Watch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_any_fault_an_observer_has_recorded_every_version_exactly() {
    real_servers!("chaos of an observer");
    run(Capture::Observer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_any_fault_a_reader_of_logs_has_recorded_every_version_exactly() {
    real_servers!("chaos of a reader of logs");
    run(Capture::Txnlog).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_whose_verdict_is_known_beforehand_gets_it() {
    real_servers!("trials");
    trials(Capture::Watch, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absences_and_other_members_leave_no_gap_that_no_server_forced() {
    real_servers!("trials of sources that read transactions");
    trials(Capture::Observer, 5).await;
    trials(Capture::Txnlog, 5).await;
}
