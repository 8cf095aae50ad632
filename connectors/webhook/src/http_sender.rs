//! One request: encoded, signed, sent, and its answer read as far as it matters.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bridge_core::outbound::Messages;
use bridge_core::record::Record;
use bridge_core::sink::SinkError;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode, Url};

use crate::config::{WebhookConfig, shown};
use crate::encode::{Encoded, Encoder, Unfit};
use crate::error;
use crate::path_queues::Parcel;
use crate::resolve::Guard;
use crate::signature::{self, SigningKey};
use crate::transport::Way;

/// So much of an answer's body is read, so that the connection can be used again; after it the connection is closed.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What is needed for a request.
pub(crate) struct HttpSender {
    pub(crate) way: Way,
    pub(crate) url: Url,
    pub(crate) shown: String,
    pub(crate) keys: Vec<SigningKey>,
    pub(crate) encoder: Encoder,
    pub(crate) timeout: Duration,
}

/// What became of a request.
pub(crate) enum Answer {
    /// The form has nothing to say of these records.
    Nothing,
    /// There is no request with them: nothing was sent.
    Unfit(Unfit),
    Status(StatusCode, HeaderMap),
    Lost {
        error: SinkError,
        /// Whether others would fare no better.
        is_way: bool,
    },
}

/// What became of some records of a batch.
pub(crate) struct Reply {
    pub(crate) parcel: Parcel,
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
            way: Way::new(config, &url, guard, proxies)?,
            shown: shown(&url),
            url,
            keys: config.keys(),
            encoder: Encoder::new(config.format, config.batch),
            timeout: config.timeout.0,
        })
    }

    /// Sends these records in bodies of so many bytes at most.
    pub(crate) async fn send(&self, parcel: Parcel, records: &[Arc<Record>], most: usize) -> Reply {
        let of_parcel: Vec<Arc<Record>> = parcel.iter().map(|at| Arc::clone(&records[*at])).collect();
        let mut reply = Reply {
            parcel,
            answer: Answer::Nothing,
            bytes: 0,
            is_shrunk: false,
        };
        let fitted = match self.encoder.requests(&of_parcel, most) {
            Ok(fitted) => fitted,
            Err(unfit) => {
                reply.answer = Answer::Unfit(unfit);
                return reply;
            }
        };
        reply.is_shrunk = fitted.is_shrunk;
        (reply.answer, reply.bytes) = self.post_all(fitted.messages).await;
        reply
    }

    /// Sends requests one after another, until one is not taken. Returns the answer to the last one and the size of its
    /// body.
    pub(crate) async fn post_all(&self, requests: Messages<Encoded>) -> (Answer, usize) {
        let mut last = (Answer::Nothing, 0);
        for (_, request) in requests.placed() {
            let bytes = request.body.len();
            last = (self.post(request).await, bytes);
            if !matches!(last.0, Answer::Status(status, _) if status.is_success()) {
                break;
            }
        }
        last
    }

    async fn post(&self, encoded: Encoded) -> Answer {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = since.as_secs();
        let mut request = self.way.client.post(self.url.clone());
        if !self.keys.is_empty() {
            let signatures = signature::header(&self.keys, &encoded.id.to_string(), timestamp, &encoded.body);
            request = request.header("webhook-signature", signatures);
        }
        for (name, value) in &encoded.headers {
            request = request.header(&**name, value);
        }
        let sent = request
            .header("webhook-id", encoded.id.to_string())
            .header("webhook-timestamp", timestamp)
            .header(CONTENT_TYPE, encoded.content_type)
            .body(encoded.body)
            .send()
            .await;
        match sent {
            Ok(mut response) => {
                let headers = std::mem::take(response.headers_mut());
                let status = response.status();
                drain(response).await;
                Answer::Status(status, headers)
            }
            Err(error) => {
                let (is_way, error) = error::about_request(&self.shown, error, self.timeout);
                Answer::Lost { error, is_way }
            }
        }
    }
}

/// Reads what belongs to an answer and is of no interest. The status has said it all, so no failure here counts.
async fn drain(mut response: Response) {
    let mut bytes = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes += chunk.len();
        if bytes > ANSWER_BYTES_MAX {
            return;
        }
    }
}
