//! The wrong habits of bridges, each of which the simulator must catch. They live outside of the product: as a
//! connection, a journal or a worker that lies to it.

/// One wrong habit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// The tree is read before the watch is there: the connection says "armed" before it has asked for the watch.
    WalkBeforeArmed,
    /// A connection that comes back says nothing: its watch is believed to have seen everything.
    WatchTrusted,
    /// A znode that shows the same version is taken for the same znode.
    VersionOnly,
    /// A znode that is not listed is deleted, without regard to the parent's `pzxid`.
    DeleteWithoutProof,
    /// No `sync` after the watch is armed.
    NoSync,
    /// The image is stored only when the sinks have acknowledged.
    CheckpointAfterAck,
    /// A value is taken for that of the event that led to its read.
    WrongZxid,
    /// When a znode was created again, all that the image has below it is dropped.
    ChildrenDroppedWithParent,
    /// A cursor is stored before the destination has answered.
    CursorBeforeAck,
    /// An access control list is taken for that of the read that asked for it.
    ListUnchecked,
    /// The progress of a worker skips records: one of its reports never comes.
    ProgressSkipped,
    /// Each record is committed by itself.
    TornMulti,
    /// The journal keeps another Stat than the machine decided on: one bit of one field, by its number.
    StatFlipped(u8),
    /// Each write of a transaction has a record of its own.
    Unfolded,
    /// The journal keeps no znode that may not be read.
    UnreadableUnsaid,
    /// A znode that may not be read is said to be known until it was found.
    UnreadableLate,
    /// It says ahead of time until when capture is live.
    LiveAhead,
    /// Capture is said to be live without a watch, too.
    LiveWithoutWatch,
    /// Capture is said to be live as soon as the process goes on after it stood still.
    LiveAfterStop,
}
