//! `zkbridge journal backup`: copies the journals beside a running bridge.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bridge_core::folder::sync_folder;
use bridge_core::journal::Backup;
use clap::Args;
use serde_json::json;

use super::EXAMPLES;
use crate::bridge::key_file;
use crate::cli::ConfigFlag;
use crate::command::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::terminal::{bytes, notice};

/// A folder of copies is for its owner only, as they hold the data of znodes.
const FOLDER_MODE: u32 = 0o700;

/// Read and write for the owner only.
const FILE_MODE: u32 = 0o600;

/// Options of `journal backup`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Copy only the journal of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write <source>.journal, and the key of masked values, into this folder
    #[arg(value_name = "FOLDER")]
    to: PathBuf,
}

pub(super) fn run(args: &BackupArgs) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let opened = journals.of_source(args.source.as_deref())?;
    let made = DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(&args.to);
    made.map_err(|error| cannot_write(&args.to, &error))?;
    let mut reports = Vec::new();
    for (source, journal) in opened {
        let name = source.name.to_string();
        notice(format_args!(
            "{name}: copying; the write-ahead log of a running bridge grows until the copy is complete"
        ));
        let backup = journal
            .reader()?
            .back_up(&args.to.join(format!("{name}.journal")))?;
        let key = copy_key(&key_file(journals.config(), source), &args.to)?;
        if !args.json {
            print(&sentence(&name, &backup))?;
        }
        reports.push(json!({
            "source": name,
            "file": backup.file,
            "mask_key": key,
            "tail": backup.tail,
            "bytes": backup.bytes,
            "log_bytes": backup.log_bytes,
        }));
    }
    match args.json {
        true => print_json(&json!({"backups": reports})),
        false => Ok(()),
    }
}

/// Without the key, later digests of masked values differ from those in the journal.
fn copy_key(key: &Path, folder: &Path) -> Result<Option<PathBuf>, Failure> {
    let content = match std::fs::read(key) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| {
            Failure::new(
                Exit::Environment,
                format!(
                    "{} cannot be read: {error}\nhelp: run this as the user of the bridge",
                    key.display()
                ),
            )
        })?,
    };
    let to = folder.join(key.file_name().expect("a key is a file in data_dir"));
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&to);
    opened
        .and_then(|mut file| file.write_all(&content).and_then(|()| file.sync_all()))
        .and_then(|()| sync_folder(folder))
        .map_err(|error| cannot_write(&to, &error))?;
    Ok(Some(to))
}

fn cannot_write(file: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Environment,
        format!(
            "{} cannot be written: {error}\nhelp: name a folder that this user may write to",
            file.display()
        ),
    )
}

fn sentence(name: &str, backup: &Backup) -> String {
    format!(
        "journal of {name}: records up to {}, {} in {}\n",
        backup.tail,
        bytes(backup.bytes),
        backup.file.display()
    )
}
