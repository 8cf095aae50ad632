//! The command accepts every command line in the documents.

use std::collections::HashMap;
use std::process::Command;

use crate::markdown::{parted, quoted};
use crate::project::{File, assert_none, assert_one, files_with};

/// A command line of a document, without redirections and pipes.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    command: String,
    flags: Vec<String>,
}

/// The command line in a line of a shell or a quotation, if it runs the command.
fn shown(text: &str) -> Option<Shown> {
    let words: Vec<&str> = text
        .split_whitespace()
        .take_while(|word| !matches!(*word, "#" | ">" | "|"))
        .collect();
    let (program, rest) = words.split_first()?;
    let command = rest.first().filter(|_| *program == "zkbridge")?;
    let flags = rest.iter().filter(|word| word.starts_with("--"));
    Some(Shown {
        command: (*command).to_owned(),
        flags: flags.map(|flag| (*flag).to_owned()).collect(),
    })
}

/// Every command line of a document: in its blocks, except those of plain text, which are output, and between
/// backticks.
fn command_lines(document: &File) -> Vec<Shown> {
    let (blocks, prose) = parted(&document.text);
    let of_shells = blocks.iter().filter(|block| block.language != "text");
    let lines = of_shells.flat_map(|block| block.text.lines());
    let quoted = prose.iter().flat_map(|(_, line)| quoted(line));
    lines.chain(quoted).filter_map(shown).collect()
}

/// Command lines with unknown commands or flags. `help` returns the help of a command.
fn refused(documents: &[File], help: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut texts: HashMap<String, Option<String>> = HashMap::new();
    let mut complaints = Vec::new();
    for document in documents {
        for Shown { command, flags } in command_lines(document) {
            let place = document.path.display();
            let text = texts.entry(command.clone()).or_insert_with(|| help(&command));
            match text {
                None => complaints.push(format!("{place}: there is no command '{command}'")),
                Some(text) => complaints.extend(
                    flags
                        .iter()
                        .filter(|flag| !text.contains(*flag))
                        .map(|flag| format!("{place}: '{command}' has no {flag}")),
                ),
            }
        }
    }
    complaints
}

fn help_of_the_binary(command: &str) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_zkbridge"))
        .args([command, "--help"])
        .output()
        .expect("the binary runs");
    let text = String::from_utf8(output.stdout).expect("help is text");
    output.status.success().then_some(text)
}

#[test]
fn the_command_accepts_every_command_line_in_the_documents() {
    let documents = files_with("md");
    let count: usize = documents
        .iter()
        .map(|document| command_lines(document).len())
        .sum();
    assert!(count >= 8, "only {count} command lines are seen");
    assert_none(&refused(&documents, &help_of_the_binary));
}

#[test]
fn a_command_line_that_would_be_refused_is_found() {
    let help = |command: &str| (command == "run").then(|| "Usage: run --config <FILE>".to_owned());
    let check = |text: &str| refused(&[File::imagined("a.md", text)], &help);
    assert_none(&check(
        "```sh\nzkbridge run --config x  # --later\n```\nand `zkbridge` and `cargo run --x`",
    ));
    assert_one(
        &check("```sh\nzkbridge run --konfig x\n```"),
        "a.md: 'run' has no --konfig",
    );
    assert_one(
        &check("so `zkbridge rnu` does"),
        "a.md: there is no command 'rnu'",
    );
    assert_one(&check("so `zkbridge run --x` does"), "'run' has no --x");
}

#[test]
fn only_the_words_before_the_shells_own_count() {
    let init = || Shown {
        command: "init".into(),
        flags: vec![],
    };
    assert_eq!(shown("zkbridge init > a --b"), Some(init()));
    assert_eq!(shown("zkbridge init # --b"), Some(init()));
    assert_eq!(shown("the zkbridge init"), None);
    assert_eq!(shown("zkbridge"), None);
}
