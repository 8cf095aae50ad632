//! A command with all that its runs need, and the problems of its options.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bridge_core::amount::Span;
use bridge_core::file_path::looks_like_contents;
use bridge_core::issue::ConfigIssue;
use bridge_core::secret::{HiddenTexts, Secret};
use tokio::process::Command;

/// The variable in which a program without a slash is looked up.
const PATH: &str = "PATH";

/// The folders of programs where the environment has no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starting a process takes some milliseconds on an idle machine, and much longer on a busy one.
const TIMEOUT_MIN: Span = Span::millis(100);

/// A command that takes longer delays every other record of its sink.
const TIMEOUT_MAX: Span = Span::secs(60 * 60);

/// More arguments or variables come from a program and not from a person.
const WORDS_MAX: usize = 1_000;

/// Linux starts no program with a longer argument or variable.
const WORD_BYTES_MAX: usize = 128 << 10;

/// A program with its arguments and surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildCommand {
    /// The program, as an absolute path or a name that is looked up in `PATH` of `env`, and its arguments.
    pub words: Vec<String>,
    /// Every variable of the environment but `PATH`, which has a default.
    pub env: BTreeMap<String, Secret>,
    /// The working directory.
    pub directory: PathBuf,
    /// A run that takes longer is killed.
    pub timeout: Span,
}

/// The names of a sink's options, for messages about them.
#[derive(Clone, Copy, Debug)]
pub struct OptionNames {
    /// That of [`ChildCommand::words`].
    pub words: &'static str,
    /// That of [`ChildCommand::env`].
    pub env: &'static str,
    /// That of [`ChildCommand::directory`].
    pub directory: &'static str,
    /// That of [`ChildCommand::timeout`].
    pub timeout: &'static str,
}

impl ChildCommand {
    /// Everything about the options that cannot work, or is surely not meant. Reads no file.
    pub fn objections(&self, names: &OptionNames) -> Vec<ConfigIssue> {
        let mut found: Vec<ConfigIssue> = self.objections_to_words(names.words).into_iter().collect();
        found.extend(self.objections_to_env(names.env));
        let directory = self.directory.to_string_lossy();
        if !self.directory.is_absolute() && !looks_like_contents(&directory) {
            found.push(ConfigIssue::error(
                names.directory,
                format!("'{directory}' is not an absolute path"),
                "give a path that begins with /",
            ));
        }
        if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&self.timeout) {
            found.push(ConfigIssue::error(
                names.timeout,
                format!("{} is not between {TIMEOUT_MIN} and {TIMEOUT_MAX}", self.timeout),
                "give such as \"30s\"",
            ));
        }
        found
    }

    fn objections_to_words(&self, name: &str) -> Option<ConfigIssue> {
        let object = |message: String, remedy: &str| Some(ConfigIssue::error(name, message, remedy));
        let example = "give a list, such as [\"/usr/local/bin/notify\", \"--quiet\"]";
        let Some(program) = self.words.first() else {
            return object("the list is empty".to_owned(), example);
        };
        if program.is_empty() {
            return object("the name of the program is empty".to_owned(), example);
        }
        if looks_like_contents(program) {
            // Shown by no message; the reader of the configuration objects.
            return None;
        }
        if program.contains('/') && !program.starts_with('/') {
            return object(
                format!("'{program}' is a relative path, and the command has a working directory of its own"),
                "give an absolute path, or a name without a slash",
            );
        }
        if self.words.len() == 1 && program.contains(char::is_whitespace) {
            return object(
                format!("'{program}' looks like a line for a shell, and no shell reads it"),
                "give the program and each argument as an element of the list",
            );
        }
        if self.words.len() > WORDS_MAX {
            return object(
                format!(
                    "it has {} elements, and {WORDS_MAX} are allowed",
                    self.words.len()
                ),
                "write the arguments into a script",
            );
        }
        if self.words.iter().any(|word| word.contains('\0')) {
            return object(
                "an element holds a NUL, which no argument can".to_owned(),
                "remove it",
            );
        }
        if self.words.iter().any(|word| word.len() >= WORD_BYTES_MAX) {
            return object(
                format!("an element has {WORD_BYTES_MAX} bytes or more"),
                "write it into a file",
            );
        }
        None
    }

    /// A value can be a secret: no message holds one.
    fn objections_to_env(&self, name: &str) -> Option<ConfigIssue> {
        if self.env.len() > WORDS_MAX {
            return Some(ConfigIssue::error(
                name,
                format!("it has {} variables, and {WORDS_MAX} are allowed", self.env.len()),
                "remove those that the command does not read",
            ));
        }
        let is_bad = |(variable, value): &(&String, &Secret)| {
            let value = value.reveal();
            variable.is_empty()
                || variable.contains(['=', '\0'])
                || value.contains('\0')
                || variable.len() + value.len() + 1 >= WORD_BYTES_MAX
        };
        let (variable, _) = self.env.iter().find(is_bad)?;
        Some(ConfigIssue::error(
            name,
            format!("{variable:?} and its value make no variable"),
            format!(
                "give a name without '=', a value without NUL, and less than {WORD_BYTES_MAX} bytes in all"
            ),
        ))
    }

    /// The folders in which a name without a slash is looked up.
    pub(crate) fn folders(&self) -> &str {
        self.env.get(PATH).map_or(PATH_DEFAULT, Secret::reveal)
    }

    /// The values of its variables, which no message shows. `PATH` is none: it is in each message about a program.
    pub(crate) fn hidden_texts(&self) -> HiddenTexts {
        let secrets = self.env.iter().filter(|(name, _)| *name != PATH);
        HiddenTexts::of_secrets(secrets.map(|(_, value)| value))
    }

    /// Ready to be started, as the leader of a new process group.
    pub(crate) fn prepared(&self, program: &Path, input: Stdio) -> Command {
        let mut command = Command::new(program);
        command
            .args(self.words.iter().skip(1))
            .env_clear()
            .env(PATH, PATH_DEFAULT)
            .envs(self.env.iter().map(|(name, value)| (name, value.reveal())))
            .current_dir(&self.directory)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }
}
