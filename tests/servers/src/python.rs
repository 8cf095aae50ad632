//! Libraries of another language, for independent checks: Python packages of fixed versions, in a
//! virtual environment of their own in the cache.
//!
//! Nothing is ever installed outside the cache. An environment there is always whole: it is filled under another name
//! and then renamed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;
use tracing::info;

use crate::distribution::{cache, find_tool};
use crate::{Error, Result, machine};

/// How long a fetch may take: a few small packages over a slow line.
const FETCH_BOUND: Duration = Duration::from_secs(600);

/// How long a script may take; those of the tests need a second on an idle machine.
const RUN_BOUND: Duration = Duration::from_secs(120);

/// The file that lists the packages of an environment.
const RECIPE: &str = "requirements.txt";

/// A set of Python packages, and the environment in the cache that has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Python {
    name: &'static str,
    requirements: &'static [&'static str],
}

impl Python {
    /// The official CloudEvents SDK for Python, with all that it needs.
    pub const CLOUDEVENTS: Python = Python::new(
        "cloudevents",
        &[
            "cloudevents==2.2.0",
            "deprecation==2.1.0",
            "packaging==26.3",
            "python-dateutil==4.0.0",
            "tzdata==2026.6",
        ],
    );

    /// The packages of a webhook receiver: the official library of Standard Webhooks, ed25519, and the CloudEvents SDK.
    pub const WEBHOOKS: Python = Python::new(
        "webhooks",
        &[
            "cffi==2.1.1",
            "cloudevents==2.2.0",
            "cryptography==50.0.2",
            "deprecation==2.1.0",
            "packaging==26.3",
            "pycparser==3.12",
            "python-dateutil==4.0.0",
            "standardwebhooks==1.1.0",
            "tzdata==2026.6",
        ],
    );

    /// The published schemas of Kubernetes from 1.25 on, and a validator.
    pub const KUBERNETES: Python = Python::new(
        "kubernetes",
        &[
            "attrs==26.1.0",
            "importlib_resources==7.1.0",
            "jsonschema==4.26.0",
            "jsonschema-specifications==2025.9.1",
            "kubernetes-validate==1.37.0",
            "packaging==26.3",
            "PyYAML==6.0.4",
            "referencing==0.37.0",
            "rpds-py==2026.9.1",
            "typing_extensions==4.16.0",
        ],
    );

    /// kazoo, the client of ZooKeeper for Python, with its recipes.
    pub const KAZOO: Python = Python::new("kazoo", &["kazoo==2.11.0"]);

    /// A database that reads Parquet.
    pub const DUCKDB: Python = Python::new("duckdb", &["duckdb==2.0.1"]);

    /// Makes requests from an OpenAPI description and compares the answers with it. pip refuses a package without one of
    /// the hashes in this file, which `pip-compile --generate-hashes` has written.
    pub const SCHEMATHESIS: Python = Python::new("schemathesis", &[include_str!("python/schemathesis.txt")]);

    /// Every environment that the tests use.
    pub const ALL: &[Python] = &[
        Python::CLOUDEVENTS,
        Python::WEBHOOKS,
        Python::KUBERNETES,
        Python::KAZOO,
        Python::DUCKDB,
        Python::SCHEMATHESIS,
    ];

    /// Packages with fixed versions, theirs and those of all that they need, as lines of `requirements.txt`.
    pub const fn new(name: &'static str, requirements: &'static [&'static str]) -> Python {
        Python { name, requirements }
    }

    /// The name for people, and of its directory in the cache.
    pub fn title(&self) -> String {
        format!("python-{}", self.name)
    }

    /// Whether the cache has it, so that running it needs no network.
    pub fn is_cached(&self) -> bool {
        let directory = self.directory();
        let recipe = std::fs::read_to_string(directory.join(RECIPE));
        recipe.is_ok_and(|recipe| recipe == self.recipe()) && interpreter(&directory).is_file()
    }

    /// Brings the packages into the cache, unless they are there.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTool`] without Python, [`Error::Packages`] if it fails.
    pub async fn fetch(&self) -> Result<()> {
        if self.is_cached() {
            return Ok(());
        }
        let _lock = machine::lock("fetch").await?;
        if self.is_cached() {
            return Ok(());
        }
        info!(packages = self.title(), "fetching the packages, once");
        let cache = cache();
        std::fs::create_dir_all(&cache).map_err(Error::io("create", &cache))?;
        let staging = tempfile::Builder::new().prefix(".fetching-").tempdir_in(&cache);
        let staging = staging.map_err(Error::io("create a directory in", &cache))?;
        self.fill(staging.path()).await?;
        self.publish(staging)
    }

    /// Runs a script to its end with this on its standard input, fetching the packages first if they are missing.
    /// Returns its output.
    ///
    /// # Errors
    ///
    /// As [`Python::fetch`]; [`Error::Tool`] if the script fails, with its output.
    pub async fn run(&self, script: &str, input: &[u8]) -> Result<String> {
        self.run_within(script, input, RUN_BOUND).await
    }

    /// The same for a script that takes up to this time.
    ///
    /// # Errors
    ///
    /// As [`Python::run`].
    pub async fn run_within(&self, script: &str, input: &[u8], bound: Duration) -> Result<String> {
        self.fetch().await?;
        // -I excludes the libraries of the user who runs the tests.
        let arguments = ["-I", "-c", script].map(OsStr::new);
        let ran = run(&interpreter(&self.directory()), &arguments, input, bound).await?;
        if ran.status.success() {
            return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
        }
        Err(Error::Tool {
            tool: format!("a script of {}", self.title()),
            status: ran.status,
            output: all_output(&ran),
        })
    }

    fn directory(&self) -> PathBuf {
        cache().join(self.title())
    }

    fn recipe(&self) -> String {
        let lines = self.requirements.iter().map(|line| format!("{line}\n"));
        lines.collect()
    }

    async fn fill(&self, staging: &Path) -> Result<()> {
        let venv = ["-I", "-m", "venv"].map(OsStr::new);
        let place = [staging.as_os_str()];
        self.step(&find_tool("python3")?, &[&venv[..], &place].concat())
            .await?;
        let recipe = staging.join(RECIPE);
        std::fs::write(&recipe, self.recipe()).map_err(Error::io("write", &recipe))?;
        // No dependency that the recipe does not name: its version would change under our feet.
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--disable-pip-version-check",
            "-r",
        ];
        let install = install.map(OsStr::new);
        let recipe = [recipe.as_os_str()];
        self.step(&interpreter(staging), &[&install[..], &recipe].concat())
            .await
    }

    async fn step(&self, program: &Path, arguments: &[&OsStr]) -> Result<()> {
        let ran = run(program, arguments, &[], FETCH_BOUND).await?;
        if ran.status.success() {
            return Ok(());
        }
        Err(Error::Packages {
            title: self.title(),
            status: ran.status,
            output: all_output(&ran),
        })
    }

    /// Gives the filled directory its name. An existing one is from an older recipe.
    fn publish(&self, staging: tempfile::TempDir) -> Result<()> {
        let directory = self.directory();
        if directory.exists() {
            std::fs::remove_dir_all(&directory).map_err(Error::io("remove", &directory))?;
        }
        let staged = staging.keep();
        std::fs::rename(&staged, &directory).map_err(Error::io("rename to", &directory))
    }
}

/// The interpreter of an environment. Unlike the programs beside it, it works after its directory was moved.
fn interpreter(directory: &Path) -> PathBuf {
    directory.join("bin/python3")
}

pub(crate) async fn run(
    program: &Path,
    arguments: &[&OsStr],
    input: &[u8],
    bound: Duration,
) -> Result<Output> {
    let action = || format!("run {}", program.display());
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(Error::attempt(action()))?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A script that ends early closes it; how it ended is what counts.
            let _ = stdin.write_all(input).await;
        }
    };
    let ended = timeout(bound, async { tokio::join!(feed, child.wait_with_output()).1 });
    match ended.await {
        Ok(output) => output.map_err(Error::attempt(action())),
        Err(_) => Err(Error::TimedOut {
            what: format!("{} to end", program.display()),
            bound,
        }),
    }
}

pub(crate) fn all_output(ran: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&ran.stdout) + &text(&ran.stderr)
}
