//! Answers with odd headers, and answers that cannot be read.

use std::sync::atomic::{AtomicUsize, Ordering};

use bridge_core::sink::SinkErrorKind as Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// The address of a receiver that sends these bytes after each request.
async fn sending(answer: &str) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/hook", listener.local_addr().unwrap());
    let answer = answer.to_owned();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 64 << 10];
            if stream.read(&mut request).await.unwrap() > 0 {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (address, server)
}

#[tokio::test]
async fn a_success_with_headers_that_the_standard_forbids_is_a_success() {
    let answer =
        "HTTP/1.1 200 OK\r\nX-Thing : 1\r\nno colon\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\nok";
    let (address, server) = sending(answer).await;
    let mut sink = opened(&local(&address)).await;
    deliver(&mut sink, &of_paths(&["/a"])).await.unwrap();
    server.abort();
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_named_as_that_and_not_as_a_broken_connection() {
    let headers = "X-Thing: 1\r\n".repeat(150);
    for answer in [
        "ICY 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok".to_owned(),
        format!("HTTP/1.1 204 No Content\r\n{headers}\r\n"),
    ] {
        let (address, server) = sending(&answer).await;
        let mut sink = opened(&local(&address)).await;
        let failure = deliver(&mut sink, &of_paths(&["/a"])).await.unwrap_err();
        let error = &failure.deferred[0].error;
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        assert!(
            error.message.contains("sent an answer that cannot be read ("),
            "{error}"
        );
        server.abort();
    }
}

/// The address of a receiver that answers a request about `/bad` with these bytes, and any other with 204. Counts the
/// requests about `/bad`.
async fn answering_badly(answer: &str) -> (String, Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/hook", listener.local_addr().unwrap());
    let (answer, count) = (answer.to_owned(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut request, mut part) = (Vec::new(), [0; 64 << 10]);
            let is_whole = |request: &[u8]| request.ends_with(b"}");
            while !is_whole(&request) {
                match stream.read(&mut part).await.unwrap_or(0) {
                    0 => break,
                    bytes => request.extend_from_slice(&part[..bytes]),
                }
            }
            if !is_whole(&request) {
                continue;
            }
            let is_bad = String::from_utf8_lossy(&request).contains("\"/bad\"");
            counted.fetch_add(usize::from(is_bad), Ordering::Relaxed);
            let answer = match is_bad {
                true => answer.as_str(),
                false => "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
            };
            // The client may have closed the connection in the middle of a long answer.
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    (address, count, server)
}

#[tokio::test]
async fn a_record_whose_answers_cannot_be_read_is_rejected_after_so_many_tries_once_others_were_taken() {
    let headers = "X-Thing: 1\r\n".repeat(150);
    for answer in [
        "ICY 200 OK\r\n\r\n".to_owned(),
        format!("HTTP/1.1 204 No Content\r\n{headers}\r\n"),
        format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(600 << 10)),
        "HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n".to_owned(),
    ] {
        let (address, sent, server) = answering_badly(&answer).await;
        let mut sink = opened(&local(&address)).await;

        let both = of_paths(&["/bad", "/a"]);
        for _ in 0..5 {
            let failed = deliver(&mut sink, &both[..1]).await.unwrap_err();
            assert_eq!(failed.rejected, [], "nothing was ever taken: {failed:?}");
        }
        let mut last = deliver(&mut sink, &both).await.unwrap_err();
        for _ in 0..3 {
            if last.rejected.is_empty() {
                last = deliver(&mut sink, &both).await.unwrap_err();
            }
        }

        let [rejected] = &last.rejected[..] else {
            panic!("{last:?}")
        };
        assert_eq!((rejected.seq, last.deferred.len()), (both[0].seq, 0), "{last:?}");
        for words in [
            "an answer that cannot be read (",
            " times (webhook-id ",
            "it may have taken the record",
        ] {
            assert!(rejected.reason.contains(words), "{}", rejected.reason);
        }
        assert!(sent.load(Ordering::Relaxed) <= 8, "{sent:?}");
        server.abort();
    }
}
