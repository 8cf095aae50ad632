//! Why a connection ends, and what follows from each error of the files.

use std::time::Duration;

use bridge_core::source::SourceErrorKind;
use bridge_transactions::log_file::LogError;

use crate::observer::stage::StageError;
use crate::txnlog::base::BaseError;
use crate::txnlog::history::HistoryError;
use crate::txnlog::tail::TailError;

/// Why a connection ends.
pub(super) enum LogStop {
    /// The bridge stops, or the pipeline has ended.
    Asked,
    /// The machine asked for another one.
    Replace(Duration),
    /// A new leader has begun.
    NewLeader,
    /// The logs cannot be read on from the position; a snapshot is needed.
    Lost(String),
    /// Tried again.
    Failed(String),
    /// Not tried again.
    Final(SourceErrorKind, String),
}

impl From<HistoryError> for LogStop {
    fn from(error: HistoryError) -> LogStop {
        match &error {
            HistoryError::Tail(TailError::Log {
                path,
                cause: LogError::Foreign { .. },
            }) => LogStop::Failed(format!("{error}; move this file away: {}", path.display())),
            HistoryError::Tail(TailError::Log { .. }) => {
                let help = "nothing from it on is recorded: use capture = \"watch\" or a newer zkbridge";
                LogStop::Final(SourceErrorKind::Unsupported, format!("{error}; {help}"))
            }
            // The server took transactions back that were not committed: they are read again from the position on.
            HistoryError::Tail(_) => LogStop::Failed(error.to_string()),
            HistoryError::OtherHistory { .. } | HistoryError::Digest { .. } => {
                LogStop::Lost(error.to_string())
            }
        }
    }
}

impl From<BaseError> for LogStop {
    fn from(error: BaseError) -> LogStop {
        match error {
            BaseError::Stopped | BaseError::Stage(StageError::Stopped) => LogStop::Asked,
            BaseError::History(error) => error.into(),
            other => LogStop::Failed(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txnlog::folder::LogFolder;
    use crate::txnlog::history::{LogHistory, LogPosition};

    #[test]
    fn a_file_that_is_no_log_is_named_to_be_moved_away_and_the_logs_are_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let failed = |begin: &[u8]| {
            let path = folder.path().join("log.1");
            std::fs::write(&path, begin).unwrap();
            let begin = LogPosition {
                zxid: 0,
                payload_crc: None,
                digest: None,
            };
            let mut history = LogHistory::new(vec![LogFolder::new(folder.path())], begin, None);
            let stop = LogStop::from(history.poll().unwrap_err());
            (stop, format!("move this file away: {}", path.display()))
        };
        for begin in [b"2026-01-01 INFO started".as_slice(), &[0; 64]] {
            let (stop, remedy) = failed(begin);
            let LogStop::Failed(message) = stop else {
                panic!("it is tried again")
            };
            assert!(message.ends_with(&remedy), "{message}");
        }
        let (stop, _) = failed(b"ZKLG\0\0\0\x09 ... of another format");
        assert!(matches!(stop, LogStop::Final(SourceErrorKind::Unsupported, _)));
    }
}
