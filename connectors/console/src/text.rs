//! Text from znodes, made safe and short for a terminal. Pure.

use std::borrow::Cow;

/// What stands for text that was left out.
pub const ELLIPSIS: char = '…';

/// The text without anything that a terminal would obey or that would show it in another order: control characters
/// and marks of direction become `\n`, `\t` or `\u{…}`.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_dangerous(letter) {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    Cow::Owned(safe)
}

fn is_dangerous(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            // Line and paragraph separators, marks and overrides of direction, invisible joiners, the byte order mark.
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// Columns of a text that was escaped.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// By the ranges that terminals show two columns wide, and those that add none. An approximation: it decides only
/// where a value is cut.
fn columns_of(letter: char) -> usize {
    match letter {
        '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// The beginning of a text within so many columns, with an ellipsis where something was left out.
pub fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let mut used = 1;
    let kept: String = text
        .chars()
        .take_while(|letter| {
            used += columns_of(*letter);
            used <= width
        })
        .collect();
    Cow::Owned(kept + "…")
}

/// At least so many letters of what is alike stand around a difference, to tell where it is.
const CONTEXT_MIN: usize = 6;

/// Two texts within so many columns each, cut to where they differ.
pub fn differing(old: &str, new: &str, width: usize) -> (String, String) {
    let old: Vec<char> = old.chars().collect();
    let new: Vec<char> = new.chars().collect();
    let alike = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - alike;
    let alike_behind = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(|(old, new)| old == new)
        .count();
    let different = old.len().max(new.len()) - alike - alike_behind;
    let context = (width.saturating_sub(different + 2) / 2).max(CONTEXT_MIN);
    let start = alike.saturating_sub(context);
    let part = |letters: &[char]| {
        let end = (letters.len() - alike_behind + context).min(letters.len());
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

/// A number of bytes for people: `17 B`, `1.4 KiB`.
#[allow(clippy::cast_precision_loss)] // Shown with one digit behind the point.
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
    fn what_differs_is_what_is_shown() {
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
