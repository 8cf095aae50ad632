//! Recognizes a server that names the watched root in the events of the znodes below it.

/// Connections on which this must happen in a row.
pub(super) const DENIALS_MAX: u32 = 3;

/// How often in a row a read contradicted an event of a watched root.
#[derive(Debug, Default)]
pub(super) struct Denials {
    times: u32,
    /// Exact updates recorded until the last time: a further one proves that the server names the znode that changed.
    updates: u64,
}

impl Denials {
    /// Counts one more, and returns whether the limit is reached.
    pub(super) fn add(&mut self, updates: u64) -> bool {
        if updates != self.updates {
            *self = Denials { times: 0, updates };
        }
        self.times += 1;
        self.times >= DENIALS_MAX
    }
}
