//! The work of a connection, and why it does not go on.

use crate::observer::stage::Stage;
use crate::txnlog::history::LogHistory;

/// The work of the present connection.
pub(super) enum LogWork {
    /// The machine has not stated its position.
    Connected,
    /// A snapshot and the transactions after it become an exact tree.
    Staging {
        stage: Box<Stage>,
        history: LogHistory,
        /// The zxid and the name of the snapshot.
        base: (i64, String),
        /// The last transaction that the ensemble had applied when the snapshot had been read: it has none after it.
        newest: i64,
    },
    /// The tree is exact, and the machine reads it.
    Staged(Box<Stage>, LogHistory),
    /// Transactions go to the machine.
    Following {
        history: LogHistory,
        is_up_to_date: bool,
    },
}

impl LogWork {
    /// The history, if transactions are taken from it.
    pub(super) fn read(&self) -> Option<&LogHistory> {
        match self {
            LogWork::Connected | LogWork::Staged(..) => None,
            LogWork::Staging { history, .. } | LogWork::Following { history, .. } => Some(history),
        }
    }

    pub(super) fn history(&mut self) -> Option<&mut LogHistory> {
        match self {
            LogWork::Connected => None,
            LogWork::Staging { history, .. }
            | LogWork::Staged(_, history)
            | LogWork::Following { history, .. } => Some(history),
        }
    }
}

/// Why nothing goes on, although the ensemble does.
pub(super) fn stuck(work: &mut LogWork) -> Option<String> {
    if let LogWork::Staging {
        stage,
        history,
        base: (zxid, name),
        ..
    } = work
    {
        if stage.is_contradicted() {
            return Some(format!(
                "{name}: with the logs after it, its tree has another digest than the servers wrote: the logs lack a \
                 transaction, or the snapshot has one that was never committed; the next older snapshot is tried. Name \
                 the folders of more servers in [source.txnlog] directories, or move this file away, if it goes on"
            ));
        }
        if stage.exact_at().is_some() && !stage.is_proved() && !history.is_committed(*zxid) {
            return Some(format!(
                "{name}: nothing shows that 0x{zxid:016x} was committed: no server of 'connect' has applied it or a later \
                 transaction of its leader, and no log goes on with the next leader's first one. It is believed once the \
                 ensemble writes; name the folders of more servers in [source.txnlog] directories if it does"
            ));
        }
    }
    let hole = work.history()?.hole()?;
    Some(format!(
        "the logs have no transaction between 0x{:016x} and 0x{:016x}, or nothing shows that there is none: name the \
         folders of more servers in [source.txnlog] directories",
        hole.last, hole.next
    ))
}
