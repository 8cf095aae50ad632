//! Gives the program the commit that it is built from, for `zkbridge --version`.
//!
//! `ZKBRIDGE_COMMIT` names it where there is no repository. A build for debugging names none: each commit would compile
//! the program again.

use std::process::Command;

/// As many digits as name one commit of this repository.
const DIGITS: &str = "12";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ZKBRIDGE_COMMIT");
    println!("cargo::rustc-env=ZKBRIDGE_BUILT_FROM={}", commit());
}

fn commit() -> String {
    let given = std::env::var("ZKBRIDGE_COMMIT")
        .ok()
        .filter(|given| !given.is_empty());
    if let Some(given) = given {
        return given;
    }
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        return "unnamed, a build for debugging".to_owned();
    }
    // A commit adds a line to this file, and a checkout does, too.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && std::path::Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", &format!("--short={DIGITS}"), "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// The line that git prints; `None` outside of a repository, or without git.
fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(words)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}
