//! Checks of the destinations: from the status of the running bridge, or, if none runs, by opening them as at a start.

use bridge_config::{Config, SinkConfig};
use bridge_query::status::{BridgeStatus, SinkSummary};

use super::Line;
use crate::command::check::{open_sink, unmatched_paths};

const CHECK: &str = "destination";

pub(super) async fn examine(sink: &SinkConfig, config: &Config, running: Option<&BridgeStatus>) -> Vec<Line> {
    let subject = format!("sink {}", sink.name);
    let unmatched = unmatched_paths(sink, config).await.into_iter();
    let unmatched = unmatched.map(|remark| Line::warning(&subject, "filter", remark.message, remark.remedy));
    let mut lines = match running.map(|status| of_running(&subject, &sink.name, status)) {
        Some(lines) if !lines.is_empty() => lines,
        _ => opened(&subject, sink).await,
    };
    lines.extend(unmatched);
    lines
}

fn of_running(subject: &str, name: &str, status: &BridgeStatus) -> Vec<Line> {
    let mine = status.sinks.iter().filter(|sink| sink.sink == name);
    let line = |sink: &SinkSummary| match &sink.error {
        None => Line::ok(
            subject,
            CHECK,
            format!("the running bridge delivers to it from {}", sink.source),
        ),
        Some(trouble) if trouble.calls_operator || sink.state == "halted" => {
            Line::failure(subject, CHECK, &trouble.message, &trouble.remedy)
        }
        Some(trouble) => Line::warning(subject, CHECK, &trouble.message, &trouble.remedy),
    };
    mine.map(line).collect()
}

async fn opened(subject: &str, sink: &SinkConfig) -> Vec<Line> {
    match open_sink(sink).await {
        Ok(remarks) => {
            let mut lines = vec![Line::ok(
                subject,
                CHECK,
                format!("{} can be used", sink.kind.type_name()),
            )];
            let remedy = "change it at the destination, if it is not meant";
            lines.extend(
                remarks
                    .into_iter()
                    .map(|remark| Line::warning(subject, CHECK, remark, remedy)),
            );
            lines
        }
        Err(why) => {
            let remedy = "correct what the message names, and look again with 'zkbridge check --connect'";
            vec![Line::failure(subject, CHECK, why, remedy)]
        }
    }
}
