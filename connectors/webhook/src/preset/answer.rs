//! Answers that mean something else than their status says.

use std::time::Duration;

use bridge_core::sink::SinkErrorKind;
use reqwest::StatusCode;
use serde::Deserialize;

use super::Preset;
use crate::error::Meaning;

/// The beginning of an answer of Teams that has the status 200 and delivered nothing.
const TEAMS_FAILURE: &str = "Webhook message delivery failed with error";

/// Before the status of the failure in that answer.
const TEAMS_STATUS: &str = "HTTP error ";

/// The longest wait that is taken from a text.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// The answer 429 of Discord: the wait in seconds, with a fraction that its header lacks.
#[derive(Deserialize)]
struct DiscordLimit {
    retry_after: f64,
}

impl Preset {
    /// The meaning of an answer, where that is not the one of its status.
    pub(crate) fn meaning(self, status: StatusCode, text: &str) -> Option<Meaning> {
        if self != Preset::Teams || !status.is_success() || !text.contains(TEAMS_FAILURE) {
            return None;
        }
        let (_, rest) = text.split_once(TEAMS_STATUS).unwrap_or_default();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let of_record = Meaning::Refused {
            of_address: false,
            kind: SinkErrorKind::Unavailable,
        };
        Some(match digits.parse() {
            Ok(429) => Meaning::Ended(SinkErrorKind::Throttled),
            Ok(400..=499) => of_record,
            _ => Meaning::Failed {
                of_address: false,
                kind: SinkErrorKind::Unavailable,
            },
        })
    }

    /// The wait that the text of an answer asks for.
    pub(crate) fn wait_in(self, status: StatusCode, text: &[u8]) -> Option<Duration> {
        if self != Preset::Discord || status != StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        let limit: DiscordLimit = serde_json::from_slice(text).ok()?;
        let wait = Duration::try_from_secs_f64(limit.retry_after).ok()?;
        Some(wait.min(WAIT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_teams_reports_with_200_is_one() {
        let text = |status: &str| {
            format!(
                "{TEAMS_FAILURE}: Microsoft Teams endpoint returned HTTP error {status} with ContextId tcid=1"
            )
        };
        let check = |text: &str, expected: Option<Meaning>| {
            assert_eq!(Preset::Teams.meaning(StatusCode::OK, text), expected, "{text}");
        };
        let failed = Meaning::Failed {
            of_address: false,
            kind: SinkErrorKind::Unavailable,
        };
        let refused = Meaning::Refused {
            of_address: false,
            kind: SinkErrorKind::Unavailable,
        };
        check("1", None);
        check(&text("429"), Some(Meaning::Ended(SinkErrorKind::Throttled)));
        check(&text("413"), Some(refused));
        check(&text("503"), Some(failed));
        check(TEAMS_FAILURE, Some(failed));
        assert_eq!(Preset::Slack.meaning(StatusCode::OK, &text("429")), None);
    }

    #[test]
    fn the_wait_in_an_answer_of_discord_is_read_and_bounded() {
        let wait = |text: &str| Preset::Discord.wait_in(StatusCode::TOO_MANY_REQUESTS, text.as_bytes());
        let answer = |seconds: &str| {
            format!(
                r#"{{"message": "You are being rate limited.", "retry_after": {seconds}, "global": false}}"#
            )
        };
        assert_eq!(wait(&answer("0.3")), Some(Duration::from_millis(300)));
        assert_eq!(wait(&answer("1e9")), Some(WAIT_MAX));
        assert_eq!(wait(&answer("-1")), None);
        assert_eq!(wait(&answer("\"soon\"")), None);
        assert_eq!(wait("error code: 1015"), None);
    }
}
