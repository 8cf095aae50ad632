//! Authentication: named tokens, and sessions of browsers that a one-time code or a token opens.
//!
//! Everything is in memory: a restart closes the sessions. Secrets are compared in constant time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Extensions;
use bridge_config::HttpConfig;
use bridge_core::path::ZnodePath;
use bridge_core::secret::Secret;
use bridge_query::{Access as Shown, AllVisible, Visibility};
use bridge_zookeeper::config::PathGlob;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::problem::Problem;

/// A code is typed or clicked at once.
const CODE_LIFE: Duration = Duration::from_secs(60);

/// Codes that are not used yet.
const CODES_MAX: usize = 16;

/// A session ends after this time without a request.
const IDLE_MAX: Duration = Duration::from_secs(30 * 60);

/// A session ends after this time in any case: a working day.
pub(super) const SESSION_MAX: Duration = Duration::from_secs(8 * 60 * 60);

/// Open sessions; a new one closes the one that was idle for the longest time.
const SESSIONS_MAX: usize = 256;

/// Failed logins of all peers in [`FAILURE_WINDOW`], after which none is tried.
const FAILURES_MAX: usize = 5;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// The name of the caller that a one-time code lets in, for the audit line.
const OPERATOR: &str = "operator";

/// A caller with a valid credential.
#[derive(Clone)]
pub struct Caller {
    name: Arc<str>,
    sight: Arc<dyn Visibility>,
    is_restricted: bool,
    session: Option<Arc<str>>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.name).finish()
    }
}

impl Caller {
    /// Sees everything.
    fn unrestricted(name: &str) -> Caller {
        Caller {
            name: name.into(),
            sight: Arc::new(AllVisible),
            is_restricted: false,
            session: None,
        }
    }

    /// The caller that the guard has let in.
    pub(super) fn of(extensions: &Extensions) -> Result<Caller, Problem> {
        let caller = extensions.get::<Caller>();
        caller.cloned().ok_or_else(Problem::unauthorized)
    }

    /// The name of its token.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The records that it may see.
    pub(super) fn visibility(&self) -> Arc<dyn Visibility> {
        Arc::clone(&self.sight)
    }

    /// Whether it may see some znodes only, or no values.
    pub(super) fn is_restricted(&self) -> bool {
        self.is_restricted
    }
}

/// The restrictions of a token.
struct TokenSight {
    /// Empty: all znodes.
    paths: Vec<PathGlob>,
    has_values: bool,
}

impl Visibility for TokenSight {
    fn access(&self, path: &ZnodePath) -> Shown {
        let is_seen = self.paths.is_empty() || self.paths.iter().any(|glob| glob.takes(path));
        match (is_seen, self.has_values) {
            (false, _) => Shown::Hidden,
            (true, false) => Shown::Masked,
            (true, true) => Shown::Full,
        }
    }

    fn sees_below(&self, path: &ZnodePath) -> bool {
        self.access(path) != Shown::Hidden
            || self
                .paths
                .iter()
                .any(|glob| may_match_below(&glob.to_string(), path))
    }

    fn shows_all(&self) -> bool {
        self.paths.is_empty()
    }
}

/// Characters that make a part of a glob match several names.
const WILDCARDS: [char; 5] = ['*', '?', '[', '{', '\\'];

/// Whether a glob may match a path below another one, by its text before the first wildcard.
fn may_match_below(glob: &str, above: &ZnodePath) -> bool {
    let fixed = glob.split(WILDCARDS).next().unwrap_or_default();
    above.covers(fixed) || (fixed.len() < glob.len() && above.as_str().starts_with(fixed))
}

/// A token of the configuration.
struct KnownToken {
    token: Secret,
    caller: Caller,
}

/// The credentials of a bridge. Cheap to clone; all clones share the sessions.
#[derive(Clone)]
pub struct Access(Arc<Credentials>);

struct Credentials {
    tokens: Vec<KnownToken>,
    hosts: Vec<String>,
    state: Mutex<Logins>,
}

#[derive(Default)]
struct Logins {
    codes: VecDeque<Code>,
    sessions: Vec<OpenSession>,
    failures: VecDeque<Instant>,
}

struct Code {
    text: String,
    made: Instant,
}

struct OpenSession {
    id: Arc<str>,
    caller: Caller,
    opened: Instant,
    used: Instant,
}

impl OpenSession {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.used) >= IDLE_MAX || now.duration_since(self.opened) >= SESSION_MAX
    }
}

impl Access {
    /// The credentials of the configuration.
    pub fn new(config: &HttpConfig) -> Access {
        let mut tokens = Vec::new();
        if let Some(token) = &config.token {
            tokens.push(KnownToken {
                token: token.clone(),
                caller: Caller::unrestricted("default"),
            });
        }
        tokens.extend(config.tokens.iter().map(|named| {
            let sight = TokenSight {
                paths: named.paths.clone(),
                has_values: named.values,
            };
            KnownToken {
                token: named.token.clone(),
                caller: Caller {
                    name: (*named.name).into(),
                    is_restricted: !named.paths.is_empty() || !named.values,
                    sight: Arc::new(sight),
                    session: None,
                },
            }
        }));
        Access(Arc::new(Credentials {
            tokens,
            hosts: config.hosts.clone(),
            state: Mutex::default(),
        }))
    }

    /// Names in `Host` that are accepted besides addresses and localhost.
    pub(super) fn hosts(&self) -> &[String] {
        &self.0.hosts
    }

    /// The caller with this token. Compares all tokens, so that the time says nothing.
    pub(super) fn by_token(&self, given: &str) -> Option<Caller> {
        let mut found = None;
        for known in &self.0.tokens {
            if is_same(known.token.reveal(), given) {
                found = Some(&known.caller);
            }
        }
        found.cloned()
    }

    /// The caller of an open session, which is used by that.
    pub(super) fn by_session(&self, given: &str) -> Option<Caller> {
        let now = Instant::now();
        let mut logins = self.lock();
        logins.sessions.retain(|session| !session.is_over(now));
        let mut found = None;
        for session in &mut logins.sessions {
            if is_same(&session.id, given) {
                found = Some(session);
            }
        }
        found.map(|session| {
            session.used = now;
            session.caller.clone()
        })
    }

    /// Whether the caller may still ask: its session is open. Does not count as a use.
    pub(super) fn is_open(&self, caller: &Caller) -> bool {
        let Some(id) = &caller.session else { return true };
        let now = Instant::now();
        let logins = self.lock();
        logins
            .sessions
            .iter()
            .any(|session| session.id == *id && !session.is_over(now))
    }

    /// A code that opens one session within a minute.
    pub fn new_code(&self) -> String {
        let text = random_text();
        let mut logins = self.lock();
        while logins.codes.len() >= CODES_MAX {
            logins.codes.pop_front();
        }
        logins.codes.push_back(Code {
            text: text.clone(),
            made: Instant::now(),
        });
        text
    }

    /// Opens a session with a code or a token. Returns its id.
    pub(super) fn log_in(&self, code: Option<&str>, token: Option<&str>) -> Result<Arc<str>, Problem> {
        let now = Instant::now();
        let mut logins = self.lock();
        let is_old = |failure: &Instant| now.duration_since(*failure) >= FAILURE_WINDOW;
        logins.failures.retain(|failure| !is_old(failure));
        if logins.failures.len() >= FAILURES_MAX {
            return Err(Problem::too_many_logins(FAILURE_WINDOW.as_secs()));
        }
        let caller = match (code, token) {
            (Some(code), None) => logins.take_code(code, now),
            (None, Some(token)) => self.by_token(token),
            _ => None,
        };
        let Some(caller) = caller else {
            logins.failures.push_back(now);
            return Err(Problem::login_failed());
        };
        Ok(logins.open(caller, now))
    }

    /// Closes a session.
    pub(super) fn log_out(&self, caller: &Caller) {
        if let Some(id) = &caller.session {
            self.lock().sessions.retain(|session| session.id != *id);
        }
    }

    /// Nothing panics under this lock.
    fn lock(&self) -> MutexGuard<'_, Logins> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Logins {
    fn take_code(&mut self, given: &str, now: Instant) -> Option<Caller> {
        self.codes
            .retain(|code| now.duration_since(code.made) < CODE_LIFE);
        let mut found = None;
        for (at, code) in self.codes.iter().enumerate() {
            if is_same(&code.text, given) {
                found = Some(at);
            }
        }
        self.codes.remove(found?)?;
        Some(Caller::unrestricted(OPERATOR))
    }

    fn open(&mut self, caller: Caller, now: Instant) -> Arc<str> {
        self.sessions.retain(|session| !session.is_over(now));
        if self.sessions.len() >= SESSIONS_MAX {
            let idle = (0..self.sessions.len()).min_by_key(|at| self.sessions[*at].used);
            self.sessions.remove(idle.expect("there are sessions"));
        }
        let id: Arc<str> = random_text().into();
        self.sessions.push(OpenSession {
            id: Arc::clone(&id),
            caller: Caller {
                session: Some(Arc::clone(&id)),
                ..caller
            },
            opened: now,
            used: now,
        });
        id
    }
}

/// 244 random bits of the system.
fn random_text() -> String {
    let [one, other] = [Uuid::new_v4(), Uuid::new_v4()];
    format!("{}{}", one.simple(), other.simple())
}

fn is_same(known: &str, given: &str) -> bool {
    known.as_bytes().ct_eq(given.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access::new(&HttpConfig {
            token: Some(Secret::new("a token of sixteen")),
            ..HttpConfig::default()
        })
    }

    #[test]
    fn a_root_is_above_the_paths_that_a_glob_may_match_below_it() {
        let check = |glob: &str, above: &str, expected: bool| {
            let above = ZnodePath::parse(above).unwrap();
            assert_eq!(may_match_below(glob, &above), expected, "{glob} {above}");
        };
        check("/services", "/", true);
        check("/services/a", "/services", true);
        check("/services/*/a", "/services/x", true);
        check("/serv*/a", "/services", true);
        check("/**/lock-*", "/locks", true);
        check("/services", "/config", false);
        check("/services/*", "/service", false);
        check("/services/a", "/services/b", false);
    }

    #[test]
    fn a_code_opens_one_session_and_no_other() {
        let access = access();
        let code = access.new_code();
        let id = access.log_in(Some(&code), None).unwrap();
        let caller = access.by_session(&id).expect("the session is open");
        assert_eq!((caller.name(), caller.is_restricted()), (OPERATOR, false));
        assert!(access.log_in(Some(&code), None).is_err(), "the code is used");
        assert!(access.is_open(&caller));
        access.log_out(&caller);
        assert!(access.by_session(&id).is_none() && !access.is_open(&caller));
    }

    #[test]
    fn logins_that_fail_too_often_are_no_longer_tried() {
        let access = access();
        for _ in 0..FAILURES_MAX {
            assert!(access.log_in(None, Some("a wrong token")).is_err());
        }
        let code = access.new_code();
        assert!(access.log_in(Some(&code), None).is_err(), "not even with a code");
        assert!(access.by_token("a token of sixteen").is_some(), "requests go on");
    }

    #[test]
    fn a_login_needs_exactly_one_valid_secret() {
        let check = |code: Option<&str>, token: Option<&str>, is_in: bool| {
            assert_eq!(access().log_in(code, token).is_ok(), is_in, "{code:?} {token:?}");
        };
        check(None, Some("a token of sixteen"), true);
        check(None, Some("a token of sixtee"), false);
        check(None, None, false);
        check(Some(""), None, false);
        check(Some("x"), Some("a token of sixteen"), false);
    }

    #[test]
    fn the_number_of_codes_and_of_sessions_is_bounded() {
        let access = access();
        let first = access.new_code();
        for _ in 0..CODES_MAX {
            access.new_code();
        }
        assert!(
            access.log_in(Some(&first), None).is_err(),
            "the oldest code is gone"
        );
        let id = access.log_in(None, Some("a token of sixteen")).unwrap();
        for _ in 0..SESSIONS_MAX {
            access.log_in(None, Some("a token of sixteen")).unwrap();
        }
        assert!(
            access.by_session(&id).is_none(),
            "the one that was idle is closed"
        );
        assert_eq!(access.lock().sessions.len(), SESSIONS_MAX);
    }
}
