//! `zkbridge snapshot`: the present state again, for one sink.

use bridge_config::{SourceConfig, SourceKind};
use bridge_core::delivery::Order;
use bridge_core::journal::SinkRun;
use bridge_core::path::ZnodePath;
use clap::Args;
use serde_json::json;

use super::serving;
use super::sink::{configured, journals};
use crate::bridge::{run_id, wall_clock};
use crate::cli::ConfigFlag;
use crate::command::print;
use crate::exit::{Exit, Failure};
use crate::operator::{Carried, Journals};

const EXAMPLES: &str = "\
Examples:
  zkbridge snapshot --sink changes
  zkbridge snapshot --sink hook --path /services/payments

Each znode that exists comes as a record with the op 'snapshot', between a
'snapshot_begin' and a 'snapshot_end' for each root, in order with the changes
that happen meanwhile. Other sinks get nothing of it. It goes on after a
restart, and a new order takes the place of one that is under way.
'zkbridge status' and /status show how far it is.

Exit codes: 0 the sink has the order, 1 the bridge did not take it or none
runs, 2 no such sink or path, 3 the journal cannot be used";

/// Which state, and for whom.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SnapshotArgs {
    /// The sink that gets it
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// This znode and all below it; without, everything
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    #[command(flatten)]
    config: ConfigFlag,
    /// Print a JSON document: the sink, the path, and of which sources
    #[arg(long)]
    json: bool,
}

/// Gives the order.
pub fn run(args: &SnapshotArgs) -> Result<(), Failure> {
    serving::block_on(order(args))
}

async fn order(args: &SnapshotArgs) -> Result<(), Failure> {
    let journals = journals(&args.config)?;
    let path = args.path.as_deref().map(parse).transpose()?;
    let sink = configured(journals.config(), &args.sink)?;
    let mut orders = Vec::new();
    let mut roots = Vec::new();
    for (source, mut reader) in journals.readers()? {
        if !sink.sources.contains(&source.name) {
            continue;
        }
        roots.extend(roots_of(source).iter().cloned());
        let stands = reader.cursor(&args.sink).map_err(crate::operator::unusable)?;
        if stands.is_some() && roots_of(source).iter().any(|root| is_wanted(root, path.as_ref())) {
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
        return print(&format!("{ordered:#}\n"));
    }
    let what = path.map_or("everything".to_owned(), |path| format!("{path} and all below it"));
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
    let order = Order::Restate(Box::new(run));
    match journals
        .hand_over(&source.name, sink, &order, |reader| reader.knows_run(sink, id))
        .await?
    {
        Some(Carried::Out | Carried::Later) => Ok(()),
        None => Err(Failure::new(
            Exit::Runtime,
            format!(
                "no bridge runs on {}, and nothing was ordered: start it with 'zkbridge run' and give the order again",
                journals.config().data_dir.display()
            ),
        )),
    }
}

fn parse(path: &str) -> Result<ZnodePath, Failure> {
    ZnodePath::parse(path).map_err(|error| {
        let message = format!("--path {path:?} is not a path of a znode: {error}");
        Failure::new(Exit::Configuration, message)
    })
}

fn roots_of(source: &SourceConfig) -> &[ZnodePath] {
    let SourceKind::Zookeeper(options) = &source.kind;
    &options.roots
}

fn is_wanted(root: &ZnodePath, path: Option<&ZnodePath>) -> bool {
    path.is_none_or(|path| root.covers(path) || path.covers(root))
}

fn nothing_to_tell(sink: &str, path: Option<&ZnodePath>, roots: &[ZnodePath]) -> Failure {
    match path.filter(|path| !roots.iter().any(|root| is_wanted(root, Some(path)))) {
        Some(path) => {
            let roots: Vec<&str> = roots.iter().map(ZnodePath::as_str).collect();
            let message = format!(
                "{path} is in no root of the sources of sink '{sink}': give a path in {}",
                roots.join(", ")
            );
            Failure::new(Exit::Configuration, message)
        }
        None => {
            let message = format!("sink '{sink}' has no place in a journal yet: run the bridge first");
            Failure::new(Exit::Runtime, message)
        }
    }
}
