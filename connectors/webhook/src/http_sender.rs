//! Sends one request: encodes, signs and sends it, and reads its answer as far as needed.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bridge_core::outbound::Messages;
use bridge_core::record::Record;
use bridge_core::secret::{HiddenTexts, Secret};
use bridge_core::sink::SinkError;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{RequestBuilder, StatusCode, Url};
use tokio::time::{Instant, sleep_until};

use crate::config::{WebhookConfig, shown};
use crate::consent::{Grant, Pace, REQUEST_ORIGIN};
use crate::encode::{Encoded, Encoder, Unfit};
use crate::error::{self, Loss};
use crate::path_queues::Members;
use crate::preset::Preset;
use crate::resolve::Guard;
use crate::signature::{self, SigningKey};
use crate::transport::Transport;

/// A shorter part of an option is no secret, and would mask parts of ordinary words.
const HIDDEN_BYTES_MIN: usize = 6;

/// The most characters of an answer's text that are shown.
const SHOWN_MAX: usize = 200;

/// The bytes that they are taken from, so that no secret is cut before it is masked.
const BEGINNING_BYTES: usize = 8 << 10;

/// The most bytes of an answer's body that are read so that the connection can be used again; beyond them it is closed.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Everything that a request needs.
pub(crate) struct HttpSender {
    pub(crate) transport: Transport,
    pub(crate) url: Url,
    pub(crate) shown: String,
    pub(crate) keys: Vec<SigningKey>,
    pub(crate) encoder: Encoder,
    pub(crate) preset: Option<Preset>,
    pub(crate) timeout: Duration,
    /// The consent of the receiver, if it was asked for.
    pub(crate) grant: Option<Grant>,
    /// Texts that no message may show.
    hidden: HiddenTexts,
}

/// The result of a request.
pub(crate) enum Answer {
    /// The form has nothing to say of these records.
    Nothing,
    /// There is no request with them: nothing was sent.
    Unfit(Unfit),
    Status(Response),
    Lost(Loss),
}

/// An answer of the receiver.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The beginning of its text, in one line and without what must not be shown.
    pub(crate) text: String,
    /// The wait that its text asks for, where the preset's receiver says it there.
    pub(crate) wait_in_text: Option<Duration>,
}

impl Response {
    /// The wait that it asks for.
    pub(crate) fn wait(&self, now: SystemTime) -> Option<Duration> {
        let in_headers = error::retry_after(&self.headers, now);
        in_headers.max(self.wait_in_text)
    }
}

/// The result of some records of a batch.
pub(crate) struct Reply {
    pub(crate) members: Members,
    pub(crate) answer: Answer,
    /// The size of the body that was sent.
    pub(crate) bytes: usize,
    /// Whether data was cut for that.
    pub(crate) is_shrunk: bool,
}

impl HttpSender {
    pub(crate) fn new(
        config: &WebhookConfig,
        url: Url,
        guard: Guard,
        proxies: &Matcher,
    ) -> Result<HttpSender, SinkError> {
        Ok(HttpSender {
            transport: Transport::new(config, &url, guard, proxies)?,
            shown: shown(&url),
            hidden: hidden(config, &url),
            url,
            keys: config.keys(),
            encoder: Encoder::of(config),
            preset: config.preset,
            timeout: config.timeout.0,
            grant: None,
        })
    }

    fn pace(&self) -> Option<&Pace> {
        self.grant.as_ref()?.pace.as_deref()
    }

    /// The time at which the next request may be sent, which is taken; `None` if the receiver has no limit.
    pub(crate) fn turn(&self) -> Option<Instant> {
        Some(self.pace()?.turn())
    }

    /// The error that ends a batch that began then, as the next request must not be sent soon; `None` if it may be.
    pub(crate) fn pause(&self, began: Instant) -> Option<SinkError> {
        self.pace()?.end(began, &self.shown)
    }

    /// Sends these records in bodies of at most `most` bytes, at the times that the receiver allows.
    pub(crate) async fn send(
        &self,
        members: Members,
        records: &[Arc<Record>],
        most: usize,
        turn: Option<Instant>,
    ) -> Reply {
        let selected: Vec<Arc<Record>> = members.iter().map(|at| Arc::clone(&records[*at])).collect();
        let mut reply = Reply {
            members,
            answer: Answer::Nothing,
            bytes: 0,
            is_shrunk: false,
        };
        let fitted = match self.encoder.requests(&selected, most) {
            Ok(fitted) => fitted,
            Err(unfit) => {
                reply.answer = Answer::Unfit(unfit);
                return reply;
            }
        };
        reply.is_shrunk = fitted.is_shrunk;
        (reply.answer, reply.bytes) = self.post_all(fitted.messages, turn).await;
        reply
    }

    /// Sends requests one after another, until one is not taken. Returns the answer to the last one and the size of its
    /// body.
    pub(crate) async fn post_all(
        &self,
        requests: Messages<Encoded>,
        mut turn: Option<Instant>,
    ) -> (Answer, usize) {
        let mut last = (Answer::Nothing, 0);
        for (_, request) in requests.placed() {
            if let Some(turn) = turn.take().or_else(|| self.turn()) {
                sleep_until(turn).await;
            }
            let bytes = request.body.len();
            last = (self.post(request).await, bytes);
            if !matches!(&last.0, Answer::Status(response) if response.status.is_success()) {
                break;
            }
        }
        last
    }

    /// Receivers repeat requests in their answers: the path and the query of the address, the further headers and the
    /// secrets are masked, and whatever a terminal could obey is a space.
    fn shown_text(&self, beginning: &[u8]) -> String {
        let text = self.hidden.mask(beginning, 0);
        let text = String::from_utf8_lossy(&text);
        let is_plain = |letter: &char| {
            !letter.is_control()
                && !matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        };
        let plain: String = text
            .chars()
            .map(|letter| if is_plain(&letter) { letter } else { ' ' })
            .collect();
        let words: Vec<&str> = plain.split_whitespace().collect();
        words.join(" ").chars().take(SHOWN_MAX).collect()
    }

    async fn post(&self, encoded: Encoded) -> Answer {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = since.as_secs();
        let address = encoded.address.unwrap_or_else(|| self.url.clone());
        let mut request = self.transport.client.post(address);
        if !self.keys.is_empty() {
            let signatures = signature::header(&self.keys, &encoded.id.to_string(), timestamp, &encoded.body);
            request = request.header("webhook-signature", signatures);
        }
        for (name, value) in &encoded.headers {
            request = request.header(&**name, value);
        }
        if let Some(grant) = &self.grant {
            request = request.header(REQUEST_ORIGIN, grant.origin.clone());
        }
        let request = request
            .header("webhook-id", encoded.id.to_string())
            .header("webhook-timestamp", timestamp)
            .header(CONTENT_TYPE, &*encoded.content_type)
            .body(encoded.body);
        match self.answer(request).await {
            Ok(response) => Answer::Status(response),
            Err(loss) => Answer::Lost(loss),
        }
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Result<Response, Loss> {
        match request.send().await {
            Ok(mut response) => {
                let headers = std::mem::take(response.headers_mut());
                let status = response.status();
                let beginning = read(response).await;
                Ok(Response {
                    status,
                    headers,
                    text: self.shown_text(&beginning),
                    wait_in_text: self.preset.and_then(|preset| preset.wait_in(status, &beginning)),
                })
            }
            Err(error) => Err(error::about_request(&self.shown, error, self.timeout)),
        }
    }
}

/// The texts of the options that no message may show, and parts of them.
fn hidden(config: &WebhookConfig, url: &Url) -> HiddenTexts {
    let values = config
        .headers
        .values()
        .chain(&config.secrets)
        .chain(&config.key)
        .map(Secret::reveal);
    // The fixed parts of a template of the address; of any other address they are parts of its path.
    let fixed = config
        .url
        .reveal()
        .split(['{', '}', '%', '/', '?', '&', '='])
        .skip(3);
    let words = values.flat_map(|value| std::iter::once(value).chain(value.split_whitespace()));
    let query = url.query().unwrap_or_default();
    let values = query.split('&').filter_map(|pair| pair.split_once('='));
    let values = values.map(|(_, value)| value);
    let parts = url.path().split('/').chain(url.query()).chain(values);
    let written = words
        .chain(fixed)
        .chain(parts)
        .chain(url.password())
        .map(str::to_owned);
    let decoded = url.query_pairs().map(|(_, value)| value.into_owned());
    let all = written.chain(decoded).chain(decoded_segments(url));
    let path = Some(url.path()).filter(|path| *path != "/");
    let mut hidden: Vec<String> = all.filter(|text| text.len() >= HIDDEN_BYTES_MIN).collect();
    hidden.extend(path.map(str::to_owned));
    HiddenTexts::of_texts(hidden)
}

/// The segments of the path without percent-encoding: they are decoded as names in a query, where `+` is a space.
fn decoded_segments(url: &Url) -> Vec<String> {
    let path = url
        .path()
        .replace('+', "%2B")
        .replace('&', "%26")
        .replace('=', "%3D");
    let mut as_query = url.clone();
    as_query.set_query(Some(&path.replace('/', "&")));
    as_query
        .query_pairs()
        .map(|(name, _)| name.into_owned())
        .collect()
}

/// Reads an answer to its end, or as far as it may be, and returns the beginning. The status has said all that counts, so
/// no failure here does.
async fn read(mut response: reqwest::Response) -> Vec<u8> {
    let (mut bytes, mut beginning) = (0, Vec::new());
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes += chunk.len();
        let room = BEGINNING_BYTES.saturating_sub(beginning.len());
        beginning.extend_from_slice(&chunk[..room.min(chunk.len())]);
        if bytes > ANSWER_BYTES_MAX {
            break;
        }
    }
    beginning
}
