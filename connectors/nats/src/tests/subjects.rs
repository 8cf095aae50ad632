//! Subjects: the template, its filter, and what a stream takes.

use std::sync::Arc;

use bridge_core::outbound::NameTemplate;
use bridge_core::testing::{a_record, limit_records};

use crate::subjects::{covers, is_pattern, overlap, pattern_of};
use crate::template::{self, SUBJECT, reason_against};

const DEFAULT: &str = "zk.{{ cluster }}.{{ names | subject }}";

fn subject_of(template: &str, path: &str) -> Result<String, String> {
    let template = NameTemplate::parse(&SUBJECT, template).unwrap();
    let subject = template.name(&a_record().path(path).build());
    subject.map(|subject| subject.to_string())
}

/// The decoding of a token, as the documentation describes it.
fn unescaped(token: &str) -> String {
    if token == "_" {
        return String::new();
    }
    let mut bytes = Vec::new();
    let mut letters = token.bytes();
    while let Some(letter) = letters.next() {
        if letter != b'_' {
            bytes.push(letter);
            continue;
        }
        let digits = [letters.next().unwrap(), letters.next().unwrap()];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_template_that_only_puts_values_in_gives_what_the_template_engine_gives() {
    let depths =
        (0..16).map(|depth| a_record().path(&format!("/{}", "a.b/ü/".repeat(depth).trim_matches('/'))));
    let mut records: Vec<_> = depths.map(|record| record.arc()).collect();
    records.extend(limit_records());
    for source in [
        DEFAULT,
        "{{op}}.{{ names|subject }}",
        "all.{{ cluster }}",
        "{{ names | subject }}.x",
    ] {
        let plain = NameTemplate::parse(&SUBJECT, source).unwrap();
        // Braces that hold more than names go to the template engine.
        let by_the_engine = NameTemplate::parse(&SUBJECT, &format!("{source}{{{{ '' }}}}")).unwrap();
        for record in &records {
            assert_eq!(
                plain.name(record),
                by_the_engine.name(record),
                "{source} {:?}",
                record.path
            );
        }
    }
}

#[test]
fn names_become_tokens_that_wildcards_can_select() {
    let check = |path: &str, expected: &str| {
        assert_eq!(subject_of(DEFAULT, path).as_deref(), Ok(expected), "{path}");
    };
    check("/services/a-1/B2", "zk.main.services.a-1.B2");
    check("/", "zk.main._");
    check("/10.0.0.7:8080", "zk.main.10_2e0_2e0_2e7_3a8080");
    check("/a*b/c>d/e f", "zk.main.a_2ab.c_3ed.e_20f");
    check("/_/a_b", "zk.main._5f.a_5fb");
    check("/ü/\u{1b}", "zk.main._c3_bc._1b");
}

#[test]
fn every_path_can_be_read_back_from_its_subject() {
    let mut too_long = Vec::new();
    for record in limit_records() {
        let Some(path) = &record.path else {
            continue;
        };
        let subject = subject_of(DEFAULT, path).unwrap();
        if subject.contains("__") {
            too_long.push(path.to_string());
            continue;
        }
        let names: Vec<String> = subject.split('.').skip(2).map(unescaped).collect();
        assert_eq!(format!("/{}", names.join("/")), **path, "{subject}");
    }
    assert_eq!(too_long, [""; 0]);
}

#[test]
fn a_path_that_is_too_deep_or_long_keeps_its_first_names_and_a_hash_of_the_rest() {
    let deep = |count: usize| -> String { (1..=count).map(|at| format!("/n{at}")).collect() };
    let twelve = subject_of(DEFAULT, &deep(12)).unwrap();
    assert_eq!(twelve.split('.').count(), 14, "{twelve}");
    assert!(twelve.ends_with(".n11.n12"), "{twelve}");

    let thirteen = subject_of(DEFAULT, &deep(13)).unwrap();
    assert_eq!(thirteen.split('.').count(), 14, "{thirteen}");
    assert!(thirteen.contains(".n10.n11.__"), "{thirteen}");
    assert_ne!(thirteen, subject_of(DEFAULT, &deep(14)).unwrap());
    assert_eq!(thirteen, subject_of(DEFAULT, &deep(13)).unwrap());

    let long = subject_of(DEFAULT, &format!("/short/{}/more", "x".repeat(300))).unwrap();
    assert!(long.starts_with("zk.main.short.__"), "{long}");
    let whole = subject_of(DEFAULT, &format!("/{}", "x".repeat(200))).unwrap();
    assert!(whole.ends_with(&"x".repeat(200)), "{whole}");
    let cut = subject_of(DEFAULT, &format!("/{}", "x".repeat(201))).unwrap();
    assert!(cut.starts_with("zk.main.__"), "{cut}");
}

#[test]
fn a_subject_that_the_servers_would_take_for_something_else_is_refused() {
    let check = |subject: &str, expected: &str| {
        let reason = reason_against(subject).unwrap_or_default();
        assert!(reason.contains(expected), "{subject}: {reason}");
    };
    check("", "empty");
    check("zk..a", "a token is empty");
    check("zk.", "a token is empty");
    check("zk.*", "'*'");
    check("zk.>", "'>'");
    check("zk a", "' '");
    check("zk.ü", "'ü'");
    check("$JS.API.x", "the servers' own");
    check("_INBOX.x", "the servers' own");
    assert_eq!(reason_against("zk.main.a_2eb:c/d"), None);
}

#[test]
fn a_template_that_would_fail_for_every_record_is_an_error_of_the_configuration() {
    for (template, expected) in [
        ("zk.{{ cluster", "is not a template"),
        ("zk.{{ pfad }}", "'pfad', which no record has"),
        ("zk.*", "'*'"),
        ("zk.{{ path }} ", "' '"),
        ("", "it is empty"),
        ("zk.{{ names[7] }}", "'/services/payments'"),
        ("zk.{{ 5 | subject }}", "takes a text or a list of texts"),
    ] {
        let objection = match NameTemplate::parse(&SUBJECT, template) {
            Ok(template) => template.objection(),
            Err(objection) => Some(objection),
        };
        let said = objection.unwrap_or_else(|| panic!("{template} is taken")).message;
        assert!(said.contains(expected), "{template}: {said}");
    }
}

#[test]
fn a_record_without_a_subject_has_a_reason() {
    let reason = subject_of("zk.{{ names[0] }}", "/a b").unwrap_err();
    assert!(
        reason.contains("'zk.a b'") && reason.contains("filter subject"),
        "{reason}"
    );
    assert!(subject_of("zk.{{ names[1] }}", "/a").is_err());
}

#[test]
fn patterns_take_what_nats_says_they_take() {
    for (pattern, subject, expected) in [
        ("zk.>", "zk.a", true),
        ("zk.>", "zk.a.b.c", true),
        ("zk.>", "zk", false),
        ("zk.*", "zk.a", true),
        ("zk.*", "zk.a.b", false),
        ("zk.*.b", "zk.a.b", true),
        ("zk.a", "zk.a", true),
        ("zk.a", "zk.b", false),
        (">", "a", true),
        ("zk.>", "zk.>", true),
        ("zk.*", "zk.>", false),
        ("zk.a", "zk.*", false),
        ("zk.*", "zk.*", true),
    ] {
        assert_eq!(covers(pattern, subject), expected, "{pattern} {subject}");
    }
    for (one, other, expected) in [
        ("zk.>", "zk.main.>", true),
        ("zk.main.services.>", "zk.main.>", true),
        ("events.>", "zk.>", false),
        ("zk.*.a", "zk.b.*", true),
        ("zk.a", "zk.a.b", false),
        ("zk", "zk.>", false),
    ] {
        assert_eq!(overlap(one, other), expected, "{one} {other}");
        assert_eq!(overlap(other, one), expected, "{other} {one}");
    }
    for (pattern, expected) in [
        ("zk.>", true),
        ("a.*.b", true),
        ("a.>.b", false),
        ("a..b", false),
        ("a b", false),
    ] {
        assert_eq!(is_pattern(pattern), expected, "{pattern}");
    }
}

#[test]
fn the_pattern_of_a_template_is_what_its_subjects_have_in_common() {
    let check = |template: &str, expected: &str| {
        let samples = template::samples(&NameTemplate::parse(&SUBJECT, template).unwrap(), "main");
        let subjects: Vec<Arc<str>> = samples.into_iter().map(|(_, subject)| subject).collect();
        assert_eq!(pattern_of(&subjects), expected, "{template}");
    };
    check(DEFAULT, "zk.main.>");
    check("zk.{{ cluster }}", "zk.main");
    check("zk.{{ op }}.{{ names | subject }}", "zk.>");
    check("{{ names | subject }}", ">");
    check("zk.{{ path | subject }}.changes", "zk.>");
}
