//! The published rules of the receivers of presets, as far as a message can break them.

use serde_json::{Value, json};

use super::receiver::Received;
use crate::Preset;

/// The status of a message that was taken.
pub fn success(preset: Preset) -> u16 {
    match preset {
        Preset::Discord => 204,
        Preset::Pagerduty | Preset::Opsgenie => 202,
        Preset::Slack | Preset::Teams | Preset::Alertmanager => 200,
    }
}

/// Why the receiver would refuse a request, or show something else than text.
pub fn reason_against(preset: Preset, request: &Received) -> Option<String> {
    let checked = serde_json::from_slice(&request.body).map_err(|error| error.to_string());
    let checked = checked.and_then(|body: Value| match preset {
        Preset::Slack => slack(&body),
        Preset::Teams => teams(&body, request.body.len()),
        Preset::Discord => discord(&body),
        Preset::Pagerduty => pagerduty(&body, request.body.len()),
        Preset::Opsgenie => opsgenie(&body, request),
        Preset::Alertmanager => alertmanager(&body),
    });
    let is_json = request.header("content-type").starts_with("application/json");
    checked.and_then(|()| must(is_json, "the content type")).err()
}

fn must(is_kept: bool, rule: &str) -> Result<(), String> {
    if is_kept { Ok(()) } else { Err(rule.to_owned()) }
}

fn text<'a>(value: &'a Value, most: usize, rule: &str) -> Result<&'a str, String> {
    let text = value.as_str().ok_or_else(|| format!("{rule} is no text"))?;
    must((1..=most).contains(&text.chars().count()), rule)?;
    must(!text.contains(['\u{0}', '\u{202e}', '\r']), "control characters")?;
    Ok(text)
}

fn keys(value: &Value, allowed: &[&str], rule: &str) -> Result<(), String> {
    let object = value.as_object().ok_or_else(|| format!("{rule} is no object"))?;
    must(
        object.keys().all(|key| allowed.contains(&&**key)),
        &format!("{rule} has other fields"),
    )
}

/// Texts where `<` begins a mention or a link.
fn slack_text(value: &Value) -> Result<(), String> {
    let text = text(value, 3_000, "no_text")?;
    must(!text.contains(['<', '>']), "a mention or a link")?;
    let entities = ["amp;", "lt;", "gt;"];
    let parts = text.split('&').skip(1);
    must(
        parts
            .into_iter()
            .all(|part| entities.iter().any(|known| part.starts_with(known))),
        "an escape that was cut",
    )
}

fn slack(body: &Value) -> Result<(), String> {
    keys(
        body,
        &["text", "blocks", "unfurl_links", "unfurl_media"],
        "invalid_payload",
    )?;
    slack_text(&body["text"])?;
    let blocks = body["blocks"].as_array().ok_or("invalid_blocks")?;
    must((1..=50).contains(&blocks.len()), "invalid_blocks")?;
    let plain = |object: &Value| {
        keys(object, &["type", "text", "emoji"], "text object")?;
        must(object["type"] == "plain_text", "plain_text")?;
        slack_text(&object["text"])
    };
    for block in blocks {
        match block["type"].as_str() {
            Some("section") => plain(&block["text"])?,
            Some("context") => {
                let elements = block["elements"].as_array().ok_or("invalid_blocks")?;
                must((1..=10).contains(&elements.len()), "elements")?;
                elements.iter().try_for_each(plain)?;
            }
            _ => return Err("invalid_blocks".to_owned()),
        }
    }
    Ok(())
}

fn teams(body: &Value, bytes: usize) -> Result<(), String> {
    must(bytes <= 28 * 1024 / 2, "28 KB, counted in UTF-16")?;
    keys(body, &["type", "attachments"], "message")?;
    must(body["type"] == "message", "type")?;
    let attachments = body["attachments"].as_array().ok_or("attachments")?;
    must(attachments.len() == 1, "one attachment")?;
    let attachment = &attachments[0];
    must(
        attachment["contentType"] == "application/vnd.microsoft.card.adaptive",
        "contentType",
    )?;
    let card = &attachment["content"];
    // Entities of `msteams` would make mentions.
    keys(card, &["$schema", "type", "version", "body"], "card")?;
    must(
        card["type"] == "AdaptiveCard" && card["version"] == "1.4",
        "AdaptiveCard",
    )?;
    let blocks = card["body"].as_array().ok_or("body")?;
    must(!blocks.is_empty(), "an empty card")?;
    for block in blocks {
        keys(block, &["type", "inlines", "spacing"], "block")?;
        // A TextBlock would read Markdown.
        must(block["type"] == "RichTextBlock", "RichTextBlock")?;
        for run in block["inlines"].as_array().ok_or("inlines")? {
            keys(run, &["type", "text", "weight", "size", "color"], "run")?;
            must(run["type"] == "TextRun", "TextRun")?;
            text(&run["text"], 4_000, "text")?;
        }
    }
    Ok(())
}

fn discord(body: &Value) -> Result<(), String> {
    keys(body, &["content", "allowed_mentions", "flags"], "message")?;
    let content = text(&body["content"], 2_000, "content")?;
    must(content.encode_utf16().count() <= 2_000, "content")?;
    must(
        body["allowed_mentions"] == json!({"parse": []}),
        "allowed_mentions",
    )?;
    let letters: Vec<char> = content.chars().collect();
    let mut at = 0;
    while at < letters.len() {
        match letters[at] {
            '\\' => at += 1,
            '@' => must(letters.get(at + 1) == Some(&'\u{200b}'), "a mention")?,
            '<' | '>' | '[' | ']' | '(' | ')' | '*' | '_' | '~' | '`' | '|' | ':' | '#' | '/' => {
                return Err(format!("markup: {}", letters[at]));
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

fn pagerduty(body: &Value, bytes: usize) -> Result<(), String> {
    must(bytes <= 512 * 1024, "512 KB")?;
    keys(
        body,
        &["routing_key", "event_action", "dedup_key", "client", "payload"],
        "event",
    )?;
    must(
        text(&body["routing_key"], 32, "routing_key")?.len() == 32,
        "Length of 'routing_key' is incorrect",
    )?;
    text(&body["dedup_key"], 255, "dedup_key")?;
    let action = body["event_action"].as_str().unwrap_or_default();
    must(
        ["trigger", "acknowledge", "resolve"].contains(&action),
        "event_action",
    )?;
    let payload = &body["payload"];
    text(&payload["summary"], 1_024, "summary")?;
    text(&payload["source"], 255, "source")?;
    let severity = payload["severity"].as_str().unwrap_or_default();
    must(
        ["critical", "error", "warning", "info"].contains(&severity),
        "severity",
    )?;
    must(is_moment(&payload["timestamp"]), "timestamp")
}

fn opsgenie(body: &Value, request: &Received) -> Result<(), String> {
    must(
        request.header("authorization").starts_with("GenieKey "),
        "the key",
    )?;
    if request.path.ends_with("/close") {
        let segments: Vec<&str> = request.path.split('/').collect();
        let alias = segments[segments.len() - 2];
        must(
            request.path.contains("/v2/alerts/") && !alias.is_empty(),
            "the address of an alert",
        )?;
        must(segments.len() == 6, "an alias with parts of a path")?;
        return keys(body, &["source", "user", "note"], "close");
    }
    must(request.path.ends_with("/v2/alerts"), "the address of alerts")?;
    let known = [
        "message",
        "alias",
        "description",
        "details",
        "entity",
        "source",
        "priority",
        "tags",
    ];
    keys(body, &known, "alert")?;
    text(&body["message"], 130, "message")?;
    text(&body["alias"], 512, "alias")?;
    text(&body["description"], 15_000, "description")?;
    text(&body["entity"], 512, "entity")?;
    let details = body["details"].as_object().ok_or("details")?;
    let length: usize = details
        .iter()
        .map(|(key, value)| key.len() + value.as_str().unwrap_or_default().len())
        .sum();
    must(
        length <= 8_000 && details.values().all(Value::is_string),
        "details",
    )?;
    must(
        ["P1", "P2", "P3", "P4", "P5"].contains(&body["priority"].as_str().unwrap_or_default()),
        "priority",
    )
}

fn alertmanager(body: &Value) -> Result<(), String> {
    for alert in body.as_array().ok_or("a list of alerts")? {
        keys(
            alert,
            &["labels", "annotations", "startsAt", "endsAt", "generatorURL"],
            "alert",
        )?;
        let labels = alert["labels"].as_object().ok_or("labels")?;
        must(labels.contains_key("alertname"), "alertname")?;
        for (name, value) in labels {
            let is_name = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            must(
                is_name && !name.as_bytes()[0].is_ascii_digit(),
                "the name of a label",
            )?;
            text(value, 4_000, "a label without a value")?;
        }
        for moment in ["startsAt", "endsAt"] {
            must(alert[moment].is_null() || is_moment(&alert[moment]), moment)?;
        }
    }
    Ok(())
}

fn is_moment(value: &Value) -> bool {
    let parsed = value.as_str().map(str::parse::<bridge_core::record::Timestamp>);
    matches!(parsed, Some(Ok(_)))
        && value
            .as_str()
            .is_some_and(|text| text.contains('T') && text.ends_with('Z'))
}

#[test]
fn a_message_that_breaks_a_rule_is_refused() {
    let check = |preset: Preset, body: Value, part: &str| {
        let request = Received {
            method: "POST".into(),
            path: "/hook/v2/alerts".into(),
            version: hyper::Version::HTTP_11,
            headers: [
                ("content-type", "application/json"),
                ("authorization", "GenieKey k"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            body: body.to_string().into_bytes(),
            connection: 0,
            answered: 0,
            is_taken: false,
        };
        let reason = reason_against(preset, &request).unwrap_or_default();
        assert!(reason.contains(part), "{preset:?}, {body}: {reason}");
    };
    let section = |kind: &str, text: &str| json!([{"type": "section", "text": {"type": kind, "text": text}}]);
    check(Preset::Slack, json!({"text": ""}), "no_text");
    check(
        Preset::Slack,
        json!({"text": "<!channel>", "blocks": section("plain_text", "a")}),
        "a mention",
    );
    check(
        Preset::Slack,
        json!({"text": "a", "blocks": section("mrkdwn", "a")}),
        "plain_text",
    );
    check(
        Preset::Slack,
        json!({"text": "a", "blocks": section("plain_text", &"x".repeat(3_001))}),
        "no_text",
    );
    check(
        Preset::Slack,
        json!({"text": "a &am", "blocks": section("plain_text", "a")}),
        "escape",
    );
    check(
        Preset::Teams,
        json!({"type": "message", "attachments": [], "text": "x".repeat(20_000)}),
        "28 KB",
    );
    check(
        Preset::Teams,
        json!({"type": "message", "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {"type": "AdaptiveCard", "version": "1.4", "body": [{"type": "TextBlock", "text": "[a](http://b)"}]},
        }]}),
        "block has other fields",
    );
    let mentions = json!({"parse": []});
    check(
        Preset::Discord,
        json!({"content": "x".repeat(2_001), "allowed_mentions": mentions}),
        "content",
    );
    check(
        Preset::Discord,
        json!({"content": "@everyone", "allowed_mentions": mentions}),
        "a mention",
    );
    check(
        Preset::Discord,
        json!({"content": "[a](b)", "allowed_mentions": mentions}),
        "markup",
    );
    check(Preset::Discord, json!({"content": "a"}), "allowed_mentions");
    check(Preset::Pagerduty, json!({"routing_key": "short"}), "routing_key");
    check(Preset::Opsgenie, json!({"message": "x".repeat(131)}), "message");
    check(
        Preset::Alertmanager,
        json!([{"labels": {"alertname": "a", "b-c": "d"}}]),
        "the name of a label",
    );
    check(Preset::Alertmanager, json!([{"labels": {"b": "d"}}]), "alertname");
}
