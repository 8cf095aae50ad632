//! Runs the connection of one source, and the tasks that the client library spawns for its session, on one thread.
//!
//! The library waits for its sockets through `async-io`, which uses a thread of its own unless another thread polls
//! them. On tokio's workers each packet would therefore wake two threads, which costs more than reading it.
//!
//! The thread must end with its source, even if nothing waits for it.

use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::time::Duration;

use spawns_core::{Spawn, Task};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// How long a session has to be closed at the server when its source has ended. Servers that do not answer close it by
/// themselves.
const CLOSE_BOUND: Duration = Duration::from_secs(1);

/// Runs a source on a thread of its own, and waits for the end of both. A panic there is resumed here.
///
/// # Errors
///
/// If there is no thread to be had.
pub(crate) async fn run(source: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = Handle::current();
    let (dropped_at_the_end, ended) = oneshot::channel::<()>();
    let work = move || {
        let _dropped_at_the_end = dropped_at_the_end;
        // For timers, name look-ups and probes of servers, which use tokio.
        let _runtime = runtime.enter();
        let spawner = LocalSpawner::default();
        let _spawned_here = spawns_core::enter(&spawner);
        let whole = async {
            source.await;
            spawner.end().await;
        };
        async_io::block_on(LocalSet::new().run_until(whole));
    };
    let thread = std::thread::Builder::new()
        .name("connection".into())
        .spawn(work)?;
    // It is never sent: it goes with the thread, whatever ends that.
    let _gone = ended.await;
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
    Ok(())
}

/// The tasks that the client library has spawned.
#[derive(Default)]
struct LocalSpawner {
    tasks: TaskTracker,
}

impl Spawn for LocalSpawner {
    fn spawn(&self, task: Task) {
        // It goes with the set of tasks of this thread.
        let _never_awaited = spawn_local(self.tasks.track_future(Box::into_pin(task.future)));
    }
}

impl LocalSpawner {
    /// Waits until all have ended, or for as long as they may take.
    async fn end(&self) {
        self.tasks.close();
        if timeout(CLOSE_BOUND, self.tasks.wait()).await.is_err() {
            tracing::debug!("a session was not closed at its server in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn spawned_tasks_run_on_the_same_thread_and_end_before_the_source() {
        let has_ended = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&has_ended);
        let source = async move {
            let here = std::thread::current().id();
            let spawned = spawns_core::spawn(async { std::thread::current().id() });
            assert_eq!(spawned.await.unwrap(), here);
            let _detached = spawns_core::spawn(async move {
                tokio::task::yield_now().await;
                ends.store(true, Ordering::Relaxed);
            });
        };
        run(source).await.unwrap();
        assert!(has_ended.load(Ordering::Relaxed));
    }

    #[tokio::test]
    #[should_panic(expected = "a source that breaks")]
    async fn a_panic_of_the_source_is_seen_by_its_waiter() {
        run(async { panic!("a source that breaks") }).await.unwrap();
    }
}
