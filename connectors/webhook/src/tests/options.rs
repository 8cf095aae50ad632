//! Issues of options, and values that are never shown.

use bridge_core::format::Format;
use bridge_core::issue::Severity;
use bridge_core::secret::Secret;

use super::*;

fn with(change: impl FnOnce(&mut WebhookConfig)) -> Vec<(Severity, String, String)> {
    let mut config = WebhookConfig::new("https://hooks.example.com/t0ken?k=t0ken");
    config.secrets = vec![Secret::new(SECRET)];
    change(&mut config);
    let shown =
        |one: bridge_core::issue::ConfigIssue| (one.severity, one.key, one.message + ": " + &one.remedy);
    config.objections().into_iter().map(shown).collect()
}

fn check(change: impl FnOnce(&mut WebhookConfig), severity: Severity, key: &str, part: &str) {
    let found = with(change);
    let [(found_severity, found_key, message)] = &found[..] else {
        panic!("{part}: {found:?}");
    };
    assert_eq!(
        (*found_severity, found_key.as_str()),
        (severity, key),
        "{message}"
    );
    assert!(message.contains(part), "{message}");
    assert!(!message.contains("t0ken"), "{message}");
}

#[test]
fn good_options_meet_no_objection() {
    assert_eq!(with(|_| {}), []);
    assert_eq!(with(|config| config.batch = 100), []);
    assert_eq!(with(|config| config.format = Format::Raw), []);
}

#[test]
fn options_that_cannot_work_or_are_mistakes_are_reported_with_a_remedy() {
    use Severity::{Error, Warning};
    let url = |text: &'static str| move |config: &mut WebhookConfig| config.url = Secret::new(text);
    let header = |name: &'static str, value: &'static str| {
        move |config: &mut WebhookConfig| drop(config.headers.insert(name.into(), Secret::new(value)))
    };
    check(
        url("hooks.example.com/t0ken"),
        Error,
        "url",
        "no address of a webhook",
    );
    check(
        url("ftp://hooks.example.com/t0ken"),
        Error,
        "url",
        "scheme is 'ftp'",
    );
    check(url("https://"), Error, "url", "no address of a webhook");
    let consent = |origin: &'static str, rate| {
        move |config: &mut WebhookConfig| {
            config.consent = Some(crate::Consent {
                origin: origin.into(),
                rate,
            });
        }
    };
    check(consent("*", None), Error, "consent.origin", "\"*\" is not a name");
    check(consent("", None), Error, "consent.origin", "is not a name");
    check(
        consent("zk\r\nx: y", None),
        Error,
        "consent.origin",
        "is not a name",
    );
    check(
        consent("zk.example.com", Some(0)),
        Error,
        "consent.rate",
        "nothing is ever sent",
    );
    check(
        header("WebHook-Request-Origin", "zk"),
        Error,
        "headers.WebHook-Request-Origin",
        "the option 'consent'",
    );
    check(
        url("http://hooks.example.com/t0ken"),
        Warning,
        "url",
        "http://hooks.example.com is plain HTTP",
    );
    check(
        url("https://hooks.example.com/#t0ken"),
        Warning,
        "url",
        "never sent",
    );
    check(
        |config| config.secrets.clear(),
        Warning,
        "secrets",
        "no request is signed",
    );
    check(
        |config| config.secrets[0] = Secret::new("t0ken"),
        Error,
        "secrets[0]",
        "no secret of Standard",
    );
    check(
        |config| config.secrets.push(Secret::new(SECRET)),
        Warning,
        "secrets[1]",
        "given twice",
    );
    check(
        header("webhook-id", "x"),
        Error,
        "headers.webhook-id",
        "as Standard Webhooks has it",
    );
    check(
        header("Webhook-Signature", "x"),
        Error,
        "headers.Webhook-Signature",
        "is set by",
    );
    check(
        header("CE-Id", "x"),
        Error,
        "headers.CE-Id",
        "as CloudEvents has it",
    );
    check(
        header("content-type", "x"),
        Error,
        "headers.content-type",
        "by the format",
    );
    check(header("host", "x"), Error, "headers.host", "HTTP itself");
    check(
        header("transfer-encoding", "x"),
        Error,
        "headers.transfer-encoding",
        "HTTP itself",
    );
    check(
        header("a b", "x"),
        Error,
        "headers.a b",
        "not the name of a header",
    );
    check(
        header("x-key", "t0ken\nx: y"),
        Error,
        "headers.x-key",
        "cannot stand in a header",
    );
    check(
        |config| config.timeout = Span::millis(5),
        Error,
        "timeout",
        "5ms is shorter",
    );
    check(
        |config| config.connect_timeout = Span::millis(0),
        Error,
        "connect_timeout",
        "is shorter",
    );
    check(
        |config| config.parallel = 0,
        Error,
        "parallel",
        "not between 1 and 1000",
    );
    check(
        |config| config.parallel = 1_001,
        Error,
        "parallel",
        "not between 1 and 1000",
    );
    check(
        |config| config.batch = 0,
        Error,
        "batch",
        "not between 1 and 10000",
    );
    check(
        |config| config.reject_after = 0,
        Error,
        "reject_after",
        "not between 1",
    );
    check(
        |config| config.tls.cert = Some("a.pem".into()),
        Error,
        "tls.cert",
        "without tls.key",
    );
    check(
        |config| config.tls.key = Some("a.pem".into()),
        Error,
        "tls.key",
        "without tls.cert",
    );
    for format in [Format::Raw, Format::CloudeventsBinary] {
        let change = |config: &mut WebhookConfig| (config.format, config.batch) = (format, 2);
        check(change, Error, "batch", "holds one record");
    }
}

#[test]
fn options_are_read_from_text_and_never_show_their_secrets() {
    let text = r#"
        url = "https://hooks.example.com/t0ken"
        secrets = ["whsec_t0ken", "whsk_t0ken"]
        headers = { authorization = "t0ken" }
        timeout = "15s"
        http = "1.1"
        tls = { ca = "ca.pem" }
    "#;
    let config: WebhookConfig = toml::from_str(text).unwrap();
    assert_eq!(config.timeout, Span::secs(15));
    assert_eq!(config.http, crate::HttpVersion::One);
    assert_eq!((config.parallel, config.batch, config.reject_after), (16, 1, 3));
    assert!(config.disable_on_410 && !config.allow_private_addresses);
    assert!(!format!("{config:?} {:?}", config.objections()).contains("t0ken"));
    assert!(!format!("{:?}", config.header_map()).contains("t0ken"));
    let unknown = toml::from_str::<WebhookConfig>("url = \"https://a\"\nurls = 1").unwrap_err();
    assert!(unknown.to_string().contains("urls"), "{unknown}");
}
