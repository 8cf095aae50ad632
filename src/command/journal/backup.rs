//! `zkbridge journal backup`: copies the journals beside a running bridge.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bridge_core::journal::Backup;
use clap::Args;
use serde_json::json;

use super::EXAMPLES;
use crate::bridge::{key_file, read_key};
use crate::cli::ConfigFlag;
use crate::command::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::export::NewFile;
use crate::terminal::{bytes, notice};

/// A folder of copies is for its owner only, as they hold the data of znodes.
const FOLDER_MODE: u32 = 0o700;

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
    /// Write <source>.journal, the history from before it and the key of masked
    /// values into this folder
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
        // The key first: a journal without its key would look like a whole copy.
        let key = copy_key(&key_file(journals.config(), source), &args.to)?;
        let backup = journal
            .reader()?
            .back_up(&args.to.join(format!("{name}.journal")))?;
        // The time before it, which zkbridge backfill has made.
        let history = match journal.past_reader()? {
            Some(mut past) => Some(past.back_up(&args.to.join(format!("{name}.history")))?),
            None => None,
        };
        if !args.json {
            print(&sentence("journal", &name, &backup))?;
            if let Some(history) = &history {
                print(&sentence("history from before the journal", &name, history))?;
            }
        }
        reports.push(json!({
            "source": name,
            "file": backup.file,
            "history": history.map(|history| history.file),
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
    let to = folder.join(key.file_name().expect("a key is a file in data_dir"));
    let Some(content) = read_key(key)? else {
        return Ok(None);
    };
    // That of an attempt that ended before its journal was copied.
    match read_key(&to)? {
        None => {}
        Some(present) if present == content => return Ok(Some(to)),
        Some(_) => {
            return Err(Failure::new(
                Exit::Environment,
                format!(
                    "{} is another key of masked values than that of the journal\nhelp: name another folder",
                    to.display()
                ),
            ));
        }
    }
    let put = || {
        let file = NewFile::create(&to)?;
        file.output()?.write_all(&content)?;
        file.put()
    };
    put().map_err(|error| cannot_write(&to, &error))?;
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

fn sentence(content: &str, name: &str, backup: &Backup) -> String {
    format!(
        "{content} of {name}: records up to {}, {} in {}\n",
        backup.tail,
        bytes(backup.bytes),
        backup.file.display()
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use bridge_core::record::MaskKey;

    use super::*;

    #[test]
    fn a_key_is_copied_whole_and_once_and_nothing_else_is_taken_for_one() {
        let home = tempfile::tempdir().unwrap();
        let (key, folder) = (home.path().join("main.mask-key"), home.path().join("copies"));
        fs::create_dir(&folder).unwrap();
        assert_eq!(copy_key(&key, &folder).unwrap(), None);
        let text = || MaskKey::generate().unwrap().to_text() + "\n";
        let own = text();
        fs::write(&key, &own).unwrap();
        for _ in 0..2 {
            let copy = copy_key(&key, &folder).unwrap().unwrap();
            assert_eq!(fs::read_to_string(&copy).unwrap(), own);
            assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::write(&key, text()).unwrap();
        let refused = copy_key(&key, &folder).unwrap_err().message;
        assert!(
            refused.contains("another key") && refused.contains("help: "),
            "{refused}"
        );
        fs::write(&key, &own[..own.len() / 2]).unwrap();
        let refused = copy_key(&key, &folder).unwrap_err().message;
        assert!(refused.contains("holds no key"), "{refused}");
        // A device has no end.
        fs::remove_file(&key).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &key).unwrap();
        let refused = copy_key(&key, &folder).unwrap_err().message;
        assert!(refused.contains("not a regular file"), "{refused}");
    }
}
