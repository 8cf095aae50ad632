//! Checks of sources that read transactions: whether the ensemble accepts the observer, for how long it may be away, and
//! settings of the servers.

use std::collections::BTreeMap;
use std::time::Duration;

use bridge_core::number::Zxid;
use bridge_zookeeper::Probe;
use bridge_zookeeper::config::{CaptureMode, ZookeeperConfig};
use bridge_zookeeper::observer::{EnsembleMembers, ObserverOptions, examine_quorum};
use bridge_zookeeper::txnlog::write_rate;
use bridge_zookeeper::who::system_properties;

use super::{Line, folders};
use crate::terminal::span;

/// Transactions that a leader keeps in its memory, unless `zookeeper.commitLogCount` says otherwise.
const COMMIT_LOG: u64 = 500;

/// How long the rate of writes is measured.
const RATE_OVER: Duration = Duration::from_secs(2);

/// A shorter absence without a gap does not even last for a restart of the machine.
const ABSENCE_SHORT_S: f64 = 300.0;

/// Files that are named at most.
const NAMED_MAX: usize = 5;

/// The checks of a source that does not watch.
pub(super) async fn examine(
    subject: &str,
    name: &str,
    options: &ZookeeperConfig,
    answers: &[Probe],
) -> Vec<Line> {
    match (options.capture, &options.observer, &options.txnlog) {
        (CaptureMode::Observer, Some(observer), _) => {
            let mut lines: Vec<Line> = version(subject, answers).into_iter().collect();
            lines.extend(quorum(subject, name, options, observer, answers).await);
            lines.push(protection(subject, observer));
            let found = settings(options).await;
            let kept = found.iter().filter_map(|(_, found)| found.as_ref().ok());
            let kept = kept.map(commit_log).min();
            let mut logged = None;
            if let Some(txnlog) = &options.txnlog {
                let (more, first) = folders::examine_beside(subject, options, txnlog).await;
                lines.extend(more);
                logged = first;
            }
            let rate = write_rate(options, RATE_OVER).await;
            lines.push(absence(subject, rate, kept, logged));
            lines.extend(
                found
                    .iter()
                    .flat_map(|(server, found)| judge_settings(subject, server, found)),
            );
            lines
        }
        (CaptureMode::Txnlog, _, Some(txnlog)) => {
            let mut lines = folders::examine(subject, options, txnlog).await;
            let found = settings(options).await;
            lines.extend(
                found
                    .iter()
                    .flat_map(|(server, found)| judge_settings(subject, server, found)),
            );
            lines
        }
        (CaptureMode::Watch | CaptureMode::Observer | CaptureMode::Txnlog, ..) => Vec::new(),
    }
}

/// A failure if a server is too old to have an observer of the bridge.
fn version(subject: &str, answers: &[Probe]) -> Option<Line> {
    let is_old = |version: &str| {
        let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
        matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) < (3, 6))
    };
    let old = answers.iter().find_map(|answer| match answer {
        Probe::Serves { version, .. } if is_old(version) => Some(version),
        _ => None,
    })?;
    Some(Line::failure(
        subject,
        "version",
        format!("ZooKeeper {old}: capture = \"observer\" needs 3.6 or newer on all servers"),
        "upgrade the servers, or use capture = \"txnlog\", which reads the logs of 3.4 and newer",
    ))
}

async fn quorum(
    subject: &str,
    name: &str,
    options: &ZookeeperConfig,
    observer: &ObserverOptions,
    answers: &[Probe],
) -> Vec<Line> {
    const CHECK: &str = "quorum port";
    let found = examine_quorum(name, options, observer, &std::env::temp_dir()).await;
    let mut lines = Vec::new();
    match found.leader {
        Ok((leader, epoch)) => lines.push(Line::ok(
            subject,
            CHECK,
            format!("the leader {leader} accepts an observer, in epoch {epoch}"),
        )),
        Err(reason) => {
            let is_alone =
                |answer: &Probe| matches!(answer, Probe::Serves { mode, .. } if mode == "standalone");
            let remedy = match answers.iter().any(is_alone) {
                true => {
                    "a standalone server has no quorum port: write standaloneEnabled=false and server.1=HOST:2888:3888 \
                     into its zoo.cfg, and restart it; or use capture = \"txnlog\" or \"watch\""
                }
                false => {
                    "correct what the message names; see docs/observer.md; nothing is captured until then"
                }
            };
            lines.push(Line::failure(subject, CHECK, reason, remedy));
        }
    }
    lines.extend(
        found
            .ensemble
            .iter()
            .flat_map(|ensemble| members(subject, ensemble)),
    );
    lines
}

fn members(subject: &str, ensemble: &EnsembleMembers) -> Vec<Line> {
    const CHECK: &str = "servers";
    let named = |addresses: &[bridge_zookeeper::observer::QuorumAddress]| {
        let first = addresses.iter().take(NAMED_MAX).map(ToString::to_string);
        first.collect::<Vec<_>>().join(", ")
    };
    let mut lines = Vec::new();
    if ensemble.has_id {
        lines.push(Line::failure(
            subject,
            "id",
            "a server of the ensemble has the id of the observer, so that the connection is ended at once",
            "give another observer.id, greater than 4294967296",
        ));
    }
    if !ensemble.unknown.is_empty() {
        lines.push(Line::warning(
            subject,
            CHECK,
            format!(
                "observer.servers names {}, which no server of /zookeeper/config has",
                named(&ensemble.unknown)
            ),
            "correct or remove it; the same server under another name is no fault",
        ));
    }
    if !ensemble.not_named.is_empty() {
        lines.push(Line::warning(
            subject,
            CHECK,
            format!(
                "/zookeeper/config has {}, which observer.servers does not name",
                named(&ensemble.not_named)
            ),
            "name it, too: after an election the leader may be there",
        ));
    }
    lines
}

type Settings = Result<BTreeMap<String, String>, String>;

/// The system properties of servers, where an AdminServer is named.
async fn settings(options: &ZookeeperConfig) -> Vec<(String, Settings)> {
    match &options.who {
        Some(who) => system_properties(who).await,
        None => Vec::new(),
    }
}

/// The transactions that a server keeps in its memory.
fn commit_log(settings: &BTreeMap<String, String>) -> u64 {
    let set = settings.get("zookeeper.commitLogCount");
    let number = set.and_then(|text| text.trim().parse().ok());
    number.unwrap_or(COMMIT_LOG)
}

/// Settings of a server that weaken the proof, or cost gaps.
fn judge_settings(subject: &str, server: &str, found: &Settings) -> Vec<Line> {
    let check = format!("settings of {server}");
    let settings = match found {
        Ok(settings) => settings,
        Err(reason) => {
            let remedy = "correct who.admin, or leave it out: only this check and txn.client need it";
            return vec![Line::warning(
                subject,
                &check,
                format!("cannot be asked: {reason}"),
                remedy,
            )];
        }
    };
    let is = |key: &str, value: &str| settings.get(key).is_some_and(|found| found.trim() == value);
    let mut lines = Vec::new();
    let mut warn = |message: &str, remedy: &str| lines.push(Line::warning(subject, &check, message, remedy));
    if is("zookeeper.digest.enabled", "false") {
        warn(
            "zookeeper.digest.enabled=false: transactions are proved by their numbers alone",
            "remove the setting, unless its processor time counts more than the proof",
        );
    }
    if is("zookeeper.closeSessionTxn.enabled", "false") {
        warn(
            "zookeeper.closeSessionTxn.enabled=false: the znodes of a session that ends are looked for in the journal",
            "remove the setting: it is for servers before 3.6 in the same ensemble",
        );
    }
    if let Some(charset) = settings
        .get("file.encoding")
        .filter(|charset| !charset.eq_ignore_ascii_case("UTF-8") && !charset.eq_ignore_ascii_case("UTF8"))
    {
        warn(
            &format!(
                "file.encoding is {charset}: digests of paths with other letters than ASCII cannot be compared"
            ),
            "start the server with -Dfile.encoding=UTF-8",
        );
    }
    if lines.is_empty() {
        lines.push(Line::ok(
            subject,
            &check,
            "digests, lists of sessions and charset are right",
        ));
    }
    lines
}

/// A client that reaches a quorum port reads everything.
fn protection(subject: &str, observer: &ObserverOptions) -> Line {
    const CHECK: &str = "protection";
    match (&observer.tls, &observer.sasl) {
        (None, None) => Line::warning(
            subject,
            CHECK,
            "the quorum ports are neither encrypted nor authenticated, and no access control list applies to them",
            "let a firewall open them to the servers and the bridge alone, or use sslQuorum or quorum.auth.enableSasl",
        ),
        (Some(_), _) => Line::ok(subject, CHECK, "the connection is encrypted"),
        (None, Some(_)) => Line::ok(
            subject,
            CHECK,
            "the connection is authenticated, and not encrypted",
        ),
    }
}

/// How long the bridge may be away without a gap, at the present rate of transactions in a second. `logged`: the first
/// transaction in logs that fill what a leader no longer has.
fn absence(subject: &str, rate: Option<f64>, kept: Option<u64>, logged: Option<i64>) -> Line {
    const CHECK: &str = "absence";
    if let Some(first) = logged {
        return Line::ok(
            subject,
            CHECK,
            format!(
                "what a leader no longer keeps is read from the logs, which go back to {}: no gap as long as they have \
                 the last transaction in the journal",
                Zxid(first.cast_unsigned())
            ),
        );
    }
    let Some(rate) = rate else {
        return Line::warning(
            subject,
            CHECK,
            "the rate of transactions cannot be measured, because no server of 'connect' answers srvr twice",
            "allow srvr (4lw.commands.whitelist), or compare commitLogCount with the write rate yourself",
        );
    };
    if rate == 0.0 {
        return Line::ok(
            subject,
            CHECK,
            "no transaction came while the rate was measured; a leader keeps the last 500 by default \
             (zookeeper.commitLogCount)",
        );
    }
    let seconds = whole(kept.unwrap_or(COMMIT_LOG)) / rate;
    let which = match kept {
        Some(kept) => format!("the last {kept}, which a server keeps (zookeeper.commitLogCount), are"),
        None => "the last 500, which a leader keeps by default, are".to_owned(),
    };
    let message = format!(
        "at the present {rate:.1} transactions a second, {which} {}; a longer absence of the bridge may be a gap",
        span(milliseconds(seconds))
    );
    if seconds >= ABSENCE_SHORT_S {
        return Line::ok(subject, CHECK, message);
    }
    let wanted = round_up(rate * ABSENCE_SHORT_S);
    Line::warning(
        subject,
        CHECK,
        message,
        format!(
            "if it is not raised yet, set zookeeper.commitLogCount={wanted} on the servers, for absences of {}; they \
             keep so many transactions in memory",
            span(milliseconds(ABSENCE_SHORT_S))
        ),
    )
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn whole(count: u64) -> f64 {
    count as f64
}

#[allow(clippy::cast_possible_truncation, reason = "a time for people")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

/// The next multiple of a power of ten, of one digit.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate that was measured is not negative"
)]
fn round_up(count: f64) -> u64 {
    let count = count.ceil() as u64;
    let step = 10_u64.pow(count.max(1).ilog10());
    count.div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_rate_at_which_the_history_of_a_leader_is_short_is_a_warning_with_a_number_that_lasts() {
        let line = absence("source main", Some(50.0), None, None);
        assert_eq!(line.level, Level::Warning);
        assert!(line.message.contains("50.0 transactions a second"), "{line:?}");
        assert!(line.message.contains("10 s"), "{line:?}");
        let remedy = line.remedy.unwrap();
        assert!(remedy.contains("zookeeper.commitLogCount=20000"), "{remedy}");
        assert_eq!(absence("source main", Some(1.0), None, None).level, Level::Ok);
        assert_eq!(absence("source main", Some(0.0), None, None).level, Level::Ok);
        assert_eq!(absence("source main", None, None, None).level, Level::Warning);
        let raised = absence("source main", Some(50.0), Some(20_000), None);
        assert_eq!(raised.level, Level::Ok);
        assert!(raised.message.contains("the last 20000"), "{raised:?}");
        // Logs fill any absence, whatever the rate.
        let filled = absence("source main", Some(50.0), None, Some(0x2_0000_0001));
        assert_eq!(filled.level, Level::Ok);
        assert!(
            filled.message.contains("go back to 0x0000000200000001"),
            "{filled:?}"
        );
    }

    #[test]
    fn settings_that_weaken_the_proof_are_named_each_with_its_remedy() {
        let found = |settings: &[(&str, &str)]| {
            let settings = settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            judge_settings("source main", "zk1:8080", &Ok(settings.collect()))
        };
        let right = found(&[("file.encoding", "UTF-8"), ("zookeeper.digest.enabled", "true")]);
        assert_eq!(
            right.iter().map(|line| line.level).collect::<Vec<_>>(),
            [Level::Ok]
        );
        let wrong = found(&[
            ("file.encoding", "ANSI_X3.4-1968"),
            ("zookeeper.digest.enabled", "false"),
            ("zookeeper.closeSessionTxn.enabled", "false"),
        ]);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong.iter().all(|line| line.level == Level::Warning));
        let mute = judge_settings("source main", "zk1:8080", &Err("refused".to_owned()));
        assert!(mute[0].message.contains("cannot be asked: refused"), "{mute:?}");
    }

    #[test]
    fn a_count_is_rounded_up_to_one_digit() {
        for (count, expected) in [(0.5, 1), (9.0, 9), (10.0, 10), (11.0, 20), (15_000.1, 20_000)] {
            assert_eq!(round_up(count), expected, "{count}");
        }
    }

    #[test]
    fn a_server_before_3_6_takes_no_observer() {
        let serves = |version: &str| Probe::Serves {
            version: version.into(),
            mode: "leader".into(),
        };
        for (versions, is_old) in [
            (&["3.9.5", "3.6.0"][..], false),
            (&["3.9.5", "3.5.10"], true),
            (&["3.4.14"], true),
            (&["?"], false),
        ] {
            let answers: Vec<Probe> = versions.iter().map(|version| serves(version)).collect();
            assert_eq!(version("source main", &answers).is_some(), is_old, "{versions:?}");
        }
    }
}
