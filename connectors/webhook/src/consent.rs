//! The consent of a receiver, as the CloudEvents specification for webhooks has it ("abuse protection"): an `OPTIONS`
//! request names the origin of the events, and nothing is sent before the receiver allows it.
//!
//! Only the header `WebHook-Allowed-Origin` is a consent: many services answer `OPTIONS` with 200 and mean nothing. The
//! rate that a receiver allows is kept: requests are spread over each minute, and none is made up for later.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bridge_core::sink::{SinkError, SinkErrorKind};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use tokio::time::Instant;

use crate::config::Consent;
use crate::error;
use crate::http_sender::{HttpSender, Response};

/// Of the request for consent and of every delivery.
pub(crate) const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const REQUEST_RATE: HeaderName = HeaderName::from_static("webhook-request-rate");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// In place of an origin: all are allowed. In place of a rate: there is no limit.
const ANY: &str = "*";

const MINUTE: Duration = Duration::from_secs(60);

/// No request waits longer for its turn; the batch ends instead, and what was taken of it is stored.
const TURN_WAIT_MAX: Duration = Duration::from_secs(5);

/// A batch takes no longer for the same reason; without a limit of the rate it is one of seconds.
const PACED_BATCH_MAX: Duration = Duration::from_secs(30);

/// The consent of a receiver.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The header of every request.
    pub(crate) origin: HeaderValue,
    /// `None`: as fast as the receiver answers.
    pub(crate) pace: Option<Arc<Pace>>,
}

/// Spreads requests evenly over each minute.
#[derive(Debug)]
pub(crate) struct Pace {
    per_minute: u32,
    next: Mutex<Instant>,
}

impl Pace {
    pub(crate) fn new(per_minute: u32) -> Pace {
        Pace {
            per_minute,
            next: Mutex::new(Instant::now()),
        }
    }

    /// The time of the next request, which is taken.
    pub(crate) fn turn(&self) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(Instant::now());
        *next = turn + MINUTE / self.per_minute;
        turn
    }

    /// How long the next request has to wait for its turn.
    fn wait(&self) -> Duration {
        let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.saturating_duration_since(Instant::now())
    }

    /// The error that ends a batch that began then; `None` if its next request may be sent soon.
    pub(crate) fn end(&self, began: Instant, shown: &str) -> Option<SinkError> {
        let wait = self.wait();
        let is_end = wait > TURN_WAIT_MAX || began.elapsed() > PACED_BATCH_MAX;
        is_end.then(|| {
            let message = format!(
                "{shown} is sent {} requests a minute, as agreed, and the rest waits",
                self.per_minute
            );
            SinkError::new(SinkErrorKind::Throttled, message).retry_after(wait)
        })
    }
}

impl HttpSender {
    /// Asks the receiver for its consent.
    ///
    /// # Errors
    ///
    /// If it cannot be asked, or does not consent.
    pub(crate) async fn ask(&self, consent: &Consent) -> Result<Grant, SinkError> {
        let mut headers = HeaderMap::new();
        let origin = HeaderValue::from_str(&consent.origin);
        let origin = origin.expect("the options were checked before");
        headers.insert(REQUEST_ORIGIN, origin.clone());
        if let Some(rate) = consent.rate {
            headers.insert(REQUEST_RATE, rate.into());
        }
        let request = self.transport.client.request(Method::OPTIONS, self.url.clone());
        let response = match self.answer(request.headers(headers)).await {
            Ok(response) => response,
            Err(loss) => return Err(loss.error),
        };
        let rate =
            allowed_rate(consent, &response).map_err(|reason| refused(&self.shown, &response, &reason))?;
        tracing::info!(
            receiver = self.shown,
            origin = consent.origin,
            requests_per_minute = rate,
            "the receiver consents to deliveries"
        );
        Ok(Grant {
            origin,
            pace: rate.map(|rate| Arc::new(Pace::new(rate))),
        })
    }
}

/// The rate that an answer allows, in requests a minute: `None` is no limit. The error says why the answer is no consent.
fn allowed_rate(consent: &Consent, response: &Response) -> Result<Option<u32>, String> {
    let text = |name: &HeaderName| {
        let value = response.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
    };
    if response.status.is_client_error() || response.status.is_server_error() {
        return Err("the request for its consent failed".to_owned());
    }
    match text(&ALLOWED_ORIGIN) {
        None => return Err(format!("{ALLOWED_ORIGIN} is missing")),
        Some(origin) if origin == ANY || origin.eq_ignore_ascii_case(&consent.origin) => {}
        Some(_) => return Err(format!("{ALLOWED_ORIGIN} names another origin")),
    }
    let allowed = match text(&ALLOWED_RATE).as_deref() {
        None | Some(ANY) => None,
        Some(rate) => match rate.parse() {
            Ok(rate @ 1..) => Some(rate),
            _ => {
                return Err(format!(
                    "{ALLOWED_RATE} is neither '{ANY}' nor a number of requests a minute"
                ));
            }
        },
    };
    // More than what was asked for is not needed.
    Ok([allowed, consent.rate].into_iter().flatten().min())
}

fn refused(shown: &str, response: &Response, reason: &str) -> SinkError {
    let now = SystemTime::now();
    let status = response.status;
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => SinkErrorKind::Throttled,
        _ if status.is_server_error() => SinkErrorKind::Unavailable,
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => SinkErrorKind::Authentication,
        _ => SinkErrorKind::Authorization,
    };
    let advice = match kind {
        SinkErrorKind::Authentication => "correct the sink's headers",
        SinkErrorKind::Authorization => {
            "let the receiver answer OPTIONS for this origin, or take 'consent' out if it does not know it"
        }
        _ => "look whether the receiver works",
    };
    let message =
        format!("{shown} does not consent to deliveries: {reason}, and it answered {status}: {advice}");
    let error = SinkError::new(kind, message);
    match error::retry_after(&response.headers, now) {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, headers: &[(HeaderName, &str)]) -> Response {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            text: String::new(),
            wait_in_text: None,
        }
    }

    #[test]
    fn only_a_header_that_names_the_origin_or_all_is_a_consent_and_its_rate_is_kept() {
        let origin = (ALLOWED_ORIGIN, "ZK.example.com");
        let any = (ALLOWED_ORIGIN, "*");
        let rate = |rate: &'static str| (ALLOWED_RATE, rate);
        let check = |status,
                     headers: &[(HeaderName, &str)],
                     asked: Option<u32>,
                     expected: Result<Option<u32>, &str>| {
            let consent = Consent {
                origin: "zk.example.com".into(),
                rate: asked,
            };
            let allowed = allowed_rate(&consent, &response(status, headers));
            match (&allowed, expected) {
                (Ok(allowed), Ok(expected)) => assert_eq!(*allowed, expected, "{headers:?}"),
                (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{reason}"),
                _ => panic!("{headers:?} of {status} gives {allowed:?}"),
            }
        };
        check(200, std::slice::from_ref(&origin), None, Ok(None));
        check(204, &[any.clone(), rate("*")], None, Ok(None));
        check(200, &[any.clone(), rate("*")], Some(60), Ok(Some(60)));
        check(200, &[origin.clone(), rate("100")], None, Ok(Some(100)));
        check(200, &[origin.clone(), rate("100")], Some(60), Ok(Some(60)));
        check(200, &[origin.clone(), rate("30")], Some(60), Ok(Some(30)));
        // It must say a rate where one was asked for; the one that was asked for is kept.
        check(200, std::slice::from_ref(&origin), Some(60), Ok(Some(60)));
        check(200, &[], None, Err("webhook-allowed-origin is missing"));
        check(
            200,
            &[(ALLOWED_ORIGIN, "other.example.com")],
            None,
            Err("names another origin"),
        );
        check(200, &[(ALLOWED_ORIGIN, "")], None, Err("names another origin"));
        for wrong in ["0", "-1", "many", "1.5", "99999999999"] {
            check(
                200,
                &[origin.clone(), rate(wrong)],
                None,
                Err("webhook-allowed-rate is neither"),
            );
        }
        for status in [401, 403, 405, 429, 500, 503] {
            check(
                status,
                std::slice::from_ref(&origin),
                None,
                Err("the request for its consent failed"),
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_over_the_minute_and_a_pause_is_not_made_up_for() {
        let pace = Pace::new(60);
        let began = Instant::now();
        let turns: Vec<u64> = (0..3).map(|_| (pace.turn() - began).as_secs()).collect();
        assert_eq!(turns, [0, 1, 2]);
        tokio::time::advance(MINUTE).await;
        let turns: Vec<u64> = (0..3).map(|_| (pace.turn() - began).as_secs()).collect();
        assert_eq!(turns, [60, 61, 62]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_ends_before_a_long_wait_and_after_a_while() {
        let pace = Pace::new(60);
        let began = Instant::now();
        assert!(pace.end(began, "there").is_none());
        for _ in 0..6 {
            pace.turn();
        }
        let error = pace.end(began, "there").unwrap();
        assert_eq!(error.kind, SinkErrorKind::Throttled);
        assert_eq!(error.retry_after, Some(Duration::from_secs(6)));
        assert!(
            error.message.contains("there is sent 60 requests a minute"),
            "{error}"
        );
        tokio::time::advance(PACED_BATCH_MAX).await;
        assert!(pace.end(began, "there").is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(
            pace.end(began, "there").unwrap().retry_after,
            Some(Duration::ZERO)
        );
    }
}
