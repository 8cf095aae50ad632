//! Errors of the API as RFC 9457 problems, each with a remedy.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bridge_query::QueryError;
use schemars::JsonSchema;
use serde::Serialize;

use crate::exit::cause_and_help;

/// The longest part of a caller's text that a problem repeats.
const SHOWN_CHARS_MAX: usize = 200;

/// An error as the API answers it (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// `urn:zkbridge:problem:` and the name of the problem.
    #[serde(rename = "type")]
    kind: String,
    /// The same in a few words.
    title: String,
    /// The status code.
    status: u16,
    /// What failed, with the value.
    detail: String,
    /// What to do.
    remedy: String,
    /// The parameter that is wrong, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// Seconds after which a repetition may succeed.
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, name: &str, title: &str, detail: String, remedy: &str) -> Problem {
        Problem {
            kind: format!("urn:zkbridge:problem:{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            remedy: remedy.to_owned(),
            parameter: None,
            retry_after: None,
        }
    }

    /// A parameter that cannot be read.
    pub(super) fn bad_parameter(parameter: &str, reason: impl std::fmt::Display) -> Problem {
        let reason = reason.to_string();
        let (detail, remedy) = cause_and_help(&reason);
        let remedy = remedy.unwrap_or("give the parameter as /api/v1/openapi.json describes it");
        let name = match parameter {
            "at" | "from" | "to" | "a" | "b" => "bad-moment",
            "under" | "glob" | "op" | "session" | "client" | "user" | "text" | "kind" => "bad-filter",
            _ => "bad-parameter",
        };
        Problem {
            parameter: Some(parameter.to_owned()),
            ..Problem::new(
                StatusCode::BAD_REQUEST,
                name,
                "a parameter is wrong",
                shown(detail),
                remedy,
            )
        }
    }

    pub(super) fn no_route() -> Problem {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-route",
            "there is no such route",
            "the path of the request is that of no route".to_owned(),
            "choose a route of /api/v1/openapi.json",
        )
    }

    pub(super) fn wrong_method() -> Problem {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "wrong-method",
            "the route has no such method",
            "the route answers GET only, or for /session also POST and DELETE".to_owned(),
            "use a method of /api/v1/openapi.json",
        )
    }

    pub(super) fn no_source(name: &str) -> Problem {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-source",
            "there is no such source",
            format!("no source has the name '{}'", shown(name)),
            "choose a source of /api/v1/sources",
        )
    }

    pub(super) fn never_seen(what: &str) -> Problem {
        Problem::new(
            StatusCode::NOT_FOUND,
            "never-seen",
            "the journal knows nothing of it",
            format!("the journal knows nothing of {}", shown(what)),
            "check the path, the number or the name; retention may have removed the records",
        )
    }

    pub(super) fn removed(what: &str) -> Problem {
        Problem::new(
            StatusCode::GONE,
            "removed",
            "it was removed",
            format!("{} was removed by retention or compaction", shown(what)),
            "raise journal.retention if older records are needed",
        )
    }

    pub(super) fn hidden(what: &str) -> Problem {
        Problem::new(
            StatusCode::FORBIDDEN,
            "hidden",
            "this caller may not see it",
            format!("this caller may not see {}", shown(what)),
            "use a token that may see it",
        )
    }

    pub(super) fn unauthorized() -> Problem {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "no-credential",
            "a credential is needed",
            "the request has no valid token and no open session".to_owned(),
            "send a token of [http] as 'Authorization: Bearer …', or open the link that 'zkbridge ui' prints",
        )
    }

    pub(super) fn wrong_host() -> Problem {
        Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "wrong-host",
            "the Host header is of another server",
            "the Host header names neither an address nor localhost nor a name of http.hosts".to_owned(),
            "use the address, or add the name to http.hosts",
        )
    }

    pub(super) fn wrong_origin() -> Problem {
        Problem::new(
            StatusCode::FORBIDDEN,
            "wrong-origin",
            "the request comes from another page",
            "the header Sec-Fetch-Site is not same-origin, or the body is not JSON".to_owned(),
            "send the request from the page of this bridge, with Content-Type: application/json",
        )
    }

    pub(super) fn body_too_large(max: usize) -> Problem {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "the body is too large",
            format!("the body has more than {max} bytes"),
            "send a code or a token alone",
        )
    }

    pub(super) fn login_failed() -> Problem {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "login",
            "the login failed",
            "the code or token is not valid, or the code was used already".to_owned(),
            "print a new link with 'zkbridge ui'",
        )
    }

    pub(super) fn too_many_logins(seconds: u64) -> Problem {
        Problem {
            retry_after: Some(seconds),
            ..Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "login",
                "too many logins failed",
                "too many logins failed within a minute".to_owned(),
                "wait a minute, and print a new link with 'zkbridge ui'",
            )
        }
    }

    pub(super) fn busy(what: &str) -> Problem {
        Problem {
            retry_after: Some(2),
            ..Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "too many questions at once",
                what.to_owned(),
                "repeat the request later",
            )
        }
    }

    pub(super) fn failed(detail: impl std::fmt::Display) -> Problem {
        let detail = detail.to_string();
        let (detail, remedy) = cause_and_help(&detail);
        let remedy = remedy.unwrap_or("see the log of the bridge");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "journal",
            "the journal cannot be read",
            detail.to_owned(),
            remedy,
        )
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Problem {
        match error {
            QueryError::Journal(error) => Problem::failed(error),
            QueryError::OtherSource { .. } => Problem::failed(error),
            QueryError::Busy { .. } => Problem::busy("all readers of the journal are busy"),
            QueryError::Hidden(path) => Problem::hidden(path.as_str()),
            QueryError::BadCursor(text) => Problem {
                parameter: Some("cursor".to_owned()),
                ..Problem::new(
                    StatusCode::GONE,
                    "cursor-expired",
                    "the cursor is of no use here",
                    format!("cursor {}…: it does not belong to this question", shown(&text)),
                    "repeat the question without a cursor",
                )
            },
        }
    }
}

fn shown(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(SHOWN_CHARS_MAX)
        .collect()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string_pretty(&self).unwrap_or_default() + "\n";
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
