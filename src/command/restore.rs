//! `zkbridge restore`: plans how a subtree is put back as it was at a moment, and applies such a plan.

mod apply;
mod text;

use std::collections::BTreeSet;
use std::path::PathBuf;

use bridge_config::SourceConfig;
use bridge_console::{Color, Style};
use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Timestamp};
use bridge_core::secret::Secret;
use bridge_query::{Certainty, Doubt, JournalQuery, QueryError, SubtreeMoment};
use clap::{Args, Subcommand, ValueEnum};

use super::question::{never_seen, only_journal};
use super::{argument, print, print_json, serving};
use crate::bridge::wall_clock;
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};
use crate::restore::{
    AclRule, OPERATIONS_MAX, PlanHeader, PlanRules, RestorePlace, RestorePlan, VALUES_BYTES_MAX,
    acl_objection, anchors, draft, live_tree, parent_lists, reserved,
};
use crate::source_type::{TreeEditor, source_type};
use crate::verify::RateLimit;

const EXAMPLES: &str = "\
Examples:
  zkbridge restore /config --at 15m --plan config.plan
  zkbridge restore apply config.plan
  zkbridge restore apply config.plan --on-conflict skip --batch 1
  zkbridge restore /config --at 0x300001a2f --prune --plan config.plan
  zkbridge restore /config --at yesterday --to /old/config --plan old.plan

Compares the subtree at the moment, as the journal has it, with the tree in
ZooKeeper, and writes the operations that put it back into a new file, which
has values. It never writes to ZooKeeper; 'restore apply' does. Znodes that
did not exist then stay without --prune. Ephemeral znodes are left out.

Exit codes: 0 planned, or nothing is to be done, 1 refused, 2 the command line
or the configuration is wrong, 3 no journal, or ZooKeeper cannot be reached";

/// The largest file of credentials or of a list.
const SMALL_FILE_MAX: u64 = 64 << 10;

/// Options of `restore`.
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub struct RestoreCommand {
    #[command(subcommand)]
    verb: Option<RestoreVerb>,
    /// Put back this path and everything below it
    #[arg(value_name = "PATH", required = true, value_parser = argument::znode)]
    under: Option<ZnodePath>,
    /// Put it back as it was at this moment
    #[arg(long, value_name = "ZXID|TIME", required = true, value_parser = argument::position)]
    at: Option<Position>,
    /// Write the plan into this new file, for its owner only
    #[arg(long, value_name = "FILE", required = true)]
    plan: Option<PathBuf>,
    /// Put it at this path [default: where it was]
    #[arg(long, value_name = "PATH", value_parser = argument::znode)]
    to: Option<ZnodePath>,
    /// Delete znodes that did not exist at the moment
    #[arg(long)]
    prune: bool,
    /// Accept these kinds of uncertainty, separated by commas
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    accept: Vec<AcceptedKind>,
    /// List of a created znode whose own is not known: 'parent', or a JSON file
    #[arg(long, value_name = "parent|FILE")]
    acl: Option<PathBuf>,
    /// Refuse a plan with more operations
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = changes_max)]
    max_changes: usize,
    #[command(flatten)]
    session: RestoreSession,
    /// Use the journal of this source [default: the only one]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    #[command(flatten)]
    config: ConfigFlag,
    /// Print one JSON object, without values
    #[arg(long)]
    json: bool,
}

/// The commands below `restore`.
#[derive(Debug, Subcommand)]
enum RestoreVerb {
    /// Carry out a plan, or go on where an earlier run ended
    Apply(apply::ApplyArgs),
}

/// The session with ZooKeeper.
#[derive(Args, Debug)]
struct RestoreSession {
    /// File with other credentials than those of the source: user:password
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Read at most this many znodes per second
    #[arg(long, value_name = "ZNODES", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

/// A kind of uncertainty that can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AcceptedKind {
    /// Leave a znode as it is if its value then was overwritten before it was read
    Superseded,
    /// Take the last value that was read before values that were not
    Missed,
    /// Take a znode as existing until the end of the time in which it was deleted
    Bounded,
    /// Take the state before a gap as the state in it
    Gap,
}

impl AcceptedKind {
    fn certainty(self) -> Certainty {
        match self {
            AcceptedKind::Superseded => Certainty::Superseded,
            AcceptedKind::Missed => Certainty::Missed,
            AcceptedKind::Bounded => Certainty::Bounded,
            AcceptedKind::Gap => Certainty::Gap,
        }
    }

    fn word(self) -> &'static str {
        match self {
            AcceptedKind::Superseded => "superseded",
            AcceptedKind::Missed => "missed",
            AcceptedKind::Bounded => "bounded",
            AcceptedKind::Gap => "gap",
        }
    }
}

fn changes_max(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count) if (1..=OPERATIONS_MAX).contains(&count) => Ok(count),
        Ok(count) => Err(format!(
            "{count} is not from 1 to {OPERATIONS_MAX}\nhelp: restore a larger subtree in parts"
        )),
        Err(error) => Err(format!("{error}\nhelp: give a whole number")),
    }
}

impl RestoreSession {
    /// Opens the session.
    async fn open(&self, source: &SourceConfig) -> Result<Box<dyn TreeEditor>, Failure> {
        let credentials = self.credentials.as_ref().map(|file| {
            let text = small_file(file, "credentials")?;
            let line = text.trim_end_matches(['\r', '\n']);
            if line.contains(char::is_control) {
                let message = format!(
                    "the credentials in {} have several lines or a control character\nhelp: write user:password as its \
                     only line",
                    file.display()
                );
                return Err(Failure::new(Exit::Configuration, message));
            }
            Ok::<_, Failure>(Secret::new(line))
        });
        let opened = source_type(&source.kind).editor(credentials.transpose()?).await;
        opened.map_err(|error| Failure::new(Exit::Environment, error.to_string()))
    }

    fn rate_limit(&self) -> RateLimit {
        RateLimit::new(self.rate)
    }
}

/// The text of a file of limited size. `what` names it in the error.
fn small_file(file: &std::path::Path, what: &str) -> Result<String, Failure> {
    let read = || -> std::io::Result<String> {
        use std::io::Read;
        let mut text = String::new();
        let read = std::fs::File::open(file)?
            .take(SMALL_FILE_MAX + 1)
            .read_to_string(&mut text)?;
        match read as u64 > SMALL_FILE_MAX {
            true => Err(std::io::Error::other(format!(
                "it has more than {SMALL_FILE_MAX} bytes"
            ))),
            false => Ok(text),
        }
    };
    read().map_err(|error| {
        let message = format!(
            "the {what} in {} cannot be read: {error}\nhelp: name a text file that this user may read",
            file.display()
        );
        Failure::new(Exit::Configuration, message)
    })
}

/// Runs the command.
pub fn run(args: &RestoreCommand) -> Result<(), Failure> {
    match &args.verb {
        Some(RestoreVerb::Apply(args)) => apply::run(args),
        None => plan(args),
    }
}

fn plan(args: &RestoreCommand) -> Result<(), Failure> {
    let (Some(under), Some(at), Some(file)) = (&args.under, args.at, &args.plan) else {
        unreachable!("the command line requires them");
    };
    let journals = args.config.journals()?;
    let (source, journal) = only_journal(&journals, args.source.as_deref())?;
    let place = RestorePlace {
        under: under.clone(),
        to: args.to.clone().unwrap_or_else(|| under.clone()),
    };
    check_place(source, &place)?;
    if file.exists() {
        let message = format!(
            "plan {}: it exists already\nhelp: give another name, or remove it if it is not needed any more",
            file.display()
        );
        return Err(Failure::new(Exit::Configuration, message));
    }
    let rule = acl_rule(args.acl.as_deref())?;
    let accepted: BTreeSet<Certainty> = args.accept.iter().map(|kind| kind.certainty()).collect();
    let now = wall_clock()();
    let moment = journal.subtree_moment(under, at, now)?;
    check_moment(under, &moment, &accepted)?;
    if journal.node(under, Some(at), now)?.is_none() {
        return Err(never_seen(under));
    }
    let rules = PlanRules {
        accepted,
        prunes: args.prune,
        is_in_place: place.is_in_place(),
        top: place.to.clone(),
        changes_max: args.max_changes,
        bytes_max: VALUES_BYTES_MAX,
    };
    let planning = Planning {
        args,
        source,
        journal: &journal,
        place,
        moment,
        rules,
        rule,
    };
    let style = Style::for_stdout(Color::Auto);
    let (plan, summary) = serving::block_on(planning.made())?;
    if !plan.operations.is_empty() {
        let saved = plan.save(file);
        saved.map_err(|error| Failure::new(Exit::Environment, error.to_string()))?;
    }
    match args.json {
        true => print_json(&text::plan_document(file, &plan, &summary)),
        false => print(&text::plan_words(file, &plan, &summary, &style)),
    }
}

/// Everything that a plan is made from.
struct Planning<'a> {
    args: &'a RestoreCommand,
    source: &'a SourceConfig,
    journal: &'a JournalQuery,
    place: RestorePlace,
    moment: SubtreeMoment,
    rules: PlanRules,
    rule: AclRule,
}

impl Planning<'_> {
    async fn made(&self) -> Result<(RestorePlan, text::PlanSummary), Failure> {
        let now = wall_clock()();
        let place = &self.place;
        let mut rate = self.args.session.rate_limit();
        let tree = self.args.session.open(self.source).await?;
        for path in [&place.under, &place.to] {
            if !tree.is_captured(path) {
                let message = format!(
                    "{} is not captured: exclude leaves it out, or it is the bridge's own\nhelp: restore another path",
                    path.brief()
                );
                return Err(Failure::new(Exit::Configuration, message));
            }
        }
        let synced = tree.sync().await;
        synced.map_err(|error| Failure::new(Exit::Environment, error.to_string()))?;
        let anchors = anchors(&*tree, place, &mut rate).await?;
        let chroot = tree.missing_chroot().await;
        let chroot = chroot.map_err(|error| Failure::new(Exit::Environment, error.to_string()))?;
        if let Some(chroot) = chroot {
            let message = format!(
                "the chroot {} does not exist in ZooKeeper\nhelp: create it, or correct 'connect' of the source",
                chroot.brief()
            );
            return Err(Failure::new(Exit::Runtime, message));
        }
        let Some(anchors) = anchors else {
            let parent = place.to.parent().unwrap_or_else(ZnodePath::slash);
            let message = format!(
                "the parent {} does not exist in ZooKeeper\nhelp: create it, or restore it first",
                parent.brief()
            );
            return Err(Failure::new(Exit::Runtime, message));
        };
        let live = live_tree(&*tree, place, &self.moment, &mut rate).await?;
        let draft = draft(
            self.journal,
            &*tree,
            place,
            &self.moment,
            (&self.rules, &live),
            now,
        )?;
        let lists = parent_lists(&*tree, &draft, &self.rule, &mut rate).await?;
        let summary_of = text::PlanSummary::new(&self.moment, &draft, &live);
        let settled = draft.settle(&self.rule, &lists);
        let (operations, draft) = settled.map_err(|refusals| {
            let before = match certain_before(self.journal, &place.under, &self.moment, now) {
                Ok(before) => before,
                Err(error) => return error.into(),
            };
            text::refused(&refusals, before, self.rules.changes_max, self.args.json)
        })?;
        // Run again, a plan must not miss the znode that it has deleted.
        let is_deleted = |path: &ZnodePath| {
            let mut deletes = operations.iter().filter(|one| one.data().is_none());
            deletes.any(|delete| delete.path() == path)
        };
        let mut anchors = anchors;
        anchors.retain(|anchor| !is_deleted(&anchor.path));
        let header = PlanHeader::new(
            self.source.name.to_string(),
            (&place.under, &place.to),
            self.moment.moment.at.clone(),
            self.args.prune,
            self.args
                .accept
                .iter()
                .map(|kind| kind.word().to_owned())
                .collect(),
            now.to_string(),
            anchors,
        );
        Ok((RestorePlan { header, operations }, summary_of.with(draft)))
    }
}

/// Gaps that are left to find a moment outside of all.
const GAPS_MAX: usize = 20;

/// The last record before a moment at which nothing is open about the subtree as a whole; `None` if none is near.
fn certain_before(
    journal: &JournalQuery,
    under: &ZnodePath,
    moment: &SubtreeMoment,
    now: Timestamp,
) -> Result<Option<Seq>, QueryError> {
    let mut seq = moment.moment.seq;
    for _ in 0..GAPS_MAX {
        if seq == Seq::ZERO {
            return Ok(None);
        }
        let at = journal.subtree_moment(under, Position::Seq(seq), now)?;
        let begins = at.moment.doubts.iter().map(|doubt| match doubt {
            // The record itself is inside the gap.
            Doubt::InGap { begin, .. } => Some(Seq(begin.0.saturating_sub(1))),
            Doubt::Unreadable(znode) => Some(znode.since.seq),
            _ => None,
        });
        let Some(begins) = begins.collect::<Option<Vec<Seq>>>() else {
            return Ok(None);
        };
        match begins.into_iter().min() {
            Some(begin) => seq = begin.min(Seq(seq.0 - 1)),
            None => return Ok(Some(seq)),
        }
    }
    Ok(None)
}

/// Refuses places that a restore never reads from or writes to.
fn check_place(source: &SourceConfig, place: &RestorePlace) -> Result<(), Failure> {
    let refuse = |message: String| Err(Failure::new(Exit::Configuration, message));
    for path in [&place.under, &place.to] {
        if path.is_slash() || reserved(path) {
            return refuse(format!(
                "{} is never restored as a whole\nhelp: name a znode below it that is yours",
                path.brief()
            ));
        }
        if !source.kind.options().roots().iter().any(|root| root.covers(path)) {
            let roots: Vec<&str> = source
                .kind
                .options()
                .roots()
                .iter()
                .map(|root| root.as_str())
                .collect();
            return refuse(format!(
                "{} is not below a root of source '{}', so that the journal does not know it\nhelp: name a path below one \
                 of: {}",
                path.brief(),
                source.name,
                roots.join(", ")
            ));
        }
    }
    let is_nested = place.under.covers(&place.to) || place.to.covers(&place.under);
    if is_nested && !place.is_in_place() {
        return refuse(format!(
            "--to {} and {} cover each other\nhelp: name a place beside the subtree",
            place.to.brief(),
            place.under.brief()
        ));
    }
    Ok(())
}

/// Refuses a moment at which something is open about the whole subtree that is not accepted.
fn check_moment(
    under: &ZnodePath,
    moment: &SubtreeMoment,
    accepted: &BTreeSet<Certainty>,
) -> Result<(), Failure> {
    let open = moment.moment.doubts.iter();
    let open: Vec<&Doubt> = open
        .filter(|doubt| !accepted.contains(&doubt.certainty()))
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = open.iter().map(|doubt| format!("\n  {doubt}")).collect();
    let is_unreadable = |doubt: &&Doubt| matches!(doubt, Doubt::Unreadable(_) | Doubt::MoreUnreadable(_));
    let help = match open.iter().all(|doubt| doubt.certainty() == Certainty::Gap) {
        true if open.iter().all(is_unreadable) => {
            "choose a moment at which they could be read ('zkbridge gaps' lists when), or take the state that was read last \
             with --accept gap"
        }
        true => {
            "choose a moment outside of the gap ('zkbridge gaps' lists them), or take the state before it with --accept gap"
        }
        false
            if open
                .iter()
                .any(|doubt| matches!(doubt, Doubt::BeforeListing { .. })) =>
        {
            "choose a moment since then: a restore uses the journal alone"
        }
        false => "choose another moment: 'zkbridge gaps' and 'zkbridge history' show those that are certain",
    };
    Err(Failure::new(
        Exit::Runtime,
        format!(
            "the state of {} at this moment is not certain:{}\nhelp: {help}",
            under.brief(),
            lines.concat()
        ),
    ))
}

/// The rule of `--acl`.
fn acl_rule(acl: Option<&std::path::Path>) -> Result<AclRule, Failure> {
    let Some(file) = acl else {
        return Ok(AclRule::Refuse);
    };
    if file.as_os_str() == "parent" {
        return Ok(AclRule::Parent);
    }
    let text = small_file(file, "access control list")?;
    let list: Result<Vec<Acl>, _> = serde_json::from_str(&text);
    let bad = |reason: String| {
        let message = format!(
            "the access control list in {}: {reason}\nhelp: write a JSON list of entries as records have them: \
             [{{\"scheme\": \"world\", \"id\": \"anyone\", \"perms\": \"cdrwa\"}}]",
            file.display()
        );
        Failure::new(Exit::Configuration, message)
    };
    let list = list.map_err(|_| bad("it is no such list".to_owned()))?;
    match acl_objection(&list) {
        None => Ok(AclRule::List(list)),
        Some(reason) => Err(bad(reason)),
    }
}
