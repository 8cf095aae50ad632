//! The Java program, which Maven builds once: `CuratorCache` and `KafkaProducer`, as a careful user would write it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{COMPRESSION, Orders, linger_ms};
use crate::settings::Settings;
use crate::tree::ROOT;

/// The folder of its source.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
/// The class with `main`.
const MAIN: &str = "peers.CuratorToKafka";

/// Builds it below `target` with Maven. Returns its class path. Fast if nothing has changed.
///
/// # Errors
///
/// If Maven or a JDK is missing, or the build fails; with its output.
pub fn build(target: &Path) -> Result<String> {
    std::fs::create_dir_all(target).with_context(|| format!("create {}", target.display()))?;
    let target = target
        .canonicalize()
        .with_context(|| format!("find {}", target.display()))?;
    let built = Command::new("mvn")
        .args(["-B", "-q", "-U", "-Dstyle.color=never", "package", "-f"])
        .arg(Path::new(SOURCE).join("pom.xml"))
        .arg(format!("-Dpeers.target={}", target.display()))
        .output()
        .context("run mvn; scripts/setup installs it, with a JDK")?;
    let said = String::from_utf8_lossy(&built.stdout).into_owned() + &String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success(), "mvn could not build {SOURCE}:\n{said}");
    let jars = target.join("jars");
    let listed = std::fs::read_dir(&jars).with_context(|| format!("list {}", jars.display()))?;
    let mut parts: Vec<PathBuf> = listed
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension() == Some(OsStr::new("jar")))
        .collect();
    parts.push(target.join("classes"));
    parts.sort();
    let joined = std::env::join_paths(parts).context("make a class path")?;
    Ok(joined.to_string_lossy().into_owned())
}

pub(super) fn command(settings: &Settings, orders: &Orders<'_>) -> Result<Command> {
    let class_path = settings.peer.as_ref().context("the peer was not built")?;
    let java = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let java = java
        .filter(|java| java.is_file())
        .unwrap_or_else(|| "java".into());
    let mut command = Command::new(java);
    command.args(["-cp", class_path, MAIN]);
    command.args([&orders.server.to_string(), ROOT, orders.bootstrap]);
    command.args([
        orders.topic.name(),
        &linger_ms(orders.linger).to_string(),
        COMPRESSION,
    ]);
    Ok(command)
}
