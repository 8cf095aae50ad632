//! Texts that people and other programs write: configurations, records, paths, amounts.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use std::path::Path;
use std::time::{Duration, Instant};

use bridge_config::{Environment, Format};
use bridge_core::amount::{Horizon, Interval, Patience, Size, Span};
use bridge_core::delivery::{CompiledFilter, Filter};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::record::{MaskKey, Record, Timestamp};
use bridge_core::testing::{limit_records, some_records};
use bridge_fuzz::damaged;
use bridge_query::{PathPattern, parse_position};

/// Far more than any of these texts takes in a debug build on a busy machine.
const BOUND: Duration = Duration::from_secs(20);

const WHOLE: &str = "\
data_dir = \"data\"
[http]
listen = \"127.0.0.1:9641\"
[log]
level = \"info\"
[[source]]
name = \"main\"
connect = \"a:2181,b:2181/chroot\"
roots = [\"/a\", \"/b\"]
exclude = [\"/a/tmp/**\"]
session_timeout = \"10s\"
max_data = \"1 MiB\"
[source.journal]
retention = \"7d\"
max_size = \"10 GiB\"
[[sink]]
type = \"kafka\"
brokers = \"k:9092\"
topic = \"zk-{{ cluster }}\"
paths = [\"/a/**\"]
ops = [\"create\", \"delete\"]
retry = { first = \"100ms\", max = \"1m\" }
[[sink]]
type = \"webhook\"
url = \"https://example.com/{{ op }}\"
secrets = [\"${SECRET}\"]
[[sink]]
type = \"nats\"
servers = \"nats://n:4222\"
stream = \"ZK\"
subject = \"zk.{{ names | subject }}\"
[[sink]]
type = \"file\"
path = \"out-{{ cluster }}.jsonl\"
rotate = \"1 GiB\"
";

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

const WORDS: &[&str] = &[
    "${",
    "}",
    "{{",
    "}}",
    "{%",
    "\"",
    "'''",
    "[[",
    "]]",
    "\n",
    "\t",
    "\0",
    "=",
    "9999999999999999999999",
    "-1",
    "1e999",
    "**/**/**",
    "[!",
    "\u{feff}",
    "é",
    "null",
    "- ",
    ": ",
    "&a ",
    "*a",
    "!!binary",
    "0x",
    "::1",
    "%00",
    "${file:/dev/zero}",
    "{a,{a,{a,",
    "d",
    "MiB",
];

fn as_json(toml: &str) -> String {
    // A document of the same shape is enough here.
    let lines: Vec<&str> = toml.lines().collect();
    serde_json::json!({
        "source": [{"connect": "a:2181", "roots": ["/a"]}],
        "sink": [{"type": "file", "path": "x"}, {"type": "console"}],
        "log": {"level": "info"},
        "data_dir": lines[0],
    })
    .to_string()
}

#[test]
fn no_configuration_makes_the_reader_panic_or_hang() {
    let json = as_json(WHOLE);
    let seeds = [
        (WHOLE, Format::Toml),
        (bridge_config::COMMENTED, Format::Toml),
        (json.as_str(), Format::Json),
        (json.as_str(), Format::Yaml),
    ];
    let environment = Environment::of([("SECRET", SECRET)]);
    let file = Path::new("zkbridge.toml");
    let valid = bridge_config::read(file, WHOLE, Format::Toml, &environment);
    valid.unwrap_or_else(|refused| panic!("{refused}"));

    damaged!(
        "no_configuration_makes_the_reader_panic_or_hang",
        2000,
        seeds.map(|(text, _)| text),
        WORDS,
        |which: usize, bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let began = Instant::now();
            let read = bridge_config::read(file, &text, seeds[which].1, &environment);
            assert!(began.elapsed() < BOUND, "it takes {:?}", began.elapsed());
            if let Err(refused) = read {
                let said = refused.to_string();
                assert!(!said.trim().is_empty());
                assert!(!said.contains(SECRET), "a secret is shown: {said}");
            }
        }
    );
}

#[test]
fn no_record_is_read_as_another_than_it_writes() {
    let records: Vec<String> = some_records(30, 5)
        .iter()
        .chain(&limit_records())
        .map(|record| serde_json::to_string(&**record).unwrap())
        .filter(|text| text.len() < 64 << 10)
        .collect();
    for text in &records {
        let read: Record = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), *text);
    }
    damaged!(
        "no_record_is_read_as_another_than_it_writes",
        2000,
        &records,
        WORDS,
        |_, bytes: &[u8]| {
            let Ok(read) = serde_json::from_slice::<Record>(bytes) else {
                return;
            };
            let written = serde_json::to_string(&read).unwrap();
            let again: Record =
                serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
            assert_eq!(serde_json::to_string(&again).unwrap(), written);
        }
    );
}

#[test]
fn a_filter_is_refused_or_decides_on_every_record_in_time() {
    let records: Vec<_> = some_records(10, 5).into_iter().chain(limit_records()).collect();
    let globs = ["/services/**", "/a/*/tmp", "/**/lock-*", "/x{a,b}/[0-9]*", "/"];
    damaged!(
        "a_filter_is_refused_or_decides_on_every_record_in_time",
        2000,
        globs,
        WORDS,
        |_, bytes: &[u8]| {
            let filter = Filter {
                paths: vec![String::from_utf8_lossy(bytes).into_owned()],
                ..Filter::default()
            };
            let began = Instant::now();
            match CompiledFilter::new(&filter) {
                Ok(filter) => {
                    // Control records have no path, and pass whatever the globs are.
                    let passed = records.iter().filter(|record| filter.passes(record));
                    let controls = records.iter().filter(|record| record.path.is_none());
                    assert!(passed.count() >= controls.count());
                }
                Err(refused) => assert!(!refused.to_string().is_empty()),
            }
            assert!(began.elapsed() < BOUND, "it takes {:?}", began.elapsed());
        }
    );
}

#[test]
fn paths_amounts_and_zxids_are_refused_or_written_again_as_the_same() {
    let valid = [
        "/a/b-0000000001",
        "7d",
        "10 GiB",
        "0x300000001",
        "off",
        "1h30m",
        "always",
        "/",
    ];
    damaged!(
        "paths_amounts_and_zxids_are_refused_or_written_again_as_the_same",
        2000,
        valid,
        WORDS,
        |_, bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            if let Ok(path) = ZnodePath::parse(&text) {
                assert_eq!(path.as_str(), text);
            }
            written_again::<Span>(&text);
            written_again::<Size>(&text);
            written_again::<Interval>(&text);
            written_again::<Horizon>(&text);
            written_again::<Patience>(&text);
            written_again::<Zxid>(&text);
        }
    );
}

#[test]
fn positions_patterns_and_keys_of_people_are_refused_or_used() {
    let valid = [
        "1842",
        "0x300000001",
        "2026-11-29T12:30:00+01:00",
        "2026-11-29 local",
        "yesterday",
        "12:30",
        "/services/**",
        "/a/b/",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ];
    let now = Timestamp(1_795_355_000_123);
    let path = ZnodePath::parse("/services/payments").unwrap();
    damaged!(
        "positions_patterns_and_keys_of_people_are_refused_or_used",
        2000,
        valid,
        WORDS,
        |_, bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let began = Instant::now();
            if let Err(refused) = parse_position(&text, now) {
                assert!(!refused.to_string().is_empty());
            }
            match PathPattern::parse(&text) {
                Ok(pattern) => drop(pattern.selects(&path)),
                Err(refused) => assert!(!refused.to_string().is_empty()),
            }
            if let Some(key) = MaskKey::parse(&text) {
                assert_eq!(key.to_text(), text.trim().to_ascii_lowercase());
            }
            assert!(began.elapsed() < BOUND, "it takes {:?}", began.elapsed());
        }
    );
}

/// Accepted input is written so that it is accepted again as the same value.
fn written_again<T>(text: &str)
where
    T: std::str::FromStr + std::fmt::Display + PartialEq + std::fmt::Debug,
    T::Err: std::fmt::Display,
{
    if let Ok(read) = text.parse::<T>() {
        let written = read.to_string();
        let again = written.parse::<T>();
        assert!(
            again.as_ref().is_ok_and(|again| *again == read),
            "{text:?} is {read:?}, written {written:?}"
        );
    }
}
