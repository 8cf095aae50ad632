//! Messages for people: Slack, Teams and Discord.

use serde_json::{Value, json};

use super::notice::{Effect, Notice, Urgency};

/// The longest text object of Slack is 3,000 characters.
const SLACK_TEXT_CHARS_MAX: usize = 2_900;

/// The most elements of a context block of Slack.
const SLACK_ELEMENTS_MAX: usize = 10;

/// Discord counts 2,000 characters, here in units of UTF-16, of which a character takes one or two.
const DISCORD_UNITS_MAX: usize = 1_990;

/// Do not show the pages that links lead to.
const DISCORD_SUPPRESS_EMBEDS: u32 = 1 << 2;

/// An incoming webhook of Slack: a section and the facts as context, both as plain text, and the text of the notification.
pub(super) fn slack(notice: &Notice) -> Value {
    let title = escaped_within(&marked(notice), SLACK_TEXT_CHARS_MAX, chars, slack_letter);
    let plain = |text: &str| json!({"type": "plain_text", "text": text, "emoji": false});
    let facts = notice.facts.iter().take(SLACK_ELEMENTS_MAX).map(|(name, value)| {
        plain(&escaped_within(
            &format!("{name}: {value}"),
            SLACK_TEXT_CHARS_MAX,
            chars,
            slack_letter,
        ))
    });
    let elements: Vec<Value> = facts.collect();
    let mut blocks = vec![json!({"type": "section", "text": plain(&title)})];
    if !elements.is_empty() {
        blocks.push(json!({"type": "context", "elements": elements}));
    }
    json!({"text": title, "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

/// A webhook of Teams: an adaptive card whose texts are text runs, which know no markup.
pub(super) fn teams(notice: &Notice) -> Value {
    let color = match (notice.effect, notice.urgency) {
        (Effect::Opens, _) | (_, Urgency::Critical | Urgency::Error) => "attention",
        (Effect::Closes, _) => "good",
        (Effect::Informs, Urgency::Info) => "default",
    };
    let title = json!({"type": "TextRun", "text": notice.title, "weight": "bolder", "size": "medium", "color": color});
    let mut body = vec![json!({"type": "RichTextBlock", "inlines": [title]})];
    body.extend(notice.facts.iter().map(|(name, value)| {
        let name = json!({"type": "TextRun", "text": format!("{name}: "), "weight": "bolder"});
        let value = json!({"type": "TextRun", "text": value});
        json!({"type": "RichTextBlock", "spacing": "none", "inlines": [name, value]})
    }));
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    });
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    })
}

/// A webhook of Discord: a text in which nothing is markup, and which mentions nobody.
pub(super) fn discord(notice: &Notice) -> Value {
    let facts: Vec<String> = notice
        .facts
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let text = format!("{}\n{}", marked(notice), facts.join("\n"));
    let content = escaped_within(&text, DISCORD_UNITS_MAX, utf16_units, discord_letter);
    json!({
        "content": content.trim_end(),
        "allowed_mentions": {"parse": []},
        "flags": DISCORD_SUPPRESS_EMBEDS,
    })
}

/// The title with a mark that is seen from afar.
fn marked(notice: &Notice) -> String {
    let mark = match (notice.effect, notice.urgency) {
        (Effect::Opens, _) => '🔴',
        (Effect::Closes, _) => '🟢',
        (Effect::Informs, Urgency::Critical | Urgency::Error) => '🟠',
        (Effect::Informs, Urgency::Info) => '🔵',
    };
    format!("{mark} {}", notice.title)
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn utf16_units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Slack's three special characters.
fn slack_letter(letter: char) -> Option<String> {
    match letter {
        '&' => Some("&amp;".to_owned()),
        '<' => Some("&lt;".to_owned()),
        '>' => Some("&gt;".to_owned()),
        _ => None,
    }
}

/// Every sign of ASCII may be markup of Discord, and `@` begins a mention where the following word is a name.
fn discord_letter(letter: char) -> Option<String> {
    match letter {
        '@' => Some("@\u{200b}".to_owned()),
        // Escaped they would show the backslash; alone they are no markup.
        ',' | '.' | ';' | '\'' | '"' | '%' | '$' | '^' | '?' | '!' | '=' | '+' | '{' | '}' | '&' => None,
        letter if letter.is_ascii_punctuation() => Some(format!("\\{letter}")),
        _ => None,
    }
}

/// A text with its letters escaped, cut so that it has `most` units at most and no escape is cut.
fn escaped_within(
    text: &str,
    most: usize,
    units: fn(&str) -> usize,
    escape: fn(char) -> Option<String>,
) -> String {
    let mut written = String::new();
    let mut taken = 0;
    for letter in text.chars() {
        let escaped = escape(letter).unwrap_or_else(|| letter.to_string());
        let more = units(&escaped);
        if taken + more > most {
            written.push('…');
            break;
        }
        taken += more;
        written.push_str(&escaped);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_ends_between_escapes() {
        assert_eq!(escaped_within("a&b", 6, chars, slack_letter), "a&amp;…");
        assert_eq!(escaped_within("a&b", 5, chars, slack_letter), "a…");
        assert_eq!(escaped_within("a&b", 7, chars, slack_letter), "a&amp;b");
        assert_eq!(escaped_within("😀😀", 3, utf16_units, discord_letter), "😀…");
    }

    #[test]
    fn the_markup_of_discord_is_text() {
        let written = escaped_within(
            "@everyone <@1> [a](http://b) **c** `d` :e:",
            500,
            utf16_units,
            discord_letter,
        );
        let expected =
            "@\u{200b}everyone \\<@\u{200b}1\\> \\[a\\]\\(http\\:\\/\\/b\\) \\*\\*c\\*\\* \\`d\\` \\:e\\:";
        assert_eq!(written, expected);
    }
}
