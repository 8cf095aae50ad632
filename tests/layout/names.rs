//! One name, one type: no product crate defines two types of the same name, unless both implement the same trait.

use std::collections::{BTreeMap, BTreeSet};

use crate::project::{File, assert_none, assert_one, files_with, is_product};

/// A definition of a type or a trait.
#[derive(Debug)]
struct Definition {
    place: String,
    /// The traits that its file implements for it.
    traits: BTreeSet<String>,
}

/// The folder of the crate that a file of `src` belongs to.
fn crate_of(file: &File) -> Option<String> {
    let path = file.path.to_str()?;
    let (folder, _) = path.split_once("src/")?;
    let folder = folder.trim_end_matches('/');
    Some(if folder.is_empty() { "." } else { folder }.to_owned())
}

/// The lines outside of test modules, with their numbers from 1. It relies on the layout of rustfmt: a module at the
/// margin ends with a brace at the margin.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let (mut is_marked, mut is_test) = (false, false);
    text.lines().enumerate().filter_map(move |(at, line)| {
        if line == "#[cfg(test)]" {
            is_marked = true;
        } else if is_marked {
            is_marked = line.starts_with('#');
            is_test = !is_marked && line.ends_with('{');
        } else if is_test {
            is_test = line != "}";
        } else {
            return Some((at + 1, line));
        }
        None
    })
}

/// The name that a line defines: `pub(crate) struct Name<T> {`.
fn defined(line: &str) -> Option<&str> {
    let words = line.trim_start();
    let words = match words.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.strip_prefix(' ')?,
        None => words,
    };
    let (keyword, rest) = words.split_once(' ')?;
    // An indented `type` belongs to a trait or its implementation.
    let is_type = keyword == "type" && !line.starts_with(' ');
    if !is_type && !matches!(keyword, "struct" | "enum" | "union" | "trait") {
        return None;
    }
    let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_');
    Some(&rest[..end.unwrap_or(rest.len())]).filter(|name| !name.is_empty())
}

/// The trait and the type of a line that begins an implementation: `impl<T> fmt::Display for Name<T> {`.
fn implemented(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("impl")?;
    let (of, for_type) = rest.split_once(" for ")?;
    let of = of.rsplit("> ").next()?.trim();
    let of = of.split('<').next()?.rsplit("::").next()?;
    let end = for_type.find(|char: char| !char.is_alphanumeric() && char != '_')?;
    Some((of, &for_type[..end]))
}

/// The names that each product crate defines twice, with their places.
fn doubled(files: &[File]) -> BTreeMap<String, Vec<String>> {
    let product = || files.iter().filter(|file| is_product(file) && !is_of_tests(file));
    let own_traits: BTreeSet<&str> = product()
        .flat_map(|file| product_lines(&file.text))
        .filter(|(_, line)| line.contains("trait "))
        .filter_map(|(_, line)| defined(line))
        .collect();
    let mut crates: BTreeMap<String, BTreeMap<&str, Vec<Definition>>> = BTreeMap::new();
    for file in product() {
        let Some(name) = crate_of(file) else { continue };
        let names = crates.entry(name).or_default();
        for (at, line) in product_lines(&file.text) {
            let Some(name) = defined(line) else { continue };
            let traits = product_lines(&file.text)
                .filter_map(|(_, line)| implemented(line))
                .filter(|(of, for_type)| *for_type == name && own_traits.contains(of))
                .map(|(of, _)| of.to_owned());
            names.entry(name).or_default().push(Definition {
                place: format!("{}:{at}", file.path.display()),
                traits: traits.collect(),
            });
        }
    }
    let shown = |names: BTreeMap<&str, Vec<Definition>>| {
        let twice = names.into_iter().filter(|(_, found)| is_doubled(found));
        twice
            .map(|(name, found)| {
                let places: Vec<&str> = found.iter().map(|one| one.place.as_str()).collect();
                format!("{name}: {}", places.join(", "))
            })
            .collect()
    };
    crates
        .into_iter()
        .map(|(name, names)| (name, shown(names)))
        .collect()
}

fn is_doubled(found: &[Definition]) -> bool {
    let [first, rest @ ..] = found else { return false };
    let shared = rest.iter().fold(first.traits.clone(), |shared, one| {
        shared.intersection(&one.traits).cloned().collect()
    });
    !rest.is_empty() && shared.is_empty()
}

fn is_of_tests(file: &File) -> bool {
    let parts: Vec<&str> = file.path.iter().filter_map(|part| part.to_str()).collect();
    parts.contains(&"tests") || parts.contains(&"tests.rs") || file.path.ends_with("samples.rs")
}

/// A complaint for each crate that defines a name twice.
fn complaints(files: &[File]) -> Vec<String> {
    doubled(files)
        .into_iter()
        .filter(|(_, found)| !found.is_empty())
        .map(|(name, found)| {
            format!(
                "{name} has {} doubled names:\n  {}",
                found.len(),
                found.join("\n  ")
            )
        })
        .collect()
}

#[test]
fn no_crate_defines_a_type_name_twice() {
    assert_none(&complaints(&files_with("rs")));
}

#[test]
fn a_doubled_type_name_is_found() {
    let check = |one: &str, other: &str, expected: Option<&str>| {
        let files = [
            File::imagined("bridge-core/src/a.rs", one),
            File::imagined("bridge-core/src/b.rs", other),
            File::imagined("config/src/a.rs", "pub trait Sink {}\nstruct Lane;\n"),
            File::imagined("bridge-core/src/tests.rs", "struct Lane;\n"),
            File::imagined("tests/chaos/src/a.rs", "struct Lane;\n"),
        ];
        let found = complaints(&files);
        match expected {
            Some(expected) => assert_one(&found, expected),
            None => assert_none(&found),
        }
    };
    let lane = "Lane: bridge-core/src/a.rs:1, bridge-core/src/b.rs:1";
    check("pub struct Lane;\n", "enum Lane {\n}\n", Some(lane));
    check(
        "pub(super) struct Lane<T> {\n}\n",
        "type Lane = u8;\n",
        Some(lane),
    );
    check("struct Lane;\n", "struct Road;\n", None);
    check("struct Lane;\n", "fn f() {\n    type Lane = u8;\n}\n", None);
    check(
        "struct Lane;\n",
        "#[cfg(test)]\nmod tests {\n    struct Lane;\n}\n",
        None,
    );
    check(
        "struct Lane;\n",
        "#[cfg(test)]\nmod tests;\n\nstruct Lane;\n",
        Some("b.rs:4"),
    );
    let of_trait = |of: &str| format!("struct Lane;\nimpl{of} for Lane {{\n}}\n");
    check(&of_trait(" Sink"), &of_trait("<T> contract::Sink<T>"), None);
    check(&of_trait(" Sink"), "struct Lane;\n", Some("1 doubled"));
    check(
        &of_trait(" fmt::Display"),
        &of_trait(" fmt::Display"),
        Some("1 doubled"),
    );
}
