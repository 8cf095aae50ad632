//! The tables of the journal, and how a file of an older format is brought forward.
//!
//! ```text
//! image  parent, name ── path, life, stat, value, last, facts  what each path looked like at its last record
//! path   id ── parent, name                                the meaning of the numbers of paths
//! record seq ── path, stat, value, previous                the history; `previous`: the record of the path before it
//! value  id ── bytes                                       each data once, under the seq of the record that brought it
//! rejected, parked   sink, seq ── record                  what sinks set aside
//! hole, folded                                            what was compacted: where, and into which records
//! waypoint seq ── path                                    every 32nd record of a path
//! stretch last ── zxid, earliest, latest, counts          the summary of each 256 records
//! ended  died ── parent, rank, born, path                 when paths existed that do not exist any more
//! unclear parent, path                                    those of which that is not known
//! fact   id ── content                                    what no Stat has of a znode
//! position, shadow                                        how far the history is taken, and what proves it
//! uncaptured path ── session                              ephemeral znodes of the server that are not captured
//! unreadable path ── since, found, until                  when a znode may not be read
//! derived key ── row                                      the state of services
//! sink, root, origin, meta
//! ```
//!
//! A value is needed by its own record and those that repeat it (`acl`, `snapshot`), by the image, and as the `before`
//! of the one record that superseded it. That record comes last, has it in `retired`, and takes it along when it is
//! removed.

use rusqlite::{Connection, TransactionBehavior};

/// `zkbj`, in SQLite's header of the file: distinguishes a journal from other databases.
pub(super) const APPLICATION_ID: u32 = 0x7a6b_626a;

/// The version of the tables below, in the header as the user version.
pub(super) const FORMAT: u32 = 12;

/// A quarter of SQLite's default: a batch touches many image rows that are far apart, and each of them costs a page
/// in the log. Small pages make random updates of many znodes faster and appending in order slower, as
/// `cargo bench -p bridge-core --bench journal` shows.
pub(super) const PAGE_BYTES: u32 = 1024;

/// The number of `/`; its parent is 0, and its name is empty.
pub(super) const SLASH: i64 = 1;

/// A step from the format before.
pub(super) struct Migration {
    /// The format that it leads to.
    pub(super) to: u32,
    /// The statements of the migration.
    pub(super) sql: &'static str,
}

/// Each step from the first format to [`FORMAT`], ascending.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        to: 2,
        sql: SET_ASIDE,
    },
    Migration {
        to: 3,
        sql: COMPACTED,
    },
    Migration {
        to: 4,
        sql: "ALTER TABLE record ADD COLUMN txn BLOB;",
    },
    Migration { to: 5, sql: ENDS },
    Migration {
        to: 6,
        sql: "ALTER TABLE value ADD COLUMN digest BLOB;",
    },
    Migration {
        to: 7,
        sql: TRANSACTIONS,
    },
    Migration {
        to: 8,
        sql: WAYPOINTS,
    },
    Migration {
        to: 9,
        sql: STRETCHES,
    },
    Migration { to: 10, sql: ENDED },
    Migration {
        to: 11,
        sql: UNCAPTURED,
    },
    Migration {
        to: 12,
        sql: UNREADABLE,
    },
];

/// Format 12: when a znode may not be read ([`super::unreadable`]).
const UNREADABLE: &str = "
-- `extent`: 0 is the znode and all below it, 1 unnamed ones at or below the path. Without an `until` it may not be read.
CREATE TABLE unreadable(
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    extent INTEGER NOT NULL,
    since_seq INTEGER NOT NULL,
    since_zxid INTEGER NOT NULL,
    since_time INTEGER NOT NULL,
    found_seq INTEGER NOT NULL,
    found_time INTEGER NOT NULL,
    until_seq INTEGER,
    until_zxid INTEGER,
    until_time INTEGER
) STRICT;
CREATE INDEX unreadable_path ON unreadable(path);
-- Where the last walk of a root that has ended began; null if none has.
ALTER TABLE root ADD COLUMN walked_seq INTEGER;
ALTER TABLE root ADD COLUMN walked_zxid INTEGER;
ALTER TABLE root ADD COLUMN walked_time INTEGER;
-- The last record that an older format has written: of the time before, nothing is known of such znodes.
INSERT INTO meta(key, value) VALUES ('unreadable_since', (SELECT ifnull(max(seq), 0) FROM record));
";

/// The first format that has unreadable znodes.
pub(super) const UNREADABLE_SINCE: u32 = 12;

/// For a reader of a file that has none.
pub(super) const UNREADABLE_ABSENT: &str =
    "CREATE TEMP TABLE unreadable(id INTEGER PRIMARY KEY, path, extent,
    since_seq, since_zxid, since_time, found_seq, found_time, until_seq, until_zxid, until_time);";

/// Format 11: what ends with a session whose end has no list ([`super::position`]). No reader uses it.
const UNCAPTURED: &str = "
CREATE TABLE uncaptured(path TEXT PRIMARY KEY, session INTEGER NOT NULL) STRICT, WITHOUT ROWID;
-- SQLite adds the path to each row of it.
CREATE INDEX uncaptured_session ON uncaptured(session);
";

/// Format 10: when paths existed that do not exist any more ([`super::ended`]).
const ENDED: &str = "
-- By the number of the delete; `rank` is the magnitude of `died - born`.
CREATE TABLE ended(
    died INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    born INTEGER NOT NULL,
    path INTEGER NOT NULL
) STRICT;
-- SQLite adds `died` to each row of it.
CREATE INDEX ended_parent ON ended(parent, rank, born, path);
-- Paths that do not exist, of which no row says when they did.
CREATE TABLE unclear(parent INTEGER NOT NULL, path INTEGER NOT NULL, PRIMARY KEY(parent, path)) STRICT, WITHOUT ROWID;
INSERT INTO unclear(parent, path) SELECT parent, path FROM image
    WHERE life = 0 AND path <> 1 AND (last IS NULL OR last < (SELECT min(seq) FROM record));
ALTER TABLE image ADD COLUMN born INTEGER;
INSERT INTO meta(key, value) VALUES ('ended_since', (SELECT ifnull(max(seq), 0) FROM record));
";

/// The first format that has ended incarnations.
pub(super) const ENDED_SINCE: u32 = 10;

/// For a reader of a file that has none.
pub(super) const ENDED_ABSENT: &str = "
CREATE TEMP TABLE ended(died INTEGER PRIMARY KEY, parent, rank, born, path);
CREATE TEMP TABLE unclear(parent, path);
";

/// For a reader of a file that has waypoints in its image, and no creates.
pub(super) const BORN_ABSENT: &str = "CREATE TEMP VIEW image AS SELECT *, NULL AS born FROM main.image;";

/// Format 9: what is known of records together ([`super::stretches`]).
const STRETCHES: &str = "
CREATE TABLE stretch(
    last INTEGER PRIMARY KEY,
    zxid INTEGER,
    earliest INTEGER,
    latest INTEGER,
    changed INTEGER,
    born_zxid INTEGER,
    born_changed INTEGER,
    counts BLOB NOT NULL
) STRICT;
-- The records of a stretch, and those that have none.
INSERT INTO meta(key, value) VALUES
    ('stretch', 256), ('unsummarised', (SELECT (ifnull(max(seq), 0) + 255) / 256 * 256 FROM record));
";

/// The first format that has stretches.
pub(super) const STRETCHES_SINCE: u32 = 9;

/// For a reader of a file that has none.
pub(super) const STRETCHES_ABSENT: &str = "CREATE TEMP TABLE stretch(
    last INTEGER PRIMARY KEY, zxid, earliest, latest, changed, born_zxid, born_changed, counts);";

/// Format 8: places to enter a long history ([`super::waypoints`]).
const WAYPOINTS: &str = "
-- Every 32nd record of a path.
CREATE TABLE waypoint(seq INTEGER PRIMARY KEY, path INTEGER NOT NULL) STRICT;
-- SQLite adds the seq to each row of it.
CREATE INDEX waypoint_path ON waypoint(path);
-- How many records the path has since its last waypoint; null is 0.
ALTER TABLE image ADD COLUMN steps INTEGER;
";

/// The first format that has waypoints.
pub(super) const WAYPOINTS_SINCE: u32 = 8;

/// For a reader of a file that has none.
pub(super) const WAYPOINTS_ABSENT: &str =
    "CREATE TEMP TABLE waypoint(seq INTEGER PRIMARY KEY, path INTEGER);";

/// For a reader of a file that has facts in its image, and no waypoints.
pub(super) const STEPS_ABSENT: &str =
    "CREATE TEMP VIEW image AS SELECT *, NULL AS steps, NULL AS born FROM main.image;";

/// Format 7: what sources that read transactions store ([`super::position`]), and the state of services.
const TRANSACTIONS: &str = "
ALTER TABLE record ADD COLUMN facts BLOB;
-- What no Stat has of a znode, each content once.
CREATE TABLE fact(id INTEGER PRIMARY KEY, content BLOB NOT NULL UNIQUE) STRICT;
ALTER TABLE image ADD COLUMN facts INTEGER;
-- One row, or none: how far the history is taken.
CREATE TABLE position(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    zxid INTEGER NOT NULL,
    payload_crc INTEGER,
    digest INTEGER,
    epoch INTEGER NOT NULL,
    scope INTEGER NOT NULL
) STRICT;
-- What the digest of the tree needs of each znode, by a hash of its path.
CREATE TABLE shadow(path BLOB PRIMARY KEY, crc INTEGER NOT NULL, stat BLOB NOT NULL) STRICT, WITHOUT ROWID;
-- Begins and ends of snapshots and gaps, for questions about earlier moments.
CREATE INDEX record_mark ON record(seq) WHERE op BETWEEN 5 AND 8;
-- The rows of a derivation, whose keys and contents are its own (super::derived).
CREATE TABLE derived(key BLOB PRIMARY KEY, row BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// The first format that has positions and facts.
pub(super) const FACTS_SINCE: u32 = 7;

/// For a reader of a file that has transactions and no facts.
pub(super) const FACTS_ABSENT: &str = "CREATE TEMP VIEW record AS SELECT *, NULL AS facts FROM main.record;";

/// For a reader of a file that has no positions, and no facts in its image.
pub(super) const POSITION_ABSENT: &str = "
CREATE TEMP VIEW image AS SELECT *, NULL AS facts, NULL AS steps, NULL AS born FROM main.image;
CREATE TEMP TABLE fact(id INTEGER PRIMARY KEY, content);
CREATE TEMP TABLE position(id INTEGER PRIMARY KEY, zxid, payload_crc, digest, epoch, scope);
CREATE TEMP TABLE shadow(path BLOB PRIMARY KEY, crc, stat);
CREATE TEMP TABLE derived(key BLOB PRIMARY KEY, row);
";

/// Format 5: the term of the last batch ([`super::local_log`]), and the last record that the image has applied
/// ([`super::image_writer`]).
const ENDS: &str = "
DELETE FROM meta WHERE key = 'writer';
INSERT INTO meta(key, value) VALUES ('term', 0), ('applied', (SELECT ifnull(max(seq), 0) FROM record));
";

/// The first format that keeps transactions.
pub(super) const TXN_SINCE: u32 = 4;

/// For a reader of a file that keeps none yet, and no facts either.
pub(super) const TXN_ABSENT: &str =
    "CREATE TEMP VIEW record AS SELECT *, NULL AS txn, NULL AS facts FROM main.record;";

/// The first format that keeps digests of values that were cut.
pub(super) const DIGEST_SINCE: u32 = 6;

/// For a reader of a file that keeps none yet.
pub(super) const DIGEST_ABSENT: &str = "CREATE TEMP VIEW value AS SELECT *, NULL AS digest FROM main.value;";

/// Format 3: what a full journal has compacted, see [`super::folding`].
const COMPACTED: &str = "
-- Positions whose record has gone into a later one; neighbours are one row.
CREATE TABLE hole(first INTEGER PRIMARY KEY, last INTEGER NOT NULL) STRICT;
-- How many went into the record of a position.
CREATE TABLE folded(seq INTEGER PRIMARY KEY, records INTEGER NOT NULL) STRICT;
INSERT INTO meta(key, value) VALUES ('holes', 0), ('compacted', 0);
";

/// The tables of [`COMPACTED`] for a reader of a file that has none of them yet.
pub(super) const COMPACTED_ABSENT: &str = "
CREATE TEMP TABLE hole(first INTEGER PRIMARY KEY, last INTEGER NOT NULL);
CREATE TEMP TABLE folded(seq INTEGER PRIMARY KEY, records INTEGER NOT NULL);
";

/// The first format with these tables.
pub(super) const COMPACTED_SINCE: u32 = 3;

/// Format 2: parked records, what is known of dead letters, and sinks that were switched off.
const SET_ASIDE: &str = "
ALTER TABLE sink ADD COLUMN disabled TEXT;
ALTER TABLE sink ADD COLUMN disabled_at INTEGER;

ALTER TABLE rejected ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1;
-- Null in rows of format 1, whose path is not known either.
ALTER TABLE rejected ADD COLUMN at INTEGER;
ALTER TABLE rejected ADD COLUMN path TEXT;

-- `record` as in `rejected`.
CREATE TABLE parked(
    sink TEXT NOT NULL,
    seq INTEGER NOT NULL,
    path TEXT,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    since INTEGER,
    due INTEGER NOT NULL,
    record TEXT,
    PRIMARY KEY(sink, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX parked_kept ON parked(seq) WHERE record IS NULL;
-- A record is looked for by its seq alone.
CREATE INDEX parked_whole ON parked(seq) WHERE record IS NOT NULL;
CREATE INDEX rejected_whole ON rejected(seq) WHERE record IS NOT NULL;
";

/// Format 1. [`MIGRATIONS`] add everything since, for new files too.
const TABLES: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;

CREATE TABLE path(id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name TEXT NOT NULL) STRICT;

-- The occupied (living, or with something living below) stand apart from the dead, so that listing children does not
-- wade through the names of years. One search finds all that is known of a path.
CREATE TABLE image(
    parent INTEGER NOT NULL,
    occupied INTEGER NOT NULL,
    name TEXT NOT NULL,
    path INTEGER NOT NULL,
    life INTEGER NOT NULL,
    last INTEGER,
    value INTEGER,
    czxid INTEGER,
    stat BLOB,
    PRIMARY KEY(parent, occupied, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE record(
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    op INTEGER NOT NULL,
    root INTEGER,
    path INTEGER,
    previous INTEGER,
    zxid INTEGER,
    zxid_kind INTEGER NOT NULL,
    fidelity INTEGER NOT NULL,
    missed INTEGER,
    superseded BLOB,
    ephemeral INTEGER,
    before INTEGER NOT NULL,
    before_stat BLOB,
    retired INTEGER,
    stat BLOB,
    value INTEGER,
    changed INTEGER,
    captured INTEGER NOT NULL,
    origin INTEGER NOT NULL,
    detail BLOB
) STRICT;

CREATE TABLE value(
    id INTEGER PRIMARY KEY,
    form INTEGER NOT NULL,
    size INTEGER NOT NULL,
    truncated INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE sink(name TEXT PRIMARY KEY, cursor INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- `record` is filled with the record's JSON when retention removes its row.
CREATE TABLE rejected(
    sink TEXT NOT NULL,
    seq INTEGER NOT NULL,
    reason TEXT NOT NULL,
    record TEXT,
    PRIMARY KEY(sink, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX rejected_kept ON rejected(seq) WHERE record IS NULL;

CREATE TABLE root(
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    reported INTEGER NOT NULL,
    listed INTEGER NOT NULL,
    run BLOB,
    run_index INTEGER
) STRICT;

CREATE TABLE origin(id INTEGER PRIMARY KEY, mode INTEGER NOT NULL, server TEXT) STRICT;
";

/// Writes the tables of a new journal, still in SQLite's rollback mode.
pub(super) fn create(connection: &mut Connection, cluster: &str) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    for step in MIGRATIONS {
        transaction.execute_batch(step.sql)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.execute("INSERT INTO path(id, parent, name) VALUES (?1, 0, '')", [SLASH])?;
    transaction.execute(
        "INSERT INTO image(parent, occupied, name, path, life, czxid) VALUES (0, 0, '', ?1, 0, 0)",
        [SLASH],
    )?;
    transaction.execute(
        "INSERT INTO meta(key, value) VALUES ('cluster', ?1), ('epoch', 0), ('next_path', ?2), ('rebaselined', 0)",
        (cluster, SLASH + 1),
    )?;
    transaction.commit()
}

/// Brings the tables from format `from` to the newest of `migrations`, all of it or nothing.
pub(super) fn migrate(
    connection: &mut Connection,
    from: u32,
    migrations: &[Migration],
) -> rusqlite::Result<()> {
    let missing: Vec<&Migration> = migrations.iter().filter(|step| step.to > from).collect();
    let Some(last) = missing.last() else {
        return Ok(());
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &missing {
        transaction.execute_batch(step.sql)?;
    }
    transaction.pragma_update(None, "user_version", last.to)?;
    transaction.commit()?;
    // The format in the header of the file is what others look at before they open it.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
