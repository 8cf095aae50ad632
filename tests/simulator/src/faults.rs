//! Injects one fault at a time, as far as the plan of the seed allows.

use bridge_core::capture::{AclMode, Ticket};
use bridge_core::path::ZnodePath;
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::coverage::Seen;
use crate::ensemble::Op;
use crate::world::World;

/// How long a server that was cut off from its leader may go on answering.
const ISOLATED_MS: u64 = 2_500;
/// The same where it takes longer to know, by the usual `syncLimit` and more.
const ISOLATED_FOR_LONG_MS: u64 = 14_000;

/// How long the bridge is stopped: longer than a lost connection may look live.
const SUSPENDED_MS: std::ops::Range<u64> = 61_000..600_000;

/// Every so many requests a list changes before they are answered, where lists are read.
const LIST_CHANGES_EVERY: u64 = 5;

/// Whether the plan knows a fault, its weight, and the fault.
type Row = (bool, u32, fn(&mut World));

impl World {
    /// One fault of those that the plan knows.
    pub(crate) fn fault(&mut self) {
        let plan = self.plan.faults;
        let table: [Row; 17] = [
            (plan.cuts, 4, World::cut),
            (plan.cuts, 1, World::drop_session),
            (plan.losses, 2, World::half_open),
            (plan.losses, 1, World::lose_for_long),
            (plan.elections, 2, World::elect),
            (plan.elections, 2, World::crash_or_start),
            (plan.isolation, 6, World::isolate),
            (plan.permissions, 2, World::withdraw),
            (plan.permissions, 2, World::grant),
            (plan.lost_watches, 1, World::lose_watches),
            (plan.rewinds, 1, World::rewind),
            (plan.kills, 2, World::kill_if_up),
            (plan.kills, 1, World::power),
            (plan.full, 2, World::fill_disk),
            (plan.full, 2, World::limit_journal),
            (plan.clock, 1, World::jump_clock),
            (plan.suspends, 1, World::suspend),
        ];
        let total: u32 = table.iter().filter(|row| row.0).map(|row| row.1).sum();
        if total == 0 {
            return;
        }
        let mut drawn = self.random.random_range(0..total);
        for (_, weight, fault) in table.iter().filter(|row| row.0) {
            if drawn < *weight {
                return fault(self);
            }
            drawn -= weight;
        }
    }

    /// Ends what lasts only for a while.
    pub(crate) fn end_passing_faults(&mut self) {
        if self.isolated_until_ms.is_some_and(|until| until <= self.now_ms) {
            self.isolated_until_ms = None;
            for server in 0..self.plan.servers {
                if self.ensemble.servers[server].is_isolated {
                    self.close_connections_of(server);
                    self.ensemble.rejoin(server);
                }
            }
        }
        if self.session_ends_ms.is_some_and(|at| at <= self.now_ms) {
            self.session_ends_ms = None;
            self.drop_session();
        }
        if self.half_open_until_ms.is_some_and(|until| until <= self.now_ms) {
            self.half_open_until_ms = None;
            self.lose_connection();
        }
    }

    fn lose_connection(&mut self) {
        let (now_ms, seen) = (self.now_ms, &mut self.seen);
        if let Some(bridge) = &mut self.bridge {
            bridge.client.lose(now_ms, seen);
        }
    }

    fn cut(&mut self) {
        self.trace(|| "the connection is cut".into());
        self.lose_connection();
    }

    /// The session ends: nothing keeps the next one from a server that knows less.
    fn drop_session(&mut self) {
        self.trace(|| "the session ends".into());
        self.seen.see(Seen::Expired);
        self.lose_connection();
        if let Some(bridge) = &mut self.bridge {
            bridge.client.forget_session();
        }
    }

    fn half_open(&mut self) {
        let wire = self
            .bridge
            .as_mut()
            .and_then(|bridge| bridge.client.wire.as_mut());
        if let Some(wire) = wire {
            wire.is_half_open = true;
            self.seen.see(Seen::HalfOpen);
            self.half_open_until_ms = Some(self.now_ms + self.random.random_range(50..2_000));
        }
    }

    fn lose_for_long(&mut self) {
        self.lose_connection();
        let until = self.now_ms + self.plan.session_ms + self.random.random_range(1..500);
        if let Some(bridge) = &mut self.bridge {
            bridge.client.stay_away(until);
            self.seen.see(Seen::LongLoss);
        }
    }

    fn close_connections_of(&mut self, server: usize) {
        let wire = self
            .bridge
            .as_ref()
            .and_then(|bridge| bridge.client.wire.as_ref());
        if wire.is_some_and(|wire| wire.server == server) {
            self.lose_connection();
        }
    }

    /// A server that takes part in an election closes its connections, and has everything that was committed
    /// afterwards.
    fn elect(&mut self) {
        self.trace(|| "a new leader".into());
        self.seen.see(Seen::Elected);
        let (leader, leaves_one) = (
            self.random.random_range(0..self.plan.servers),
            self.random.random_bool(0.5),
        );
        self.ensemble.elect();
        for server in 0..self.plan.servers {
            let stays_behind = leaves_one && server != leader && self.plan.faults.isolation;
            if stays_behind && self.isolated_until_ms.is_none() {
                // It has not heard of the election yet.
                self.cut_off(server);
                continue;
            }
            self.close_connections_of(server);
            if self.ensemble.servers[server].is_up && !self.ensemble.servers[server].is_isolated {
                self.ensemble.rejoin(server);
            }
        }
    }

    fn crash_or_start(&mut self) {
        let server = self.random.random_range(0..self.plan.servers);
        if !self.ensemble.servers[server].is_up {
            return self.ensemble.rejoin(server);
        }
        let up = self.ensemble.servers.iter().filter(|server| server.is_up).count();
        if up * 2 > self.plan.servers + 1 {
            self.trace(|| format!("server {server} is killed"));
            self.seen.see(Seen::Crashed);
            self.close_connections_of(server);
            self.ensemble.servers[server].is_up = false;
            self.ensemble.servers[server].is_isolated = false;
        }
    }

    fn isolate(&mut self) {
        if self.plan.servers > 1 && self.isolated_until_ms.is_none() {
            let server = self.random.random_range(0..self.plan.servers);
            self.cut_off(server);
            if self.random.random_bool(0.7) {
                // Later, when the others have gone on without it, by little or by much.
                let after = *[100, 300, 1_000].choose(&mut self.random).unwrap_or(&300);
                self.session_ends_ms = Some(self.now_ms + self.random.random_range(0..after));
            }
        }
    }

    fn cut_off(&mut self, server: usize) {
        self.trace(|| format!("server {server} is cut off"));
        self.seen.see(Seen::Isolated);
        self.was_isolated = true;
        self.ensemble.servers[server].is_isolated = true;
        let upto = match self.random.random_bool(0.04) {
            true => ISOLATED_FOR_LONG_MS,
            false => ISOLATED_MS,
        };
        self.isolated_until_ms = Some(self.now_ms + self.random.random_range(100..upto));
    }

    fn set_acl(&mut self, path: ZnodePath, readable: bool) {
        self.trace(|| format!("{path} readable: {readable}"));
        let time = self.wall().0;
        self.ensemble.commit(vec![Op::SetAcl(path, readable)], time);
    }

    /// Where lists are read, some change right before they are, or before their znode is.
    pub(crate) fn change_a_list(&mut self, ticket: Ticket, path: ZnodePath) {
        let is_readable = self
            .ensemble
            .head()
            .get(&path)
            .is_some_and(|znode| znode.readable);
        // Of its own making, so that this takes no chance of the seed's.
        let is_due = ticket.0 % LIST_CHANGES_EVERY == 1;
        if self.plan.capture.acls == AclMode::List && is_due && is_readable {
            self.set_acl(path, true);
        }
    }

    fn withdraw(&mut self) {
        let covered: Vec<ZnodePath> = self
            .ensemble
            .readable(&self.plan.capture.roots)
            .into_keys()
            .collect();
        if let Some(path) = covered.choose(&mut self.random).cloned() {
            self.excuses.lost_permission = true;
            self.seen.see(Seen::Withdrawn);
            self.set_acl(path, false);
        }
    }

    fn grant(&mut self) {
        let hidden = self.ensemble.unreadable(&self.plan.capture.roots);
        if let Some(path) = hidden.choose(&mut self.random).cloned() {
            self.seen.see(Seen::Granted);
            self.set_acl(path, true);
        }
    }

    /// At the end most seeds have no blind spot any more.
    pub(crate) fn grant_some(&mut self) {
        if self.random.random_bool(0.5) {
            for path in self.ensemble.unreadable(&self.plan.capture.roots) {
                self.seen.see(Seen::Granted);
                self.set_acl(path, true);
            }
        }
    }

    fn lose_watches(&mut self) {
        let wire = self
            .bridge
            .as_mut()
            .and_then(|bridge| bridge.client.wire.as_mut());
        if let Some(wire) = wire.filter(|wire| !wire.watches.is_empty()) {
            let kept = self.random.random_range(0..wire.watches.len());
            wire.watches.truncate(kept);
            self.excuses.lost_a_watch = true;
            self.seen.see(Seen::WatchLost);
            self.trace(|| "a watch is gone".into());
        }
    }

    /// The data directories are replaced by older copies.
    fn rewind(&mut self) {
        let entries = self.ensemble.log_len();
        if entries == 0 {
            return;
        }
        let back = self.random.random_range(1..=entries.min(60));
        let (keeps_epoch, is_in_place) = (self.random.random_bool(0.7), self.random.random_bool(0.2));
        self.trace(|| format!("set back by {back} transactions"));
        self.excuses.was_rewound = true;
        self.seen.see(Seen::Restored);
        if !keeps_epoch {
            self.seen.see(Seen::RestoredSameEpoch);
        }
        self.ensemble.restore(entries - back, keeps_epoch);
        self.isolated_until_ms = None;
        match is_in_place {
            // AdminServer's restore: the connection lives on, its watches do not.
            true => {
                self.seen.see(Seen::RestoredInPlace);
                self.excuses.lost_a_watch = true;
                let wire = self
                    .bridge
                    .as_mut()
                    .and_then(|bridge| bridge.client.wire.as_mut());
                if let Some(wire) = wire {
                    wire.watches.clear();
                }
            }
            false => self.lose_connection(),
        }
    }

    fn kill_if_up(&mut self) {
        if self.bridge.is_some() {
            self.kill();
        }
    }

    fn power(&mut self) {
        self.seen.see(Seen::PowerLost);
        self.kill_if_up();
        self.lose_power();
    }

    fn fill_disk(&mut self) {
        let mut faults = self.disk_faults.borrow_mut();
        faults.disk_is_full = !faults.disk_is_full;
        if faults.disk_is_full {
            self.seen.see(Seen::DiskFull);
        }
    }

    /// Sometimes the disk is full after the steps of a batch and before its commit: nothing of them may be left. More often
    /// where the batch ends a comparison. Returns whether it was full before.
    pub(crate) fn fill_disk_at_commit(&mut self, is_compared: bool) -> bool {
        let plan = self.plan.faults;
        let has_reasons = plan.lost_watches || plan.permissions || plan.rewinds;
        let often = match (is_compared, plan.full) {
            (true, _) if has_reasons => 0.2,
            (_, true) => 0.01,
            _ => 0.0,
        };
        let has_batch = self.bridge.as_ref().is_some_and(|bridge| bridge.has_open_batch);
        let is_now = has_batch && !self.is_peace && often > 0.0 && self.random.random_bool(often);
        let mut faults = self.disk_faults.borrow_mut();
        let was_full = faults.disk_is_full;
        faults.disk_is_full |= is_now;
        was_full
    }

    fn limit_journal(&mut self) {
        let room = self.random.random_range(5..60);
        let mut faults = self.disk_faults.borrow_mut();
        faults.room = match faults.room {
            None => Some(room),
            Some(_) => None,
        };
    }

    /// The bridge's machine stands still while the ensemble goes on, and its session ends. At first its connection seems
    /// to be there.
    fn suspend(&mut self) {
        if self.bridge.is_none() {
            return;
        }
        self.trace(|| "the bridge stands still".into());
        self.seen.see(Seen::Suspended);
        self.half_open();
        for _ in 0..self.random.random_range(0..5) {
            self.write();
        }
        let (before, stood) = (self.now_ms, self.random.random_range(SUSPENDED_MS));
        self.now_ms += stood;
        // The rest of what lasts for a while goes on afterwards.
        self.half_open_until_ms = self.half_open_until_ms.map(|until| until.max(before) + stood);
    }

    fn jump_clock(&mut self) {
        self.seen.see(Seen::ClockJumped);
        self.clock_ms += self.random.random_range(-7_200_000..7_200_000);
    }
}
