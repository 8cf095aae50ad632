//! Text from znodes, made safe and short for a terminal. Pure.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Replaces text that was left out.
pub const ELLIPSIS: char = '…';

/// The text without characters that a terminal obeys, reorders or does not show: they become `\n`, `\t` or `\u{…}`.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_by(text, |letter, safe| safe.extend(letter.escape_default()))
}

/// The same for a JSON text: the characters become `\uXXXX`, so that the value stays the same.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    escaped_by(json, |letter, safe| {
        // A line feed outside of a string only lays the text out; inside of one JSON never has it.
        if matches!(letter, '\n' | '\t' | '\r') {
            safe.push(letter);
            return;
        }
        let mut units = [0; 2];
        for unit in letter.encode_utf16(&mut units) {
            let _ = write!(safe, "\\u{unit:04x}");
        }
    })
}

fn escaped_by(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_dangerous(letter) {
            escape(letter, &mut safe);
        } else {
            safe.push(letter);
        }
    }
    Cow::Owned(safe)
}

/// Control characters, format characters (Unicode category Cf), separators of lines, and letters without a shape. Marks
/// and selectors that change only the look of the letter before them are left as they are.
fn is_dangerous(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{34f}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Columns of a text that was escaped.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// The beginning of a text, in at most `width` columns, with an ellipsis if it was cut.
pub fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let mut used = 1;
    let kept: String = text
        .chars()
        .take_while(|letter| {
            used += letter.width().unwrap_or(0);
            used <= width
        })
        .collect();
    Cow::Owned(kept + "…")
}

/// The least number of equal letters shown around a difference.
const CONTEXT_MIN: usize = 6;

/// Two texts, cut to their difference, in at most `width` columns each.
pub fn differing(old: &str, new: &str, width: usize) -> (String, String) {
    let old: Vec<char> = old.chars().collect();
    let new: Vec<char> = new.chars().collect();
    let alike = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - alike;
    let alike_after = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(|(old, new)| old == new)
        .count();
    let different = old.len().max(new.len()) - alike - alike_after;
    let context = (width.saturating_sub(different + 2) / 2).max(CONTEXT_MIN);
    let start = alike.saturating_sub(context);
    let part = |letters: &[char]| {
        let end = (letters.len() - alike_after + context).min(letters.len());
        let mut text = String::new();
        if start > 0 {
            text.push(ELLIPSIS);
        }
        text.extend(&letters[start..end]);
        if end < letters.len() {
            text.push(ELLIPSIS);
        }
        shortened(&text, width).into_owned()
    };
    (part(&old), part(&new))
}

/// Bytes of a value in hex and ASCII from `start` on, at most `most` and as many as fit, with the size of the value:
/// `00 00 00 7e |...~| (4 B)`. Without the letters where only a few bytes fit, and only the size where not even those do.
pub fn preview(bytes: &[u8], start: usize, whole: u64, most: usize, space: usize) -> String {
    let whole = size(whole);
    let rest = bytes.get(start..).unwrap_or_default();
    let wanted = rest.len().min(most);
    let space = space.saturating_sub(whole.len() + 3 + usize::from(start > 0));
    let fitting = |columns: usize, frame: usize| {
        let room = space.saturating_sub(frame);
        match room >= rest.len().saturating_mul(columns) {
            true => wanted,
            // An ellipsis for the others.
            false => wanted.min(room.saturating_sub(1) / columns),
        }
    };
    // A byte takes a pair of digits, a space and a letter between two bars.
    let least = rest.len().min(PREVIEW_MIN);
    let (fit, has_letters) = match fitting(4, 2) {
        fit if fit >= least => (fit, true),
        _ => (fitting(3, 0), false),
    };
    let shown = &rest[..fit];
    if shown.len() < least || shown.is_empty() {
        return format!("({whole}{SIZE_ALONE}");
    }
    let mut hex = String::with_capacity(shown.len() * 3);
    if start > 0 {
        hex.push(ELLIPSIS);
    }
    for (at, byte) in shown.iter().enumerate() {
        let gap = if at == 0 { "" } else { " " };
        let _ = write!(hex, "{gap}{byte:02x}");
    }
    if shown.len() < rest.len() {
        hex.push(ELLIPSIS);
    }
    if !has_letters {
        return format!("{hex} ({whole})");
    }
    let letter = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '.',
    };
    let ascii: String = shown.iter().map(letter).collect();
    format!("{hex} |{ascii}| ({whole})")
}

/// The columns of a [`preview`] of all bytes of a value of this size.
pub fn whole_preview_columns(bytes: usize) -> usize {
    // The bars, the brackets and the spaces between them.
    let frame = " || ()".len() - 1;
    bytes * 4 + frame + size(bytes as u64).len()
}

/// The end of a [`preview`] without any byte.
pub const SIZE_ALONE: &str = " binary)";

/// Fewer bytes say nothing.
const PREVIEW_MIN: usize = 4;

/// A number of bytes for people: `17 B`, `1.4 KiB`.
#[allow(clippy::cast_precision_loss)] // Shown with one digit after the point.
pub fn size(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let amount = bytes as f64;
    if amount < KIB {
        return format!("{bytes} B");
    }
    if amount < KIB * KIB {
        return format!("{:.1} KiB", amount / KIB);
    }
    format!("{:.1} MiB", amount / KIB / KIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_passes() {
        let check = |text, expected| assert_eq!(escaped(text), expected);
        check("plain ü 日本 🦀 \\ \"", "plain ü 日本 🦀 \\ \"");
        check("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}");
        check("a\nb\r\tc", "a\\nb\\r\\tc");
        check("\u{9b}31m\u{7f}\0", "\\u{9b}31m\\u{7f}\\u{0}");
        check("abc\u{202e}txt.exe", "abc\\u{202e}txt.exe");
        check("a\u{ad}b\u{61c}\u{3164}", "a\\u{ad}b\\u{61c}\\u{3164}");
        check("\u{2066}x\u{2069}\u{e0041}", "\\u{2066}x\\u{2069}\\u{e0041}");
        check("e\u{301} ❤\u{fe0f}", "e\u{301} ❤\u{fe0f}");
    }

    #[test]
    fn json_is_escaped_and_stays_the_same_value() {
        let value =
            serde_json::json!({"a\u{202e}": "\u{9b}31m\u{7f}\u{1b}[0m\n", "b": ["\u{e0041}", "ü 日本 🦀"]});
        for text in [value.to_string(), format!("{value:#}")] {
            let safe = escaped_json(&text);
            assert!(
                !safe.chars().any(|letter| is_dangerous(letter) && letter != '\n'),
                "{safe}"
            );
            assert!(
                safe.contains("ü 日本 🦀") && safe.contains("\\u009b31m\\u007f"),
                "{safe}"
            );
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        }
    }

    #[test]
    fn marks_take_no_column_and_wide_letters_two() {
        let check = |text, expected| assert_eq!(columns(text), expected, "{text}");
        check("e\u{301}", 1);
        check("日本", 4);
        check("🦀", 2);
        check("ü", 1);
    }

    #[test]
    fn a_text_is_cut_within_its_columns() {
        let check = |text, width, expected| assert_eq!(shortened(text, width), expected);
        check("abcdef", 6, "abcdef");
        check("abcdefg", 6, "abcde…");
        check("日本語日本語", 6, "日本…");
        check("abc", 1, "…");
    }

    #[test]
    fn the_difference_is_shown() {
        let old = "{\"name\": \"payments\", \"weight\": 1, \"zone\": \"eu-central-1\"}";
        let new = old.replace("\"weight\": 1", "\"weight\": 25");
        assert_eq!(
            differing(old, &new, 20),
            ("…eight\": 1, \"zone\"…".into(), "…eight\": 25, \"zone\"…".into())
        );
        assert_eq!(differing("aaaa", "aaa", 30), ("aaaa".into(), "aaa".into()));
        let (old, new) = differing(&"x".repeat(100), &"y".repeat(100), 10);
        assert_eq!((columns(&old), columns(&new)), (10, 10));
    }

    #[test]
    fn sizes_are_for_people() {
        let check = |bytes, expected: &str| assert_eq!(size(bytes), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1434, "1.4 KiB");
        check(1 << 20, "1.0 MiB");
    }
}
