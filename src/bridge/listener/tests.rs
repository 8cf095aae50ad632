//! Peers that hold connections, do not read, or speak something else.

use axum::routing::get;
use tokio::sync::watch;

use super::*;

const BOUND: Duration = Duration::from_secs(20);

struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    /// Whether a request to `/never` has reached its handler.
    begun: watch::Sender<bool>,
}

async fn serving(limits: Limits) -> Served {
    let begun = watch::Sender::new(false);
    let begin = begun.clone();
    let never = async move || {
        begin.send_replace(true);
        std::future::pending::<&'static str>().await
    };
    let router = Router::new()
        .route("/ok", get(|| async { "ok" }))
        .route("/never", get(never))
        .route("/large", get(|| async { "x".repeat(8 << 20) }))
        .route("/stream", get(endless));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(listener, router, limits, "test", stop.clone()));
    Served {
        address,
        stop,
        task,
        begun,
    }
}

/// A block every few milliseconds, without an end.
async fn endless() -> Response {
    let blocks = futures::stream::unfold((), |()| async {
        sleep(Duration::from_millis(5)).await;
        Some((Ok::<_, Infallible>("x".repeat(256 << 10)), ()))
    });
    Body::from_stream(blocks).into_response()
}

impl Served {
    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        all_of(self.send(&request).await).await
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(BOUND, self.task).await.unwrap().unwrap();
    }
}

/// Reads until the peer closes; an aborted connection counts as closed.
async fn all_of(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(BOUND, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn limits() -> Limits {
    Limits::new(8, BOUND)
}

#[tokio::test]
async fn half_requests_do_not_keep_others_from_an_answer() {
    let served = serving(limits()).await;
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(served.send("GET /ok HTTP/1.1\r\nHost: a\r\n").await);
    }
    let answer = timeout(BOUND, served.get("/ok")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // All but the last few have been closed already.
    for stream in held.drain(..200 - limits().connections) {
        assert_eq!(all_of(stream).await, "");
    }
    served.end().await;
}

#[tokio::test]
async fn a_connection_that_sends_nothing_or_half_a_request_or_half_a_body_is_closed() {
    let limits = Limits {
        silence: Duration::from_millis(100),
        ..limits()
    };
    let served = serving(limits).await;
    for text in [
        "",
        "GET /ok HTTP/1.1\r\n",
        "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
    ] {
        all_of(served.send(text).await).await;
    }
    served.end().await;
}

#[tokio::test]
async fn a_request_under_way_is_not_given_up_for_a_new_connection() {
    let limits = Limits {
        connections: 1,
        ..limits()
    };
    let served = serving(limits).await;
    let mut begun = served.begun.subscribe();
    let busy = served.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await;
    timeout(BOUND, begun.changed()).await.unwrap().unwrap();
    assert_eq!(served.get("/ok").await, "", "there is no place for it");
    assert!(busy.try_read(&mut [0]).is_err(), "the first was closed");
    served.end().await;
}

#[tokio::test]
async fn a_stream_under_way_is_not_given_up_for_half_requests_and_its_place_is_free_after_it() {
    let limits = Limits {
        connections: 2,
        ..limits()
    };
    let served = serving(limits).await;
    let mut stream = served.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut read = [0; 1024];
    assert!(timeout(BOUND, stream.read(&mut read)).await.unwrap().unwrap() > 0);
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(served.send("GET /ok HTTP/1.1\r\nHost: a\r\n").await);
    }
    assert!(served.get("/ok").await.starts_with("HTTP/1.1 200"));
    // It still gets its events: the first read can end before the first of them.
    for _ in 0..2 {
        assert!(timeout(BOUND, stream.read(&mut read)).await.unwrap().unwrap() > 0);
    }
    drop(stream);
    served.end().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_answer_or_its_stream_is_let_go() {
    for path in ["/large", "/stream"] {
        let unread = Limits {
            unread: Duration::from_millis(100),
            ..limits()
        };
        let life = Limits {
            life: Duration::from_millis(100),
            ..limits()
        };
        for limits in [unread, life] {
            check_unread(limits, path).await;
        }
    }
}

async fn check_unread(limits: Limits, path: &str) {
    let served = serving(limits).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let stream = served.send(&request).await;
    // The listener can only end its task after the connection has gone.
    tokio::time::timeout(BOUND, async {
        while !matches!(stream.try_write(b"GET /ok"), Err(error) if error.kind() != io::ErrorKind::WouldBlock)
        {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    served.end().await;
}

#[tokio::test]
async fn a_wall_clock_that_has_no_date_is_answered_and_panics_nowhere() {
    let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
    assert!(is_clock_off(UNIX_EPOCH - Duration::from_secs(1)));
    assert!(is_clock_off(at(DATE_SECONDS_MAX + 1)));
    for fine in [at(0), at(DATE_SECONDS_MAX), SystemTime::now()] {
        assert!(!is_clock_off(fine), "{fine:?}");
    }
    let (mut peer, own) = tokio::io::duplex(4096);
    let refused = tokio::spawn(refuse_for_clock(own));
    peer.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    timeout(BOUND, peer.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("correct the clock"),
        "{answer}"
    );
    refused.await.unwrap().unwrap();
}

#[tokio::test]
async fn http_2_in_clear_is_not_spoken() {
    let served = serving(limits()).await;
    let answer = all_of(served.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await).await;
    assert!(
        !answer.starts_with("HTTP/1.1 200") && !answer.contains('\0'),
        "{answer:?}"
    );
    served.end().await;
}
