//! The options of a render sink: typed, documented, checked. Nothing in this module opens a file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use bridge_core::amount::{Size, Span};
use bridge_core::issue::ConfigIssue;
use bridge_core::outbound::{TemplateForm, TreeTemplate};
use bridge_core::path::ZnodePath;
use bridge_core::secret::Secret;
use bridge_subprocess::{ChildCommand, OptionNames};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The place of the new file in the words of `verify`.
pub(crate) const FILE_PLACE: &str = "{file}";

/// A record waits as long as this, and a reload that is later than this is a surprise.
const DEBOUNCE_MAX: Span = Span::secs(5 * 60);

/// More znodes make a text that nobody reads, and each rendering reads all of them.
const ZNODES_MAX: u32 = 100_000;

/// A longer text is held in memory several times while it is made and compared.
const FILE_MAX: Size = Size(64 << 20);

/// The options of a sink of type `render`.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenderConfig {
    /// The path whose znode and all znodes below it are written. A root of the source covers it.
    pub tree: ZnodePath,
    /// The file. It is replaced as a whole, and only where its text changes. Mode and owner of an existing file are kept;
    /// its folder must exist.
    pub path: PathBuf,
    /// The template of the file, see docs/sinks/render.md. A long one is in a file of its own:
    /// `"${file:/etc/zkbridge/upstream.j2}"`.
    pub template: String,
    /// The media type of the file. In JSON each value is written as JSON; in all others as text on one line.
    #[serde(default)]
    #[schemars(extend("default" = "text/plain"))]
    pub content_type: Option<String>,
    /// The mode of a file that does not exist yet, in octal.
    #[serde(default)]
    pub mode: FileMode,
    /// What happens while `tree` does not exist. `keep`: the file stays as it is. `render`: the template is rendered, and
    /// `node` is none.
    #[serde(default)]
    pub missing: Instead,
    /// What happens in a gap, when a part of the tree can be older than the rest. `keep`: the file stays as it is until
    /// the gap ends. `render`: it shows the changes as they are found.
    #[serde(default)]
    pub gaps: Instead,
    /// A command that checks a new text before it takes the place of the file: `["haproxy", "-c", "-f", "{file}"]`.
    /// `{file}` is the path of the new text. If its exit status is not 0, the file stays as it is.
    #[serde(default)]
    pub verify: Option<Vec<String>>,
    /// A command that runs after the file was replaced: `["systemctl", "reload", "nginx"]`. If its exit status is not 0,
    /// it runs again later.
    #[serde(default)]
    pub reload: Option<Vec<String>>,
    /// The environment of both commands: they get `PATH` and these variables, and nothing else.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
    /// The working directory of both commands.
    #[serde(default = "default_directory")]
    pub directory: PathBuf,
    /// A command that runs longer is killed, and counts as failed.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How long a change waits for further ones, and the least time between two renderings.
    #[serde(default = "default_debounce")]
    pub debounce: Span,
    /// The most znodes that the file is made of. With more it stays as it is, and the sink fails.
    #[serde(default = "default_max_znodes")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_znodes: u32,
    /// The size limit of the file. A longer text is not written, and the sink fails.
    #[serde(default = "default_max_file")]
    pub max_file: Size,
}

/// What happens to the file while the tree is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Instead {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is rendered.
    Render,
}

/// The permissions of a file, written in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Default for FileMode {
    fn default() -> FileMode {
        FileMode(0o640)
    }
}

fn default_directory() -> PathBuf {
    PathBuf::from("/")
}

fn default_timeout() -> Span {
    Span::secs(30)
}

fn default_debounce() -> Span {
    Span::millis(500)
}

fn default_max_znodes() -> u32 {
    10_000
}

fn default_max_file() -> Size {
    Size(4 << 20)
}

/// The names of the options of one command.
fn names(words: &'static str) -> OptionNames {
    OptionNames {
        words,
        env: "env",
        directory: "directory",
        timeout: "timeout",
    }
}

impl RenderConfig {
    /// The defaults for this subtree, file and template.
    pub fn new(tree: ZnodePath, path: impl Into<PathBuf>, template: impl Into<String>) -> RenderConfig {
        RenderConfig {
            tree,
            path: path.into(),
            template: template.into(),
            content_type: None,
            mode: FileMode::default(),
            missing: Instead::default(),
            gaps: Instead::default(),
            verify: None,
            reload: None,
            env: BTreeMap::new(),
            directory: default_directory(),
            timeout: default_timeout(),
            debounce: default_debounce(),
            max_znodes: default_max_znodes(),
            max_file: default_max_file(),
        }
    }

    /// Everything about the options that cannot work, or is surely not meant.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = self.objections_to_file();
        found.extend(TreeTemplate::objections("template", &self.template, self.form()));
        found.extend(self.objections_to_commands());
        if self.debounce > DEBOUNCE_MAX {
            found.push(ConfigIssue::error(
                "debounce",
                format!("{} is longer than {DEBOUNCE_MAX}", self.debounce),
                "give a shorter time, such as \"500ms\"",
            ));
        }
        if !(1..=ZNODES_MAX).contains(&self.max_znodes) {
            found.push(ConfigIssue::error(
                "max_znodes",
                format!("{} is not between 1 and {ZNODES_MAX}", self.max_znodes),
                "give a number between them, or a deeper tree",
            ));
        }
        if self.max_file > FILE_MAX || self.max_file.0 == 0 {
            found.push(ConfigIssue::error(
                "max_file",
                format!("{} is not between 1 B and {FILE_MAX}", self.max_file),
                format!("give a size up to \"{FILE_MAX}\""),
            ));
        }
        found
    }

    fn objections_to_file(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        let text = self.path.to_string_lossy();
        if self.path.file_name().is_none() || text.ends_with('/') {
            found.push(ConfigIssue::error(
                "path",
                format!("'{text}' names a folder and no file"),
                "give the path of a file, such as \"/etc/nginx/conf.d/payments.conf\"",
            ));
        }
        if self.mode.0 & 0o400 == 0 {
            found.push(ConfigIssue::error(
                "mode",
                format!("with {} the owner cannot read the file", self.mode),
                "give such as \"0640\"",
            ));
        }
        found
    }

    fn objections_to_commands(&self) -> Vec<ConfigIssue> {
        let mut found: Vec<ConfigIssue> = Vec::new();
        for (key, words) in [("verify", &self.verify), ("reload", &self.reload)] {
            let Some(command) = self.command(words.as_ref()) else {
                continue;
            };
            let objections = command.objections(&names(key));
            // The options that both share are wrong once.
            let is_new = |issue: &ConfigIssue| !found.iter().any(|other| other.key == issue.key);
            let new: Vec<ConfigIssue> = objections.into_iter().filter(is_new).collect();
            found.extend(new);
        }
        let has_place = |words: &Vec<String>| words.iter().any(|word| word.contains(FILE_PLACE));
        if self.verify.as_ref().is_some_and(|words| !has_place(words)) {
            found.push(ConfigIssue::error(
                "verify",
                format!("no word has {FILE_PLACE}, so that the command cannot find the new text"),
                "write it where the path belongs, as in [\"haproxy\", \"-c\", \"-f\", \"{file}\"]",
            ));
        }
        if self.reload.as_ref().is_some_and(has_place) {
            found.push(ConfigIssue::warning(
                "reload",
                format!("{FILE_PLACE} has no meaning here: the file is in its place before the command runs"),
                "write the path of the file",
            ));
        }
        if self.verify.is_none() && self.reload.is_none() && !self.env.is_empty() {
            found.push(ConfigIssue::error(
                "env",
                "there is no command that gets the variables",
                "give reload, or leave env out",
            ));
        }
        found
    }

    /// How values are written.
    pub(crate) fn form(&self) -> TemplateForm {
        TemplateForm::of_media_type(self.content_type.as_deref().unwrap_or("text/plain"))
    }

    /// A command with the options that both share.
    pub(crate) fn command(&self, words: Option<&Vec<String>>) -> Option<ChildCommand> {
        Some(ChildCommand {
            words: words?.clone(),
            env: self.env.clone(),
            directory: self.directory.clone(),
            timeout: self.timeout,
        })
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<FileMode, String> {
        let is_octal =
            (3..=4).contains(&text.len()) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| is_octal && *mode <= 0o777);
        mode.map(FileMode).ok_or_else(|| {
            format!("{text:?} is no mode of a file: give three octal digits, such as \"0640\"")
        })
    }
}

impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FileMode, D::Error> {
        // As a text: as a number 0640 would be decimal in TOML and octal in YAML.
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for FileMode {
    fn schema_name() -> Cow<'static, str> {
        "FileMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "The permissions of a file in octal.",
            "pattern": "^0?[0-7]{3}$",
        })
    }
}
