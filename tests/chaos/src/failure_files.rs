//! Keeps files after a failure, so that it can be analysed without a repetition: complaints, the topic, the bridge's
//! folder with its journal, its log, and all of the servers' data.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::testbed::Testbed;

/// Writes everything into a folder of this name below `keep`, and returns the folder.
pub fn keep(testbed: &Testbed, keep: &Path, name: &str, complaints: &[String]) -> Result<PathBuf> {
    let folder = keep.join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    write_lines(&folder.join("complaints.txt"), complaints)?;
    write_lines(&folder.join("bridge.log"), &testbed.bridge.log())?;
    let deliveries = testbed.topic.deliveries.iter();
    let deliveries: Vec<String> = deliveries
        .map(|delivery| format!("{}\t{}\t{}", delivery.partition, delivery.offset, delivery.record))
        .collect();
    write_lines(&folder.join("topic.tsv"), &deliveries)?;
    copy(testbed.zookeeper.home(), &folder.join("zookeeper"))?;
    copy(&testbed.kafka.log(), &folder.join("kafka.log"))?;
    Ok(folder)
}

fn write_lines(path: &Path, lines: &[String]) -> Result<()> {
    let write = || {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        for line in lines {
            writeln!(file, "{line}")?;
        }
        file.flush()
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Copies a file, or a folder with all that is in it. Files that vanish meanwhile are skipped, because the servers still run, and
/// so are sockets.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        if from.exists() && !from.is_file() {
            return Ok(());
        }
        match std::fs::copy(from, to) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            copied => drop(copied.with_context(|| format!("copy {}", from.display()))?),
        }
        return Ok(());
    }
    std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry.with_context(|| format!("list {}", from.display()))?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
