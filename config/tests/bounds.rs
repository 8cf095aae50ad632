//! Configurations that are too large, too deep or too slow are refused in time, with a message of a limited length.

use std::path::Path;
use std::time::{Duration, Instant};

use bridge_config::{Environment, Format, load_with, read};

/// The bound is a second in a release build on an idle machine; this is a debug build on a busy one.
const BOUND: Duration = Duration::from_secs(20);

/// Longer than all problems of one configuration that are shown.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

fn check(text: &str, format: Format, environment: &Environment, reason: &str) {
    let began = Instant::now();
    let refused = read(Path::new("zkbridge"), text, format, environment);
    let took = began.elapsed();
    let said = in_one_line(&refused.expect_err(reason).to_string());
    assert!(took < BOUND, "{reason}: {took:?}");
    assert!(said.contains(reason), "{reason} is not in: {said:.500}");
    assert!(said.len() < OUTPUT_BYTES_MAX, "{reason}: {} bytes", said.len());
}

/// As before the lines were wrapped.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn check_text(text: &str, format: Format, reason: &str) {
    check(text, format, &Environment::default(), reason);
}

#[test]
fn nested_anchors_of_yaml_are_counted_and_not_copied() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    check_text(&bomb, Format::Yaml, "more than 5000 keys and values");
    // Each alias is one level deeper than the one before.
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..100 {
        chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    check_text(&chain, Format::Yaml, "nested");
}

#[test]
fn an_anchor_that_is_used_a_few_times_is_read() {
    let text = "source:\n- name: one\n  connect: a\n  roots: &roots [/a, /b]\n- name: two\n  connect: b\n  roots: *roots\n\
                sink:\n- type: console\n  name: c\n";
    let loaded = read(Path::new("z"), text, Format::Yaml, &Environment::default()).unwrap();
    assert_eq!(loaded.config.sources.len(), 2);
}

#[test]
fn tables_and_lists_that_are_nested_too_deep_are_refused() {
    let deep = 100_000;
    check_text(&format!("a = {}", "[".repeat(deep)), Format::Toml, "nested");
    check_text(&format!("a{} = 1", ".a".repeat(deep)), Format::Toml, "nested");
    check_text(&format!("[a{}]", ".a".repeat(deep)), Format::Toml, "nested");
    check_text(&format!("a = {}", "{a = ".repeat(deep)), Format::Toml, "nested");
    check_text(&"{\"a\":".repeat(deep), Format::Json, "nested");
    check_text(&"[".repeat(deep), Format::Json, "nested");
    check_text(&"- ".repeat(deep), Format::Yaml, "nested");
    check_text(&"[".repeat(200), Format::Yaml, "nested");
    check_text(&"? ".repeat(deep), Format::Yaml, "nested");
}

#[test]
fn marks_inside_texts_and_comments_count_for_nothing() {
    let marks = "[{.,:=".repeat(10_000);
    let text = format!(
        "# {marks}\n[[source]]\nconnect = \"a\" # {marks}\n[[sink]]\ntype = \"kafka\"\nbrokers = \"b\"\nproperties = \
         {{ \"client.rack\" = '''{marks}''' }}\n"
    );
    read(Path::new("z"), &text, Format::Toml, &Environment::default()).unwrap();
}

#[test]
fn more_keys_than_any_configuration_has_are_refused_before_they_are_looked_at() {
    let toml: String = (0..200_000).map(|at| format!("k{at} = 1\n")).collect();
    check_text(&toml, Format::Toml, "more than 5000 keys and values");
    let json: Vec<String> = (0..200_000).map(|at| format!("\"k{at}\":1")).collect();
    check_text(
        &format!("{{{}}}", json.join(",")),
        Format::Json,
        "more than 5000 keys and values",
    );
    let yaml: String = (0..200_000).map(|at| format!("k{at}: 1\n")).collect();
    check_text(&yaml, Format::Yaml, "more than 5000 keys and values");
}

#[test]
fn of_many_problems_the_first_are_shown_and_the_others_counted() {
    let text: String = (0..4_000).map(|at| format!("key{at} = 1\n")).collect();
    check_text(&text, Format::Toml, "more problems");
    let nested: String = (0..4_900).map(|at| format!("fir{at} = 1\n")).collect();
    let sink = "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"console\"\n[sink.retry]\n";
    check_text(&format!("{sink}{nested}"), Format::Toml, "more problems");
    let long = format!(
        "{} = 1\n[http]\nlisten = \"{}\"\n",
        "k".repeat(400_000),
        "v".repeat(400_000)
    );
    check_text(&long, Format::Toml, "listen");
}

#[test]
fn references_bring_in_a_limited_amount_of_text() {
    let big = "x".repeat(100_000);
    let environment = Environment::of([("BIG", big.as_str()), ("EMPTY", "")]);
    let text = |reference: &str| format!("data_dir = \"{}\"", reference.repeat(20_000));
    check(&text("${BIG}"), Format::Toml, &environment, "more than 4 MiB");
    check(&text("${EMPTY}"), Format::Toml, &environment, "source");
}

#[test]
fn a_pipe_in_the_place_of_the_configuration_or_of_a_secret_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let refused = load_with(&pipe, &Environment::default()).unwrap_err();
    let said = in_one_line(&refused.to_string());
    assert!(said.contains("not a regular file"), "{said}");
    let text = format!("data_dir = \"${{file:{}}}\"", pipe.display());
    check_text(&text, Format::Toml, "not a regular file");
    check_text(
        "data_dir = \"${file:/dev/zero}\"",
        Format::Toml,
        "not a regular file",
    );
}

#[test]
fn globs_and_templates_that_would_take_too_much_are_refused() {
    let source = |exclude: &str| format!("[[source]]\nconnect = \"a\"\nexclude = ['{exclude}']\n");
    let nested = format!("/{}a{}", "{".repeat(500), "}".repeat(500));
    check_text(&source(&nested), Format::Toml, "nested");
    let sink = |rest: &str| {
        format!("[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"kafka\"\nbrokers = \"b\"\n{rest}\n")
    };
    check_text(&sink(&format!("paths = ['{nested}']")), Format::Toml, "nested");
    for (template, reason) in [
        ("(".repeat(100_000), "are allowed"),
        ("{{ names|slice(1000000000) }}".to_owned(), "fuel"),
        ("{{ 'x' * 100000000 }}".to_owned(), "no result"),
        (
            format!(
                "{{% for a in ('x' * 9999) %}}{}",
                "{% for b in ('x' * 9999) %}{% endfor %}{% endfor %}"
            ),
            "fuel",
        ),
        (
            format!("{{% set a = 'aaaaaaaa' %}}{}", "{% set a = a ~ a %}".repeat(50)),
            "fuel",
        ),
        (
            format!("{{{{ path{} }}}}", "|replace('','aaaaaaaa')".repeat(40)),
            "fuel",
        ),
    ] {
        check_text(&sink(&format!("topic = \"{template}\"")), Format::Toml, reason);
    }
}
