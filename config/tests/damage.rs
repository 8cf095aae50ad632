//! Damaged configurations: whatever a file has in it, reading it ends, panics nowhere and shows no secret.
//!
//! A failing case is printed by proptest with its seed, and replayed from the file that it writes beside this one.

use std::path::Path;

use bridge_config::{COMMENTED, Environment, Format, read};
use proptest::prelude::*;

const TOML: &str = include_str!("../examples/several.toml");
const YAML: &str = include_str!("../examples/audit.yaml");
const JSON: &str = "{\"source\": [{\"connect\": \"a\", \"roots\": [\"/ü\", \"/b\"], \"auth\": {\"scheme\": \"digest\",\n \
                    \"id\": \"${SECRET}\"}}], \"sink\": [{\"type\": \"kafka\", \"brokers\": \"${SECRET}\"}]}";

/// Pieces that mean something in one of the formats.
const PIECES: [&str; 24] = [
    "",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "[[",
    "]]",
    ":",
    "=",
    ",",
    "\n",
    "\n\t",
    "#",
    "- ",
    "\\",
    "${",
    "${SECRET}",
    "5",
    "true",
    "null",
    "ü",
    "&a *a",
];

fn damaged(text: &str, cuts: &[(usize, usize, usize)]) -> String {
    let mut chars: Vec<String> = text.chars().map(String::from).collect();
    for (at, gone, piece) in cuts {
        let at = at % (chars.len() + 1);
        let end = (at + gone % 9).min(chars.len());
        chars.splice(at..end, [PIECES[piece % PIECES.len()].to_owned()]);
    }
    chars.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_read_or_refused_and_shows_no_secret(
        which in 0usize..4,
        cuts in prop::collection::vec((any::<usize>(), any::<usize>(), any::<usize>()), 1..6),
    ) {
        let (text, format) = [(TOML, Format::Toml), (COMMENTED, Format::Toml), (YAML, Format::Yaml), (JSON, Format::Json)][which];
        let text = damaged(text, &cuts);
        let environment = Environment::of([("SECRET", "Hunter2/Very secret"), ("ZKBRIDGE_SINK__0__RETRY__MAX", "Hunter2")]);
        let result = read(Path::new("damaged"), &text, format, &environment);
        let shown = match &result {
            Ok(loaded) => format!("{loaded:?}"),
            Err(refused) => format!("{refused} {refused:?}"),
        };
        prop_assert!(!shown.contains("Hunter2"), "{text}\n{shown}");
    }
}
