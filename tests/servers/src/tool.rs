//! The programs that read an operator's files: Helm, promtool and nginx.
//!
//! An installed tool is used; otherwise it is fetched into the cache. Nothing outside the cache changes.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use crate::distribution::{Distribution, find_tool};
use crate::python::{all_output, run};
use crate::{Error, Result};

/// The version of Helm that is built if none is installed.
const HELM: &str = "3.18.6";

/// How long a call may take; those of the tests need a second on an idle machine.
const RUN_BOUND: Duration = Duration::from_secs(120);

/// A command that judges files.
#[derive(Debug, Clone)]
pub struct Tool {
    program: &'static str,
    place: &'static str,
    distribution: Distribution,
}

impl Tool {
    /// Helm, the package manager of Kubernetes.
    pub fn helm() -> Tool {
        Tool {
            program: "helm",
            place: "helm",
            distribution: Distribution::go("helm", HELM, "helm.sh/helm/v3/cmd/helm"),
        }
    }

    /// Prometheus' own tool for rules and metrics.
    pub fn promtool() -> Tool {
        Tool {
            program: "promtool",
            place: "usr/bin/promtool",
            distribution: Distribution::debian("prometheus"),
        }
    }

    /// nginx, a server that reads its configuration again at a signal.
    pub fn nginx() -> Tool {
        Tool {
            program: "nginx",
            place: "usr/sbin/nginx",
            distribution: Distribution::debian("nginx"),
        }
    }

    /// Every tool that the tests use.
    pub fn all() -> [Tool; 3] {
        [Tool::helm(), Tool::promtool(), Tool::nginx()]
    }

    /// The distribution to fetch; `None` if it is installed.
    pub fn distribution(&self) -> Option<&Distribution> {
        find_tool(self.program).is_err().then_some(&self.distribution)
    }

    /// Runs it to its end with this on its standard input, fetching it first if it is missing. Returns its output.
    ///
    /// # Errors
    ///
    /// As [`Distribution::fetch`]; [`Error::Tool`] if it fails, with all that it printed.
    pub async fn run<A: AsRef<OsStr>>(&self, arguments: &[A], input: &[u8]) -> Result<String> {
        let arguments: Vec<OsString> = arguments.iter().map(|word| word.as_ref().to_owned()).collect();
        let words: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
        let ran = run(&self.path().await?, &words, input, RUN_BOUND).await?;
        if ran.status.success() {
            return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
        }
        Err(Error::Tool {
            tool: self.program.to_owned(),
            status: ran.status,
            output: all_output(&ran),
        })
    }

    /// Its program, which is fetched first if it is missing.
    ///
    /// # Errors
    ///
    /// As [`Distribution::fetch`].
    pub async fn path(&self) -> Result<PathBuf> {
        match self.distribution() {
            None => find_tool(self.program),
            Some(distribution) => distribution.program(self.place).await,
        }
    }
}
