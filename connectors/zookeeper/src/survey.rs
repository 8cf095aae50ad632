//! Reads a tree independently of the watches, for commands that compare or measure it. It has a session of its own, and
//! never writes.

use bridge_core::capture::{Outcome, ReadRequest};
use bridge_core::path::ZnodePath;
use bridge_core::source::{SourceError, SourceErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use zookeeper_client::{Client, Error};

use crate::canary::try_out;
use crate::config::ZookeeperConfig;
use crate::connect::{answer_bound, connect, silent, throttled};
use crate::convert;
use crate::error::{Failure, of_request, words};
use crate::probe::is_new_enough;
use crate::throttle::Throttle;

/// A session that reads what it is asked for, with the credentials of a source.
pub struct Survey {
    pub(crate) client: Client,
    version: Option<Arc<str>>,
    config: ZookeeperConfig,
}

impl Survey {
    /// Makes the session.
    ///
    /// # Errors
    ///
    /// If no session can be made.
    pub async fn open(config: &ZookeeperConfig) -> Result<Survey, SourceError> {
        let connected = connect(config).await?;
        Ok(Survey {
            client: connected.client,
            version: connected.version,
            config: config.clone(),
        })
    }

    /// The version, where all servers that answer say the same.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether the servers are older than 3.6: they know no request that reads several znodes. Only a source that reads
    /// their files has such a survey.
    pub fn is_of_old_servers(&self) -> bool {
        self.version().is_some_and(|version| !is_new_enough(version))
    }

    /// The session timeout that the servers have granted.
    pub fn session_timeout(&self) -> Duration {
        self.client.session_timeout()
    }

    /// Whether the source captures a path that is below one of its roots.
    pub fn is_captured(&self, path: &str) -> bool {
        self.config.left_out_by(path).is_none()
    }

    /// Makes later reads at least as new as everything that any client has read before.
    ///
    /// # Errors
    ///
    /// If the session is lost, or the server refuses the request.
    pub async fn sync(&self) -> Result<(), SourceError> {
        self.bounded("sync", || self.client.sync("/")).await
    }

    /// Reads these znodes with the names of their children, in one request.
    ///
    /// # Errors
    ///
    /// If the session is lost, or the server refuses the request.
    pub async fn read(&self, paths: &[ZnodePath]) -> Result<Vec<Outcome>, SourceError> {
        let reads: Vec<ReadRequest> = paths
            .iter()
            .map(|path| ReadRequest {
                path: path.clone(),
                children: true,
            })
            .collect();
        let send = || {
            let mut reader = self.client.new_multi_reader();
            let added = paths.iter().try_for_each(|path| {
                reader.add_get_data(path)?;
                reader.add_get_children(path)
            });
            async move {
                added?;
                reader.commit().await
            }
        };
        let results = self.bounded("a read", send).await?;
        convert::outcomes(&reads, results).map_err(|error| self.failed("a read", &error))
    }

    /// The chroot of the connect string, if it does not exist: then nothing below it does.
    ///
    /// # Errors
    ///
    /// If the session is lost, or the server refuses the request.
    pub async fn missing_chroot(&self) -> Result<Option<ZnodePath>, SourceError> {
        let Some(chroot) = self.config.connect.chroot() else {
            return Ok(None);
        };
        let outcomes = self.read(&[ZnodePath::slash()]).await?;
        let is_missing = outcomes.first() == Some(&Outcome::Missing);
        Ok(is_missing.then(|| chroot.clone()))
    }

    /// The number of znodes below one; `None` if it may not be read or does not exist.
    ///
    /// # Errors
    ///
    /// If the session is lost, or the server refuses the request.
    pub async fn count_below(&self, path: &ZnodePath) -> Result<Option<u64>, SourceError> {
        let mut throttle = Throttle::default();
        let counting = throttle.unthrottled(|| self.client.count_descendants_number(path));
        let counted = timeout(self.bound(), counting).await;
        match counted {
            Ok(Ok(count)) => Ok(Some(count as u64)),
            Ok(Err(Error::NoNode | Error::NoAuth)) => Ok(None),
            Ok(Err(error)) => Err(self.failed("counting znodes", &error)),
            Err(_) => Err(self.unanswered("counting znodes", &throttle)),
        }
    }

    /// Whether a canary may be written: creates one, with its parent if that is missing, and deletes it again.
    ///
    /// # Errors
    ///
    /// If the znode cannot be written.
    pub async fn try_canary(&self) -> Result<(), SourceError> {
        let tried = timeout(self.bound(), try_out(&self.config, &self.client)).await;
        tried.unwrap_or_else(|_| Err(self.silent("writing the canary")))
    }

    /// Sends a request, and again while the server throttles it.
    pub(crate) async fn bounded<T, F: Future<Output = Result<T, Error>>>(
        &self,
        what: &str,
        send: impl Fn() -> F,
    ) -> Result<T, SourceError> {
        let mut throttle = Throttle::default();
        match timeout(self.bound(), throttle.unthrottled(send)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failed(what, &error)),
            Err(_) => Err(self.unanswered(what, &throttle)),
        }
    }

    pub(crate) fn unanswered(&self, what: &str, throttle: &Throttle) -> SourceError {
        match throttle.is_throttled() {
            true => throttled(&self.config, what, self.bound()),
            false => self.silent(what),
        }
    }

    pub(crate) fn failed(&self, what: &str, error: &Error) -> SourceError {
        match of_request(what, error) {
            Failure::Trouble(trouble) => trouble,
            Failure::Lost => SourceError {
                kind: SourceErrorKind::Unavailable,
                message: format!(
                    "the session with '{}' was lost during {what} ({}); try again",
                    self.config.connect.as_str(),
                    words(error)
                ),
            },
        }
    }

    fn silent(&self, what: &str) -> SourceError {
        silent(&self.config, what, self.bound())
    }

    pub(crate) fn bound(&self) -> Duration {
        answer_bound(&self.client, &self.config)
    }
}
