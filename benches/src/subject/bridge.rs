//! The bridge, as users run it: a configuration, a journal on the disk, a Kafka sink.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use bridge_servers::{Child, eventually, is_at_rest, status_of};
use serde_json::Value;

use super::{Linger, Orders, Subject};
use crate::settings::Settings;
use crate::tree::ROOT;

/// How long it may take to log its address.
const ADDRESS_BOUND: Duration = Duration::from_secs(60);

/// The credential of viewers.
pub const TOKEN: &str = "token-of-the-viewers-of-a-benchmark";

/// The figures that only the bridge itself can report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// `live`, and the other states.
    pub state: String,
    /// The time of the last arming.
    pub armed_since: Option<String>,
    /// The time of the last change of state.
    pub since: Option<String>,
    /// The number of finished walks.
    pub walks: u64,
    /// The last durable record.
    pub tail: u64,
}

pub(super) fn command(
    subject: Subject,
    settings: &Settings,
    orders: &Orders<'_>,
    folder: &Path,
    durability: &str,
) -> Result<Command> {
    let mut text = format!(
        "data_dir = \"data\"\n[http]\nlisten = \"127.0.0.1:0\"\n{}\
         [[source]]\nname = \"main\"\nconnect = \"{}\"\nroots = [\"{ROOT}\"]\n{}\
         [source.journal]\ndurability = \"{durability}\"\n{}\
         [[sink]]\nname = \"kafka\"\ntype = \"kafka\"\nbrokers = \"{}\"\ntopic = \"{}\"\n",
        token(subject),
        orders.server,
        capture(subject, orders)?,
        sections(subject),
        orders.bootstrap,
        orders.topic.name()
    );
    if let Linger::Millis(millis) = orders.linger {
        let _ = write!(text, "[sink.properties]\n\"linger.ms\" = \"{millis}\"\n");
    }
    let file = folder.join("zkbridge.toml");
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    let mut command = Command::new(&settings.bridge);
    command.args(["run", "--log-format", "json"]);
    Ok(command)
}

/// The token of viewers. Without it the pages for operators need none, which others ask for.
fn token(subject: Subject) -> String {
    match subject {
        Subject::BridgeViewers | Subject::BridgeStreams => {
            format!("[[http.tokens]]\nname = \"viewers\"\ntoken = \"{TOKEN}\"\n")
        }
        _ => String::new(),
    }
}

/// Sections for which each write of a flat tree is a change of an instance, and each leaf of a registry an instance.
fn sections(subject: Subject) -> String {
    if subject != Subject::BridgeServices {
        return String::new();
    }
    let section = |path: &str| {
        format!(
            "[[source.service]]\nformat = \"generic\"\npath = \"{path}\"\ndecode = \"query\"\nversion = \"/version\"\n\
             identity = \"{{instance}}\"\n"
        )
    };
    section("/{service}/{instance:n.*}") + &section(&format!("{ROOT}/{{service}}/{{instance}}"))
}

/// The lines of a source that reads transactions; none of one that watches.
fn capture(subject: Subject, orders: &Orders<'_>) -> Result<String> {
    let source = || orders.transactions.context("this stage has no quorum port");
    Ok(match subject {
        Subject::BridgeObserver => format!(
            "capture = \"observer\"\n[source.observer]\nbypasses_acls = true\nservers = [\"{}\"]\n",
            source()?.quorum
        ),
        Subject::BridgeTxnlog => format!(
            "capture = \"txnlog\"\n[source.txnlog]\nbypasses_acls = true\ndirectories = [{:?}]\n",
            source()?.logs
        ),
        _ => String::new(),
    })
}

/// Waits until it is live and has delivered everything.
pub(super) async fn at_rest(child: &mut Child, bound: Duration) -> Result<()> {
    let address = address(child).await?;
    eventually("the bridge to be at rest", bound, || async {
        status_of(address).await.is_some_and(|status| is_at_rest(&status))
    })
    .await?;
    Ok(())
}

/// Its current figures; `None` if it does not answer.
///
/// # Errors
///
/// If it does not log its address.
pub async fn held(child: &mut Child) -> Result<Option<Held>> {
    let address = address(child).await?;
    let status = status_of(address).await;
    Ok(status.map(|status| {
        let source = &status["sources"][0];
        let text = |key: &str| source[key].as_str().map(str::to_owned);
        Held {
            state: text("state").unwrap_or_default(),
            armed_since: text("armed_since"),
            since: text("since"),
            walks: source["walks"].as_u64().unwrap_or_default(),
            tail: source["journal"]["tail"].as_u64().unwrap_or_default(),
        }
    }))
}

/// Where it serves HTTP.
///
/// # Errors
///
/// If it does not log its address.
pub async fn address(child: &mut Child) -> Result<SocketAddr> {
    let address = child.until("the bridge's address", ADDRESS_BOUND, |lines| {
        let mut logged = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(&line.text).ok());
        logged.find_map(|line| line["address"].as_str()?.parse().ok())
    });
    Ok(address.await?)
}
