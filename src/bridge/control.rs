//! The control socket: receives an operator's orders to the sinks of this bridge. Only the command uses it, only the
//! bridge's user can open it, and no znode data goes over it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bridge_core::delivery::OperatorRequest;
use nix::sys::stat::{Mode, umask};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::listener::{self, CLOSE_BOUND, Limits};
use super::{CursorChange, ReloadRequest, Reloaded, View};
use crate::api::access::Access;
use crate::operator::{Answer, Ask, LoginAnswer, ReloadAnswer, SOCKET, SocketPath};

/// Capacity of the queue of orders to one sink.
pub(super) const ORDERS: usize = 16;
/// Only its owner may use the socket.
const MODE: u32 = 0o600;
/// Enough for the commands of one operator and a health check.
const CONNECTIONS: usize = 16;
/// A reload drains the sinks that it changes; the command itself waits 60 s.
const ANSWER_BOUND: Duration = Duration::from_secs(90);

/// Sends orders to the worker of one sink and source.
#[derive(Clone, Debug)]
pub(super) struct OrderHandle {
    pub(super) source: Arc<str>,
    pub(super) sink: Arc<str>,
    pub(super) orders: mpsc::Sender<OperatorRequest>,
}

/// The handles of all workers. A reload replaces them.
#[derive(Clone, Debug, Default)]
pub(super) struct OrderHandles(Arc<RwLock<Vec<OrderHandle>>>);

impl OrderHandles {
    pub(super) fn replace(&self, handles: Vec<OrderHandle>) {
        *self.0.write().expect(UNPOISONED) = handles;
    }

    fn find(&self, source: &str, sink: &str) -> Option<OrderHandle> {
        let handles = self.0.read().expect(UNPOISONED);
        let is_meant = |handle: &&OrderHandle| *handle.source == *source && *handle.sink == *sink;
        handles.iter().find(is_meant).cloned()
    }
}

/// No code panics while holding the lock: it is held to search a list or to replace it.
const UNPOISONED: &str = "the list of handles is whole";

/// Makes links with which an operator opens a session of the API.
#[derive(Clone)]
pub(super) struct LoginLinks {
    /// The address of the HTTP listener.
    pub(super) address: SocketAddr,
    pub(super) access: Access,
}

/// The socket at work. Dropped, it removes its file.
pub(super) struct Control {
    file: PathBuf,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens in this folder. A bridge works without the socket, so a folder that cannot have one is only logged.
    pub(super) fn start(
        data_dir: &Path,
        handles: OrderHandles,
        reloads: mpsc::Sender<ReloadRequest>,
        view: View,
        login: Option<LoginLinks>,
    ) -> Option<Control> {
        let file = data_dir.join(SOCKET);
        match SocketPath::of(data_dir).and_then(|path| listen(path.as_ref())) {
            Ok(listener) => Some(Control::serve(listener, file, handles, reloads, view, login)),
            Err(error) => {
                tracing::warn!(
                    file = %file.display(),
                    error = error.to_string(),
                    "no control socket: commands that give orders to sinks need the bridge stopped"
                );
                None
            }
        }
    }

    fn serve(
        listener: UnixListener,
        file: PathBuf,
        handles: OrderHandles,
        reloads: mpsc::Sender<ReloadRequest>,
        view: View,
        login: Option<LoginLinks>,
    ) -> Control {
        let stop = CancellationToken::new();
        let cursors = reloads.clone();
        let router = Router::new()
            .route("/orders", post(take))
            .with_state(handles)
            .route("/reload", post(async move || reload(&reloads).await))
            .route("/login", post(async move || make_link(login.as_ref())))
            .route(
                "/cursors",
                post(async move |body: Bytes| change(&cursors, &body).await),
            )
            .route(
                "/status",
                get(async move || super::http::json(StatusCode::OK, &view.status().await)),
            );
        let limits = Limits::new(CONNECTIONS, ANSWER_BOUND);
        let task = tokio::spawn(listener::serve(
            listener,
            router,
            limits,
            "control socket",
            stop.clone(),
        ));
        Control {
            file,
            stop,
            task: Some(task),
        }
    }

    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && timeout(CLOSE_BOUND * 2, task).await.is_err()
        {
            tracing::warn!("the control socket did not close in time");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Err(error) = fs::remove_file(&self.file) {
            tracing::debug!(error = error.to_string(), "the control socket was gone already");
        }
    }
}

/// Removes the socket that a killed bridge left. If a process answers there, returns an error and leaves it alone.
fn listen(file: &Path) -> io::Result<UnixListener> {
    if BlockingStream::connect(file).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another bridge with this data_dir answers there",
        ));
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The socket is never open to others, not even before its mode is set. The mask is the process's: a file or folder that
    // another thread makes in this moment is closed to others, too.
    let mask = umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let bound = UnixListener::bind(file);
    umask(mask);
    let listener = bound?;
    fs::set_permissions(file, fs::Permissions::from_mode(MODE))?;
    Ok(listener)
}

fn make_link(login: Option<&LoginLinks>) -> Response {
    let answer = LoginAnswer {
        address: login.map(|login| login.address),
        code: login.map(|login| login.access.new_code()),
    };
    super::http::json(StatusCode::OK, &answer)
}

async fn reload(reloads: &mpsc::Sender<ReloadRequest>) -> Response {
    let answer = request(reloads, None).await;
    super::http::json(StatusCode::OK, &ReloadAnswer::from(answer))
}

async fn change(reloads: &mpsc::Sender<ReloadRequest>, body: &Bytes) -> Response {
    match serde_json::from_slice(body) {
        Ok(change) => {
            let done = request(reloads, Some(change)).await;
            let refused = done.map_or_else(Some, |reloaded| reloaded.exception());
            super::http::json(StatusCode::OK, &Answer { refused })
        }
        Err(error) => unknown_order(&error),
    }
}

/// Passes the request on, and answers when it is done, which includes draining the sinks that change.
async fn request(
    reloads: &mpsc::Sender<ReloadRequest>,
    change: Option<CursorChange>,
) -> Result<Reloaded, String> {
    let (answer, done) = oneshot::channel();
    match reloads.try_send(ReloadRequest { change, answer }) {
        Ok(()) => done
            .await
            .unwrap_or_else(|_| Err("the bridge is ending".to_owned())),
        Err(mpsc::error::TrySendError::Full(_)) => {
            Err("other reloads are waiting already\nhelp: try again later".to_owned())
        }
        Err(mpsc::error::TrySendError::Closed(_)) => Err(
            "this bridge was not started with 'zkbridge run', so it cannot read another configuration"
                .to_owned(),
        ),
    }
}

fn unknown_order(error: &serde_json::Error) -> Response {
    let message = format!("not an order that this version knows: {error}\n");
    (StatusCode::BAD_REQUEST, message).into_response()
}

async fn take(State(handles): State<OrderHandles>, body: Bytes) -> Response {
    let ask = match serde_json::from_slice(&body) {
        Ok(ask) => ask,
        Err(error) => return unknown_order(&error),
    };
    let refused = give(&handles, ask).err();
    super::http::json(StatusCode::OK, &Answer { refused })
}

fn give(handles: &OrderHandles, ask: Ask) -> Result<(), String> {
    let Ask { source, sink, order } = ask;
    let handle = handles.find(&source, &sink).ok_or_else(|| {
        format!(
            "the running bridge delivers nothing from source '{source}' to sink '{sink}'\nhelp: give it the same \
             configuration with 'zkbridge reload', or stop it"
        )
    })?;
    handle.orders.try_send(order).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => {
            format!("sink '{sink}' is busy and {ORDERS} orders wait for it already\nhelp: try again later")
        }
        mpsc::error::TrySendError::Closed(_) => {
            format!(
                "sink '{sink}' takes no orders any more; its log has the reason\nhelp: restart the bridge"
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use bridge_core::number::Seq;

    use super::*;
    use crate::operator;

    fn an_empty_view() -> View {
        View::new(Vec::new(), Vec::new())
    }

    fn an_ask(sink: &str, order: OperatorRequest) -> Ask {
        Ask {
            source: "main".into(),
            sink: sink.into(),
            order,
        }
    }

    #[tokio::test]
    async fn a_data_dir_with_a_path_longer_than_a_socket_may_have_is_answered_too() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(120));
        assert_eq!(operator::ask_status(&deep).await.unwrap(), None, "no folder");
        fs::create_dir(&deep).unwrap();
        assert_eq!(operator::ask_status(&deep).await.unwrap(), None, "no socket");
        let (reloads, _requests) = mpsc::channel(1);
        let control = Control::start(&deep, OrderHandles::default(), reloads, an_empty_view(), None).unwrap();
        assert!(operator::ask_status(&deep).await.unwrap().is_some());
        control.stop().await;
        assert!(!deep.join(SOCKET).exists());
    }

    #[tokio::test]
    async fn an_order_goes_over_the_socket_to_its_sink_and_the_socket_goes_with_the_bridge() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(SOCKET);
        assert_eq!(
            operator::ask(folder.path(), &an_ask("one", OperatorRequest::Enable))
                .await
                .unwrap(),
            None,
            "nobody there"
        );
        let (orders, mut taken) = mpsc::channel(1);
        let handle = OrderHandle {
            source: "main".into(),
            sink: "one".into(),
            orders,
        };
        // As a killed bridge leaves it.
        drop(std::os::unix::net::UnixListener::bind(&file).unwrap());
        assert_eq!(operator::ask_status(folder.path()).await.unwrap(), None);
        let handles = OrderHandles::default();
        handles.replace(vec![handle]);
        let (reloads, requests) = mpsc::channel(1);
        let control = Control::start(folder.path(), handles, reloads.clone(), an_empty_view(), None).unwrap();
        let status = operator::ask_status(folder.path()).await.unwrap().unwrap();
        assert!(
            status.running && status.ready,
            "a bridge without sources has nothing to wait for"
        );
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let retry = OperatorRequest::Retry(vec![Seq(3), Seq(9)]);
        let answer = operator::ask(folder.path(), &an_ask("one", retry.clone()))
            .await
            .unwrap();
        assert_eq!(answer, Some(Answer::default()));
        let check = async |sink: &str, words: &str| {
            let answer = operator::ask(folder.path(), &an_ask(sink, OperatorRequest::Enable))
                .await
                .unwrap();
            let refused = answer.unwrap().refused.unwrap();
            assert!(refused.contains(words), "{refused}");
        };
        check("two", "to sink 'two'").await;
        check("one", "is busy").await;
        assert_eq!(taken.recv().await, Some(retry));
        drop(taken);
        check("one", "restart the bridge").await;
        drop(requests);
        let answer = operator::ask_reload(folder.path()).await.unwrap().unwrap();
        assert!(answer.refused.unwrap().contains("zkbridge run"));

        assert!(
            Control::start(
                folder.path(),
                OrderHandles::default(),
                reloads,
                an_empty_view(),
                None
            )
            .is_none(),
            "it is in use"
        );
        control.stop().await;
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_from_the_moment_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(SOCKET);
        let ended = Arc::new(AtomicBool::new(false));
        let look = {
            let (file, ended) = (file.clone(), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    if let Ok(found) = fs::metadata(&file) {
                        assert_eq!(found.permissions().mode() & 0o077, 0);
                    }
                }
            }
        };
        let looking = std::thread::spawn(look);
        for _ in 0..200 {
            drop(listen(&file).unwrap());
        }
        ended.store(true, Ordering::Relaxed);
        looking.join().unwrap();
    }
}
