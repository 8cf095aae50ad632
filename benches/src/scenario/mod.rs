//! The scenarios: the load on the servers while subjects run, one subject after the other in each repetition.

pub mod cut;
pub mod idle;
pub mod journal;
pub mod large;
pub mod latency;
pub mod lossless;
pub mod network;
pub mod reconnect;
pub mod services;
pub mod start;
pub mod sustained;
pub mod viewers;

use anyhow::Result;

use crate::figures::Figures;
use crate::settings::{Scenario, Settings};
use crate::subject::Subject;
use lossless::LosslessPart;

/// Processor time of other programs. It makes a round less reliable.
pub const OTHERS: &str = "CPU of others, % of one core";

/// Runs one scenario.
///
/// # Errors
///
/// If a server or a subject fails.
pub async fn run(scenario: Scenario, settings: &Settings, figures: &mut Figures) -> Result<()> {
    match scenario {
        Scenario::Sustained => Box::pin(sustained::run(settings, figures)).await,
        Scenario::Latency => Box::pin(latency::run(settings, figures)).await,
        Scenario::Start => Box::pin(start::run(settings, figures)).await,
        Scenario::Reconnect => Box::pin(reconnect::run(settings, figures)).await,
        Scenario::Cut => Box::pin(cut::run(settings, figures)).await,
        Scenario::Idle => Box::pin(idle::run(settings, figures)).await,
        Scenario::Network => Box::pin(network::run(settings, figures)).await,
        Scenario::Lossless => {
            for part in lossless::PARTS {
                Box::pin(lossless::run(part, settings, figures)).await?;
            }
            Ok(())
        }
        Scenario::LosslessRate => Box::pin(lossless::run(LosslessPart::Rate, settings, figures)).await,
        Scenario::LosslessLatency => Box::pin(lossless::run(LosslessPart::Latency, settings, figures)).await,
        Scenario::LosslessBack => Box::pin(lossless::run(LosslessPart::Back, settings, figures)).await,
        Scenario::LosslessLarge => Box::pin(lossless::run(LosslessPart::Large, settings, figures)).await,
        Scenario::Services => Box::pin(services::run(settings, figures)).await,
        Scenario::Viewers => Box::pin(viewers::run(settings, figures)).await,
    }
}

/// The order of the subjects in a repetition. It rotates, so that none always follows the same one.
fn in_turn(subjects: &[Subject], settings: &Settings, repetition: usize) -> Vec<Subject> {
    let is_there = |subject: &Subject| *subject != Subject::Curator || settings.peer.is_some();
    let mut order: Vec<Subject> = subjects.iter().copied().filter(is_there).collect();
    let first = repetition % order.len().max(1);
    order.rotate_left(first);
    order
}
