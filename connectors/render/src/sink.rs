//! The conversation: when the image is read and the file replaced, and when a record counts as delivered.
//!
//! ```text
//! record of the tree ─▶ debounce ─▶ lock the file ─▶ read the image ─▶ text ─▶ verify ─▶ replace ─▶ reload ─▶ delivered
//!                                                        └─ equal, or kept: no write ───────────────▶┘ if one is due
//! ```
//!
//! The image is read under the lock of the file, so that a later text is never of an older state, whoever writes it: a
//! delivery that was given up, another value of this sink, another process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bridge_core::number::Seq;
use bridge_core::outbound::TreeTemplate;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkError};
use bridge_core::subtree::{Subtree, SubtreeLimit, SubtreeReader};
use bridge_subprocess::Runner;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::commands::Commands;
use crate::config::RenderConfig;
use crate::encode::{FileContent, KeptFor, encode};
use crate::error;
use crate::target::{StagedFile, Target};

/// The most bytes of data that a file is made of.
const DATA_BYTES_MAX: usize = 64 << 20;

/// A reader that the thread of a delivery shares with this sink.
type Image = Arc<Mutex<Box<dyn SubtreeReader>>>;

/// A file of the znodes at and below a path.
pub struct RenderSink {
    plan: Arc<RenderPlan>,
    /// `None` where the destination is only checked: nothing is rendered then.
    image: Option<Image>,
    /// `None` before `open`.
    commands: Option<Commands>,
    runner: Runner,
    /// The file shows the state after this record, and is reloaded.
    shown: Option<Seq>,
    refreshed: Option<Instant>,
    /// Why the file stayed as it was at the last look.
    kept: Option<KeptFor>,
}

/// The parts that do not change.
struct RenderPlan {
    config: RenderConfig,
    template: TreeTemplate,
}

/// The file as a look at the tree leaves it, with its lock held.
struct RenderedFile {
    target: Target,
    /// The state that was read.
    at: Seq,
    outcome: LookOutcome,
}

enum LookOutcome {
    Kept(KeptFor),
    Same,
    New {
        staged: StagedFile,
        znodes: usize,
        bytes: usize,
    },
}

impl RenderSink {
    /// A sink with these options. Nothing is opened before `open`.
    ///
    /// # Panics
    ///
    /// If [`RenderConfig::objections`] has an error about `template`.
    pub fn new(config: RenderConfig) -> RenderSink {
        let template = TreeTemplate::parse(&config.template, config.form());
        let template = template.expect("the options were checked");
        RenderSink {
            plan: Arc::new(RenderPlan { config, template }),
            image: None,
            commands: None,
            runner: Runner::default(),
            shown: None,
            refreshed: None,
            kept: None,
        }
    }

    fn config(&self) -> &RenderConfig {
        &self.plan.config
    }

    async fn prepare(&mut self) -> Result<(), SinkError> {
        (self.commands, self.shown) = (None, None);
        let plan = Arc::clone(&self.plan);
        let commands = blocking(move || {
            drop(Target::lock(&plan.config.path)?);
            Commands::find(&plan.config)
        })
        .await?;
        self.commands = Some(commands);
        if self.image.is_some() {
            self.refresh().await?;
        }
        Ok(())
    }

    async fn show(&mut self, records: &[Arc<Record>]) -> Result<(), SinkError> {
        if self.commands.is_none() {
            return Err(SinkError::not_opened());
        }
        if self.image.is_none() {
            return Err(error::broken("the sink has no image to read znodes from"));
        }
        let newest = records.iter().map(|record| record.seq).max();
        let is_shown = self.shown >= newest;
        if is_shown || !records.iter().any(|record| self.is_of_tree(record)) {
            return Ok(());
        }
        if let Some(refreshed) = self.refreshed {
            sleep_until(refreshed + self.config().debounce.0).await;
        }
        self.refresh().await
    }

    /// Whether a record can change the file.
    fn is_of_tree(&self, record: &Record) -> bool {
        let tree = &self.config().tree;
        match (&record.path, &record.root) {
            (Some(path), _) => tree.covers(path),
            (None, Some(root)) => root.covers(tree),
            (None, None) => false,
        }
    }

    /// Makes the file that of the present tree, and reloads it if that is due.
    async fn refresh(&mut self) -> Result<(), SinkError> {
        let (Some(image), Some(commands)) = (self.image.clone(), self.commands.clone()) else {
            return Err(SinkError::not_opened());
        };
        // Also after a failure, so that the next attempt waits.
        self.refreshed = Some(Instant::now());
        let plan = Arc::clone(&self.plan);
        let RenderedFile {
            mut target,
            at,
            outcome,
        } = blocking(move || plan.look(&image)).await?;
        match outcome {
            LookOutcome::Kept(kept) => self.note_kept(Some(kept)),
            LookOutcome::Same => self.note_kept(None),
            LookOutcome::New {
                staged,
                znodes,
                bytes,
            } => {
                self.note_kept(None);
                commands
                    .verify(&mut self.runner, staged.path(), &self.plan.config)
                    .await?;
                let has_reload = commands.has_reload();
                target = blocking(move || {
                    target.replace(staged, has_reload)?;
                    Ok(target)
                })
                .await?;
                let file = self.config().path.display().to_string();
                tracing::info!(file, znodes, bytes, seq = %at, "the file was replaced");
            }
        }
        if target.is_reload_due() && commands.has_reload() {
            commands.reload(&mut self.runner, &self.plan.config).await?;
            blocking(move || target.reloaded()).await?;
            let file = self.config().path.display().to_string();
            tracing::info!(file, "the reload succeeded");
        }
        self.shown = Some(at);
        self.refreshed = Some(Instant::now());
        Ok(())
    }

    /// Logs when the file begins to stay as it is, and when that ends.
    fn note_kept(&mut self, kept: Option<KeptFor>) {
        let file = self.config().path.display().to_string();
        match (&self.kept, &kept) {
            (before, Some(now)) if before.as_ref() != Some(now) => {
                tracing::warn!(file, reason = %now, "the file stays as it is");
            }
            (Some(before), None) => {
                tracing::info!(file, reason = %before, "the file follows the tree again");
            }
            _ => {}
        }
        self.kept = kept;
    }
}

impl RenderPlan {
    /// Reads the tree under the lock of the file, and stages its text if it is another one.
    fn look(&self, image: &Image) -> Result<RenderedFile, SinkError> {
        let config = &self.config;
        let target = Target::lock(&config.path)?;
        let subtree = Arc::new(self.read(image)?);
        let at = subtree.at;
        let outcome = match encode(&subtree, &self.template, config)? {
            FileContent::Kept(kept) => LookOutcome::Kept(kept),
            FileContent::Text(text) if target.has(&text)? => LookOutcome::Same,
            FileContent::Text(text) => LookOutcome::New {
                staged: target.stage(&text, config.mode)?,
                znodes: subtree.znodes().len(),
                bytes: text.len(),
            },
        };
        Ok(RenderedFile { target, at, outcome })
    }

    fn read(&self, image: &Image) -> Result<Subtree, SinkError> {
        let mut image = image.lock().unwrap_or_else(PoisonError::into_inner);
        read_tree(&self.config, &mut **image)
    }
}

/// The znodes of the file.
pub(crate) fn read_tree(config: &RenderConfig, image: &mut dyn SubtreeReader) -> Result<Subtree, SinkError> {
    let limit = SubtreeLimit {
        znodes: config.max_znodes as usize,
        bytes: DATA_BYTES_MAX,
    };
    let read = image.subtree(&config.tree, limit);
    read.map_err(|cause| error::no_subtree(config, cause))
}

impl Sink for RenderSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.prepare().boxed()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        async move {
            let shown = self.show(&batch.records).await;
            shown.map_err(|error| DeliverError::after(0, error))
        }
        .boxed()
    }

    fn may_correct(&self, record: &Record) -> bool {
        self.is_of_tree(record)
    }

    fn linger(&self) -> Duration {
        self.config().debounce.0
    }

    fn reads_subtrees(&self) -> bool {
        true
    }

    fn attach(&mut self, image: Box<dyn SubtreeReader>) {
        self.image = Some(Arc::new(Mutex::new(image)));
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async {
            self.commands = None;
            // A run that was given up was killed; one that is not gone after some seconds is left to the system.
            self.runner.stop().await;
            Ok(())
        }
        .boxed()
    }
}

/// Runs work on the disk off the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(cause) => Err(error::broken("the thread that renders has ended").because(cause)),
    }
}
