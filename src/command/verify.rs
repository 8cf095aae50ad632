//! `zkbridge verify`: compares the image of the journal with the tree in ZooKeeper.

use std::io::IsTerminal;

use bridge_config::SourceConfig;
use bridge_console::{Color, Style};
use bridge_core::source::SourceError;
use bridge_query::JournalQuery;
use clap::Args;
use serde_json::{Value, json};

use super::serving;
use crate::cli::ConfigFlag;
use crate::command::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::operator::{Journals, ask_status};
use crate::source_type::source_type;
use crate::terminal::{Tone, count, line, notice};
use crate::verify::{BridgeState, Comparison, Difference, RateLimit, verify};

const EXAMPLES: &str = "\
Examples:
  zkbridge verify
  zkbridge verify --source main --rate 500
  zkbridge verify --json | jq '.sources[].differences[].path'

Reads every znode below the roots once, at a limited rate, in a session of its
own with the credentials of the source, and compares it with the image.
With a running bridge it reads a znode that differs again until the journal has
caught up, for up to 15 s. Without one, later changes count as differences.

Exit codes: 0 no difference, 1 at least one, 2 the command line or the
configuration is wrong, 3 no journal, or ZooKeeper cannot be reached";

/// Differences that are printed; the others are counted.
const SHOWN_MAX: usize = 100;

/// Options of `verify`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Verify only this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Read at most this many znodes per second
    #[arg(long, value_name = "ZNODES", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Print one JSON object with all differences
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    serving::block_on(compare(args, &journals))
}

async fn compare(args: &VerifyArgs, journals: &Journals) -> Result<(), Failure> {
    let style = Style::for_stdout(Color::Auto);
    let bridge = match ask_status(&journals.config().data_dir).await? {
        Some(_) => BridgeState::Runs,
        None => BridgeState::Stopped,
    };
    let (mut total, mut reports) = (0, Vec::new());
    for (source, journal) in journals.of_source(args.source.as_deref())? {
        let comparison = verify_source(args, source, &journal, bridge).await?;
        total += comparison.differences.len();
        match args.json {
            true => reports.push(for_programs(&source.name, &comparison)),
            false => print(&for_people(&source.name, &comparison, bridge, &style))?,
        }
    }
    if args.json {
        let runs = bridge == BridgeState::Runs;
        print_json(&json!({"ok": total == 0, "running": runs, "sources": reports}))?;
    }
    match total {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Runtime, "")),
    }
}

async fn verify_source(
    args: &VerifyArgs,
    source: &SourceConfig,
    journal: &JournalQuery,
    bridge: BridgeState,
) -> Result<Comparison, Failure> {
    if std::io::stderr().is_terminal() {
        notice(format_args!(
            "{}: reading at most {} znodes a second …",
            source.name, args.rate
        ));
    }
    let opened = source_type(&source.kind).survey().await;
    let unreachable = |error: SourceError| Failure::new(Exit::Environment, error.to_string());
    let tree = opened.map_err(unreachable)?;
    if let Some(chroot) = tree.missing_chroot().await.map_err(unreachable)? {
        notice(format_args!(
            "{}: the chroot {} does not exist in ZooKeeper, so no znode below it does",
            source.name,
            bridge_console::text::escaped(&chroot)
        ));
    }
    let mut rate_limit = RateLimit::new(args.rate);
    let mut sum = Comparison::default();
    for root in source.kind.options().roots() {
        let comparison = verify(&*tree, journal, root, bridge, &mut rate_limit).await?;
        sum.znodes += comparison.znodes;
        sum.unreadable += comparison.unreadable;
        sum.differences.extend(comparison.differences);
        sum.more |= comparison.more;
    }
    Ok(sum)
}

fn for_people(name: &str, comparison: &Comparison, bridge: BridgeState, style: &Style) -> String {
    let differences = comparison.differences.len() as u64;
    let (word, tone) = match differences {
        0 => ("no difference".to_owned(), Tone::Good),
        _ => (count(differences, "difference"), Tone::Bad),
    };
    let unreadable = match comparison.unreadable {
        0 => String::new(),
        unreadable => format!(", {unreadable} not readable"),
    };
    let mut text = format!(
        "source {name}: {}, {} compared{unreadable}\n",
        tone.paint(&word, style),
        count(comparison.znodes, "znode")
    );
    for difference in comparison.differences.iter().take(SHOWN_MAX) {
        text.push_str(&shown(difference, style));
    }
    let left_out = comparison.differences.len().saturating_sub(SHOWN_MAX);
    if left_out > 0 {
        text.push_str(&format!("  and {left_out} more: --json prints all\n"));
    }
    if comparison.more {
        text.push_str("  and more; only the first were read again\n");
    }
    if differences > 0 {
        let remedy = match bridge {
            BridgeState::Runs => {
                "look in 'zkbridge status' for a source that is not live; a restart compares everything and \
                 reports the differences"
            }
            BridgeState::Stopped => {
                "no bridge runs: the next start reports what changed since the last one, as a gap"
            }
        };
        text.push_str(&line("help", remedy, Tone::Plain, style));
    }
    text
}

fn shown(difference: &Difference, style: &Style) -> String {
    let path = bridge_console::text::escaped(&difference.path).into_owned();
    format!(
        "  {path}\n{}",
        line("", &difference.sentence(), Tone::Plain, style)
    )
}

fn for_programs(name: &str, comparison: &Comparison) -> Value {
    json!({
        "source": name,
        "znodes": comparison.znodes,
        "unreadable": comparison.unreadable,
        "differences": comparison.differences,
        "more": comparison.more,
    })
}
