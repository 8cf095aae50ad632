//! Keeps this process's readers out of the write-ahead log while the log waits to begin again at its start.
//!
//! SQLite can restart the log only at a moment when no reader uses it. Readers that overlap never leave such a moment, so
//! the log would grow without limit. The writer therefore closes the gate of its journal when the log is long, and opens
//! it when the log has been restarted.
//!
//! Invariants:
//!
//! * A reader waits at the gate before it begins a transaction, never inside one.
//! * The wait is bounded: a reader waits [`CLOSED_MAX`] at most before each transaction, and a gate whose writer does not
//!   come back opens by itself after that time. While a reader in another process holds the log, which this gate cannot
//!   prevent, the gate stays open for [`OPEN_MIN`] between two closings.
//! * The writer waits only for readers of this process to leave, and only for a time that it chooses. Their transactions
//!   are short ([`super::read_connection`]).
//!
//! The gate also holds the file open that was read before SQLite opened it. Closing any handle of a file drops the locks
//! that SQLite has on it in this process: without them another program that closes the journal takes itself for the last
//! one, and removes the log under the writer. So every connection keeps a gate, and drops it after itself.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::error::JournalError;
use super::lock::FileId;

/// Ten times the longest transaction of a reader, so that all readers have left well before.
pub(super) const CLOSED_MAX: Duration = Duration::from_millis(250);

/// Readers get at least this much time between two closings that did not help.
pub(super) const OPEN_MIN: Duration = Duration::from_millis(100);

/// The gates of this process. A reader is opened by the name of a file, often far from the code that owns the writer.
static GATES: Mutex<Option<HashMap<FileId, Weak<WalGate>>>> = Mutex::new(None);

/// The gate of one journal file.
#[derive(Debug)]
pub(super) struct WalGate {
    file: FileId,
    /// Open as long as the gate is. More than one only if the file came to its path while it was opened.
    handles: Mutex<Vec<File>>,
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    /// While closed: when it opens by itself.
    closed_until: Option<Instant>,
    /// It is not closed again before this time.
    open_until: Option<Instant>,
    /// Readers that were admitted and have not left.
    inside: usize,
}

/// A reader that has passed the gate. Good for one transaction; dropping it says that the transaction has ended.
pub(super) struct Admitted(Arc<WalGate>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.changed.notify_all();
    }
}

impl WalGate {
    /// The gate of a file that exists; all readers and the writer of this file in this process share it. Where this call
    /// opened the file, `first` looks at it, and the gate is made only if it has no objection.
    pub(super) fn of(
        file: &Path,
        first: impl FnOnce(&File) -> Result<(), JournalError>,
    ) -> Result<Arc<WalGate>, JournalError> {
        let looking = |error| JournalError::of_io(file, "looking at it", error);
        let mut gates = lock(&GATES);
        let gates = gates.get_or_insert_default();
        let known = |gates: &HashMap<FileId, Weak<WalGate>>, id| gates.get(&id).and_then(Weak::upgrade);
        let at_path = FileId::of(&fs::metadata(file).map_err(looking)?);
        if let Some(gate) = known(gates, at_path) {
            return Ok(gate);
        }
        let opened = File::open(file).map_err(looking)?;
        let id = FileId::of(&opened.metadata().map_err(looking)?);
        if let Some(gate) = known(gates, id) {
            lock(&gate.handles).push(opened);
            return Ok(gate);
        }
        first(&opened)?;
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::new(WalGate::new(id, vec![opened]));
        gates.insert(id, Arc::downgrade(&gate));
        Ok(gate)
    }

    fn new(file: FileId, handles: Vec<File>) -> WalGate {
        WalGate {
            file,
            handles: Mutex::new(handles),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Which file it is.
    pub(super) fn file(&self) -> FileId {
        self.file
    }

    /// Closes the gate, or keeps it closed, for [`CLOSED_MAX`] from `now` on. False: it has to stay open.
    pub(super) fn close(&self, now: Instant) -> bool {
        let mut state = self.lock();
        if state.open_until.is_some_and(|until| now < until) {
            return false;
        }
        state.closed_until = Some(now + CLOSED_MAX);
        true
    }

    /// Whether no reader of this process is inside.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().inside == 0
    }

    /// Waits until no reader of this process is inside, at most until `deadline`.
    pub(super) fn wait_for_readers(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), left, |state| state.inside > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Opens the gate for at least [`OPEN_MIN`]: the log could not be restarted.
    pub(super) fn open_for_a_while(&self, now: Instant) {
        self.open_until(Some(now + OPEN_MIN));
    }

    /// Opens the gate: the log has been restarted or is short.
    pub(super) fn open(&self) {
        self.open_until(None);
    }

    /// Waits until the gate is open, at most [`CLOSED_MAX`].
    pub(super) fn admit(self: &Arc<Self>) -> Admitted {
        let mut state = self.lock();
        let deadline = Instant::now() + CLOSED_MAX;
        while let Some(until) = state.closed_until {
            let left = until.min(deadline).saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.inside += 1;
        Admitted(Arc::clone(self))
    }

    /// Whether a reader would have to wait at `now`.
    #[cfg(test)]
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.lock().closed_until.is_some_and(|until| now < until)
    }

    fn open_until(&self, open_until: Option<Instant>) {
        let mut state = self.lock();
        let was_closed = state.closed_until.take().is_some();
        state.open_until = open_until;
        if was_closed {
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn gate() -> WalGate {
        let file = FileId::at(Path::new("/")).unwrap().unwrap();
        WalGate::new(file, Vec::new())
    }

    #[test]
    fn a_gate_opens_by_itself_and_stays_open_for_a_while_where_closing_did_not_help() {
        let gate = gate();
        let start = Instant::now();
        assert!(gate.close(start));
        assert!(gate.is_closed(start));
        assert!(!gate.is_closed(start + CLOSED_MAX));
        gate.open_for_a_while(start);
        assert!(!gate.close(start + OPEN_MIN / 2));
        assert!(!gate.is_closed(start + OPEN_MIN / 2));
        assert!(gate.close(start + OPEN_MIN));
    }

    #[test]
    fn a_restarted_log_lets_readers_in_and_the_gate_may_close_again_at_once() {
        let gate = gate();
        let now = Instant::now();
        gate.close(now);
        gate.open();
        assert!(!gate.is_closed(now));
        gate.close(now);
        assert!(gate.is_closed(now));
    }

    #[test]
    fn a_waiting_reader_enters_when_the_gate_opens() {
        let gate = Arc::new(gate());
        // In the future, so that the gate does not open by itself during the test.
        gate.close(Instant::now() + Duration::from_secs(3600));
        let entered = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                gate.admit();
                entered.store(true, Ordering::SeqCst);
            });
            assert!(!entered.load(Ordering::SeqCst));
            gate.open();
            reader.join().unwrap();
        });
        assert!(entered.load(Ordering::SeqCst));
    }

    #[test]
    fn the_writer_waits_for_readers_to_leave_and_not_for_longer_than_it_wants() {
        let gate = Arc::new(gate());
        let reader = gate.admit();
        gate.wait_for_readers(Instant::now());
        assert!(!gate.is_empty());
        std::thread::scope(|scope| {
            let hour = Instant::now() + Duration::from_secs(3600);
            let gate = &gate;
            let writer = scope.spawn(move || gate.wait_for_readers(hour));
            drop(reader);
            writer.join().unwrap();
        });
        assert!(gate.is_empty());
    }

    #[test]
    fn a_file_has_one_gate_under_all_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "").unwrap();
        fs::hard_link(&one, &other).unwrap();
        let of = |file: &Path| WalGate::of(file, |_| Ok(())).unwrap();
        let gate = of(&one);
        assert!(Arc::ptr_eq(&gate, &of(&other)));
    }
}
