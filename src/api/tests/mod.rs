//! The API without a socket, on a real journal.

mod answers;
mod credentials;
mod page;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use bridge_config::HttpConfig;
use bridge_core::append::{Append, Change, ChangeKind, Read, RecordKind};
use bridge_core::image_txn::ImageTxn;
use bridge_core::journal::{Journal, JournalOptions, JournalWriter};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::pipeline::SourceStatus;
use bridge_core::record::{Data, DataForm, Fidelity, Mode, Stat, Timestamp};
use bridge_core::secret::Secret;
use http_body_util::BodyExt;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Access, Api};
use crate::bridge::View;

const TOKEN: &str = "the default token";
const BOUND: Duration = Duration::from_secs(20);
/// Of the port, so that all streams have room.
const CONNECTIONS: usize = 64;
const NOON: i64 = 1_795_348_800_000;

/// A journal, and the API of a bridge that has it.
struct Served {
    journal: Journal,
    access: Access,
    router: Router,
    _status: watch::Sender<SourceStatus>,
    _folder: TempDir,
}

impl Served {
    fn new() -> Served {
        Served::with(HttpConfig::default())
    }

    /// With more credentials than the default token.
    fn with(config: HttpConfig) -> Served {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("main.journal");
        let mut journal = Journal::open(&file, &JournalOptions::new("main")).unwrap();
        journal.commit().unwrap();
        let status = SourceStatus::halted(
            Arc::from("main"),
            Mode::Watch,
            Timestamp(NOON),
            "a test".to_owned(),
        );
        let status = watch::Sender::new(status);
        let view = View::new(vec![status.subscribe()], Vec::new());
        let access = Access::new(&HttpConfig {
            token: Some(Secret::new(TOKEN)),
            ..config
        });
        let router = Api::new(folder.path(), access.clone(), view, CONNECTIONS).router();
        Served {
            journal,
            access,
            router,
            _status: status,
            _folder: folder,
        }
    }

    /// Each path is created or written with its number as the zxid.
    fn write(&mut self, changes: &[(&str, u64, &str)]) -> Seq {
        for (at, zxid, text) in changes {
            let path = ZnodePath::parse(at).unwrap();
            let created = self.journal_has(&path);
            let stat = Stat {
                czxid: Zxid(created.unwrap_or(*zxid)),
                mzxid: Zxid(*zxid),
                ctime: NOON,
                mtime: NOON + zxid.cast_signed() * 1000,
                data_length: i32::try_from(text.len()).unwrap(),
                ..Stat::default()
            };
            let read = Read {
                stat,
                data: Some(Data::limited(text.as_bytes(), DataForm::Auto, 1 << 20)),
            };
            let append = Append {
                root: Some(ZnodePath::slash()),
                captured: Timestamp(NOON + zxid.cast_signed() * 1000),
                kind: RecordKind::Change(Change {
                    path,
                    kind: match created {
                        None => ChangeKind::Created { read },
                        Some(_) => ChangeKind::Updated { read },
                    },
                    fidelity: Fidelity::Exact,
                    missed: Some(0),
                    superseded: Vec::new(),
                    txn: None,
                    facts: None,
                }),
            };
            self.journal.append(append).unwrap();
        }
        self.journal.commit().unwrap()
    }

    /// The czxid of a path in the image.
    fn journal_has(&mut self, path: &ZnodePath) -> Option<u64> {
        let node = self.journal.node(path).unwrap();
        node.map(|node| node.czxid.0)
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        let service = TowerToHyperService::new(self.router.clone());
        let answered = timeout(BOUND, hyper::service::Service::call(&service, request)).await;
        answered.expect("it answers in time").unwrap()
    }

    /// Asks with a token.
    async fn ask(&self, token: &str, target: &str) -> Response<Body> {
        self.send(request(target, &[("authorization", &format!("Bearer {token}"))]))
            .await
    }

    /// The answer to the default token as JSON.
    async fn json(&self, target: &str) -> Value {
        let response = self.ask(TOKEN, target).await;
        let code = response.status();
        let body = body(response).await;
        assert_eq!(code, StatusCode::OK, "{target}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The problem that answers the default token.
    async fn problem(&self, target: &str) -> (u16, Value) {
        problem(self.ask(TOKEN, target).await).await
    }
}

fn request(target: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(format!("/api/v1{target}")).header(header::HOST, "127.0.0.1:9641");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

async fn body(response: Response<Body>) -> String {
    let body = timeout(BOUND, response.into_body().collect()).await;
    let bytes = body.expect("the body ends").unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn problem(response: Response<Body>) -> (u16, Value) {
    let code = response.status().as_u16();
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/problem+json",
        "{code}"
    );
    let problem: Value = serde_json::from_str(&body(response).await).unwrap();
    assert_eq!(problem["status"], code, "{problem}");
    assert!(
        problem["remedy"]
            .as_str()
            .is_some_and(|remedy| !remedy.is_empty())
    );
    (code, problem)
}
