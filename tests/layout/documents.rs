//! The documents are true: links have targets, the program accepts the examples, and every metric is explained.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use bridge_config::{Environment, Format};
use bridge_core::record::{Fidelity, Identity, Op, Record, record_schema};

use crate::markdown::{parted, quoted};
use crate::project::{File, assert_none, assert_one, files, files_with};

/// Width of a line of prose.
const WIDTH_MAX: usize = 120;

/// The targets of `[text](target)` in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let (_, prose) = parted(text);
    let heading = |(_, line): &(usize, &str)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| anchor(title))
    };
    prose.iter().filter_map(heading).collect()
}

/// `docs/../README.md` as `README.md`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Links of documents to missing files or headings.
fn dead_links(project: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for document in project.iter().filter(|file| file.has_extension("md")) {
        for (at, line) in parted(&document.text).1 {
            for target in links(line).filter(|target| !target.contains("://")) {
                if let Some(reason) = dead_link(project, document, target) {
                    complaints.push(format!("{}:{at} ({target}): {reason}", document.path.display()));
                }
            }
        }
    }
    complaints
}

fn dead_link(project: &[File], document: &File, target: &str) -> Option<String> {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = match path {
        "" => document.path.clone(),
        _ => plain(&document.path.parent().unwrap_or(Path::new("")).join(path)),
    };
    let is_folder = project
        .iter()
        .any(|file| file.path.starts_with(&path) && file.path != path);
    match project.iter().find(|file| file.path == path) {
        None if is_folder && heading.is_empty() => None,
        None => Some(format!("the project has no {}", path.display())),
        Some(file) if !heading.is_empty() && !anchors(&file.text).contains(heading) => Some(format!(
            "{} has no heading with the anchor '{heading}'",
            path.display()
        )),
        Some(_) => None,
    }
}

/// Lines of prose that are too wide.
fn too_wide(documents: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for document in documents {
        let wide = |line: &str| line.chars().count() > WIDTH_MAX && !line.trim_start().starts_with('|');
        let lines = parted(&document.text)
            .1
            .into_iter()
            .filter(|(_, line)| wide(line));
        complaints.extend(
            lines.map(|(at, _)| format!("{}:{at} is wider than {WIDTH_MAX}", document.path.display())),
        );
    }
    complaints
}

/// Examples of records that no sink would deliver.
fn bad_records(documents: &[File]) -> Vec<String> {
    let schema = jsonschema::validator_for(&record_schema()).expect("the schema is one");
    let mut complaints = Vec::new();
    for document in documents {
        for block in parted(&document.text)
            .0
            .iter()
            .filter(|block| block.language == "json")
        {
            if let Err(reason) = check_record(&block.text, &schema) {
                complaints.push(format!("{}:{} {reason}", document.path.display(), block.line));
            }
        }
    }
    complaints
}

fn check_record(text: &str, schema: &jsonschema::Validator) -> Result<(), String> {
    let value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    schema
        .validate(&value)
        .map_err(|error| format!("is no record: {error}"))?;
    let record: Record = serde_json::from_value(value).map_err(|error| format!("is no record: {error}"))?;
    let expected = identity_of(&record).ok_or("lacks what would name it")?;
    let place = record.path.as_ref().or(record.root.as_ref());
    let expected = expected.id(&record.cluster, place.map_or("", |path| path.as_str()));
    if record.id == expected {
        return Ok(());
    }
    Err(format!(
        "has the id {}, and the algorithm gives {expected}",
        record.id
    ))
}

/// The identity of a record according to the contract.
fn identity_of(record: &Record) -> Option<Identity<'_>> {
    let stat = record
        .after
        .as_ref()
        .or(record.before.as_ref())
        .and_then(|state| state.stat);
    let op = record.op;
    Some(match op {
        Op::Create if record.fidelity == Fidelity::Exact => Identity::Create {
            czxid: record.zxid?,
            version: 0,
        },
        Op::Create => Identity::Create {
            czxid: stat?.czxid,
            version: stat?.version,
        },
        Op::Update => Identity::Update {
            czxid: stat?.czxid,
            version: stat?.version,
        },
        Op::Delete => match stat {
            Some(stat) => Identity::Delete { czxid: stat.czxid },
            None => Identity::DeleteUnseen {
                bound: record.zxid,
                seq: record.seq,
            },
        },
        Op::Acl => Identity::Acl {
            czxid: stat?.czxid,
            aversion: stat?.aversion,
        },
        Op::Snapshot => Identity::Snapshot {
            czxid: stat?.czxid,
            version: stat?.version,
            aversion: stat?.aversion,
            run: &record.run.as_ref()?.id,
        },
        Op::SnapshotBegin | Op::SnapshotEnd => Identity::RunMark {
            op,
            run: &record.run.as_ref()?.id,
        },
        Op::GapBegin | Op::GapEnd => {
            let gap = record.gap.as_ref()?;
            Identity::GapMark {
                op,
                from_zxid: gap.from_zxid,
                epoch: gap.epoch,
            }
        }
        Op::Heartbeat => Identity::Heartbeat { seq: record.seq },
        // Its event has an id of its own.
        Op::Service => return None,
    })
}

/// Examples of configurations that the bridge would refuse.
fn bad_configurations(documents: &[File]) -> Vec<String> {
    let environment = Environment::of([("ZK_PASSWORD", "x"), ("ZKBRIDGE_TOKEN", "x")]);
    let mut complaints = Vec::new();
    for document in documents {
        for block in parted(&document.text)
            .0
            .iter()
            .filter(|block| block.language == "toml")
        {
            let place = format!("{}:{}", document.path.display(), block.line);
            if let Err(refused) =
                bridge_config::read(Path::new(&place), &block.text, Format::Toml, &environment)
            {
                complaints.push(refused.to_string());
            }
        }
    }
    complaints
}

/// Metrics that the page does not explain, and names on the page that are not metrics.
fn metrics_unlike(page: &str, metrics: &[&str]) -> Vec<String> {
    let words = page.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("zkbridge_")).collect();
    let known: BTreeSet<&str> = metrics.iter().copied().collect();
    let missing = known
        .difference(&named)
        .map(|name| format!("{name} is not explained"));
    let made_up = named
        .difference(&known)
        .map(|name| format!("{name} is no metric"));
    missing.chain(made_up).collect()
}

/// Tests that a document names and that do not exist.
fn unknown_tests(documents: &[File], sources: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for document in documents {
        for name in parted(&document.text).1.iter().flat_map(|(_, line)| quoted(line)) {
            let begin = format!("fn {name}(");
            if is_test_name(name) && !sources.iter().any(|file| file.text.contains(&begin)) {
                complaints.push(format!("{}: there is no test {name}", document.path.display()));
            }
        }
    }
    complaints
}

/// Whether it looks like the name of a test: a sentence.
fn is_test_name(word: &str) -> bool {
    let is_sentence = word.matches('_').count() >= 3 && !word.starts_with("zkbridge_");
    is_sentence
        && word
            .chars()
            .all(|char| char == '_' || char.is_ascii_lowercase() || char.is_ascii_digit())
}

fn documents() -> Vec<File> {
    files_with("md")
}

fn count_of_blocks(language: &str) -> usize {
    let count = |file: &File| {
        parted(&file.text)
            .0
            .iter()
            .filter(|block| block.language == language)
            .count()
    };
    documents().iter().map(count).sum()
}

fn page(text: &str) -> [File; 1] {
    [File::imagined("docs/page.md", text)]
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_of_the_project() {
    assert_none(&dead_links(&files()));
}

#[test]
fn a_dead_link_is_found() {
    let check = |text: &str, expected: &[&str]| {
        let other = File::imagined(
            "docs/other.md",
            "# Title\n\n## `run` and the rest, again\n\n```\n# no heading\n```\n",
        );
        let [page] = page(text);
        let found = dead_links(&[page, other]);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (complaint, expected) in found.iter().zip(expected) {
            assert!(complaint.contains(expected), "{complaint}");
        }
    };
    check(
        "[a](other.md) [b](../docs/other.md) [c](https://example.com/x) [d](..) [e](./)",
        &[],
    );
    check("[a](other.md#run-and-the-rest-again) [b](other.md#title)", &[]);
    check("```\n[a](gone.md)\n```", &[]);
    check(
        "[a](gone.md)",
        &["docs/page.md:1 (gone.md): the project has no docs/gone.md"],
    );
    check(
        "\n[a](other.md#no-heading)",
        &["page.md:2 (other.md#no-heading): docs/other.md has no heading"],
    );
    check("[a](#here)", &["has no heading with the anchor 'here'"]);
    check(
        "[a](../other.md)[b](nowhere/)",
        &["no other.md", "no docs/nowhere"],
    );
}

#[test]
fn no_line_of_prose_is_too_wide() {
    assert_none(&too_wide(&documents()));
}

#[test]
fn a_line_of_prose_that_is_too_wide_is_found() {
    let text = |length: usize, begin: &str| format!("{begin}{}", "é".repeat(length - begin.len()));
    assert_none(&too_wide(&page(&text(WIDTH_MAX, ""))));
    assert_none(&too_wide(&page(&text(WIDTH_MAX + 1, "| "))));
    assert_none(&too_wide(&page(&format!(
        "```\n{}\n```",
        text(WIDTH_MAX + 1, "")
    ))));
    assert_one(
        &too_wide(&page(&text(WIDTH_MAX + 1, ""))),
        "docs/page.md:1 is wider",
    );
}

#[test]
fn every_record_in_the_documents_is_one_and_has_its_id() {
    assert!(
        count_of_blocks("json") >= 2,
        "README.md and docs/record.md show a record"
    );
    assert_none(&bad_records(&documents()));
}

#[test]
fn a_record_that_the_bridge_would_not_deliver_is_found() {
    let documents = documents();
    let contract = documents
        .iter()
        .find(|file| file.path.ends_with("docs/record.md"))
        .expect("is there");
    let (blocks, _) = parted(&contract.text);
    let whole = &blocks
        .iter()
        .find(|block| block.language == "json")
        .expect("shows a record")
        .text;
    let check = |from: &str, to: &str, expected: &str| {
        assert!(whole.contains(from), "{from}");
        let changed = whole.replacen(from, to, 1);
        assert_one(&bad_records(&page(&format!("```json\n{changed}```"))), expected);
    };
    check("{", "{,", "docs/page.md:1 is not JSON");
    check("\"exact\"", "\"surely\"", "is no record");
    check(
        "\"cluster\": \"main\"",
        "\"cluster\": \"other\"",
        "and the algorithm gives",
    );
    check("\"seq\"", "\"position\"", "is no record");
}

#[test]
fn every_configuration_in_the_documents_is_accepted() {
    assert!(
        count_of_blocks("toml") >= 1,
        "docs/configuration.md shows a configuration"
    );
    assert_none(&bad_configurations(&documents()));
}

#[test]
fn a_configuration_that_would_be_refused_is_found() {
    let check = |toml: &str| bad_configurations(&page(&format!("```toml\n{toml}\n```")));
    assert_none(&check(
        "[[source]]\nconnect = \"a:1\"\n[[sink]]\ntype = \"console\"",
    ));
    assert_one(
        &check("[[source]]\nconect = \"a:1\"\n[[sink]]\ntype = \"console\""),
        "conect",
    );
}

#[test]
fn every_metric_is_explained_and_no_other_name_is_used() {
    let documents = documents();
    let page = documents
        .iter()
        .find(|file| file.path.ends_with("docs/operations.md"))
        .expect("is there");
    let names: Vec<&str> = bridge_core::metrics::ALL.iter().map(|(name, ..)| *name).collect();
    assert!(names.len() >= 9, "{names:?}");
    assert_none(&metrics_unlike(&page.text, &names));
}

#[test]
fn a_metric_without_an_explanation_and_an_unknown_metric_are_found() {
    let page = "| `zkbridge_lag_seconds` | how old |";
    assert_none(&metrics_unlike(page, &["zkbridge_lag_seconds"]));
    let found = metrics_unlike(page, &["zkbridge_lag"]);
    assert_eq!(
        found,
        [
            "zkbridge_lag is not explained",
            "zkbridge_lag_seconds is no metric"
        ]
    );
}

#[test]
fn every_test_that_a_document_names_exists() {
    let documents = documents();
    let named = documents.iter().filter(|file| {
        file.text
            .contains("a_cursor_that_moves_before_the_answer_is_caught")
    });
    assert!(
        named.count() >= 1,
        "ARCHITECTURE.md names the tests of its invariants"
    );
    assert_none(&unknown_tests(&documents, &files_with("rs")));
}

#[test]
fn a_missing_test_is_found() {
    let sources = [File::imagined("a.rs", "#[test]\nfn a_real_one_is_run() {}\n")];
    assert_none(&unknown_tests(
        &page("`a_real_one_is_run`, `max_data`, `zkbridge_a_b_c`, `a b_c_d_e`"),
        &sources,
    ));
    assert_one(
        &unknown_tests(&page("`x` and `a_lost_one_is_named`"), &sources),
        "no test a_lost_one_is_named",
    );
}

/// The modules of the core, with their files in it, that the map does not name.
fn unnamed_modules(map: &str, files: &[File]) -> Vec<String> {
    let (_, prose) = parted(map);
    let quotes = prose.iter().flat_map(|(_, line)| quoted(line));
    let named: BTreeSet<&str> = quotes.flat_map(|quote| quote.split(['/', ':', '.'])).collect();
    let is_module = |file: &&File| {
        let of_tests = file
            .path
            .iter()
            .any(|part| part == "tests" || part == "tests.rs" || part == "testing");
        file.path.starts_with("bridge-core/src") && file.has_extension("rs") && !of_tests
    };
    let unnamed = files.iter().filter(is_module).filter(|file| {
        let name = file.path.file_stem().and_then(|name| name.to_str());
        name.is_some_and(|name| !named.contains(name) && !matches!(name, "lib" | "mod"))
    });
    unnamed
        .map(|file| format!("{} is not in ARCHITECTURE.md", file.path.display()))
        .collect()
}

#[test]
fn the_map_of_the_code_names_every_module_of_the_core() {
    let all = files();
    let map = all.iter().find(|file| file.path == Path::new("ARCHITECTURE.md"));
    assert_none(&unnamed_modules(&map.expect("the map of the code").text, &all));
}

#[test]
fn a_module_that_the_map_does_not_name_is_found() {
    let files = [
        File::imagined("bridge-core/src/journal/wal.rs", ""),
        File::imagined("bridge-core/src/journal/mod.rs", ""),
        File::imagined("bridge-core/src/journal/tests/wal_tests.rs", ""),
        File::imagined("src/exit.rs", ""),
    ];
    assert_none(&unnamed_modules("`journal/wal` is long", &files));
    assert_one(
        &unnamed_modules("`log`, and a wal that is not quoted", &files),
        "bridge-core/src/journal/wal.rs is not in ARCHITECTURE.md",
    );
}
