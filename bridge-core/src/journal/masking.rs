//! Masks values of znodes in the journal: those that are appended from now on, and those that it has already.
//!
//! The journal is the one place that every record passes, from whatever source, before anything of it is durable or
//! delivered. A change of the masks or of the key goes over the file once: values of paths that are masked now are
//! replaced wherever they are, in records, in the image and in dead letters, and the file is written anew, so that no
//! page of it has a copy.
//!
//! *Invariant.* While masks are set, no value of a masked path is in a row of the file, and no checksum of one: a
//! source that reads transactions is proved by their numbers alone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};

use super::contract::JournalWriter;
use super::error::JournalError;
use super::open::BUSY;
use super::read::Names;
use super::row::{data_of_value, op_number, replace_value, without_facts};
use super::writer::Journal;
use crate::append::{ChangeKind, RecordKind};
use crate::path::ZnodePath;
use crate::record::{Data, Masking, Op, Record, ServiceEvent, ServiceEventType};

/// The key in `meta` of the masks that the whole file has.
const MASKS: &str = "masks";

/// Longest time for which emptying the log waits for readers.
const CHECKPOINT_BOUND: Duration = Duration::from_secs(10);

/// Of that, the time of one wait, in which nothing stops it.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(100);

/// In the place of the reason of a dead letter or of a parked record: a receiver may have repeated the value in it.
const REASON_REMOVED: &str = "removed: the path was masked later, and the reason could repeat its value";

impl Journal {
    /// Masks values from now on, and those of the file if the masks are not the ones that it has. Returns how many
    /// values of the file were replaced. Without masks everything stays as it is. Blocks while it goes over the file,
    /// which it writes anew: that needs as much room on the file system as the journal has in use.
    ///
    /// That the file has the masks is stored last, after its log is empty. A crash before that, or a reader that keeps
    /// the log, lets the next start go over the file again.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or written: nothing is masked then, and it must not be used.
    pub fn set_masking(&mut self, masking: Option<Arc<Masking>>) -> Result<u64, JournalError> {
        let wanted = masking.as_ref().map_or(0, |masking| masking.fingerprint());
        let stored = self.read("reading the masks", |journal| stored_masks(&journal.connection))?;
        self.masking.clone_from(&masking);
        if wanted == stored {
            return Ok(0);
        }
        let Some(masking) = masking else {
            self.write_masks(|connection, _| store_masks(connection, wanted))?;
            return Ok(0);
        };
        tracing::info!(
            file = %self.file.display(),
            "the masks are not those of the journal: its values are looked through, and the file is written anew"
        );
        let replaced = self.write_masks(|connection, cluster| {
            forget_proof(connection)?;
            mask_file(connection, cluster, &masking)
        })?;
        self.image.shadows.forget();
        self.derived_rows.forget();
        if self.write_anew()? {
            self.write_masks(|connection, _| store_masks(connection, wanted))?;
        } else {
            tracing::warn!(
                file = %self.file.display(),
                "a reader keeps the log of the journal, which may hold values of masked paths: it is emptied at the \
                 next start after that reader has ended"
            );
        }
        Ok(replaced)
    }

    /// Whether masks were set when the file was last open.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    pub fn has_masks(&mut self) -> Result<bool, JournalError> {
        let stored = self.read("reading the masks", |journal| stored_masks(&journal.connection))?;
        Ok(stored != 0)
    }

    /// One transaction on the file, all of it or nothing.
    fn write_masks<T>(
        &mut self,
        step: impl FnOnce(&Connection, &str) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        let written = self.write("masking values", |journal| {
            let done = step(&journal.connection, &journal.options.cluster)?;
            journal.room.forget();
            Ok(done)
        });
        match written {
            Ok(done) => {
                self.commit()?;
                Ok(done)
            }
            Err(error) => {
                self.rollback_transaction()?;
                Err(error)
            }
        }
    }

    /// Leaves no page of before: neither one that was freed, in the file, nor any in the log. Returns whether the log
    /// is empty.
    fn write_anew(&mut self) -> Result<bool, JournalError> {
        let is_empty = self.read("masking values", |journal| {
            journal.connection.execute_batch("VACUUM")?;
            journal.connection.busy_timeout(CHECKPOINT_WAIT)?;
            let until = Instant::now() + CHECKPOINT_BOUND;
            let mut is_empty = false;
            while !is_empty && Instant::now() < until && !journal.options.stop.is_cancelled() {
                // The first column is 1 if a reader or another copier was in the way for the whole wait of SQLite.
                let busy: i64 =
                    journal
                        .connection
                        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
                is_empty = busy == 0;
            }
            journal.connection.busy_timeout(BUSY)?;
            Ok(is_empty)
        })?;
        self.room.forget();
        self.was_vacuumed();
        Ok(is_empty)
    }
}

/// Puts the digest in the place of the data of a record that is to be appended.
pub(super) fn mask(masking: &Masking, kind: &mut RecordKind) {
    let RecordKind::Change(change) = kind else {
        return;
    };
    let (ChangeKind::Created { read } | ChangeKind::Updated { read } | ChangeKind::Listed { read, .. }) =
        &mut change.kind
    else {
        return;
    };
    if let Some(data) = &mut read.data
        && masking.takes(&change.path)
    {
        *data = masking.masked(&change.path, data);
    }
}

pub(super) fn stored_masks(connection: &Connection) -> rusqlite::Result<u64> {
    let stored: Option<i64> = connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [MASKS], |row| row.get(0))
        .optional()?;
    Ok(stored.unwrap_or_default().cast_unsigned())
}

fn store_masks(connection: &Connection, masks: u64) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT INTO meta(key, value) VALUES (?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2",
            (MASKS, masks.cast_signed()),
        )
        .map(drop)
}

/// Removes the checksums of values, with which guesses can be tried, from the proof of a source that reads
/// transactions.
fn forget_proof(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM shadow", [])?;
    connection
        .execute("UPDATE position SET payload_crc = NULL, digest = NULL", [])
        .map(drop)
}

fn mask_file(connection: &Connection, cluster: &str, masking: &Masking) -> rusqlite::Result<u64> {
    let mut names = Names::new(cluster);
    let masked = masked_paths(connection, &mut names, masking)?;
    let mut replaced = 0;
    let sql = "SELECT path, value FROM image WHERE value IS NOT NULL
        UNION ALL SELECT path, value FROM record WHERE value IS NOT NULL AND path IS NOT NULL
        UNION ALL SELECT path, retired FROM record WHERE retired IS NOT NULL AND path IS NOT NULL";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (path, value): (i64, i64) = (row.get(0)?, row.get(1)?);
        if !masked.contains(&path) {
            continue;
        }
        let data = data_of_value(connection, value)?;
        if !data.is_masked() {
            let path = names.path(connection, path)?;
            replace_value(connection, value, &masking.masked(&path, &data))?;
            replaced += 1;
        }
    }
    replaced += mask_events(connection, masking)?;
    for table in ["rejected", "parked"] {
        replaced += mask_copies(connection, table, masking)?;
        remove_reasons(connection, table, masking)?;
    }
    Ok(replaced)
}

/// Removes the facts of service events that may be those of a masked value, and the state of services, which is made
/// again from the image. Returns how many events had facts.
fn mask_events(connection: &Connection, masking: &Masking) -> rusqlite::Result<u64> {
    connection.execute("DELETE FROM derived", [])?;
    let mut statement = connection.prepare("SELECT seq, detail FROM record WHERE op = ?1")?;
    let mut rows = statement.query([op_number(Op::Service)])?;
    let mut replaced = 0;
    while let Some(row) = rows.next()? {
        let (seq, detail): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        if let Some(masked) = without_facts(&detail, |event| is_of_masked(masking, event)) {
            connection
                .prepare_cached("UPDATE record SET detail = ?2 WHERE seq = ?1")?
                .execute((seq, masked))?;
            replaced += 1;
        }
    }
    Ok(replaced)
}

/// Formats whose instances have facts in znodes beside the one that the event names.
const FACTS_BESIDE: [&str; 2] = ["clickhouse", "helix"];

/// The path of a change of an instance may be that of a rule beside it, and the leader before had another znode, so that
/// any value may be in them.
fn is_of_masked(masking: &Masking, event: &ServiceEvent) -> bool {
    let is_beside = event.instance.is_some() && FACTS_BESIDE.contains(&event.format.as_str());
    is_beside
        || event.kind == ServiceEventType::InstanceChanged
        || event.previous.is_some()
        || ZnodePath::parse(&event.path).map_or(true, |path| masking.takes(&path))
}

/// The numbers of the paths whose values are masked.
fn masked_paths(
    connection: &Connection,
    names: &mut Names,
    masking: &Masking,
) -> rusqlite::Result<HashSet<i64>> {
    let mut statement = connection.prepare("SELECT id FROM path")?;
    let mut rows = statement.query([])?;
    let mut masked = HashSet::new();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        if masking.takes(&names.path(connection, id)?) {
            masked.insert(id);
        }
    }
    Ok(masked)
}

/// Dead letters and parked records whose rows retention has removed are kept as JSON.
fn mask_copies(connection: &Connection, table: &str, masking: &Masking) -> rusqlite::Result<u64> {
    let sql = format!("SELECT sink, seq FROM {table} WHERE record IS NOT NULL");
    let mut statement = connection.prepare(&sql)?;
    let copies: Vec<(String, i64)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut replaced = 0;
    let read = format!("SELECT record FROM {table} WHERE sink = ?1 AND seq = ?2");
    let write = format!("UPDATE {table} SET record = ?3 WHERE sink = ?1 AND seq = ?2");
    for (sink, seq) in copies {
        let json: String = connection
            .prepare_cached(&read)?
            .query_row((&sink, seq), |row| row.get(0))?;
        let mut record: Record = serde_json::from_str(&json).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error))
        })?;
        if let Some(event) = record.event.take() {
            if is_of_masked(masking, &event) {
                record.event = Some(Arc::new(event.without_facts()));
                let json = String::from_utf8(record.to_json()).expect("JSON is UTF-8");
                connection.prepare_cached(&write)?.execute((sink, seq, json))?;
                replaced += 1;
            }
            continue;
        }
        let Some(path) = record.path.clone().filter(|path| masking.takes(path)) else {
            continue;
        };
        let values = [&mut record.before, &mut record.after].into_iter().flatten();
        let values = values.filter_map(|state| state.data.as_mut());
        let open: Vec<&mut Data> = values.filter(|data| !data.is_masked()).collect();
        if open.is_empty() {
            continue;
        }
        replaced += open.len() as u64;
        for data in open {
            *data = masking.masked(&path, data);
        }
        let json = String::from_utf8(record.to_json()).expect("JSON is UTF-8");
        connection.prepare_cached(&write)?.execute((sink, seq, json))?;
    }
    Ok(replaced)
}

/// The reasons of dead letters and parked records.
fn remove_reasons(connection: &Connection, table: &str, masking: &Masking) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("SELECT sink, seq, path FROM {table}"))?;
    let rows: Vec<(String, i64, Option<String>)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut write = connection.prepare(&format!(
        "UPDATE {table} SET reason = ?3 WHERE sink = ?1 AND seq = ?2"
    ))?;
    for (sink, seq, path) in rows {
        // Rows of the first format have no path.
        if path.is_none_or(|path| masking.takes(&path)) {
            write.execute((sink, seq, REASON_REMOVED))?;
        }
    }
    Ok(())
}
