//! What a person sees: headings, what is done, what is waited for, records, the table.
//!
//! On a terminal a wait counts its seconds in a line that goes; elsewhere nothing is ever taken back. Text from znodes
//! gets here only as lines that were made safe for a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use bridge_console::text::columns;
use bridge_console::{Color, Style};

use super::verdict::{Row, Verdict};

/// How often a wait is counted on a terminal.
pub(crate) const BEAT: Duration = Duration::from_millis(100);

/// Where nothing can be taken back, a wait is announced only if it is longer.
const ANNOUNCED_AFTER: Duration = Duration::from_secs(2);

/// Columns of the table, so that it fits into 80.
const DONE_WIDTH: usize = 38;
const EXPECTED_WIDTH: usize = 23;
const ARRIVED_WIDTH: usize = 8;

/// A table that lists more is no help.
const COMPLAINTS_SHOWN: usize = 12;

const BOLD: &str = "1";
const QUIET: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";

/// The screen, or the pipe in its place.
pub(crate) struct Screen {
    out: Box<dyn Write + Send>,
    style: Style,
    /// Whether lines can be taken back.
    is_live: bool,
    wait: Option<Wait>,
}

/// Something that is waited for.
struct Wait {
    what: String,
    begun: Instant,
    /// Whether it stands on the screen.
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

    /// How records are to look.
    pub(crate) fn style(&self) -> &Style {
        &self.style
    }

    /// A new act.
    pub(crate) fn heading(&mut self, text: &str) {
        let text = self.paint(BOLD, text);
        self.line(&format!("\n{text}"));
    }

    /// Something that was done, or is.
    pub(crate) fn done(&mut self, text: &str) {
        let line = self.paint(QUIET, &format!("  {text}"));
        self.line(&line);
    }

    /// A line as it is. A wait under way stays below it.
    pub(crate) fn line(&mut self, text: &str) {
        self.take_back();
        self.write(&format!("{text}\n"));
        self.show_wait();
    }

    /// Begins to count the seconds of a wait.
    pub(crate) fn wait(&mut self, what: &str) {
        self.end_wait();
        self.wait = Some(Wait {
            what: what.to_owned(),
            begun: Instant::now(),
            is_shown: false,
        });
        self.show_wait();
    }

    /// Another [`BEAT`] went by.
    pub(crate) fn beat(&mut self) {
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

    /// The wait is over; how long it took stays.
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

    /// What was done, what arrived, whether the two agree.
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
        // Nobody looks any more; the story goes on to its end, which tells by the exit code.
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }
}

impl Drop for Screen {
    /// What is printed next, by whoever ended the demo, begins on a line of its own.
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
            screen.beat();
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
