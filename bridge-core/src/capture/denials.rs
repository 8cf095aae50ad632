//! When a server is blamed for naming the watched root where a znode below it changed.

/// Connections on which it must have been so.
pub(super) const DENIALS_MAX: u32 = 3;

/// How often in a row the reads of a server denied what it had told of a watched root.
#[derive(Debug, Default)]
pub(super) struct Denials {
    times: u32,
    /// Updates that were told exactly by the last time: one more proves that the server names what changed.
    updates: u64,
}

impl Denials {
    /// Takes up one more; whether it was so often enough.
    pub(super) fn add(&mut self, updates: u64) -> bool {
        if updates != self.updates {
            *self = Denials { times: 0, updates };
        }
        self.times += 1;
        self.times >= DENIALS_MAX
    }
}
