//! `zkbridge services`: the registered instances and the leaders, from the journals.

use bridge_services::{Present, PresentInstance, PresentLeader};
use clap::Args;
use globset::{Glob, GlobMatcher};
use serde::Serialize;

use super::{print, print_json};
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  zkbridge services                        every service, with its instances
  zkbridge services --service 'pay*'       some of them
  zkbridge services --json                 for programs
  zkbridge tail -f --op service            what happens from now on

Reads only the journals, with or without a running bridge: the state that the
last service events left. A source without [[source.service]] has none.

Exit codes: 0 printed, 2 the command line or the configuration is wrong,
3 there is no journal";

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
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

fn glob(text: &str) -> Result<GlobMatcher, String> {
    let glob = Glob::new(text).map_err(|error| error.kind().to_string())?;
    Ok(glob.compile_matcher())
}

/// The services of one source.
#[derive(Serialize)]
struct OfSource {
    source: String,
    #[serde(flatten)]
    present: Present,
}

/// Runs the command.
pub fn run(args: &ServicesArgs) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let mut found = Vec::new();
    let is_wanted =
        |name: &str| args.service.is_empty() || args.service.iter().any(|glob| glob.is_match(name));
    for (source, journal) in journals.of_source(args.source.as_deref())? {
        let mut reader = journal.reader()?;
        let mut present = Present::of(&mut reader.derived()).map_err(|error| {
            let message = error.to_string();
            Failure::new(Exit::Environment, message)
        })?;
        present.instances.retain(|instance| is_wanted(&instance.service));
        present.leaders.retain(|leader| is_wanted(&leader.election));
        found.push(OfSource {
            source: source.name.to_string(),
            present,
        });
    }
    if args.json {
        return print_json(&found);
    }
    let names_sources = found.len() > 1;
    let mut text = String::new();
    for OfSource { source, present } in &found {
        if names_sources {
            text.push_str(&format!("source {source}\n"));
        }
        text.push_str(&words(present));
    }
    if text.is_empty() {
        text.push_str("no service is registered\n");
    }
    print(&text)
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
            let available = of_service().filter(|other| other.status.is_available()).count();
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
    let mut words = vec![instance.instance.clone(), instance.status.as_str().to_owned()];
    words.extend(instance.version.clone());
    words.extend(instance.zone.clone());
    let address = |endpoint: &bridge_core::record::Endpoint| {
        let scheme = endpoint.scheme.as_deref().map(|scheme| format!("{scheme}://"));
        let port = endpoint.port.map(|port| format!(":{port}"));
        format!(
            "{}{}{}",
            scheme.unwrap_or_default(),
            endpoint.host,
            port.unwrap_or_default()
        )
    };
    words.extend(instance.endpoints.iter().map(address));
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

/// Without control characters: a registration must not write to the terminal.
fn plain(text: &str) -> String {
    let letters = text.chars();
    letters
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}
