//! Shared by the commands that print values on lines: on a terminal a line has its width, elsewhere nothing is cut.

use bridge_console::{Color, Layout, Style};
use bridge_core::record::Record;
use clap::Args;

use crate::terminal::Tone;

/// The options of a command that prints values on lines.
#[derive(Args, Clone, Copy, Debug)]
pub struct LineFlags {
    /// Print whole lines, however long [default: unless on a terminal]
    #[arg(long)]
    wide: bool,
    /// Print all bytes of every value in hex and ASCII
    #[arg(long, conflicts_with = "json")]
    pub hex: bool,
}

impl LineFlags {
    /// The style of this process's standard output.
    pub fn style(self, color: Color) -> Style {
        let style = Style::for_stdout(color).with_values(self.hex);
        match self.wide || style.layout != Layout::Short {
            true => style.with_layout(Layout::Wide),
            false => style,
        }
    }
}

/// The dates of records whose lines have the time of day alone.
#[derive(Debug, Default)]
pub struct Dates {
    last: Option<String>,
}

impl Dates {
    /// A line with the date of a record, if it is another one than that of the record before.
    pub fn line(&mut self, record: &Record, style: &Style) -> String {
        if style.layout == Layout::Wide {
            return String::new();
        }
        let time = record.time.changed.unwrap_or(record.time.captured).to_string();
        let date = time.split('T').next().map(str::to_owned);
        match self.last == date {
            true => String::new(),
            false => {
                let text = Tone::Quiet.paint(date.as_deref().unwrap_or_default(), style);
                self.last = date;
                text + "\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bridge_core::record::Timestamp;
    use bridge_core::testing::a_record;

    use super::*;

    #[test]
    fn short_lines_have_the_date_above_the_first_record_of_each_day() {
        let noon = 1_795_348_800_000;
        let day = 24 * 60 * 60 * 1_000;
        let lines = |layout| {
            let mut dates = Dates::default();
            let style = Style::PLAIN.with_layout(layout);
            let of = |at| {
                let mut record = a_record().build();
                record.time.changed = Some(Timestamp(at));
                dates.line(&record, &style)
            };
            [noon, noon + 1, noon + day].map(of)
        };
        assert_eq!(lines(Layout::Short), ["2026-11-22\n", "", "2026-11-23\n"]);
        assert_eq!(lines(Layout::Wide), ["", "", ""]);
    }
}
