//! The typed configuration of zkbridge: its schema, defaults, validation and errors.
//!
//! ```text
//! file ──parse──▶ tree with places ──overrides, interpolation──▶ tree ──decode──▶ sections ──check──▶ Config
//!                                        every step adds to one list of problems
//! ```
//!
//! All that is wrong is found in one go, each with its place, its key and a remedy. A text that was brought in from
//! the environment or from a secret's file is never part of a problem, a `Debug` or a log. This crate opens no file but
//! the configuration and the files that it names as `${file:…}`.

mod bounds;
mod check;
mod decode;
mod environment;
mod filter_paths;
mod hidden;
mod interpolate;
mod later;
mod model;
mod nearest;
mod overrides;
mod parse;
mod problem;
mod reading;
mod reference;
mod rendered;
mod schema;
mod secret_paths;
mod section;
mod service_filter;
mod shown;
mod tree;

use std::path::{Path, PathBuf};

use bridge_core::file_path::read_regular;
use bridge_core::issue::Severity;

pub use environment::Environment;
pub use filter_paths::literal_prefix;
pub use model::{
    BadListen, BadName, Config, ConsoleConfig, Durability, ExecConfig, FileConfig, HttpConfig, JournalConfig,
    KafkaConfig, Listen, LogConfig, LogFormat, LogLevel, Name, NatsConfig, RenderConfig, SinkConfig,
    SinkKind, SourceConfig, SourceKind, SourceOptions, TokenConfig, WhenFull,
};
pub use nearest::nearest;
pub use parse::Format;
pub use problem::{Problem, Refused, WIDTH, count};
pub use reference::config_reference;
pub use schema::{config_schema, config_schema_text};
pub use secret_paths::{SECRET_PATHS, SecretPath, secret_path};
pub use shown::{Origin, Setting, settings};
pub use tree::Place;

use reading::Reading;
use schema::Hints;

/// A whole configuration with a comment on each key, its default shown; as `zkbridge init` prints it.
pub const COMMENTED: &str = include_str!("../examples/zkbridge.toml");

/// A larger file is surely no configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Problems of one configuration that are shown.
const PROBLEMS_MAX: usize = 100;

/// A longer text of a problem is cut: it repeats a key or a value that no person wrote.
const PROBLEM_CHARS_MAX: usize = 2_000;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file it was read from.
    pub file: PathBuf,
    /// The configuration.
    pub config: Config,
    /// Parts that are legal and probably a mistake.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a configuration file, with the overrides and references of this process's environment. Blocks on the
/// disk.
///
/// # Errors
/// All problems of the configuration at once, if one of them is an error.
pub fn load(file: &Path) -> Result<Loaded, Refused> {
    load_with(file, &Environment::of_process())
}

/// All keys of a configuration file, each with its value and the origin of that.
///
/// # Errors
/// As [`load`].
pub fn load_settings(file: &Path) -> Result<Vec<Setting>, Refused> {
    let loaded = load(file)?;
    let (Some(format), Ok(text)) = (Format::of(file), read_file(file)) else {
        // It was there a moment ago.
        return Err(Refused {
            file: loaded.file,
            problems: vec![Problem::error(Place::File, "", "the file has changed; try again")],
        });
    };
    settings(file, &text, format, &Environment::of_process())
}

/// As [`load`], with another environment.
///
/// # Errors
/// As [`load`].
pub fn load_with(file: &Path, environment: &Environment) -> Result<Loaded, Refused> {
    let refused = |problem: Problem| Refused {
        file: file.to_owned(),
        problems: vec![problem],
    };
    let format = Format::of(file).ok_or_else(|| {
        refused(
            Problem::error(
                Place::File,
                "",
                "the format of the file is not known by its extension",
            )
            .allowed(".toml, .yaml, .yml, .json")
            .remedy("rename the file"),
        )
    })?;
    let text =
        read_file(file).map_err(|reason| {
            refused(Problem::error(Place::File, "", reason).remedy(
                "name the file with --config, or write one with 'zkbridge init --output zkbridge.toml'",
            ))
        })?;
    read(file, &text, format, environment)
}

fn read_file(path: &Path) -> Result<String, String> {
    let bytes =
        read_regular(path, FILE_BYTES_MAX).map_err(|error| format!("the file cannot be read: {error}"))?;
    let bytes = bytes.ok_or("the file is larger than 1 MiB, so it is no configuration")?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        format!("the file is not valid UTF-8 from byte {valid} on")
    })
}

/// Reads and checks the text of a configuration; `file` is its name in messages.
///
/// # Errors
/// All problems of the configuration at once, if one of them is an error.
pub fn read(file: &Path, text: &str, format: Format, environment: &Environment) -> Result<Loaded, Refused> {
    let mut problems = Vec::new();
    let mut secrets = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let tree = parse::parse(text, format, &mut problems);
    let config = tree.map(|mut tree| {
        overrides::apply(&mut tree, text, environment, &mut problems);
        secrets = interpolate::interpolate(&mut tree, environment, &mut problems);
        let hints = Hints::new();
        secrets.extend(hidden::secrets_of(&tree, &hints));
        // A secret may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.reveal().len()));
        let mut reading = Reading::new(&tree, hints, &secrets);
        let sections = reading.sections();
        let config = check::complete(sections, &mut reading);
        problems.append(&mut reading.problems);
        config
    });
    problems.sort_by(|one, other| (&one.place, &one.key).cmp(&(&other.place, &other.key)));
    let left_out = problems.len().saturating_sub(PROBLEMS_MAX);
    if left_out > 0 {
        // None of them may be what makes the configuration unusable.
        problems.sort_by_key(|problem| problem.severity == Severity::Warning);
        problems.truncate(PROBLEMS_MAX);
        let message = format!("there are {left_out} more problems");
        let more = Problem::error(Place::File, "", message).remedy("correct the others first");
        let severity = problems[0].severity;
        problems.push(Problem { severity, ..more });
    }
    for problem in &mut problems {
        let Problem { message, remedy, .. } = problem;
        for text in [Some(message), remedy.as_mut()].into_iter().flatten() {
            hidden::hide(text, &secrets);
        }
        problem.cut(PROBLEM_CHARS_MAX);
    }
    let file = file.to_owned();
    match config {
        Some(config)
            if problems
                .iter()
                .all(|problem| problem.severity == Severity::Warning) =>
        {
            Ok(Loaded {
                file,
                config,
                warnings: problems,
            })
        }
        _ => Err(Refused { file, problems }),
    }
}
