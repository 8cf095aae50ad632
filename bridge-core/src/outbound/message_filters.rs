//! The filters of templates for messages, besides those of the engine.
//!
//! *Invariant.* The work of a filter counts as work of the template, and so does the length of a list or document before it
//! is written: one that has another many times in it is small in memory and long as a text.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use jiff::fmt::strtime;
use jiff::tz::Offset;
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use crate::record::Timestamp;

/// The bytes of text that a filter handles for one unit of work.
const BYTES_OF_FUEL: u64 = 64;

/// The longest format of a moment.
const DATE_FORMAT_BYTES_MAX: usize = 100;

/// The end of a text that was cut.
const CUT: char = '…';

/// The deepest nesting of a value that is written. Documents have 128 levels at most.
const LEVELS_MAX: usize = 140;

/// Filters of the engine that make a text of any value, after a look at its length.
macro_rules! measured {
    ($environment:ident, $($name:ident),+) => {
        $({
            // No template can write a name with a space.
            const ENGINE: &str = concat!("engine ", stringify!($name));
            $environment.add_filter(ENGINE, minijinja::filters::$name);
            let measured = |state: &mut State<'_, '_>, args: Rest<Value>| {
                args.iter().try_for_each(|value| check_length(state, value))?;
                state.apply_filter(ENGINE, &args)
            };
            $environment.add_filter(stringify!($name), measured);
        })+
    };
}

/// Adds the filters, and takes those away that would make a text count as escaped.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    for name in ["safe", "escape", "e"] {
        environment.remove_filter(name);
    }
    measured!(
        environment,
        lower,
        upper,
        title,
        capitalize,
        replace,
        trim,
        split,
        lines,
        join,
        string
    );
    environment.add_filter("json", json);
    environment.add_filter("b64decode", b64decode);
    environment.add_filter("truncate", truncate);
    environment.add_filter("date", date);
}

/// Counts the work on a text of this length.
pub(super) fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    state.consume_fuel(1 + bytes / BYTES_OF_FUEL)
}

/// Whether the work that is left suffices to write a value. Counts each item of it.
fn check_length(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let mut bytes = 0;
    add_length(state, value, 0, &mut bytes)
}

fn add_length(state: &State<'_, '_>, value: &Value, level: usize, bytes: &mut u64) -> Result<(), Error> {
    if level > LEVELS_MAX {
        return Err(refused(format!(
            "a value with more than {LEVELS_MAX} levels of lists or documents cannot be written"
        )));
    }
    if let Some(text) = value.as_str() {
        *bytes = bytes.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        let left = state.fuel_levels().map_or(u64::MAX, |(_, left)| left);
        return match *bytes / BYTES_OF_FUEL > left {
            true => Err(Error::from(ErrorKind::OutOfFuel)),
            false => Ok(()),
        };
    }
    let is_map = value.kind() == ValueKind::Map;
    if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(());
    }
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        let item = if is_map { value.get_item(&item)? } else { item };
        add_length(state, &item, level + 1, bytes)?;
    }
    Ok(())
}

/// A value as JSON on one line.
pub(super) fn json_text(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    check_length(state, value)?;
    serde_json::to_string(value).map_err(|error| {
        Error::new(
            ErrorKind::BadSerialization,
            format!("a value is no JSON: {error}"),
        )
    })
}

/// `json`: a value as JSON.
fn json(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let written = json_text(state, value)?;
    charge(state, written.len())?;
    Ok(Value::from_safe_string(written))
}

/// `b64decode`: the text in a base64 text.
fn b64decode(state: &State<'_, '_>, text: &str) -> Result<String, Error> {
    charge(state, text.len())?;
    let text = text.trim();
    let decoded = match text.contains(['-', '_']) {
        true => URL_SAFE.decode(text),
        false => STANDARD.decode(text),
    };
    let bytes = decoded.map_err(|error| refused(format!("b64decode: the text is no base64: {error}")))?;
    String::from_utf8(bytes).map_err(|_| refused("b64decode: the bytes are no text in UTF-8".to_owned()))
}

/// `truncate(n)`: at most n characters, the last one `…` if the text was longer.
fn truncate(state: &State<'_, '_>, text: &str, most: usize) -> Result<String, Error> {
    charge(state, text.len())?;
    Ok(cut(text, most).into_owned())
}

/// At most so many characters of a text, the last one `…` if it was longer.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most || text.chars().nth(most).is_none() {
        return Cow::Borrowed(text);
    }
    let kept = text.chars().take(most.saturating_sub(1));
    let end = (most > 0).then_some(CUT);
    Cow::Owned(kept.chain(end).collect())
}

/// `date(format, offset)`: a moment, in milliseconds since 1970 or as the record writes it, in the letters of strftime;
/// in UTC or with an offset such as `+02:00`.
fn date(
    state: &State<'_, '_>,
    value: &Value,
    format: Option<&str>,
    offset: Option<&str>,
) -> Result<String, Error> {
    let format = format.unwrap_or("%Y-%m-%d %H:%M:%S");
    if format.len() > DATE_FORMAT_BYTES_MAX {
        return Err(refused(format!(
            "date: the format has {} bytes, and {DATE_FORMAT_BYTES_MAX} are allowed",
            format.len()
        )));
    }
    charge(state, format.len())?;
    let ms = match (value.kind(), value.as_str()) {
        (ValueKind::Number, _) => i64::try_from(value.clone()).ok(),
        (_, Some(text)) => text.parse::<Timestamp>().ok().map(|moment| moment.0),
        _ => None,
    };
    let moment = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let Some(moment) = moment else {
        return Err(refused(format!(
            "date: a {} is no moment: give milliseconds since 1970, or a text such as 2026-11-22T13:40:00Z",
            value.kind()
        )));
    };
    let offset = offset_of(offset.unwrap_or("+00:00"))?;
    let zoned = moment.to_zoned(offset.to_time_zone());
    strtime::format(format, &zoned)
        .map_err(|error| refused(format!("date: '{format}' is no format: {error}")))
}

/// An offset from UTC, as in `+02:00`.
fn offset_of(text: &str) -> Result<Offset, Error> {
    let parse = || {
        let (sign, rest) = match text.split_at_checked(1)? {
            ("+", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return None,
        };
        let (hours, minutes) = rest.split_once(':')?;
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        let is_right = (0..=14).contains(&hours) && (0..60).contains(&minutes);
        is_right.then_some(())?;
        Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok()
    };
    parse().ok_or_else(|| refused(format!("date: '{text}' is no offset: write it as +02:00")))
}

fn refused(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let mut environment = Environment::new();
        add_to(&mut environment);
        let rendered = environment.render_str(source, ());
        rendered.map_err(|error| error.to_string())
    }

    #[test]
    fn each_filter_does_what_its_name_says() {
        let check =
            |source: &str, expected: &str| assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
        check("{{ {'a': [1, none, 'x\"']} | json }}", r#"{"a":[1,null,"x\""]}"#);
        check("{{ 'aGVsbG8=' | b64decode }}", "hello");
        check("{{ 'hello' | truncate(5) }}", "hello");
        check("{{ 'häuser' | truncate(3) }}", "hä…");
        check("{{ 'hello' | truncate(0) }}", "");
        check("{{ 0 | date('%Y-%m-%dT%H:%M:%SZ') }}", "1970-01-01T00:00:00Z");
        check(
            "{{ '2026-11-22T13:40:00.123Z' | date('%H:%M', '+02:00') }}",
            "15:40",
        );
        check(
            "{{ '2026-11-22T13:40:00.123Z' | date('%d.%m.%Y %H:%M', '-03:30') }}",
            "22.11.2026 10:10",
        );
    }

    #[test]
    fn a_filter_says_why_it_has_no_result() {
        let check = |source: &str, part: &str| {
            let error = render(source).unwrap_err();
            assert!(error.contains(part), "{source}: {error}");
        };
        check("{{ '?' | b64decode }}", "no base64");
        check("{{ '/w==' | b64decode }}", "no text in UTF-8");
        check("{{ 'soon' | date }}", "no moment");
        check("{{ none | date }}", "no moment");
        check("{{ 9223372036854775807 | date }}", "no moment");
        check("{{ 0 | date('%!') }}", "no format");
        check("{{ 0 | date('%Y', 'Berlin') }}", "no offset");
        check("{{ 'x' | safe }}", "safe");
    }
}
