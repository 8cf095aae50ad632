//! A document in parts: blocks of code, and the rest.

/// A fenced block of a document.
pub struct Block {
    pub language: String,
    pub line: usize,
    pub text: String,
}

/// The fenced blocks of a document, and its other lines with their numbers.
pub fn parted(text: &str) -> (Vec<Block>, Vec<(usize, &str)>) {
    let mut blocks: Vec<Block> = Vec::new();
    let mut prose = Vec::new();
    let mut is_inside = false;
    for (at, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_inside = !is_inside;
            if is_inside {
                blocks.push(Block {
                    language: language.trim().to_owned(),
                    line: at + 1,
                    text: String::new(),
                });
            }
        } else if is_inside {
            let block = blocks.last_mut().expect("a block was begun");
            block.text.push_str(line);
            block.text.push('\n');
        } else {
            prose.push((at + 1, line));
        }
    }
    (blocks, prose)
}

/// The texts between backticks of a line.
pub fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn blocks_and_prose_are_distinguished_and_keep_their_lines() {
    let (blocks, prose) = parted("one `x` `y`\n```sh\ntwo\n```\nthree\n");
    assert_eq!(prose, [(1, "one `x` `y`"), (5, "three")]);
    let [block] = &blocks[..] else {
        panic!("one block");
    };
    assert_eq!((&*block.language, block.line, &*block.text), ("sh", 2, "two\n"));
    assert_eq!(quoted(prose[0].1).collect::<Vec<_>>(), ["x", "y"]);
}
