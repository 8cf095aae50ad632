//! `zkbridge restore-journal`: puts copies of `zkbridge journal backup` in the place of the journals.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};

use bridge_config::SourceConfig;
use bridge_core::folder::{folder_of, sync_folder};
use bridge_core::journal::{Existing, JournalErrorKind, Restored, restore};
use bridge_query::past_file;
use clap::Args;
use serde_json::json;

use crate::bridge::{journal_file, key_file, read_key};
use crate::cli::ConfigFlag;
use crate::command::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::operator::Journals;
use crate::terminal::count;

/// A folder made for journals, for its owner only.
const FOLDER_MODE: u32 = 0o700;

/// The files of a source that get the owner of their folder.
const OWNED: [&str; 5] = ["journal", "journal.lock", "history", "history.lock", "mask-key"];

/// Read and write for the owner only.
const FILE_MODE: u32 = 0o600;

const EXAMPLES: &str = "\
Examples:
  zkbridge journal backup /backup/2026-11-30
  zkbridge restore-journal /backup/2026-11-30
  zkbridge restore-journal /backup/2026-11-30 --source main --force

The bridge must be stopped. Each copy is checked first: its file, records,
image and cursors. A journal that is there is refused without --force, and
with it kept as <source>.journal.replaced. The history from before the journal
is taken back in the same way, if the folder has it.

The bridge then delivers again what came after the copy, with the same ids.
Numbers (seq) after the last record of the copy are given to other records
now: a consumer that skips records by their number must go back to it.

Exit codes: 0 done, 2 the command line or the configuration is wrong,
3 there is no copy, it cannot be used, a journal is there, or a bridge runs";

/// Options of `restore-journal`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Restore only the journal of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Keep a journal that is there under another name, and take the copy
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Folder of the copies
    #[arg(value_name = "FOLDER")]
    from: PathBuf,
}

/// Runs the command.
pub fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let sources = chosen(&journals, args)?;
    let data_dir = &journals.config().data_dir;
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(data_dir);
    made.map_err(|error| cannot_write(data_dir, &error))?;
    let mut reports = Vec::new();
    for source in sources {
        let key = KeyCopy::plan(args, &key_file(journals.config(), source))?;
        let journal = journal_file(journals.config(), source);
        let past = HistoryCopy::plan(args, source, &journal)?;
        let restored = restore_one(args, source, &copy_of(args, source), &journal)?;
        let past = past.map(|past| restore_one(args, source, &past.copy, &past.to));
        let past = past.transpose()?;
        key.map_or(Ok(()), |key| key.put())?;
        give_to_owner(data_dir, source)?;
        if !args.json {
            print(&sentence(&source.name, &restored))?;
            if let Some(past) = &past {
                print(&past_sentence(&source.name, past))?;
            }
        }
        reports.push(json!({
            "source": source.name.to_string(),
            "file": restored.file,
            "tail": restored.tail,
            "records": restored.records,
            "replaced": restored.replaced,
            "history": past.map(|past| past.file),
        }));
    }
    match args.json {
        true => print_json(&json!({"restored": reports})),
        false => Ok(()),
    }
}

/// The sources that have a copy, or the named one.
fn chosen<'a>(journals: &'a Journals, args: &RestoreArgs) -> Result<Vec<&'a SourceConfig>, Failure> {
    let sources = journals.configured(args.source.as_deref())?;
    let has_copy = |source: &&SourceConfig| copy_of(args, source).exists();
    let found: Vec<_> = sources.iter().copied().filter(has_copy).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let names: Vec<String> = sources
        .iter()
        .map(|source| format!("{}.journal", source.name))
        .collect();
    Err(Failure::new(
        Exit::Environment,
        format!(
            "{} has no copy of a journal: {} is not there\nhelp: name the folder that 'zkbridge journal backup' wrote; \
             the name of the source must be that of the copy",
            args.from.display(),
            names.join(", ")
        ),
    ))
}

fn copy_of(args: &RestoreArgs, source: &SourceConfig) -> PathBuf {
    args.from.join(format!("{}.journal", source.name))
}

/// The copy of the history from before the journal.
struct HistoryCopy {
    copy: PathBuf,
    to: PathBuf,
}

impl HistoryCopy {
    /// `None` if the folder has no copy of it: a history that is there stays. Refuses before anything is changed.
    fn plan(
        args: &RestoreArgs,
        source: &SourceConfig,
        journal: &Path,
    ) -> Result<Option<HistoryCopy>, Failure> {
        let (copy, to) = (past_file(&copy_of(args, source)), past_file(journal));
        if !copy.exists() {
            return Ok(None);
        }
        if to.exists() && !args.force {
            return Err(Failure::new(
                Exit::Environment,
                format!(
                    "{}: there is a history from before the journal already\nhelp: add --force to keep it under another \
                     name and take that of the copy",
                    to.display()
                ),
            ));
        }
        Ok(Some(HistoryCopy { copy, to }))
    }
}

fn restore_one(
    args: &RestoreArgs,
    source: &SourceConfig,
    copy: &Path,
    file: &Path,
) -> Result<Restored, Failure> {
    let existing = match args.force {
        true => Existing::SetAside,
        false => Existing::Refuse,
    };
    restore(copy, file, &source.name, existing).map_err(|error| match error.kind {
        JournalErrorKind::InUse => Failure::new(
            Exit::Environment,
            format!("{error}\nhelp: stop the bridge, then restore its journals"),
        ),
        _ => error.into(),
    })
}

/// The key of masked values of the copy, for a place where it is missing or another.
struct KeyCopy {
    content: Vec<u8>,
    to: PathBuf,
}

impl KeyCopy {
    /// `None` if the copy has no key, or the key is there already.
    fn plan(args: &RestoreArgs, to: &Path) -> Result<Option<KeyCopy>, Failure> {
        let from = args
            .from
            .join(to.file_name().expect("a key is a file in data_dir"));
        let Some(content) = read_key(&from)? else {
            return Ok(None);
        };
        match read_key(to)? {
            Some(present) if present == content => return Ok(None),
            Some(_) if !args.force => {
                return Err(Failure::new(
                    Exit::Environment,
                    format!(
                        "{} is another key of masked values than that of the copy\nhelp: add --force to keep it under \
                         another name and take the key of the copy",
                        to.display()
                    ),
                ));
            }
            _ => {}
        }
        Ok(Some(KeyCopy {
            content,
            to: to.to_owned(),
        }))
    }

    fn put(&self) -> Result<(), Failure> {
        let part = self.to.with_extension("mask-key.part");
        let mut names = (1..).map(|number| self.to.with_extension(format!("mask-key.replaced-{number}")));
        let aside = names.find(|name| !name.exists());
        let put = || -> io::Result<()> {
            if let Some(aside) = aside.filter(|_| self.to.exists()) {
                fs::rename(&self.to, aside)?;
            }
            // Never through a link of the owner of the folder.
            match fs::remove_file(&part) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(FILE_MODE)
                .open(&part)?;
            file.write_all(&self.content)?;
            file.sync_all()?;
            fs::rename(&part, &self.to)?;
            sync_folder(folder_of(&self.to))
        };
        put().map_err(|error| cannot_write(&self.to, &error))
    }
}

/// Where root restores the journals of another user: the files get the owner of their folder, who could not open them.
fn give_to_owner(data_dir: &Path, source: &SourceConfig) -> Result<(), Failure> {
    if !nix::unistd::Uid::effective().is_root() {
        return Ok(());
    }
    let give = || -> io::Result<()> {
        let folder = fs::metadata(data_dir)?;
        for suffix in OWNED {
            let file = data_dir.join(format!("{}.{suffix}", source.name));
            // A link that the owner of the folder has put there must not give away the file that it names.
            if fs::symlink_metadata(&file).is_ok_and(|found| found.is_file()) {
                lchown(&file, Some(folder.uid()), Some(folder.gid()))?;
            }
        }
        Ok(())
    };
    give().map_err(|error| cannot_write(data_dir, &error))
}

fn cannot_write(file: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Environment,
        format!(
            "{} cannot be written: {error}\nhelp: make room, and run this as the user of the bridge",
            file.display()
        ),
    )
}

fn sentence(name: &str, restored: &Restored) -> String {
    let (records, tail) = (count(restored.records, "record"), restored.tail);
    let mut text = format!(
        "journal of {name}: restored with {records}, the last is {tail}\n  the next record is {}: a consumer that skips \
         records by their number must go back to {tail}\n",
        tail.next()
    );
    if let Some(replaced) = &restored.replaced {
        text.push_str(&format!(
            "  the journal that was there is kept as {}\n",
            replaced.display()
        ));
    }
    text
}

fn past_sentence(name: &str, past: &Restored) -> String {
    let records = count(past.records, "record");
    let mut text = format!("history from before the journal of {name}: restored with {records}\n");
    if let Some(replaced) = &past.replaced {
        text.push_str(&format!(
            "  the one that was there is kept as {}\n",
            replaced.display()
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_written_through_a_link_in_the_folder() {
        let home = tempfile::tempdir().unwrap();
        let (other, to) = (home.path().join("other"), home.path().join("main.mask-key"));
        fs::write(&other, "kept").unwrap();
        std::os::unix::fs::symlink(&other, home.path().join("main.mask-key.part")).unwrap();
        let content = b"new".to_vec();
        let key = KeyCopy {
            content,
            to: to.clone(),
        };
        key.put().unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
    }
}
