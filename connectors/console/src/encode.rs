//! A record as a line for people. Pure.
//!
//! ```text
//! 13:40:00.123 update   /services/payments/10.0.0.7:8080  {"w":"1"} → {"w":"3"}  ephemeral, 1 missed
//! 13:40:07.500 — gap: the connection was lost (/services)
//! ```

use std::borrow::Cow;

use bridge_core::outbound::{Messages, Projection};
use bridge_core::record::{Acl, Data, Fidelity, Gap, Op, Record, Run, State, Timestamp, ZxidKind};

use crate::config::Format;
use crate::diff;
use crate::style::{Layout, Role, Style, ValueForm};
use crate::text::{
    SIZE_ALONE, columns, differing, escaped, escaped_json, preview, shortened, size, whole_preview_columns,
};

/// Columns of the widest op of a znode.
const OP_WIDTH: usize = 8;

/// Columns of a zxid with the sign of a bound.
const ZXID_WIDTH: usize = "≤0x0000000000000000".len() - "≤".len() + 1;

/// Bytes of a value without text that are shown.
const PREVIEW_BYTES: usize = 16;

/// Equal bytes before the first that differs.
const SAME_BYTES: usize = 2;

/// Records as lines.
#[derive(Clone, Copy)]
pub(crate) struct Encoder {
    pub(crate) format: Format,
    pub(crate) style: Style,
}

impl Projection for Encoder {
    type Message = Vec<u8>;

    fn project(&self, record: &Record) -> Result<Messages<Vec<u8>>, String> {
        let line = match self.format {
            Format::Pretty => format_line(record, &self.style),
            Format::Record => {
                let json = record.to_json();
                escaped_json(&String::from_utf8_lossy(&json)).into_owned()
            }
        };
        Ok(Messages::One(line.into_bytes()))
    }
}

/// The line of a record, without a line feed. Never holds a control character that is not of a colour.
pub fn format_line(record: &Record, style: &Style) -> String {
    let time = record.time.changed.unwrap_or(record.time.captured);
    let head = match style.layout {
        Layout::Short | Layout::Whole => time_of_day(time),
        Layout::Wide => format!("{time} {:ZXID_WIDTH$}", zxid_words(record)),
    };
    let time = Role::Quiet.paint(&head, style);
    match &record.path {
        None => {
            let words = Role::Quiet.paint(&control_words(record), style);
            format!("{time} {words}")
        }
        Some(path) => format!("{time} {}", znode_words(record, path, style)),
    }
}

fn znode_words(record: &Record, path: &str, style: &Style) -> String {
    let op = Role::Op(record.op).paint(&format!("{:OP_WIDTH$}", record.op.as_str()), style);
    let path = escaped(path);
    let marks = marks(record, style.layout);
    let taken = "13:40:00.123 ".len() + OP_WIDTH + 1 + columns(&path) + 2 + room_of(&marks);
    let (form, space) = (style.values, style.room(taken));
    let (value, role) = value_of(record, Room { form, space });
    let mut line = format!("{op} {path}");
    for (part, role) in [(value, role), (marks, Role::Quiet)] {
        if !part.is_empty() {
            line.push_str("  ");
            line.push_str(&role.paint(&part, style));
        }
    }
    line
}

/// The zxid with its kind: `≤` before a bound, `-` where there is none.
fn zxid_words(record: &Record) -> String {
    match (record.zxid, record.zxid_kind) {
        (None, _) => "-".to_owned(),
        (Some(zxid), ZxidKind::UpperBound) => format!("≤{zxid}"),
        (Some(zxid), _) => zxid.to_string(),
    }
}

fn room_of(marks: &str) -> usize {
    if marks.is_empty() { 0 } else { columns(marks) + 2 }
}

/// `13:40:00.123` of an RFC 3339 text.
fn time_of_day(time: Timestamp) -> String {
    let text = time.to_string();
    let time = text.split_once('T').map_or(&*text, |(_, time)| time);
    time.trim_end_matches('Z').to_owned()
}

/// The writer of a record, of a source that reads transactions. Never holds a control character.
pub fn writer_words(record: &Record) -> Option<String> {
    let txn = record.txn.as_ref()?;
    let mut words = format!("by session {}", txn.session);
    for (before, text) in [(" from", &txn.client), (", user", &txn.user)] {
        if let Some(text) = text {
            words.push_str(&format!("{before} {}", escaped(text)));
        }
    }
    Some(words)
}

fn marks(record: &Record, layout: Layout) -> String {
    let mut marks: Vec<Cow<'static, str>> = Vec::new();
    if record.ephemeral == Some(true) {
        marks.push("ephemeral".into());
    }
    if record.fidelity == Fidelity::Reconciled && record.op != Op::Snapshot {
        marks.push("reconciled".into());
    }
    match record.missed {
        Some(missed) if missed > 0 => marks.push(format!("{missed} missed").into()),
        _ => {}
    }
    if layout == Layout::Wide {
        marks.extend(writer_words(record).map(Cow::from));
    }
    marks.join(", ")
}

/// The value of a record in at most this many columns: the new value, the difference, or the old one. Empty if the
/// record has no value. Never holds a control character.
pub fn value_words(record: &Record, form: ValueForm, space: usize) -> String {
    value_of(record, Room { form, space }).0
}

/// The form of a value, and the columns that it may take.
#[derive(Clone, Copy)]
struct Room {
    form: ValueForm,
    space: usize,
}

impl Room {
    fn without(self, columns: usize) -> Room {
        let space = self.space.saturating_sub(columns);
        Room { space, ..self }
    }
}

fn value_of(record: &Record, room: Room) -> (String, Role) {
    match record.op {
        Op::Update => (
            change(data_of(&record.before), data_of(&record.after), room),
            Role::Plain,
        ),
        Op::Create | Op::Snapshot => (value(data_of(&record.after), room), Role::Plain),
        Op::Delete => {
            let was = value(data_of(&record.before), room.without("was ".len()));
            let words = if was.is_empty() { was } else { format!("was {was}") };
            (words, Role::Quiet)
        }
        Op::Acl => (acl_words(record.acl.as_deref(), room.space), Role::Plain),
        Op::Service => (event_words(record, room.space), Role::Plain),
        Op::SnapshotBegin | Op::SnapshotEnd | Op::GapBegin | Op::GapEnd | Op::Heartbeat => {
            (String::new(), Role::Plain)
        }
    }
}

/// A value in at most `space` columns; in hex it takes as many as it needs. Never holds a control character.
pub fn data_words(data: &Data, form: ValueForm, space: usize) -> String {
    value(Some(data), Room { form, space })
}

fn data_of(state: &Option<State>) -> Option<&Data> {
    state.as_ref()?.data.as_ref()
}

/// How a value shows.
enum Shown<'a> {
    /// Never read, or switched off.
    Unknown,
    /// No bytes.
    Empty,
    Text(Cow<'a, str>),
    /// No text, or not wanted as text.
    Binary(&'a Data),
}

fn shown(data: Option<&Data>, form: ValueForm) -> Shown<'_> {
    let Some(data) = data else {
        return Shown::Unknown;
    };
    let text = std::str::from_utf8(&data.bytes).ok();
    match text.filter(|text| form == ValueForm::Auto && is_readable(text)) {
        _ if data.size == 0 => Shown::Empty,
        Some(text) => Shown::Text(escaped(text)),
        None => Shown::Binary(data),
    }
}

/// Whether control characters are few: numbers in binary are often valid UTF-8.
fn is_readable(text: &str) -> bool {
    let controls = text
        .chars()
        .filter(|letter| letter.is_control() && !letter.is_whitespace());
    controls.count() * 4 < text.len().max(1)
}

fn value(data: Option<&Data>, room: Room) -> String {
    match shown(data, room.form) {
        Shown::Unknown => String::new(),
        Shown::Empty => "(empty)".into(),
        Shown::Binary(data) => bytes_words(data, 0, room),
        Shown::Text(text) => cut_text(&text, data, room.space),
    }
}

/// Bytes from `start` on.
fn bytes_words(data: &Data, start: usize, room: Room) -> String {
    let most = match room.form {
        ValueForm::Auto => PREVIEW_BYTES,
        ValueForm::Hex => usize::MAX,
    };
    let space = match room.form {
        ValueForm::Auto => room.space,
        ValueForm::Hex => usize::MAX,
    };
    preview(&data.bytes, start, u64::from(data.size), most, space)
}

/// A text in its space, with its size where something was left out.
fn cut_text(text: &str, data: Option<&Data>, space: usize) -> String {
    let is_truncated = data.is_some_and(|data| data.truncated);
    if columns(text) <= space && !is_truncated {
        return text.to_owned();
    }
    let bytes = data.map_or(0, |data| u64::from(data.size));
    let note = format!(" ({})", size(bytes));
    let kept = shortened(text, space.saturating_sub(note.len()).max(1));
    format!("{kept}{note}")
}

fn change(before: Option<&Data>, after: Option<&Data>, room: Room) -> String {
    let (arrow, space) = (" → ", room.space);
    let each = Room {
        space: space.saturating_sub(columns(arrow)) / 2,
        ..room
    };
    if let (Some(old), Some(new)) = (before, after)
        && old.bytes == new.bytes
        && new.size > 0
    {
        let note = format!(" ({})", alike(old, new));
        return format!("{}{note}", value(after, room.without(note.len())));
    }
    match (shown(before, room.form), shown(after, room.form)) {
        (Shown::Unknown, _) => value(after, room),
        (_, Shown::Unknown) => String::new(),
        (Shown::Text(old), Shown::Text(new)) => {
            if columns(&old) + columns(&new) + columns(arrow) <= space {
                return format!("{old}{arrow}{new}");
            }
            if let Some(members) = members_of(before, after, space) {
                return members;
            }
            let (old, new) = differing(&old, &new, each.space);
            format!("{old}{arrow}{new}")
        }
        (Shown::Binary(old), Shown::Binary(new)) if room.form == ValueForm::Auto => {
            let same = old
                .bytes
                .iter()
                .zip(&*new.bytes)
                .take_while(|(old, new)| old == new)
                .count();
            let start = same.saturating_sub(SAME_BYTES);
            let longest = old.bytes.len().max(new.bytes.len());
            let fits = longest <= PREVIEW_BYTES && whole_preview_columns(longest) <= each.space;
            let start = if fits { 0 } else { start };
            let (was, is) = (bytes_words(old, start, each), bytes_words(new, start, each));
            if was.ends_with(SIZE_ALONE) || is.ends_with(SIZE_ALONE) {
                let byte = |data: &Data| match data.bytes.get(same) {
                    Some(byte) => format!("{byte:02x}"),
                    None => "end".to_owned(),
                };
                let whole = size(u64::from(new.size));
                return format!("({whole}) byte {}: {}{arrow}{}", same + 1, byte(old), byte(new));
            }
            format!("{was}{arrow}{is}")
        }
        _ => format!("{}{arrow}{}", value(before, each), value(after, each)),
    }
}

/// The description of two values whose kept bytes are equal.
fn alike(old: &Data, new: &Data) -> String {
    let first = size(new.bytes.len() as u64);
    match (old.digest, new.digest) {
        _ if old.size != new.size => format!("changed after the first {first}"),
        _ if !old.truncated && !new.truncated => "same data".to_owned(),
        (Some(old), Some(new)) if old == new => "same data".to_owned(),
        (Some(_), Some(_)) => format!("changed after the first {first}"),
        _ => format!("same first {first}"),
    }
}

/// The difference of two JSON objects that are too long to be shown whole.
fn members_of(before: Option<&Data>, after: Option<&Data>, space: usize) -> Option<String> {
    diff::members(&before?.bytes, &after?.bytes, space)
}

fn acl_words(acl: Option<&[Acl]>, space: usize) -> String {
    let entry = |acl: &Acl| format!("{}:{}:{}", acl.scheme, acl.id, acl.perms);
    let list: Vec<String> = acl.unwrap_or_default().iter().map(entry).collect();
    let text = list.join(", ");
    shortened(&escaped(&text), space).into_owned()
}

/// The sentence of a service event.
fn event_words(record: &Record, space: usize) -> String {
    let event = record.event.as_ref();
    event.map_or_else(String::new, |event| {
        shortened(&escaped(&event.text), space).into_owned()
    })
}

fn control_words(record: &Record) -> String {
    let root = record.root.as_deref().map(escaped).unwrap_or_default();
    match record.op {
        Op::GapBegin => format!("— gap: {} ({root})", reason(record.gap.as_ref())),
        Op::GapEnd => format!("— gap over: {} ({root})", differences(record.gap.as_ref())),
        Op::SnapshotBegin => format!("— snapshot of {root}"),
        Op::SnapshotEnd => format!("— snapshot complete: {} ({root})", listed(record.run.as_ref())),
        Op::Heartbeat => "— heartbeat".into(),
        Op::Create | Op::Update | Op::Delete | Op::Acl | Op::Snapshot | Op::Service => {
            format!("— {}", record.op.as_str())
        }
    }
}

fn reason(gap: Option<&Gap>) -> &'static str {
    gap.map_or("for an unknown reason", |gap| gap.reason.phrase())
}

fn differences(gap: Option<&Gap>) -> String {
    match gap.and_then(|gap| gap.differences) {
        Some(1) => "1 difference found".into(),
        Some(count) => format!("{count} differences found"),
        None => "compared".into(),
    }
}

fn listed(run: Option<&Run>) -> String {
    let nodes = run.and_then(|run| run.nodes).unwrap_or_default();
    let noun = if nodes == 1 { "znode" } else { "znodes" };
    match run.and_then(|run| run.unreadable) {
        Some(unreadable) if unreadable > 0 => format!("{nodes} {noun}, {unreadable} not readable"),
        _ => format!("{nodes} {noun}"),
    }
}
