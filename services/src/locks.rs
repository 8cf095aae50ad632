//! Announces the holders of locks.

use bridge_core::journal::JournalError;
use bridge_core::record::{ServiceEvent, ServiceEventType};

use crate::announce::{Announcer, liveness, session};
use crate::decode::Mode;
use crate::election::candidate_name;
use crate::keys;
use crate::rows::{Cause, ElectionRow, Holder, QueuedRow, get, put, remove};

/// Candidates of one lock that are looked at; those after them wait.
const CANDIDATES_MAX: usize = 1_000;

impl Announcer<'_> {
    pub(crate) fn lock(&mut self, at: usize, lock: &str, cause: &Cause) -> Result<(), JournalError> {
        let section = &self.sections[at].name;
        let key = keys::election(section, lock);
        let Some(mut row) = get::<ElectionRow>(self.state, &key)? else {
            return Ok(());
        };
        let queue = self
            .state
            .scan(keys::queue(section, lock).bytes(), None, CANDIDATES_MAX)?;
        let queue: Vec<QueuedRow> = queue
            .iter()
            .filter_map(|(_, row)| serde_json::from_slice(row).ok())
            .collect();
        let holders = holders(&queue);
        let waiting = row.queue.saturating_sub(holders.len() as u64);
        let is_in = |list: &[Holder], holder: &Holder| {
            list.iter()
                .any(|other| other.path == holder.path && other.czxid == holder.czxid)
        };
        for gone in row.holders.iter().filter(|holder| !is_in(&holders, holder)) {
            let event = self.lock_event(ServiceEventType::LockReleased, at, lock, gone, cause);
            self.push(
                ServiceEvent {
                    waiting: Some(waiting),
                    ..event
                },
                lock,
                cause,
                &gone.path,
            );
        }
        for new in holders.iter().filter(|holder| !is_in(&row.holders, holder)) {
            let since = queue
                .iter()
                .find(|queued| queued.path == new.path)
                .map(|queued| queued.since);
            let waited = since.map(|since| cause.time.captured.0 - since.0);
            let event = self.lock_event(ServiceEventType::LockAcquired, at, lock, new, cause);
            let event = ServiceEvent {
                waiting: Some(waiting),
                waited_ms: waited,
                ..event
            };
            self.push(event, lock, cause, &new.path);
        }
        row.holders = holders;
        match row.queue {
            0 => remove(self.state, &key),
            _ => put(self.state, &key, &row),
        }
    }

    fn lock_event(
        &self,
        kind: ServiceEventType,
        at: usize,
        lock: &str,
        holder: &Holder,
        cause: &Cause,
    ) -> ServiceEvent {
        let mut event = self.event(kind, at, cause);
        lock.clone_into(&mut event.service);
        event.lock = Some(lock.to_owned());
        event.holder = Some(holder.name.clone());
        event.mode = Some(holder.mode.as_str().to_owned());
        event.session = session(holder.owner);
        event.liveness = Some(liveness(holder.owner));
        event.path.clone_from(&holder.path);
        event
    }
}

/// All leases; or the reads before the first write; or that write. A read with the number of a write belongs to the
/// writer itself, and holds beside it.
fn holders(queue: &[QueuedRow]) -> Vec<Holder> {
    let of_mode = |mode| queue.iter().filter(move |queued| queued.candidate.mode == mode);
    let write = of_mode(Mode::Write).min_by(|a, b| a.candidate.order.cmp(&b.candidate.order));
    let order = |queued: &QueuedRow| queued.candidate.order.clone();
    let reads = of_mode(Mode::Read).filter(|read| write.is_none_or(|write| order(read) <= order(write)));
    let reads: Vec<&QueuedRow> = reads.collect();
    let is_first = |write: &&QueuedRow| reads.iter().all(|read| order(read) >= order(write));
    let write = write.filter(is_first);
    let all = of_mode(Mode::Lease).chain(write).chain(reads.iter().copied());
    all.map(|queued| Holder {
        path: queued.path.clone(),
        czxid: queued.czxid,
        owner: queued.owner,
        name: candidate_name(&queued.candidate, queued.owner),
        mode: queued.candidate.mode,
    })
    .collect()
}
