//! The result of a replay: the records of each source, and the end of one that could not go on.

use bridge_core::number::Seq;
use serde_json::{Value, json};

use super::ReplayArgs;
use crate::command::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::terminal::count;

/// Records of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    /// Delivered or queued.
    pub records: u64,
    /// Left out.
    pub left_out: u64,
    /// The end before the end of the range.
    pub stop: Option<Stop>,
}

/// The bridge could not queue records, and the command ended with their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// How many of the order.
    pub not_queued: u64,
    /// The first record of the order: nothing before it is missing.
    pub from: Seq,
    /// Why, as the bridge says.
    pub problem: String,
}

impl Total {
    fn report(&self, source: &str) -> Value {
        let stop = self.stop.as_ref();
        json!({
            "source": source,
            "records": self.records,
            "left_out": self.left_out,
            "not_queued": stop.map_or(0, |stop| stop.not_queued),
            "continue_from": stop.map(|stop| stop.from),
            "problem": stop.map(|stop| &stop.problem),
        })
    }
}

pub(super) fn print_result(
    args: &ReplayArgs,
    totals: &[(String, Total)],
    is_running: bool,
) -> Result<(), Failure> {
    if args.json {
        let reports: Vec<Value> = totals
            .iter()
            .map(|(source, total)| total.report(source))
            .collect();
        let report = json!({"sink": args.sink, "delivered": is_running, "sources": reports});
        print_json(&report)?;
    }
    let total: u64 = totals.iter().map(|(_, total)| total.records).sum();
    let left_out: u64 = totals.iter().map(|(_, total)| total.left_out).sum();
    let stops = totals
        .iter()
        .filter_map(|(source, total)| Some((source, total.stop.as_ref()?)));
    let stops: Vec<String> = stops
        .map(|(source, stop)| stopped(&args.sink, source, stop))
        .collect();
    if total == 0 && left_out == 0 && stops.is_empty() {
        let message = format!(
            "no record matches: sink '{}' has processed none of them, or the journal no longer has them\nhelp: list \
             its records with 'zkbridge tail --sink {} --from …'",
            args.sink, args.sink
        );
        return Err(Failure::new(Exit::Runtime, message));
    }
    if !args.json {
        print_totals(args, total, left_out, is_running)?;
    }
    match stops.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Runtime, stops.join("\n"))),
    }
}

/// The message on an end before the end of the range.
fn stopped(sink: &str, source: &str, stop: &Stop) -> String {
    let Stop {
        not_queued,
        from,
        problem,
    } = stop;
    format!(
        "{} not queued for sink '{sink}' of source '{source}': {problem}; of the records from {from} on, at most some \
         were replayed\nhelp: look at 'zkbridge status' and repeat the command with --from {from} and --source \
         {source} when its queue has room and its journal can be read",
        count(*not_queued, "record")
    )
}

fn print_totals(args: &ReplayArgs, total: u64, left_out: u64, is_running: bool) -> Result<(), Failure> {
    let records = count(total, "record");
    let mut text = match is_running {
        true => format!("sink '{}': {records} delivered again\n", args.sink),
        false => format!(
            "sink '{}': {records} queued; they will be redelivered at the next start\n",
            args.sink
        ),
    };
    if left_out > 0 {
        text.push_str(&format!(
            "{} left out: newer records of their paths were delivered meanwhile, or they are dead letters\n",
            count(left_out, "record")
        ));
    }
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_before_the_end_of_the_range_names_the_cause_and_the_record_to_go_on_from() {
        let stop = Stop {
            not_queued: 12,
            from: Seq(501),
            problem: "the retry queue is full: 10000 records wait".into(),
        };
        let message = stopped("hook", "main", &stop);
        assert!(
            message.starts_with(
                "12 records not queued for sink 'hook' of source 'main': the retry queue is full"
            ),
            "{message}"
        );
        assert!(
            message.contains("repeat the command with --from 501 and --source main"),
            "{message}"
        );
        let total = Total {
            records: 500,
            left_out: 1,
            stop: Some(stop),
        };
        let expected = json!({
            "source": "main", "records": 500, "left_out": 1, "not_queued": 12, "continue_from": 501,
            "problem": "the retry queue is full: 10000 records wait",
        });
        assert_eq!(total.report("main"), expected);
    }
}
