//! `zkbridge services`: the registered instances and the leaders, now, at a moment, or as they change, from the journals.

use std::io::IsTerminal;
use std::time::Duration;

use bridge_console::text::{escaped, escaped_json};
use bridge_console::{Color, Style};
use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::record::{Op, Record, ServiceEvent, Timestamp};
use bridge_query::answer::Moment;
use bridge_query::{Follower, JournalQuery, Selection};
use bridge_services::{
    PastMoment, PastServices, Present, PresentInstance, PresentLeader, shown_endpoint, shown_instance,
};
use clap::Args;
use globset::{Glob, GlobMatcher};
use serde::Serialize;

use super::question::{doubt_lines, moment_words};
use super::serving::{self, Signals};
use super::{argument, print, print_json, print_on};
use crate::bridge::wall_clock;
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};
use crate::terminal::ANEW;

const EXAMPLES: &str = "\
Examples:
  zkbridge services                        every service, with its instances
  zkbridge services --service 'pay*'       some of them
  zkbridge services --at yesterday         those of then, with what is open
  zkbridge services --watch                refreshed with each event
  zkbridge services --watch --json         each event as a line of JSON

Reads only the journals, with or without a running bridge: the state that the
last service events left. A source without [[source.service]] has none.

Exit codes: 0 printed, 1 with --at the state is not certain, 2 the command line
or the configuration is wrong, 3 there is no journal, 130 --watch was ended by
Ctrl-C";

/// Poll interval of `--watch`. A poll that finds nothing is one search in an index.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// Options of `services`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ServicesArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Print only services and elections whose names match; repeatable
    #[arg(long, value_name = "GLOB", value_parser = glob)]
    service: Vec<GlobMatcher>,
    /// Read only the journal of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print the state at this moment [default: the end of the journal]
    #[arg(long, value_name = "SEQ|ZXID|TIME", value_parser = argument::position, conflicts_with = "watch")]
    at: Option<Position>,
    /// Print the state again with each event, in place on a terminal, and
    /// elsewhere the events
    #[arg(short, long)]
    watch: bool,
    /// Print a JSON document; with --watch each event as a line
    #[arg(long)]
    json: bool,
}

impl ServicesArgs {
    fn wants(&self, name: &str) -> bool {
        self.service.is_empty() || self.service.iter().any(|glob| glob.is_match(name))
    }

    fn wants_event(&self, event: &ServiceEvent) -> bool {
        self.wants(&event.service) || event.election.as_deref().is_some_and(|name| self.wants(name))
    }
}

fn glob(text: &str) -> Result<GlobMatcher, String> {
    let glob = Glob::new(text).map_err(|error| error.kind().to_string())?;
    Ok(glob.compile_matcher())
}

/// The services of one source.
#[derive(Serialize)]
struct OfSource {
    source: String,
    /// Of `--at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    moment: Option<Moment>,
    /// Of `--at`: instances and elections that may have been there.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<u64>,
    #[serde(flatten)]
    present: Present,
}

/// Runs the command.
pub fn run(args: &ServicesArgs) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let opened = journals.of_source(args.source.as_deref())?;
    let opened: Vec<(String, JournalQuery)> = opened
        .into_iter()
        .map(|(source, journal)| (source.name.to_string(), journal))
        .collect();
    if args.watch {
        return serving::block_on(watch(args, opened));
    }
    let mut found = Vec::new();
    for (source, journal) in &opened {
        found.push(match args.at {
            None => of_now(args, source, journal)?,
            Some(at) => of_moment(args, source, journal, at)?,
        });
    }
    match args.json {
        true => print_json(&found)?,
        false => print(&text_of(&found))?,
    }
    let is_certain = found
        .iter()
        .all(|one| one.unknown.unwrap_or(0) == 0 && one.moment.as_ref().is_none_or(|moment| moment.certain));
    match is_certain {
        true => Ok(()),
        false => Err(Failure::new(Exit::Runtime, "")),
    }
}

/// The state at the end of a journal.
fn of_now(args: &ServicesArgs, source: &str, journal: &JournalQuery) -> Result<OfSource, Failure> {
    let mut present = present(journal)?;
    present.instances.retain(|instance| args.wants(&instance.service));
    present.leaders.retain(|leader| args.wants(&leader.election));
    Ok(OfSource {
        source: source.to_owned(),
        moment: None,
        unknown: None,
        present,
    })
}

fn present(journal: &JournalQuery) -> Result<Present, Failure> {
    let mut reader = journal.reader()?;
    Present::of(&mut reader.derived()).map_err(|error| Failure::new(Exit::Environment, error.to_string()))
}

/// The state at a moment, by the events of both of its sides.
fn of_moment(
    args: &ServicesArgs,
    source: &str,
    journal: &JournalQuery,
    at: Position,
) -> Result<OfSource, Failure> {
    let moment = journal.moment(Some(at), wall_clock()())?;
    let then = past_moment(journal, &moment, at)?;
    let mut past = PastServices::default();
    let mut follower = Follower::new(Seq::ZERO);
    while let Some(page) = follower.next(journal, &of_services())? {
        for event in page.records.iter().filter_map(|record| event_of(args, record)) {
            match event.seq <= moment.seq {
                true => past.take_before(event),
                false => past.take_after(event, &then),
            }
        }
    }
    // Events that came meanwhile are in the rows, too.
    let now = of_now(args, source, journal)?.present;
    let is_whole = moment.oldest.is_none_or(|oldest| oldest <= Seq(1));
    let (present, unknown) = past.at_moment(now, &then, is_whole);
    Ok(OfSource {
        source: source.to_owned(),
        moment: Some(moment),
        unknown: Some(unknown),
        present,
    })
}

/// A moment in the times of the history: where a source reads transactions, those of ZooKeeper.
fn past_moment(journal: &JournalQuery, moment: &Moment, at: Position) -> Result<PastMoment, Failure> {
    let time = match at {
        Position::Time(time) => time,
        _ => journal.time_of(moment)?.unwrap_or(Timestamp(0)),
    };
    let before = moment.before.as_ref();
    Ok(PastMoment {
        time,
        captured: before.map_or(time, |before| before.captured),
        counted: journal.clock_of_events()?,
    })
}

fn of_services() -> Selection {
    Selection {
        ops: vec![Op::Service],
        ..Selection::default()
    }
}

fn event_of<'a>(args: &ServicesArgs, record: &'a Record) -> Option<&'a ServiceEvent> {
    record.event.as_deref().filter(|event| args.wants_event(event))
}

/// Prints the state, and again after each event; elsewhere than on a terminal the events.
async fn watch(args: &ServicesArgs, opened: Vec<(String, JournalQuery)>) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let is_in_place = std::io::stdout().is_terminal() && !args.json;
    let mut followers = Vec::new();
    let mut found = Vec::new();
    for (source, journal) in &opened {
        // Before the state: an event may be printed that the state shows already, and none is missed.
        followers.push(Follower::new(journal.tail()?));
        found.push(of_now(args, source, journal)?);
    }
    let before = if is_in_place { ANEW } else { "" };
    if !args.json && !print_on(&format!("{before}{}", text_of(&found)))? {
        return Ok(());
    }
    let mut ticks = tokio::time::interval(POLL_EVERY);
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => return Err(Failure::new(Exit::Signal(signal), "")),
            _ = ticks.tick() => {}
        }
        let mut lines = String::new();
        for ((_, journal), follower) in opened.iter().zip(&mut followers) {
            while let Some(page) = follower.next(journal, &of_services())? {
                for event in page.records.iter().filter_map(|record| event_of(args, record)) {
                    lines.push_str(&event_line(event, args.json));
                }
            }
        }
        if lines.is_empty() {
            continue;
        }
        if is_in_place {
            let now = opened
                .iter()
                .map(|(source, journal)| of_now(args, source, journal));
            lines = format!("{ANEW}{}", text_of(&now.collect::<Result<Vec<_>, _>>()?));
        }
        if !print_on(&lines)? {
            return Ok(());
        }
    }
}

fn event_line(event: &ServiceEvent, is_json: bool) -> String {
    match is_json {
        true => escaped_json(&String::from_utf8_lossy(&event.to_json())).into_owned() + "\n",
        false => format!("{}  {}\n", event.time.captured, plain(&event.text)),
    }
}

fn text_of(found: &[OfSource]) -> String {
    let style = Style::for_stdout(Color::Auto);
    let mut text = String::new();
    for one in found {
        if found.len() > 1 {
            text.push_str(&format!("source {}\n", one.source));
        }
        if let Some(moment) = &one.moment {
            text.push_str(&format!("at {}\n", moment_words(moment)));
            text.push_str(&doubt_lines(&moment.doubts, &style));
        }
        text.push_str(&words(&one.present));
        if let Some(unknown) = one.unknown.filter(|unknown| *unknown > 0) {
            text.push_str(&format!(
                "{unknown} more may have been registered: their section was new or had other options\n"
            ));
        }
    }
    let is_empty = found
        .iter()
        .all(|one| one.present.instances.is_empty() && one.present.leaders.is_empty());
    if is_empty {
        text.push_str("no service is registered\n");
    }
    text
}
fn words(present: &Present) -> String {
    let mut text = String::new();
    let mut last = None;
    for instance in &present.instances {
        let service = (&instance.section, service_name(instance));
        if last.as_ref() != Some(&service) {
            let of_service = || {
                let all = present.instances.iter();
                all.filter(|other| (&other.section, service_name(other)) == service)
            };
            let available = of_service()
                .filter(|other| other.status.is_available() && !other.is_flapping)
                .count();
            let count = of_service().count();
            text.push_str(&format!(
                "{}  {available} of {count} available\n",
                plain(&service.1)
            ));
            last = Some(service);
        }
        text.push_str(&format!("  {}\n", instance_words(instance)));
    }
    for leader in &present.leaders {
        text.push_str(&format!(
            "{}  {}\n",
            plain(&leader.election),
            leader_words(leader)
        ));
    }
    text
}

fn service_name(instance: &PresentInstance) -> String {
    let group = instance.group.as_deref().map(|group| format!(" {group}"));
    format!("{}{}", instance.service, group.unwrap_or_default())
}

fn instance_words(instance: &PresentInstance) -> String {
    let name = shown_instance(&instance.instance, &instance.endpoints);
    let status = match instance.is_flapping {
        true => "flapping",
        false => instance.status.as_str(),
    };
    let mut words = vec![name, status.to_owned()];
    words.extend(instance.version.clone());
    words.extend(instance.zone.clone());
    words.extend(instance.endpoints.iter().map(shown_endpoint));
    words.push(format!("since {}", instance.since));
    if instance.is_leaving {
        words.push("leaving".to_owned());
    }
    plain(&words.join("  "))
}

fn leader_words(leader: &PresentLeader) -> String {
    let name = leader.leader.as_deref().unwrap_or("no leader");
    match leader.queue {
        0 => plain(name),
        queue => plain(&format!("{name}  queue {queue}")),
    }
}

/// Without characters that a terminal obeys or reorders: a registration must not write to it.
fn plain(text: &str) -> String {
    escaped(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bridge_core::record::{Endpoint, InstanceStatus, Liveness};

    #[test]
    fn an_instance_that_flaps_is_shown_and_does_not_count_as_available_and_its_address_can_be_typed() {
        let text = words(&Present {
            instances: vec![PresentInstance {
                section: "main".to_owned(),
                service: "pay".to_owned(),
                group: None,
                version: None,
                instance: "fd00::7:80".to_owned(),
                status: InstanceStatus::Up,
                endpoints: vec![Endpoint {
                    scheme: Some("rest".to_owned()),
                    host: "fd00::7".to_owned(),
                    port: Some(80),
                    ..Endpoint::default()
                }],
                zone: None,
                liveness: Liveness::Session,
                session: None,
                path: "/services/pay/1".to_owned(),
                since: Timestamp(0),
                is_flapping: true,
                is_leaving: false,
                leaving_since: None,
            }],
            leaders: Vec::new(),
        });
        let expected = "pay  0 of 1 available\n  [fd00::7]:80  flapping  rest://[fd00::7]:80  since ";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn no_name_of_a_service_or_a_leader_writes_to_the_terminal_or_reorders_it() {
        let hostile = "a\u{202e}b\u{1b}[31m\u{9b}m\u{feff}";
        let leader = PresentLeader {
            section: "main".to_owned(),
            election: hostile.to_owned(),
            leader: Some(hostile.to_owned()),
            session: None,
            queue: 2,
        };
        let text = words(&Present {
            instances: Vec::new(),
            leaders: vec![leader],
        });
        assert_eq!(text.lines().count(), 1, "{text:?}");
        assert_eq!(escaped(text.trim_end()), text.trim_end());
        assert!(text.contains("a\\u{202e}b"), "{text:?}");
    }
}
