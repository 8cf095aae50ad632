//! The output of the demo: headings, steps, waits, records, the table.
//!
//! On a terminal a wait is a line that counts its seconds and is then replaced. Elsewhere nothing is overwritten. Text from
//! znodes must arrive here already escaped for a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use bridge_console::text::columns;
use bridge_console::{Color, Style};

use crate::verdict::{Row, Verdict};

/// How often the seconds of a wait are updated on a terminal.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Where lines cannot be overwritten, only longer waits are announced.
const ANNOUNCED_AFTER: Duration = Duration::from_secs(2);

/// Widths of the columns of the table, which fits into 80.
const DONE_WIDTH: usize = 38;
const EXPECTED_WIDTH: usize = 23;
const ARRIVED_WIDTH: usize = 8;

/// How many complaints are printed below the table.
const COMPLAINTS_SHOWN: usize = 12;

const BOLD: &str = "1";
const QUIET: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";

/// A terminal, or the pipe or file in its place.
pub(crate) struct Screen {
    out: Box<dyn Write + Send>,
    style: Style,
    /// Whether lines can be overwritten.
    is_live: bool,
    wait: Option<Wait>,
}

/// A wait under way.
struct Wait {
    what: String,
    begun: Instant,
    /// Whether its line is on the screen.
    is_shown: bool,
}

impl Screen {
    /// The standard output of this process.
    pub(crate) fn stdout() -> Screen {
        let stdout = std::io::stdout();
        Screen {
            is_live: stdout.is_terminal(),
            style: Style::for_stdout(Color::Auto),
            out: Box::new(stdout),
            wait: None,
        }
    }

    /// The style for records.
    pub(crate) fn style(&self) -> &Style {
        &self.style
    }

    /// Prints the heading of an act.
    pub(crate) fn heading(&mut self, text: &str) {
        let text = self.paint(BOLD, text);
        self.line(&format!("\n{text}"));
    }

    /// Prints a step that is done.
    pub(crate) fn done(&mut self, text: &str) {
        let line = self.paint(QUIET, &format!("  {text}"));
        self.line(&line);
    }

    /// Prints a line. The line of a wait stays below it.
    pub(crate) fn line(&mut self, text: &str) {
        self.take_back();
        self.write(&format!("{text}\n"));
        self.show_wait();
    }

    /// Starts to count the seconds of a wait.
    pub(crate) fn wait(&mut self, what: &str) {
        self.end_wait();
        self.wait = Some(Wait {
            what: what.to_owned(),
            begun: Instant::now(),
            is_shown: false,
        });
        self.show_wait();
    }

    /// Updates the wait; to be called every [`TICK`].
    pub(crate) fn tick(&mut self) {
        if self.is_live {
            self.take_back();
            self.show_wait();
            return;
        }
        let Some(wait) = self.wait.as_mut() else {
            return;
        };
        if !wait.is_shown && wait.begun.elapsed() >= ANNOUNCED_AFTER {
            wait.is_shown = true;
            let text = format!("  {}…\n", wait.what);
            self.write(&text);
        }
    }

    /// Ends the wait. Its duration stays on the screen.
    pub(crate) fn end_wait(&mut self) {
        self.take_back();
        if let Some(wait) = self.wait.take() {
            let text = self.paint(QUIET, &wait.words());
            self.write(&format!("{text}\n"));
        }
    }

    fn show_wait(&mut self) {
        if !self.is_live {
            return;
        }
        let Some(wait) = self.wait.as_mut() else {
            return;
        };
        wait.is_shown = true;
        let text = wait.words();
        let text = self.paint(QUIET, &text);
        self.write(&text);
    }

    /// Clears the line of a wait.
    fn take_back(&mut self) {
        if self.is_live
            && let Some(wait) = self.wait.as_mut()
            && std::mem::take(&mut wait.is_shown)
        {
            self.write("\r\u{1b}[2K");
        }
    }

    /// Prints the table: what was done, what arrived, and whether they agree.
    pub(crate) fn table(&mut self, verdict: &Verdict) {
        let head = cells("What was done", "what must arrive", "arrived", "agree");
        let head = self.paint(BOLD, &head);
        self.line(&head);
        self.rows(&verdict.steps);
        let head = self.paint(BOLD, "  All together");
        self.line(&head);
        self.rows(&verdict.rules);
        let shown = verdict.complaints.iter().take(COMPLAINTS_SHOWN);
        for complaint in shown {
            let text = self.paint(RED, &format!("  {complaint}"));
            self.line(&text);
        }
        if verdict.complaints.len() > COMPLAINTS_SHOWN {
            let rest = verdict.complaints.len() - COMPLAINTS_SHOWN;
            self.line(&format!("  and {rest} more"));
        }
    }

    fn rows(&mut self, rows: &[Row]) {
        for row in rows {
            let (word, color) = if row.agrees { ("yes", GREEN) } else { ("NO", RED) };
            let word = self.paint(color, word);
            let line = cells(&row.done, &row.expected, &row.arrived, &word);
            self.line(&line);
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.style.color && !text.is_empty() {
            return format!("\u{1b}[{code}m{text}\u{1b}[0m");
        }
        text.to_owned()
    }

    fn write(&mut self, text: &str) {
        // A closed pipe does not end the scenario: the exit code still reports its result.
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }
}

impl Drop for Screen {
    /// Ends the line of a wait, so that the next output starts on a new line.
    fn drop(&mut self) {
        self.end_wait();
    }
}

impl Wait {
    fn words(&self) -> String {
        let seconds = self.begun.elapsed().as_secs_f64();
        format!("  {}… {seconds:.1} s", self.what)
    }
}

fn cells(done: &str, expected: &str, arrived: &str, agrees: &str) -> String {
    let pad = |text: &str, width: usize| format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))));
    format!(
        "  {}{}{}{agrees}",
        pad(done, DONE_WIDTH),
        pad(expected, EXPECTED_WIDTH),
        pad(arrived, ARRIVED_WIDTH)
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn shown(is_live: bool, act: impl FnOnce(&mut Screen)) -> String {
        let paper = Paper::default();
        let mut screen = Screen {
            out: Box::new(paper.clone()),
            style: Style {
                color: is_live,
                ..Style::PLAIN
            },
            is_live,
            wait: None,
        };
        act(&mut screen);
        let bytes = paper.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn row(agrees: bool) -> Row {
        Row {
            done: "three instances register".into(),
            expected: "3 create, ephemeral".into(),
            arrived: "3".into(),
            agrees,
        }
    }

    #[test]
    fn a_pipe_gets_plain_lines_and_a_short_wait_once() {
        let text = shown(false, |screen| {
            screen.heading("Act");
            screen.wait("starting Kafka");
            screen.tick();
            screen.line("a record");
            screen.end_wait();
        });
        assert_eq!(text, "\nAct\na record\n  starting Kafka… 0.0 s\n");
    }

    #[test]
    fn on_a_terminal_a_wait_stays_below_the_lines_that_come_meanwhile() {
        let text = shown(true, |screen| {
            screen.wait("starting Kafka");
            screen.line("a record");
            screen.end_wait();
        });
        let (before, after) = text.split_once("a record\n").unwrap();
        assert!(before.contains("starting Kafka…") && before.ends_with("\r\u{1b}[2K"));
        assert!(after.contains("starting Kafka…") && after.ends_with('\n'));
    }

    #[test]
    fn the_table_fits_and_a_disagreement_is_seen() {
        let verdict = Verdict {
            steps: vec![row(true), row(false)],
            rules: vec![row(true)],
            complaints: vec!["the create of /a did not arrive".into(); 20],
        };
        let text = shown(false, |screen| screen.table(&verdict));
        assert!(
            text.contains("  three instances register              3 create, ephemeral    3       yes\n")
        );
        assert!(text.contains("3       NO\n"), "{text}");
        assert!(text.contains("  the create of /a did not arrive\n") && text.ends_with("  and 8 more\n"));
        assert!(text.lines().all(|line| columns(line) <= 80), "{text}");
    }
}
