//! The HTTP API `/api/v1`: what the journals know, for programs and for the page.
//!
//! Invariants:
//!
//! * Every route is a row of [`route::ROUTES`]; the router, the checks of parameters and the OpenAPI document come from
//!   this table.
//! * No data without a credential, on loopback neither: [`guard`] is around all routes of the API. The files of the
//!   [`page`] hold no data.
//! * A request only reads, except `POST` and `DELETE` of `/session`, which change nothing but the caller's own login.
//! * Answers come from `bridge-query`, which masks and hides; a handler reads no journal by itself.
//! * A question runs on a thread for blocking work, one at a time for each source, and few may wait.

pub mod access;
mod document;
mod guard;
mod journals;
mod login;
pub mod openapi;
mod page;
mod parameter;
mod problem;
mod question;
mod raw_value;
mod route;
mod stream;
mod tail_pages;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawPathParams, Request};
use axum::http::request::Parts;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use bridge_query::status::BridgeStatus;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Semaphore;

use self::access::{Access, Caller};
use self::document::Document;
use self::journals::ApiJournals;
use self::parameter::Parameters;
use self::problem::Problem;
use self::route::{ROUTES, Route, RouteAnswer};
use crate::bridge::View;

/// Where the routes begin.
pub const BASE: &str = "/api/v1";

/// The state from which the routes answer. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    journals: Arc<ApiJournals>,
    access: Access,
    view: View,
    /// A permit for each open stream.
    streams: Arc<Semaphore>,
}

/// A source, as far as every caller may know it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct SourceItem {
    /// Its name.
    source: String,
    /// `detached`, `arming`, `walking`, `live` or `halted`.
    state: String,
    /// The last durable record.
    tail: bridge_core::number::Seq,
}

impl Api {
    /// The API of a bridge whose journals are in this folder, on a port that holds this number of connections.
    pub fn new(data_dir: &Path, access: Access, view: View, connections: usize) -> Api {
        Api {
            journals: Arc::new(ApiJournals::new(data_dir, view.clone())),
            access,
            view,
            streams: Arc::new(Semaphore::new(stream::streams_max(connections))),
        }
    }

    /// All routes with their guard, and the files of the page.
    pub fn router(&self) -> Router {
        let unknown = || any(async || Problem::no_route().into_response());
        let mut router = Router::new()
            .route(BASE, unknown())
            .route(&format!("{BASE}/"), unknown())
            .route(&format!("{BASE}/{{*rest}}"), unknown());
        for route in ROUTES {
            router = router.route(&format!("{BASE}{}", route.path), self.method(route));
        }
        router
            .layer(middleware::from_fn_with_state(self.access.clone(), guard::guard))
            .merge(page::router(&self.access))
    }

    fn method(&self, route: &'static Route) -> MethodRouter {
        let api = self.clone();
        let method = match route.answer {
            RouteAnswer::Session => {
                let (opened, closed) = (api.access.clone(), api.access.clone());
                let show = async move |request: Request| {
                    let read = Parameters::read(route, std::iter::empty(), request.uri().query());
                    read.map_or_else(Problem::into_response, |_| login::show(&request))
                };
                get(show)
                    .post(async move |request: Request| login::open(&opened, request).await)
                    .delete(async move |request: Request| login::close(&closed, &request))
            }
            _ => get(async move |path: RawPathParams, request: Request| {
                let (head, _) = request.into_parts();
                api.answer(route, &path, &head).await
            }),
        };
        method.fallback(async || Problem::wrong_method().into_response())
    }

    async fn answer(&self, route: &'static Route, path: &RawPathParams, head: &Parts) -> Response {
        let answered = match Parameters::read(route, path.iter(), head.uri.query()) {
            Ok(parameters) => self.ask(route, parameters, head).await,
            Err(problem) => Err(problem),
        };
        answered.unwrap_or_else(Problem::into_response)
    }

    async fn ask(
        &self,
        route: &'static Route,
        parameters: Parameters,
        head: &Parts,
    ) -> Result<Response, Problem> {
        let caller = Caller::of(&head.extensions)?;
        let headers = &head.headers;
        let document = match route.answer {
            RouteAnswer::Question(question) => {
                let source = self.journals.source(parameters.source())?;
                let work = move |journal: &_, now| question(journal, &parameters, now);
                source.ask(&caller, work).await?
            }
            RouteAnswer::Stream => return stream::answer(self, &caller, &parameters, headers),
            RouteAnswer::Status => Document::json(&self.status_for(&caller).await?)?,
            RouteAnswer::Sinks => Document::json(&self.status_for(&caller).await?.sinks)?,
            RouteAnswer::Sources => Document::json(&self.sources())?,
            RouteAnswer::OpenApi => Document::of_json_text(openapi::openapi_text()),
            RouteAnswer::Session => return Err(Problem::no_route()),
        };
        Ok(document.respond(headers))
    }

    /// The status holds paths and errors of all znodes, so a caller who may see some znodes only does not get it.
    async fn status_for(&self, caller: &Caller) -> Result<BridgeStatus, Problem> {
        match caller.is_restricted() {
            true => Err(Problem::hidden(
                "the status, because it names paths of all znodes",
            )),
            false => Ok(self.view.status().await),
        }
    }

    fn sources(&self) -> Vec<SourceItem> {
        let sources = self.view.sources();
        let items = sources.iter().map(|status| {
            let status = status.borrow();
            SourceItem {
                source: status.source.to_string(),
                state: status.state.to_owned(),
                tail: status.journal.tail,
            }
        });
        items.collect()
    }
}
