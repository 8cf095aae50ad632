//! Classifies answers of receivers and errors of the transport as kinds of failure.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, SystemTime};

use bridge_core::sink::{SinkError, SinkErrorKind};
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};

use crate::http_sender::Response;
use crate::resolve::ResolveError;

/// Clocks differ by less where they are set; receivers refuse signatures that are five minutes old.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(60);

const LARGE_HEADERS: &str = "its headers are too large for the receiver: raise its limit, or use a format without headers (record, cloudevents)";

/// The classification of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The receiver has the records.
    Accepted,
    /// It objects to the request: to a record, or (`of_address`) rather to the address, the credentials or the method.
    Refused { of_address: bool, kind: SinkErrorKind },
    /// It failed, with this request at least; `of_address` where others would fare no better.
    Failed { of_address: bool, kind: SinkErrorKind },
    /// Nothing more must be sent now.
    Ended(SinkErrorKind),
}

/// Classifies a status.
pub(crate) fn meaning(status: StatusCode, asks_to_wait: bool, disables: bool) -> Meaning {
    use SinkErrorKind as Kind;
    let of_address = |kind| Meaning::Refused {
        of_address: true,
        kind,
    };
    let failed = |kind| Meaning::Failed {
        of_address: false,
        kind,
    };
    match status.as_u16() {
        200..=299 => Meaning::Accepted,
        // A redirect is not followed: the address that it names is not the configured one.
        300..=399 => Meaning::Failed {
            of_address: true,
            kind: Kind::Missing,
        },
        401 | 407 => of_address(Kind::Authentication),
        403 => of_address(Kind::Authorization),
        404 | 405 => of_address(Kind::Missing),
        // The receiver stopped waiting, or refuses early data: the record is not the cause.
        408 | 425 => failed(Kind::Unavailable),
        410 if disables => Meaning::Ended(Kind::Disabled),
        429 => Meaning::Ended(Kind::Throttled),
        503 if asks_to_wait => Meaning::Ended(Kind::Unavailable),
        507 => failed(Kind::Full),
        400..=499 => Meaning::Refused {
            of_address: false,
            kind: Kind::Unavailable,
        },
        _ => failed(Kind::Unavailable),
    }
}

/// The wait that `Retry-After` asks for, in seconds or as a date; a date that has passed is no wait. The engine bounds
/// it.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// An answer as an error.
pub(crate) fn about_answer(
    shown: &str,
    response: &Response,
    kind: SinkErrorKind,
    now: SystemTime,
) -> SinkError {
    let Response { status, headers, .. } = response;
    let answered = format!("{shown} answered {status}{}", quoted(&response.text));
    let mut message = match status.as_u16() {
        300..=399 => format!(
            "{answered}, and redirects are not followed: give the address that it names{} as url",
            target(headers)
        ),
        401 | 407 => format!("{answered}: correct the sink's headers, its secrets or the receiver"),
        403 => format!("{answered}: let the receiver take requests from here"),
        404 | 405 => format!("{answered}: correct the path of url, or let the receiver take POST"),
        410 => format!("{answered}: the receiver wants no more requests"),
        429 => format!("{answered}: it asks for fewer requests; lower parallel or set batch"),
        431 => format!("{answered}: {LARGE_HEADERS}"),
        _ => format!("{answered}: see the receiver's log"),
    };
    if let Some(off) = clock_difference(headers, now).filter(|_| status.is_client_error()) {
        let _ = write!(
            message,
            "; its clock differs from this one by {} s, and signatures have a time: set both clocks",
            off.as_secs()
        );
    }
    let error = SinkError::new(kind, message);
    match response.wait(now) {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}

/// An answer in short: `200 OK ("ok")`.
pub(crate) fn said(response: &Response) -> String {
    format!("{}{}", response.status, quoted(&response.text))
}

/// The text of an answer, where it has one.
fn quoted(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(" (\"{text}\")")
    }
}

/// The difference between the receiver's clock and this one, if it is too large.
fn clock_difference(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let date = httpdate::parse_http_date(date).ok()?;
    let off = date
        .duration_since(now)
        .unwrap_or_else(|earlier| earlier.duration());
    (off >= CLOCK_DIFFERENCE_MAX).then_some(off)
}

/// The target of a redirect, without its path, as with our own address.
fn target(headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    match location.and_then(|text| reqwest::Url::parse(text).ok()) {
        Some(url) => format!(" (at {})", crate::config::shown(&url)),
        None => String::new(),
    }
}

/// A request without an answer that can be used.
pub(crate) struct Loss {
    pub(crate) error: SinkError,
    pub(crate) cause: LossCause,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LossCause {
    /// The way to the receiver: other requests would fare no better.
    Transport,
    /// None came, or not in time.
    NoAnswer,
    /// One came and cannot be read, for this reason.
    Unreadable(String),
}

/// A request that was not answered.
pub(crate) fn about_request(shown: &str, error: reqwest::Error, timeout: Duration) -> Loss {
    let error = error.without_url();
    if error.is_connect() {
        return Loss {
            error: about_connection(shown, &error, true),
            cause: LossCause::Transport,
        };
    }
    let unreadable = find::<hyper::Error>(&error).filter(|fault| fault.is_parse());
    let unreadable = unreadable.map(|fault| root_cause(fault));
    let message = if error.is_timeout() {
        format!("{shown} did not answer within {timeout:?}; look whether it works, or raise timeout")
    } else if let Some(fault) = &unreadable {
        format!(
            "{shown} sent an answer that cannot be read ({fault}), so that nobody knows whether it took the request; \
             look what answers there, the request is sent again"
        )
    } else {
        format!("the connection to {shown} broke before an answer came")
    };
    let cause = match unreadable {
        Some(fault) if !error.is_timeout() => LossCause::Unreadable(fault),
        _ if error.is_builder() => LossCause::Transport,
        _ => LossCause::NoAnswer,
    };
    Loss {
        error: SinkError::new(SinkErrorKind::Unavailable, message).because(error),
        cause,
    }
}

/// No connection can be made. `worked_before`: the name led somewhere else then.
pub(crate) fn about_connection(
    shown: &str,
    error: &(dyn StdError + 'static),
    worked_before: bool,
) -> SinkError {
    let cause = root_cause(error);
    if let Some(nowhere) = find::<ResolveError>(error) {
        let kind = match nowhere {
            // Nothing that was tried here will change it; but a name that was moved can be moved back.
            ResolveError::Refused { .. } if !worked_before => SinkErrorKind::Configuration,
            _ => SinkErrorKind::Unavailable,
        };
        return SinkError::new(kind, format!("{shown} cannot be reached: {nowhere}"));
    }
    let (kind, advice) = match find::<rustls::Error>(error) {
        Some(rustls::Error::InvalidCertificate(_)) => (
            SinkErrorKind::Authentication,
            "its certificate is not trusted; name the authority that signed it in tls.ca, or correct the name in url",
        ),
        Some(rustls::Error::AlertReceived(_)) => (
            SinkErrorKind::Authentication,
            "it ended the TLS handshake; look whether it asks for a certificate (tls.cert, tls.key)",
        ),
        Some(_) => (
            SinkErrorKind::Unavailable,
            "no TLS handshake with it succeeds; look whether it speaks TLS on that port",
        ),
        None => (
            SinkErrorKind::Unavailable,
            "look whether the name is right, whether it runs, and whether it can be reached from here",
        ),
    };
    SinkError::new(kind, format!("{shown} cannot be reached: {cause}: {advice}"))
}

/// The words of the innermost error: those around it say only that something failed.
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}

/// The first error of a type in a chain; also inside of errors of the system, which hide theirs.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Why a record can never be sent.
pub(crate) fn too_large(bytes: usize) -> String {
    format!(
        "its body of {bytes} bytes cannot be cut to max_body, which is less than it takes without data: raise max_body; \
         then retry the record"
    )
}

fn times(tries: u32) -> String {
    match tries {
        1 => "once".to_owned(),
        tries => format!("{tries} times"),
    }
}

/// Why a record is given up whose requests get answers that cannot be read.
pub(crate) fn unreadable(shown: &str, fault: &str, tries: u32, id: &str) -> String {
    format!(
        "{shown} sent an answer that cannot be read ({fault}) {} (webhook-id {id}): it may have taken the record; look \
         what answers there, and in the receiver's log for that webhook-id; then retry or drop the record",
        times(tries)
    )
}

/// Why the receiver will never take a record.
pub(crate) fn refusal(shown: &str, response: &Response, tries: u32, id: &str) -> String {
    let times = times(tries);
    let remedy = match response.status.as_u16() {
        413 => "it refused the record without data, too: let it take larger bodies",
        431 => LARGE_HEADERS,
        _ => "see its log for that webhook-id, correct it",
    };
    let said = quoted(&response.text);
    format!(
        "{shown} answered {}{said} {times} (webhook-id {id}): {remedy}; then retry the record",
        response.status
    )
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn each_status_has_its_meaning() {
        use Meaning::{Accepted, Ended};
        use SinkErrorKind as Kind;
        let check = |status: u16, waits: bool, disables: bool, expected: Meaning| {
            let found = meaning(StatusCode::from_u16(status).unwrap(), waits, disables);
            assert_eq!(found, expected, "{status}");
        };
        let record = Meaning::Refused {
            of_address: false,
            kind: Kind::Unavailable,
        };
        let failed = |kind| Meaning::Failed {
            of_address: kind == Kind::Missing,
            kind,
        };
        let address = |kind| Meaning::Refused {
            of_address: true,
            kind,
        };
        for status in [200, 201, 202, 204, 299] {
            check(status, false, true, Accepted);
        }
        for status in [300, 301, 302, 303, 304, 307, 308] {
            check(status, true, true, failed(Kind::Missing));
        }
        for status in [400, 402, 406, 409, 411, 413, 415, 418, 422, 431, 451, 499] {
            check(status, false, true, record);
        }
        check(401, false, true, address(Kind::Authentication));
        check(407, false, true, address(Kind::Authentication));
        check(403, false, true, address(Kind::Authorization));
        check(404, false, true, address(Kind::Missing));
        check(405, false, true, address(Kind::Missing));
        check(408, false, true, failed(Kind::Unavailable));
        check(425, false, true, failed(Kind::Unavailable));
        check(410, false, true, Ended(Kind::Disabled));
        check(410, false, false, record);
        check(429, false, true, Ended(Kind::Throttled));
        check(429, true, true, Ended(Kind::Throttled));
        check(503, true, true, Ended(Kind::Unavailable));
        check(507, true, true, failed(Kind::Full));
        for status in [101, 500, 501, 502, 503, 504, 599, 600] {
            check(status, false, true, failed(Kind::Unavailable));
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 13:40:00 GMT").unwrap();
        let check = |text: &'static str, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(
                retry_after(&headers, now),
                expected.map(Duration::from_secs),
                "{text}"
            );
        };
        check("0", Some(0));
        check(" 120 ", Some(120));
        check("Sun, 22 Nov 2026 13:41:30 GMT", Some(90));
        check("Sunday, 22-Nov-26 13:41:30 GMT", Some(90));
        check("Sun Nov 22 13:41:30 2026", Some(90));
        check("Sun, 22 Nov 2026 13:00:00 GMT", Some(0));
        check("-1", None);
        check("1.5", None);
        check("soon", None);
        check("99999999999999999999999", None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    fn answer(status: StatusCode, headers: HeaderMap) -> Response {
        Response {
            status,
            headers,
            text: String::new(),
            wait_in_text: None,
        }
    }

    #[test]
    fn a_refusal_by_a_receiver_whose_clock_differs_says_so() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 13:40:00 GMT").unwrap();
        for (date, expected) in [
            ("Sun, 22 Nov 2026 13:50:00 GMT", Some("by 600 s")),
            ("Sun, 22 Nov 2026 13:38:00 GMT", Some("by 120 s")),
            ("Sun, 22 Nov 2026 13:40:30 GMT", None),
            ("yesterday", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, HeaderValue::from_static(date));
            let mut response = answer(StatusCode::BAD_REQUEST, headers);
            response.text = "timestamp too old".to_owned();
            let error = about_answer("https://a", &response, SinkErrorKind::Unavailable, now);
            let said = "https://a answered 400 Bad Request (\"timestamp too old\")";
            assert!(error.message.starts_with(said), "{error}");
            match expected {
                Some(words) => assert!(error.message.contains(words), "{date}: {error}"),
                None => assert!(!error.message.contains("clock"), "{date}: {error}"),
            }
        }
    }

    #[test]
    fn no_header_of_an_answer_is_too_odd_to_be_read() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 13:40:00 GMT").unwrap();
        let valid = [
            "120",
            "Sun, 22 Nov 2026 13:41:30 GMT",
            "Sun Nov 22 13:41:30 2026",
            "https://[::1]:8080/a?b",
        ];
        for seed in 0..5_000 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut bytes = valid[random.random_range(0..valid.len())].as_bytes().to_vec();
            for _ in 0..random.random_range(0..6) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            // The HTTP client has already refused values that no header can hold.
            let Ok(value) = HeaderValue::from_bytes(&bytes) else {
                continue;
            };
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.clone());
            headers.insert(DATE, value.clone());
            headers.insert(LOCATION, value);
            let wait = retry_after(&headers, now);
            assert!(wait.is_none_or(|wait| wait < Duration::MAX), "seed {seed}");
            let response = answer(StatusCode::TEMPORARY_REDIRECT, headers);
            let error = about_answer("https://a", &response, SinkErrorKind::Missing, now);
            assert!(
                error.message.starts_with("https://a answered 307"),
                "seed {seed}: {error}"
            );
        }
    }

    #[test]
    fn a_redirect_names_where_it_leads_without_what_may_be_secret() {
        let mut headers = HeaderMap::new();
        headers.insert(
            LOCATION,
            HeaderValue::from_static("https://new.example.com/t0ken?key=t0ken"),
        );
        let response = answer(StatusCode::PERMANENT_REDIRECT, headers);
        let now = SystemTime::now();
        let error = about_answer("https://old.example.com", &response, SinkErrorKind::Missing, now);
        assert!(
            error.message.contains("(at https://new.example.com) as url"),
            "{error}"
        );
        assert!(!error.message.contains("t0ken"), "{error}");
    }
}
