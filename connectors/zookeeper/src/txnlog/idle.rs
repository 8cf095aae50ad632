//! Notices logs in which nothing follows although the ensemble goes on: they are damaged, or not those that are written.

use std::time::{Duration, Instant};

use bridge_transactions::transaction::counter;

use super::history::LogHistory;

/// How long nothing may be taken before servers are asked. The second answer is a reason to begin again: what a server
/// had applied at the first is in its log by then.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// The time since which nothing was taken from the logs.
pub(super) struct Idle {
    position: i64,
    since: Instant,
    /// The fault at the last question, if there was one.
    suspected: Option<Suspicion>,
}

/// The state of the ensemble at a question.
enum Suspicion {
    /// No server says which transactions are committed.
    Unknown,
    /// A server has applied this transaction, which is not taken.
    Ahead(i64),
}

impl Idle {
    /// Nothing has been taken.
    pub fn new() -> Idle {
        Idle {
            position: 0,
            since: Instant::now(),
            suspected: None,
        }
    }

    /// Whether the servers are to be asked now.
    pub fn is_due(&mut self, history: Option<&LogHistory>, now: Instant) -> bool {
        let position = history.map(|history| history.position().zxid);
        if position != Some(self.position) {
            self.position = position.unwrap_or_default();
            self.since = now;
            self.suspected = None;
        }
        position.is_some() && now.duration_since(self.since) >= ASK_EVERY
    }

    /// Takes the answers of the servers to the question. Returns the reason for which the logs cannot be read on, if the
    /// same was seen at the question before.
    pub fn answered(
        &mut self,
        history: &LogHistory,
        answers: Result<Vec<i64>, String>,
        now: Instant,
    ) -> Option<String> {
        self.since = now;
        let newest = match answers {
            Ok(applied) => applied.into_iter().max().unwrap_or_default(),
            Err(reason) => {
                let is_repeated = matches!(
                    self.suspected.replace(Suspicion::Unknown),
                    Some(Suspicion::Unknown)
                );
                return is_repeated.then_some(reason);
            }
        };
        if has_reached(history, newest, false) {
            self.suspected = None;
            return None;
        }
        let position = history.position().zxid;
        if counter(newest) == 0 || history.awaits_digest() {
            // The last transactions of the leader before wait for the first of this one that has a digest.
            if self.suspected.replace(Suspicion::Ahead(newest)).is_none() {
                tracing::warn!(
                    "the transactions after 0x{position:016x} are recorded once the new leader has logged its first that \
                     is no failed request"
                );
            }
            return None;
        }
        let Some(Suspicion::Ahead(before)) = self.suspected.replace(Suspicion::Ahead(newest)) else {
            return None;
        };
        let reason = match history.obstacles().next() {
            Some(obstacle) => format!(
                "{} has no whole transaction at byte {}{}: examine it with zkbridge log --check, and name the folders of \
                 more servers in [source.txnlog] directories",
                obstacle.path.display(),
                obstacle.at,
                obstacle
                    .fault
                    .map_or_else(String::new, |fault| format!(" ({fault})"))
            ),
            None => "name the dataLogDir of a server that runs in [source.txnlog] directories".to_owned(),
        };
        let end = history.end();
        Some(format!(
            "the logs end at 0x{end:016x}, and a server has applied 0x{before:016x}: {reason}"
        ))
    }
}

/// Whether the history has everything that a server has applied. A leader that has logged nothing has no transaction of
/// its own: then everything is taken once the last poll has found nothing more.
pub(super) fn has_reached(history: &LogHistory, newest: i64, has_more: bool) -> bool {
    history.position().zxid >= newest || (counter(newest) == 0 && !has_more && history.is_empty())
}

#[cfg(test)]
mod tests {
    use bridge_transactions::testing;
    use bridge_transactions::transaction::Transaction;

    use super::super::folder::LogFolder;
    use super::super::history::LogPosition;
    use super::*;

    const EPOCH: i64 = 1 << 32;

    /// The history after the first transaction of a log with this many, and perhaps some bytes that are none.
    fn history(folder: &tempfile::TempDir, count: i64, rest: &[u8]) -> LogHistory {
        let transactions: Vec<Transaction> = (1..=count)
            .map(|at| testing::a_create(EPOCH + at, "/a"))
            .collect();
        let bytes = [testing::log_file(&transactions), rest.to_vec()].concat();
        std::fs::write(folder.path().join("log.100000001"), bytes).unwrap();
        let begin = LogPosition {
            zxid: EPOCH + 1,
            payload_crc: None,
            digest: None,
        };
        let mut history = LogHistory::new(vec![LogFolder::new(folder.path())], begin, None);
        history.poll().unwrap();
        history
    }

    /// The reason after so many questions with these answers, one of them too early.
    fn reason(history: &LogHistory, answers: &[Result<i64, &str>]) -> Option<String> {
        let mut idle = Idle::new();
        let mut now = Instant::now();
        assert!(!idle.is_due(Some(history), now));
        let mut reason = None;
        for answer in answers {
            assert!(!idle.is_due(Some(history), now + ASK_EVERY / 2));
            now += ASK_EVERY;
            assert!(idle.is_due(Some(history), now));
            let answer = answer.map(|zxid| vec![EPOCH, zxid]).map_err(str::to_owned);
            reason = idle.answered(history, answer, now);
        }
        reason
    }

    #[test]
    fn logs_that_end_before_what_a_server_has_applied_are_reported_at_the_second_question() {
        let folder = tempfile::tempdir().unwrap();
        let history = history(&folder, 1, &[]);
        let ahead = Ok(EPOCH + 9);
        assert_eq!(reason(&history, &[ahead]), None);
        let found = reason(&history, &[ahead, Ok(EPOCH + 11)]).unwrap();
        let expected = "the logs end at 0x0000000100000001, and a server has applied 0x0000000100000009: name the dataLogDir";
        assert!(found.starts_with(expected), "{found}");
        let reached = Ok(EPOCH + 1);
        assert_eq!(reason(&history, &[ahead, reached, ahead]), None);
        assert_eq!(reason(&history, &[reached, reached, reached]), None);
    }

    #[test]
    fn the_end_of_logs_of_which_nothing_is_known_to_be_committed_is_theirs_and_not_the_position() {
        let folder = tempfile::tempdir().unwrap();
        let history = history(&folder, 3, &[]);
        assert_eq!(history.position().zxid, EPOCH + 1);
        let ahead = Ok(2 * EPOCH + 9);
        let found = reason(&history, &[ahead, ahead]).unwrap();
        let expected = "the logs end at 0x0000000100000003, and a server has applied 0x0000000200000009";
        assert!(found.starts_with(expected), "{found}");
    }

    #[test]
    fn damage_at_the_end_of_the_logs_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let history = history(&folder, 1, &[7; 40]);
        let ahead = Ok(EPOCH + 9);
        let found = reason(&history, &[ahead, ahead]).unwrap();
        assert!(
            found.contains("log.100000001 has no whole transaction at byte ")
                && found.contains("log --check"),
            "{found}"
        );
    }

    #[test]
    fn servers_that_say_nothing_twice_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let history = history(&folder, 1, &[]);
        assert_eq!(reason(&history, &[Err("no server")]), None);
        assert_eq!(
            reason(&history, &[Err("no server"), Err("none")]).as_deref(),
            Some("none")
        );
    }

    #[test]
    fn a_leader_that_has_logged_nothing_is_reached_when_the_logs_have_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let all = history(&folder, 1, &[]);
        let elected = 5 * EPOCH;
        assert!(has_reached(&all, elected, false) && has_reached(&all, EPOCH + 1, true));
        assert!(!has_reached(&all, elected + 1, false) && !has_reached(&all, elected, true));
        let waits = history(&folder, 2, &[]);
        assert!(!has_reached(&waits, elected, false), "{waits:?}");
        assert_eq!(reason(&waits, &[Ok(elected), Ok(elected), Ok(elected)]), None);
    }

    #[test]
    fn a_history_that_goes_on_or_is_not_read_is_not_idle() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = history(&folder, 2, &[]);
        let mut idle = Idle::new();
        let began = Instant::now();
        assert!(!idle.is_due(Some(&history), began));
        history.applied(EPOCH + 2);
        assert_eq!(history.poll().unwrap().len(), 1);
        assert!(!idle.is_due(Some(&history), began + ASK_EVERY));
        assert!(idle.is_due(Some(&history), began + 2 * ASK_EVERY));
        assert!(!idle.is_due(None, began + 3 * ASK_EVERY));
        assert!(!idle.is_due(Some(&history), began + 3 * ASK_EVERY));
    }
}
