//! How lines for people look: decided once from options and surroundings.

use std::io::IsTerminal;

use anstyle::AnsiColor;
use bridge_core::record::Op;

use crate::config::Color;

/// Columns where the width is not known.
pub const WIDTH_UNKNOWN: usize = 80;

/// How much a line shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The time of day; values are abbreviated to fit the width.
    Short,
    /// The time of day and whole values, whatever the width.
    Whole,
    /// The date, the zxid and whole values, whatever the width.
    Wide,
}

/// The least columns of a value. If a long path leaves fewer, the line is wider than the screen.
const VALUE_MIN: usize = 16;

/// How values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ValueForm {
    /// Text as text, other bytes as a preview in hex and ASCII.
    #[default]
    Auto,
    /// All bytes of every value in hex and ASCII.
    Hex,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether lines hold colours.
    pub color: bool,
    /// Columns; values are abbreviated to fit, paths never.
    pub width: usize,
    /// How much a line shows.
    pub layout: Layout,
    /// How values are shown.
    pub values: ValueForm,
}

impl Style {
    /// No colours, 80 columns.
    pub const PLAIN: Style = Style {
        color: false,
        width: WIDTH_UNKNOWN,
        layout: Layout::Short,
        values: ValueForm::Auto,
    };

    /// For this process's standard output. Only a terminal has a width that values are abbreviated to.
    pub fn for_stdout(color: Color) -> Style {
        let stdout = std::io::stdout();
        let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Style {
            color: is_colored(color, stdout.is_terminal(), is_wanted),
            width: terminal_size::terminal_size_of(&stdout)
                .map_or(WIDTH_UNKNOWN, |(width, _)| usize::from(width.0)),
            layout: match stdout.is_terminal() {
                true => Layout::Short,
                false => Layout::Whole,
            },
            values: ValueForm::Auto,
        }
    }

    /// The same style with all bytes of values in hex, or as usual.
    pub fn with_values(self, hex: bool) -> Style {
        let values = if hex { ValueForm::Hex } else { ValueForm::Auto };
        Style { values, ..self }
    }

    /// The same style with another layout.
    pub fn with_layout(self, layout: Layout) -> Style {
        Style { layout, ..self }
    }

    /// Columns for a value on a line on which other parts take `taken` of them; no limit where values are whole.
    pub fn room(&self, taken: usize) -> usize {
        match self.layout {
            Layout::Short => self.width.saturating_sub(taken).max(VALUE_MIN),
            Layout::Whole | Layout::Wide => usize::MAX,
        }
    }
}

fn is_colored(color: Color, is_terminal: bool, is_wanted: bool) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => is_terminal && is_wanted,
    }
}

/// The text in a look, if the style has colours.
pub fn paint(text: &str, look: anstyle::Style, style: &Style) -> String {
    match style.color && !text.is_empty() {
        true => format!("{look}{text}{look:#}"),
        false => text.to_owned(),
    }
}

/// The meaning of a part of a line, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Op(Op),
    Quiet,
    Plain,
}

impl Role {
    /// Only the basic colours, which every terminal lets its user choose.
    fn look(self) -> anstyle::Style {
        let dimmed = anstyle::Style::new().dimmed();
        match self {
            Role::Plain => anstyle::Style::new(),
            Role::Quiet => dimmed,
            Role::Op(op) => match op {
                Op::Create => AnsiColor::Green.on_default(),
                Op::Update => AnsiColor::Yellow.on_default(),
                Op::Delete => AnsiColor::Red.on_default(),
                Op::Acl => AnsiColor::Magenta.on_default(),
                Op::Snapshot => AnsiColor::Cyan.on_default(),
                Op::Service => AnsiColor::Blue.on_default(),
                Op::SnapshotBegin | Op::SnapshotEnd | Op::GapBegin | Op::GapEnd | Op::Heartbeat => dimmed,
            },
        }
    }

    /// The text in this role's colour, if the style has colours.
    pub(crate) fn paint(self, text: &str, style: &Style) -> String {
        paint(text, self.look(), style)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_unless_somebody_says_otherwise() {
        let check = |color, is_terminal, is_wanted, expected| {
            assert_eq!(
                is_colored(color, is_terminal, is_wanted),
                expected,
                "{color:?} {is_terminal} {is_wanted}"
            );
        };
        check(Color::Auto, true, true, true);
        check(Color::Auto, false, true, false);
        check(Color::Auto, true, false, false);
        check(Color::Always, false, false, true);
        check(Color::Never, true, true, false);
    }
}
