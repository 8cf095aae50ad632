//! `zkbridge snapshot`: sends the present state to one sink again.

use bridge_config::SourceConfig;
use bridge_core::delivery::OperatorRequest;
use bridge_core::journal::SinkRun;
use bridge_core::path::ZnodePath;
use bridge_query::JournalQuery;
use clap::Args;
use serde_json::json;

use super::sink::configured;
use super::{argument, print, print_json, serving};
use crate::bridge::{run_id, wall_clock};
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};
use crate::operator::{Carried, Journals};

const EXAMPLES: &str = "\
Examples:
  zkbridge snapshot --sink changes
  zkbridge snapshot --sink hook --path /services/payments

Delivers each existing znode as a record with the op 'snapshot', between a
'snapshot_begin' and a 'snapshot_end' for each root, in order with concurrent
changes. Other sinks get none of these records. A snapshot continues after a
restart; a new one replaces one that is under way. 'zkbridge status' and
/status show its progress.

Exit codes: 0 the sink has the order, 1 the bridge refused it or none runs,
2 no such sink or path, 3 the journal cannot be used";

/// Options of `snapshot`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SnapshotArgs {
    /// Deliver to this sink
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// Deliver only this path and below [default: all roots]
    #[arg(long, value_name = "PATH", value_parser = argument::znode)]
    path: Option<ZnodePath>,
    #[command(flatten)]
    config: ConfigFlag,
    /// Print a JSON document: the sink, the path and the sources
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &SnapshotArgs) -> Result<(), Failure> {
    serving::block_on(order(args))
}

async fn order(args: &SnapshotArgs) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let path = args.path.clone();
    let sink = configured(journals.config(), &args.sink)?;
    let mut orders = Vec::new();
    let mut roots = Vec::new();
    for (source, journal) in journals.open()? {
        if !sink.sources.contains(&source.name) {
            continue;
        }
        roots.extend(roots_of(source).iter().cloned());
        let has_cursor = journal.cursor(&args.sink)?.is_some();
        if has_cursor && roots_of(source).iter().any(|root| is_wanted(root, path.as_ref())) {
            orders.push(source);
        }
    }
    if orders.is_empty() {
        return Err(nothing_to_tell(&args.sink, path.as_ref(), &roots));
    }
    let mut sources = Vec::new();
    for source in orders {
        give(&journals, source, &args.sink, path.clone()).await?;
        sources.push(source.name.to_string());
    }
    if args.json {
        let ordered = json!({"sink": args.sink, "path": path, "sources": sources});
        return print_json(&ordered);
    }
    let what = path.map_or("all roots".to_owned(), |path| format!("{path} and below"));
    print(&format!(
        "sink '{}' gets the present state of {what} again\n",
        args.sink
    ))
}

async fn give(
    journals: &Journals,
    source: &SourceConfig,
    sink: &str,
    path: Option<ZnodePath>,
) -> Result<(), Failure> {
    let now = wall_clock()();
    let run = SinkRun::new(run_id(&source.name, sink, now), path, now);
    let id = run.id;
    let order = OperatorRequest::Snapshot(Box::new(run));
    let knows_run = |journal: &JournalQuery| Ok(journal.reader()?.knows_run(sink, id)?);
    match journals.hand_over(&source.name, sink, &order, knows_run).await? {
        Some(Carried::Out | Carried::Later) => Ok(()),
        None => Err(Failure::new(
            Exit::Runtime,
            format!(
                "no bridge runs on {}, so no snapshot was ordered\nhelp: start it with 'zkbridge run' and repeat the \
                 command",
                journals.config().data_dir.display()
            ),
        )),
    }
}

fn roots_of(source: &SourceConfig) -> &[ZnodePath] {
    source.kind.options().roots()
}

fn is_wanted(root: &ZnodePath, path: Option<&ZnodePath>) -> bool {
    path.is_none_or(|path| root.covers(path) || path.covers(root))
}

fn nothing_to_tell(sink: &str, path: Option<&ZnodePath>, roots: &[ZnodePath]) -> Failure {
    match path.filter(|path| !roots.iter().any(|root| is_wanted(root, Some(path)))) {
        Some(path) => {
            let roots: Vec<&str> = roots.iter().map(ZnodePath::as_str).collect();
            let message = format!(
                "{path} is below no root of the sources of sink '{sink}'\nhelp: give a path below {}",
                roots.join(", ")
            );
            Failure::new(Exit::Configuration, message)
        }
        None => {
            let message = format!("sink '{sink}' has no cursor in a journal yet\nhelp: run the bridge first");
            Failure::new(Exit::Runtime, message)
        }
    }
}
