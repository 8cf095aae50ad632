//! `zkbridge watch`: prints changes as they happen, with no configuration at all.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use bridge_config::{
    Config, HttpConfig, JournalConfig, Listen, LogConfig, LogLevel, Name, SinkConfig, SinkKind, SourceConfig,
    SourceKind,
};
use bridge_console::text::escaped;
use bridge_console::{ConsoleConfig, Format};
use bridge_core::capture::Outcome;
use bridge_core::delivery::{Filter, OpClass, Start};
use bridge_core::issue::Severity;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::pipeline::SourceStatus;
use bridge_zookeeper::config::{Connect, ZookeeperConfig};
use clap::Args;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::serving;
use crate::bridge::{Bridge, Decisions};
use crate::cli::LogFlags;
use crate::exit::{Exit, Failure};
use crate::logging;
use crate::source_type::source_type;
use crate::terminal::notice;

const EXAMPLES: &str = "\
Examples:
  zkbridge watch 127.0.0.1:2181
  zkbridge watch a:2181,b:2181,c:2181/chroot /services /config
  zkbridge watch 127.0.0.1:2181 /services --existing
  zkbridge watch 127.0.0.1:2181 /services --record | jq .path

Keeps nothing: the journal is in a temporary folder that is removed at the end.";

/// Name of the source in the records.
const NAME: &str = "main";

/// The temporary folder holds the data of znodes, in a folder that is everybody's.
const FOLDER_MODE: u32 = 0o700;

/// Options of `watch`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct WatchArgs {
    /// Servers, as in host:2181 or a:2181,b:2181/chroot
    #[arg(value_name = "HOST:PORT")]
    pub connect: String,
    /// Subtrees to watch [default: the whole tree]
    #[arg(value_name = "PATH")]
    pub roots: Vec<String>,
    /// Also print the znodes that exist already
    #[arg(long)]
    pub existing: bool,
    /// Print whole records as JSON lines
    #[arg(long)]
    pub record: bool,
}

/// Runs the command until a signal.
pub fn run(args: &WatchArgs, flags: &LogFlags) -> Result<(), Failure> {
    let quiet = LogConfig {
        level: LogLevel::Off,
        ..LogConfig::default()
    };
    let _log = logging::start(&quiet, flags)
        .map_err(|error| Failure::new(Exit::Runtime, format!("logging cannot start: {error}")))?;
    let folder = tempfile::Builder::new()
        .prefix("zkbridge-watch-")
        .permissions(Permissions::from_mode(FOLDER_MODE))
        .tempdir();
    let folder = folder.map_err(|error| {
        Failure::new(
            Exit::Environment,
            format!("no temporary folder for the journal: {error}\nhelp: set TMPDIR"),
        )
    })?;
    let mut config = configuration(args)?;
    config.data_dir = folder.path().to_owned();
    serving::block_on(async {
        let mut signals = serving::Signals::new()?.with_ends_of_terminals()?;
        let mut bridge = Bridge::start(&config, &Decisions::default(), &CancellationToken::new()).await?;
        while !bridge.has_opened_all() {
            tokio::select! {
                signal = signals.next() => return Err(Failure::new(Exit::Signal(signal), "")),
                () = bridge.start_opened() => {}
            }
        }
        let mut source = bridge.view().sources().swap_remove(0);
        let mut sinks = bridge.view().sinks();
        notice(format_args!("connecting to {} …", args.connect));
        let end = tokio::select! {
            signal = signals.next() => Err(Failure::new(Exit::Signal(signal), "")),
            failure = first_trouble(&mut source, args, &config.sources[0]) => Err(failure),
            halted = bridge.all_halted() => Err(stopped(&halted)),
            () = printer_ended(&mut sinks) => Ok(()),
        };
        bridge.stop().await;
        end
    })
}

/// A source that stops before it captured anything was given something that cannot work.
fn stopped(halted: &[SourceStatus]) -> Failure {
    let has_begun = halted.iter().any(|source| source.journal.tail != Seq::ZERO);
    let failure = serving::halted(halted);
    if has_begun {
        return failure;
    }
    Failure {
        exit: Exit::Environment,
        ..failure
    }
}

/// Before the first connection any error ends the command, because a person waits. Later errors are retried.
async fn first_trouble(
    source: &mut watch::Receiver<SourceStatus>,
    args: &WatchArgs,
    config: &SourceConfig,
) -> Failure {
    let begun = source
        .wait_for(|status| status.trouble.is_some() || status.halted.is_some() || status.epoch.is_some());
    if let Ok(status) = begun.await.map(|status| status.clone())
        && let Some(trouble) = status.halted.or(status.trouble)
    {
        return Failure::new(Exit::Environment, trouble);
    }
    if source.wait_for(SourceStatus::is_live).await.is_ok() {
        let roots = if args.roots.is_empty() {
            "/".to_owned()
        } else {
            args.roots.join(" ")
        };
        for missing in missing(config).await {
            notice(format_args!(
                "{} does not exist yet; its create will be printed",
                escaped(&missing)
            ));
        }
        notice(format_args!("watching {roots}; Ctrl-C ends"));
    }
    let mut said = None;
    loop {
        if source.changed().await.is_err() {
            return std::future::pending().await;
        }
        let trouble = source.borrow_and_update().trouble.clone();
        if trouble != said {
            if let Some(trouble) = &trouble {
                notice(format_args!("{}; retrying", escaped(trouble)));
            }
            said = trouble;
        }
    }
}

/// The chroot or the roots that do not exist: a mistyped path would otherwise only be silent. Empty if they cannot be
/// read.
async fn missing(source: &SourceConfig) -> Vec<String> {
    let roots = source.kind.options().roots();
    let Ok(tree) = source_type(&source.kind).survey().await else {
        return Vec::new();
    };
    if let Ok(Some(chroot)) = tree.missing_chroot().await {
        return vec![format!("the chroot {chroot}")];
    }
    let outcomes = tree.read(roots).await.unwrap_or_default();
    let read = roots.iter().zip(outcomes);
    let missing = read.filter(|(_, outcome)| matches!(outcome, Outcome::Missing));
    missing.map(|(root, _)| root.to_string()).collect()
}

/// Returns once the reader of the output is gone. Cancel safe.
async fn printer_ended(sinks: &mut [watch::Receiver<bridge_core::delivery::SinkStatus>]) {
    match sinks.first_mut() {
        Some(sink) => {
            let halted = sink
                .wait_for(|status| status.state == bridge_core::delivery::Phase::Halted)
                .await;
            if halted.is_err() {
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}

fn configuration(args: &WatchArgs) -> Result<Config, Failure> {
    let usage = |message: String| Failure::new(Exit::Configuration, message);
    let connect: Connect = args.connect.parse().map_err(|error| usage(format!("{error}")))?;
    let mut zookeeper = ZookeeperConfig::new(connect);
    if !args.roots.is_empty() {
        let roots = args
            .roots
            .iter()
            .map(|root| ZnodePath::parse(root))
            .collect::<Result<_, _>>();
        zookeeper.roots = roots.map_err(|error| usage(error.to_string()))?;
    }
    if let Some(objection) = zookeeper
        .objections()
        .into_iter()
        .find(|objection| objection.severity == Severity::Error)
    {
        return Err(usage(format!("{}: {}", objection.message, objection.remedy)));
    }
    let name: Name = NAME.parse().map_err(|error| usage(format!("{error}")))?;
    let mut filter = Filter::default();
    if !args.existing {
        filter.ops.retain(|op| *op != OpClass::Snapshot);
    }
    let format = if args.record {
        Format::Record
    } else {
        Format::Pretty
    };
    let console = ConsoleConfig {
        format,
        ..ConsoleConfig::default()
    };
    let sink = SinkConfig {
        name: name.clone(),
        sources: vec![name.clone()],
        start: Start::Earliest,
        filter,
        reject: Default::default(),
        merge: bridge_core::amount::Interval::Off,
        not_json: Default::default(),
        retry: Default::default(),
        kind: SinkKind::Console(console),
    };
    let source = SourceConfig {
        name,
        mask: Vec::new(),
        journal: JournalConfig::default(),
        services: Vec::new(),
        kind: SourceKind::Zookeeper(zookeeper),
    };
    Ok(Config {
        data_dir: Default::default(),
        http: HttpConfig {
            listen: Listen::Off,
            ..HttpConfig::default()
        },
        log: Default::default(),
        sources: vec![source],
        sinks: vec![sink],
    })
}
