//! Checks of an ensemble: each server, the granted session, the roots, and the clock.

use std::time::{Duration, Instant};

use bridge_config::SourceConfig;
use bridge_core::capture::Outcome;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::Fidelity;
use bridge_core::source::SourceError;
use bridge_query::{JournalQuery, QueryError, Range, Selection};
use bridge_services::{ProposedSection, Recognition};
use bridge_zookeeper::config::{CaptureMode, Liveness, Server, ZookeeperConfig};
use bridge_zookeeper::{Probe, Survey, ask_server};
use futures::future::join_all;

use super::{Line, transactions};
use crate::operator::Journals;
use crate::secrets_in_tree::open_secrets;
use crate::terminal::{count, span};

/// Znodes per request.
const AT_ONCE: usize = 64;

/// A server that takes longer makes every walk and every read slow.
const ANSWER_SLOW: Duration = Duration::from_millis(250);

/// Clocks that are further apart make the times of records misleading.
const CLOCK_MS_MAX: i64 = 2_000;

/// A change is captured much sooner; a longer time means that a clock is wrong.
const CAPTURE_MS_MAX: i64 = 10_000;

/// The number of last records that show the servers' clock.
const RECORDS: usize = 500;

/// Unreadable znodes that are named.
const NAMED_MAX: usize = 5;

/// Runs the checks of one source.
pub async fn examine_ensemble(
    source: &SourceConfig,
    options: &ZookeeperConfig,
    journals: &Journals,
    znodes: u64,
) -> Vec<Line> {
    let subject = format!("source {}", source.name);
    let (mut lines, answers) = servers(&subject, options).await;
    lines.extend(transactions::examine(&subject, &source.name, options, &answers).await);
    match Survey::open(options).await {
        Err(error) => lines.push(refused(&subject, "session", &error)),
        Ok(survey) if survey.is_of_old_servers() => {
            lines.push(session(&subject, options, &survey));
            let message = "are not read: servers before 3.6 do not know the requests";
            let remedy = "nothing is needed for capture; for verify and restore upgrade the ensemble";
            lines.push(Line::warning(&subject, "roots", message, remedy));
        }
        Ok(survey) => {
            lines.push(session(&subject, options, &survey));
            let mut recognition = Recognition::beside(&source.services);
            for root in &options.roots {
                let looked = look_at(&subject, &survey, root, znodes, options.capture, &mut recognition);
                match looked.await {
                    Ok(found) => lines.extend(found),
                    Err(error) => lines.push(refused(&subject, "roots", &error)),
                }
            }
            lines.extend(
                recognition
                    .proposals()
                    .iter()
                    .map(|found| proposal(&subject, found)),
            );
            if options.liveness == Liveness::Canary && options.capture == CaptureMode::Watch {
                lines.push(canary(&subject, options, &survey).await);
            }
            if let Ok(Some(open)) = open_secrets(&survey, source).await {
                lines.push(Line::warning(&subject, "secrets", open.message, open.remedy));
            }
        }
    }
    lines.push(clock(&subject, source, journals));
    lines
}

fn refused(subject: &str, check: &str, error: &SourceError) -> Line {
    let remedy = "correct what the message names; nothing is captured until then";
    Line::failure(subject, check, &error.message, remedy)
}

/// Asks each server.
async fn servers(subject: &str, options: &ZookeeperConfig) -> (Vec<Line>, Vec<Probe>) {
    let servers = options.connect.servers();
    let asked = join_all(servers.iter().map(|server| async move {
        let begun = Instant::now();
        let answer = ask_server(options, server).await;
        (answer, begun.elapsed())
    }));
    let answers = asked.await;
    let serves = answers
        .iter()
        .any(|(answer, _)| matches!(answer, Probe::Serves { .. }));
    let lines = servers.iter().zip(&answers);
    let mut lines: Vec<Line> = lines
        .map(|(server, answer)| one(subject, server, answer, serves))
        .collect();
    lines.extend(versions(subject, &answers));
    (lines, answers.into_iter().map(|(answer, _)| answer).collect())
}

fn one(subject: &str, server: &Server, (answer, took): &(Probe, Duration), others_serve: bool) -> Line {
    let check = format!("server {}:{}", server.host, server.port);
    let message = match answer {
        Probe::Serves { version, mode } => {
            let message = format!(
                "ZooKeeper {version}, {mode}, answers in {:.1} ms",
                took.as_secs_f64() * 1000.0
            );
            if *took > ANSWER_SLOW {
                let remedy = "look at the network between, and at the load of the server";
                return Line::warning(subject, &check, message, remedy);
            }
            return Line::ok(subject, &check, message);
        }
        Probe::Mute(answer) if answer.contains("srvr is not executed") => {
            let remedy = "nothing is needed; to see versions and roles allow it: 4lw.commands.whitelist=srvr";
            return Line::warning(subject, &check, "does not say who it is", remedy);
        }
        Probe::Mute(answer) => format!("answers, but not as a serving ZooKeeper: {answer}"),
        Probe::Unreachable(reason) => format!("cannot be asked: {reason}"),
    };
    match others_serve {
        true => Line::warning(
            subject,
            &check,
            message,
            "start it, or take it out of 'connect'; others serve",
        ),
        false => Line::failure(subject, &check, message, "start it, or correct 'connect'"),
    }
}

/// A warning if the servers have different versions, as during an upgrade.
fn versions(subject: &str, answers: &[(Probe, Duration)]) -> Option<Line> {
    let mut versions: Vec<&str> = answers
        .iter()
        .filter_map(|(answer, _)| match answer {
            Probe::Serves { version, .. } => Some(&**version),
            Probe::Mute(_) | Probe::Unreachable(_) => None,
        })
        .collect();
    versions.sort_unstable();
    versions.dedup();
    (versions.len() > 1).then(|| {
        Line::warning(
            subject,
            "versions",
            format!("the servers differ: {}", versions.join(", ")),
            "finish the upgrade: servers before 3.9 send events without zxids, so that records are exact only on the \
             newer ones",
        )
    })
}

fn session(subject: &str, options: &ZookeeperConfig, survey: &Survey) -> Line {
    const CHECK: &str = "session";
    let (granted, wanted) = (survey.session_timeout(), options.session_timeout.0);
    let message = format!("granted, with a timeout of {} s", granted.as_secs_f64());
    match granted == wanted {
        true => Line::ok(subject, CHECK, message),
        false => Line::warning(
            subject,
            CHECK,
            format!("{message} where {} s were asked for", wanted.as_secs_f64()),
            "set session_timeout within minSessionTimeout and maxSessionTimeout of the servers, or change these",
        ),
    }
}

/// A convention in the tree that no section decodes.
fn proposal(subject: &str, found: &ProposedSection) -> Line {
    let (subjects, members) = match found.section.elections.is_empty() {
        true => ("service", "registration"),
        false => ("election", "candidate"),
    };
    let message = format!(
        "found {} of the format '{}' with {} below {}, and no section decodes them",
        count(found.services, subjects),
        found.section.format.as_str(),
        count(found.instances, members),
        found.place()
    );
    Line::proposal(subject, "services", message, found.to_toml())
}

/// Writes a canary and removes it.
async fn canary(subject: &str, options: &ZookeeperConfig, survey: &Survey) -> Line {
    const CHECK: &str = "canary";
    match survey.try_canary().await {
        Ok(()) => Line::ok(
            subject,
            CHECK,
            format!("may be written in {}", options.canary_path),
        ),
        Err(error) => refused(subject, CHECK, &error),
    }
}

/// The result of reading the first znodes of a root.
#[derive(Default)]
struct Sample {
    read: u64,
    took: Duration,
    unreadable: u64,
    named: Vec<ZnodePath>,
    is_whole: bool,
}

async fn look_at(
    subject: &str,
    survey: &Survey,
    root: &ZnodePath,
    znodes: u64,
    capture: CaptureMode,
    recognition: &mut Recognition,
) -> Result<Vec<Line>, SourceError> {
    let check = format!("root {root}");
    let first = survey.read(std::slice::from_ref(root)).await?;
    match first.first() {
        Some(Outcome::Missing) | None => {
            let (message, option) = match survey.missing_chroot().await? {
                Some(chroot) => (
                    format!("does not exist, because the chroot {chroot} does not exist"),
                    "the chroot in 'connect'",
                ),
                None => ("does not exist".to_owned(), "'roots'"),
            };
            let remedy = format!(
                "nothing is needed: it is watched, and its create will be reported; or correct {option}"
            );
            return Ok(vec![Line::warning(subject, &check, message, remedy)]);
        }
        Some(Outcome::Denied) => return Ok(vec![denied(subject, &check, capture)]),
        Some(Outcome::Found { .. }) => {}
    }
    let below = survey.count_below(root).await?;
    let sample = sample(survey, root, znodes, recognition).await?;
    let mut lines = vec![Line::ok(subject, &check, size(below, &sample))];
    lines.push(readable(subject, &check, capture, &sample));
    Ok(lines)
}

/// Znodes that a session may not read, where none captures them.
const NO_SESSION: &str = "nothing is needed for capture: they are captured all the same; for verify and restore give \
                          [source.auth] credentials that have READ permission there";

/// A root that a session may not read. Only where a session captures it, nothing of it is seen.
fn denied(subject: &str, check: &str, capture: CaptureMode) -> Line {
    match capture {
        CaptureMode::Watch => {
            let remedy =
                "give [source.auth] credentials that have READ permission there: nothing of it is seen";
            Line::failure(subject, check, "may not be read", remedy)
        }
        CaptureMode::Observer | CaptureMode::Txnlog => {
            Line::warning(subject, check, "may not be read in a session", NO_SESSION)
        }
    }
}

async fn sample(
    survey: &Survey,
    root: &ZnodePath,
    znodes: u64,
    recognition: &mut Recognition,
) -> Result<Sample, SourceError> {
    let mut found = Sample::default();
    let mut ahead = vec![root.clone()];
    while !ahead.is_empty() && found.read < znodes {
        let from = ahead.len().saturating_sub(AT_ONCE);
        let paths = ahead.split_off(from);
        let begun = Instant::now();
        let outcomes = survey.read(&paths).await?;
        found.took += begun.elapsed();
        found.read += paths.len() as u64;
        for (path, outcome) in paths.iter().zip(outcomes) {
            match outcome {
                Outcome::Found { stat, data, children } => {
                    recognition.take(path, stat.ephemeral_owner, &data);
                    let names = children.unwrap_or_default();
                    let below = names.iter().map(|name| path.child(name));
                    ahead.extend(below.filter(|path| survey.is_captured(path)));
                }
                Outcome::Denied => {
                    found.unreadable += 1;
                    if found.named.len() < NAMED_MAX {
                        found.named.push(path.clone());
                    }
                }
                Outcome::Missing => {}
            }
        }
    }
    found.is_whole = ahead.is_empty();
    Ok(found)
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "an estimate"
)]
fn size(below: Option<u64>, sample: &Sample) -> String {
    let each = sample.took.as_secs_f64() / sample.read.max(1) as f64;
    let znodes = match (below, sample.is_whole) {
        (_, true) => sample.read,
        (Some(below), false) => below + 1,
        (None, false) => return "its znodes may not be counted".to_owned(),
    };
    let walk = span((znodes as f64 * each * 1000.0).ceil() as i64);
    format!(
        "{}, and a walk takes about {walk}, or less",
        count(znodes, "znode")
    )
}

/// Znodes below a root that a session may not read. Only where a session captures them, their changes are not seen.
fn readable(subject: &str, check: &str, capture: CaptureMode, sample: &Sample) -> Line {
    let of = match sample.is_whole {
        true => "all of them".to_owned(),
        false => format!("the first {} of them", sample.read),
    };
    if sample.unreadable == 0 {
        return Line::ok(subject, check, format!("{of} may be read"));
    }
    let named: Vec<&str> = sample.named.iter().map(|path| path.as_str()).collect();
    let more = if (named.len() as u64) < sample.unreadable {
        " …"
    } else {
        ""
    };
    let (session, remedy) = match capture {
        CaptureMode::Watch => (
            "",
            "grant the bridge the permission 'r' on them, or name them in 'exclude': their changes are not seen",
        ),
        CaptureMode::Observer | CaptureMode::Txnlog => (" in a session", NO_SESSION),
    };
    let message = format!(
        "{} among {of} may not be read{session}: {}{more}",
        sample.unreadable,
        named.join(" ")
    );
    Line::warning(subject, check, message, remedy)
}

/// Compares clocks by the last records: ZooKeeper shows its time only in Stats.
fn clock(subject: &str, source: &SourceConfig, journals: &Journals) -> Line {
    const CHECK: &str = "clock";
    let shown = journals
        .journal_of(source)
        .and_then(|journal| least_delay(&journal).ok().flatten());
    let Some(least_ms) = shown else {
        return Line::ok(
            subject,
            CHECK,
            "the servers' time is unknown before the first record of a change",
        );
    };
    let remedy =
        "let both follow a time server: the times in records are those of ZooKeeper and of this machine";
    if least_ms < -CLOCK_MS_MAX {
        let message = format!(
            "the servers' clock is ahead of this machine's by at least {}",
            span(-least_ms)
        );
        return Line::warning(subject, CHECK, message, remedy);
    }
    if least_ms > CAPTURE_MS_MAX {
        let message = format!(
            "changes were captured {} after ZooKeeper's time at the least: its clock is slow, or capture was",
            span(least_ms)
        );
        return Line::warning(subject, CHECK, message, remedy);
    }
    Line::ok(
        subject,
        CHECK,
        "the last changes were captured right after ZooKeeper's time of them",
    )
}

/// The least time between a change and its capture among the last records, in ms.
fn least_delay(journal: &JournalQuery) -> Result<Option<i64>, QueryError> {
    let range = Range {
        after: Seq::ZERO,
        until: journal.tail()?,
    };
    let page = journal.newest(range, &Selection::default(), RECORDS)?;
    let seen = page
        .records
        .iter()
        .filter(|record| record.fidelity == Fidelity::Exact);
    let delays = seen.filter_map(|record| Some(record.time.captured.0 - record.time.changed?.0));
    Ok(delays.min())
}
