//! The files of the page.

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};

use super::Served;
use crate::api::page;

/// The most that the whole page may be on the network.
const ZIPPED_BYTES_MAX: usize = 60_000;

async fn fetch(served: &Served, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::get(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header(header::HOST, "127.0.0.1:9641");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    served.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn the_files_of_the_page_need_no_credential_and_have_a_strict_policy() {
    let served = Served::new();
    for (path, kind) in [
        ("/ui/", "text/html; charset=utf-8"),
        ("/ui/page.js", "text/javascript; charset=utf-8"),
        ("/ui/page.css", "text/css; charset=utf-8"),
    ] {
        let response = fetch(&served, path, &[]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers();
        assert_eq!(headers[header::CONTENT_TYPE], kind, "{path}");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
        let tag = headers[header::ETAG].to_str().unwrap().to_owned();
        let again = fetch(&served, path, &[("if-none-match", &tag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        let zipped = fetch(&served, path, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!(zipped.headers()[header::CONTENT_ENCODING], "gzip", "{path}");
    }
}

#[tokio::test]
async fn the_page_is_refused_under_a_foreign_host_and_has_no_other_files() {
    let served = Served::new();
    let foreign = fetch(&served, "/ui/", &[("host", "evil.example")]).await;
    assert_eq!(foreign.status(), StatusCode::MISDIRECTED_REQUEST);
    for path in ["/ui/index.html", "/ui/../Cargo.toml", "/ui/page.js.map", "/ui//"] {
        let response = fetch(&served, path, &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/", "/ui"] {
        let moved = fetch(&served, path, &[]).await;
        assert_eq!(moved.headers()[header::LOCATION], "/ui/", "{path}");
    }
}

#[test]
fn the_whole_page_is_at_most_60_kb_on_the_network() {
    let bytes = page::zipped_bytes();
    assert!(
        (1_000..=ZIPPED_BYTES_MAX).contains(&bytes),
        "{bytes} bytes of at most {ZIPPED_BYTES_MAX}"
    );
}
