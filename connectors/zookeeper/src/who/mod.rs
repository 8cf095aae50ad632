//! Finds the owners of sessions: the address of a client from the servers, its user from their audit logs.
//!
//! Transactions name sessions only. A task asks the servers from time to time, and sooner if a session has come that is
//! not known, and reads what is new in the audit logs. The driver takes what has become known before it reports
//! transactions, and never waits for it: a record whose session is not known yet goes without.

mod audit;
mod connections;
mod options;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bridge_core::number::SessionId;
use bridge_core::source::SessionOwner;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

pub use options::WhoOptions;

use audit::AuditLog;
use connections::Asked;

/// Sessions that are remembered. With more, all are forgotten and learned again.
const SESSIONS_MAX: usize = 65_536;

/// The least time between two questions, however many new sessions come.
const ASK_LEAST: Duration = Duration::from_secs(1);

/// Finds out who has the sessions of an ensemble.
pub(crate) struct Who {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<Knowledge>,
    /// A session has come that is not known.
    wanted: Notify,
}

#[derive(Default)]
struct Knowledge {
    known: HashMap<SessionId, Owner>,
    /// Those of them that the driver has not taken.
    news: HashSet<SessionId>,
    /// Sessions that were asked for and not found, so that each is asked for once.
    unknown: HashSet<SessionId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Owner {
    client: Option<Arc<str>>,
    user: Option<Arc<str>>,
}

impl Knowledge {
    fn learn(&mut self, session: SessionId, client: Option<&str>, user: Option<&str>) {
        if self.known.len() >= SESSIONS_MAX && !self.known.contains_key(&session) {
            *self = Knowledge::default();
        }
        let owner = self.known.entry(session).or_default();
        let mut is_new = false;
        for (known, found) in [(&mut owner.client, client), (&mut owner.user, user)] {
            if found.is_some() && known.as_deref() != found {
                *known = found.map(Arc::from);
                is_new = true;
            }
        }
        if is_new {
            self.news.insert(session);
        }
        self.unknown.remove(&session);
    }

    /// The owners that have become known, and whether one of these sessions is unknown and was not asked for yet.
    fn take(&mut self, sessions: impl Iterator<Item = SessionId>) -> (Vec<SessionOwner>, bool) {
        let mut is_wanted = false;
        for session in sessions.filter(|session| *session != SessionId::NONE) {
            if !self.known.contains_key(&session) {
                if self.unknown.len() >= SESSIONS_MAX {
                    self.unknown.clear();
                }
                is_wanted |= self.unknown.insert(session);
            }
        }
        let news = std::mem::take(&mut self.news);
        let owners = news.into_iter().filter_map(|session| {
            let owner = self.known.get(&session)?.clone();
            Some(SessionOwner {
                session,
                client: owner.client,
                user: owner.user,
            })
        });
        (owners.collect(), is_wanted)
    }
}

impl Who {
    /// Begins to ask. Needs a runtime.
    pub(crate) fn start(options: &WhoOptions) -> Who {
        let shared = Arc::<Shared>::default();
        let stop = CancellationToken::new();
        let watching = watch(options.clone(), Arc::clone(&shared), stop.clone());
        Who {
            task: tokio::spawn(watching),
            shared,
            stop,
        }
    }

    /// The owners that have become known since the last call. `sessions` are those of the transactions that follow.
    pub(crate) fn news(&self, sessions: impl Iterator<Item = SessionId>) -> Vec<SessionOwner> {
        let (news, is_wanted) = self.shared.lock().take(sessions);
        if is_wanted {
            self.shared.wanted.notify_one();
        }
        news
    }

    /// Ends the task, which gives up its waits.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Knowledge> {
        self.state.lock().expect("no holder of the sessions panics")
    }
}

/// The Java system properties of each AdminServer of the options, or the reason why there are none, for `doctor`.
pub async fn system_properties(
    options: &WhoOptions,
) -> Vec<(String, Result<BTreeMap<String, String>, String>)> {
    let servers = options.admin.iter().flat_map(|admin| admin.servers());
    let asked = servers.map(|server| async move {
        let name = format!("{}:{}", server.host, server.port);
        (name, connections::properties_of(server).await)
    });
    futures::future::join_all(asked).await
}

async fn watch(options: WhoOptions, shared: Arc<Shared>, stop: CancellationToken) {
    let mut asked = Asked::new(&options);
    let mut logs: Vec<AuditLog> = options
        .audit_logs
        .iter()
        .map(|path| AuditLog::new(path))
        .collect();
    loop {
        let began = Instant::now();
        let looked = async {
            for (session, client) in asked.ask().await {
                shared.lock().learn(session, Some(&client), None);
            }
            logs = read_logs(std::mem::take(&mut logs), &shared).await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = looked => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = shared.wanted.notified() => {}
            () = sleep(options.every.0) => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep_until(began + ASK_LEAST) => {}
        }
    }
}

/// Reads what is new in the logs, which may be on a slow disk.
async fn read_logs(mut logs: Vec<AuditLog>, shared: &Arc<Shared>) -> Vec<AuditLog> {
    if logs.is_empty() {
        return logs;
    }
    let shared = Arc::clone(shared);
    let reading = tokio::task::spawn_blocking(move || {
        for log in &mut logs {
            log.read(|session, user| shared.lock().learn(session, None, Some(user)));
        }
        logs
    });
    // The runtime ends: nothing is read any more.
    reading.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(session: u64, client: Option<&str>, user: Option<&str>) -> SessionOwner {
        SessionOwner {
            session: SessionId(session),
            client: client.map(Arc::from),
            user: user.map(Arc::from),
        }
    }

    #[test]
    fn what_becomes_known_of_a_session_is_taken_once_and_joined() {
        let mut known = Knowledge::default();
        let none = std::iter::empty;
        known.learn(SessionId(1), Some("10.0.0.7:1"), None);
        known.learn(SessionId(1), None, Some("alice"));
        let (news, _) = known.take(none());
        assert_eq!(news, [owner(1, Some("10.0.0.7:1"), Some("alice"))]);
        known.learn(SessionId(1), Some("10.0.0.7:1"), None);
        assert_eq!(known.take(none()).0, []);
        // The client has reconnected from another port.
        known.learn(SessionId(1), Some("10.0.0.7:2"), None);
        let (news, _) = known.take(none());
        assert_eq!(news, [owner(1, Some("10.0.0.7:2"), Some("alice"))]);
    }

    #[test]
    fn a_session_that_is_not_known_is_asked_for_once_and_the_server_itself_never() {
        let mut known = Knowledge::default();
        let mut wants = |session: u64| known.take(std::iter::once(SessionId(session))).1;
        assert!(!wants(0));
        assert!(wants(5));
        assert!(!wants(5));
        assert!(wants(6));
        known.learn(SessionId(7), Some("10.0.0.7:1"), None);
        assert!(!known.take(std::iter::once(SessionId(7))).1);
    }

    #[test]
    fn sessions_that_are_remembered_have_a_limit() {
        let mut known = Knowledge::default();
        for session in 0..SESSIONS_MAX as u64 + 10 {
            known.learn(SessionId(session + 1), Some("10.0.0.7:1"), None);
        }
        assert!(known.known.len() <= SESSIONS_MAX);
        assert!(known.known.contains_key(&SessionId(SESSIONS_MAX as u64 + 10)));
    }
}
