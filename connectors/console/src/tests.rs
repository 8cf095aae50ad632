//! The lines for people, the output to a pipe, and the contract of sinks.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use bridge_core::number::SessionId;
use bridge_core::record::{Data, DataForm, GapReason, Op, ServiceEvent, ServiceEventType, Txn, TxnKind};
use bridge_core::sink::{Delivery, Sink, SinkErrorKind};
use bridge_core::testing::{
    Arrived, RecordBuilder, Rig, a_record, every_promise, limit_records, some_records,
};

use crate::text::columns;
use crate::{
    Color, ConsoleConfig, ConsoleSink, Format, Layout, Style, ValueForm, format_line, value_words,
    writer_words,
};

fn check(record: RecordBuilder, expected: &str) {
    assert_eq!(format_line(&record.build(), &Style::PLAIN), expected);
}

#[test]
fn a_change_shows_time_op_path_and_what_changed() {
    let path = "/services/a";
    check(a_record(), "13:40:00.123 update   /services/a  1 → 2");
    check(
        a_record().op(Op::Create).after("on"),
        "13:40:00.123 create   /services/a  on",
    );
    check(
        a_record().op(Op::Delete).before("on"),
        "13:40:00.123 delete   /services/a  was on",
    );
    check(
        a_record().path(path).before("x").after("x"),
        "13:40:00.123 update   /services/a  x (same data)",
    );
    check(
        a_record().before("").after("x"),
        "13:40:00.123 update   /services/a  (empty) → x",
    );
    check(
        a_record().op(Op::Snapshot).after([0xff, 0xfe, 0]),
        "13:40:00.123 snapshot /services/a  ff fe 00 |...| (3 B)",
    );
    check(
        a_record()
            .path("/a")
            .before([0, 0, 0, 0x7e])
            .after([0, 0, 0, 0x7f]),
        "13:40:00.123 update   /a  00 00 00 7e |...~| (4 B) → 00 00 00 7f |....| (4 B)",
    );
    check(a_record().op(Op::Acl), "13:40:00.125 acl      /services/a");
}

#[test]
fn special_changes_are_marked() {
    check(
        a_record().ephemeral(Some(true)).reconciled().missed(Some(3)),
        "13:40:00.123 update   /services/a  1 → 2  ephemeral, reconciled, 3 missed",
    );
    check(
        a_record().missed(None),
        "13:40:00.123 update   /services/a  1 → 2",
    );
}

#[test]
fn control_records_are_words_about_the_stream() {
    check(
        a_record().control(Op::GapBegin).reason(GapReason::Disconnected),
        "13:40:00.125 — gap: the connection was lost (/)",
    );
    check(
        a_record().control(Op::GapEnd),
        "13:40:00.125 — gap over: 3 differences found (/)",
    );
    check(
        a_record().control(Op::SnapshotBegin),
        "13:40:00.125 — snapshot of /",
    );
    check(
        a_record().control(Op::SnapshotEnd).nodes(12),
        "13:40:00.125 — snapshot complete: 12 znodes (/)",
    );
    check(a_record().control(Op::Heartbeat), "13:40:00.125 — heartbeat");
}

#[test]
fn long_values_are_cut_to_the_width_and_paths_never() {
    let long = "0123456789".repeat(20);
    let line = format_line(&a_record().op(Op::Create).after(&long).build(), &Style::PLAIN);
    assert!(
        line.starts_with("13:40:00.123 create   /services/a  0123456789"),
        "{line}"
    );
    assert!(line.ends_with("… (200 B)"), "{line}");
    assert_eq!(columns(&line), 80);
    let line = format_line(
        &a_record().before(&long).after(long.replace("890", "xyz")).build(),
        &Style::PLAIN,
    );
    assert!(columns(&line) <= 80 && line.contains(" → "), "{line}");
    let path = format!("/{}", "deep".repeat(40));
    let line = format_line(&a_record().path(&path).after("new").build(), &Style::PLAIN);
    assert!(line.contains(&path) && line.ends_with("1 → new"), "{line}");
}

#[test]
fn where_no_terminal_has_a_width_nothing_is_cut_and_the_rest_of_the_line_is_the_same() {
    let long = "0123456789".repeat(20);
    let event = ServiceEvent {
        text: long.clone(),
        ..ServiceEvent::of_type(ServiceEventType::InstanceUp)
    };
    let mut service = a_record().op(Op::Service).build();
    service.event = Some(Arc::new(event));
    let created = a_record().op(Op::Create).after(&long).build();
    for record in [service, created] {
        let short = format_line(&record, &Style::PLAIN);
        let whole = format_line(&record, &Style::PLAIN.with_layout(Layout::Whole));
        assert!(columns(&short) <= 80 && short.contains('…'), "{short}");
        assert!(whole.ends_with(&long), "{whole}");
        let beginning = short.split_once('…').unwrap().0;
        assert!(whole.starts_with(beginning), "{whole}");
    }
}

#[test]
fn of_a_long_json_object_only_what_changed_is_shown() {
    let value = |weight: u32| {
        format!(
            r#"{{"name":"payments","zone":"eu-central-1","weight":{weight},"tags":{{"team":"billing","tier":"gold"}}}}"#
        )
    };
    check(
        a_record().before(value(1)).after(value(25)),
        "13:40:00.123 update   /services/a  weight: 1 → 25",
    );
}

#[test]
fn a_value_that_a_limit_cut_says_how_long_it_was() {
    check(
        a_record().op(Op::Create).after("0123456789").limit(4),
        "13:40:00.123 create   /services/a  0123 (10 B)",
    );
}

#[test]
fn a_wide_line_has_the_date_the_zxid_and_the_whole_value() {
    let record = a_record().op(Op::Create).after("x".repeat(200)).build();
    let line = format_line(&record, &Style::PLAIN.with_layout(Layout::Wide));
    let zxid = record.zxid.expect("it is exact").to_string();
    let time = record.time.changed.unwrap_or(record.time.captured).to_string();
    assert!(line.starts_with(&format!("{time} {zxid}")), "{line}");
    assert!(time.ends_with('Z') && line.ends_with(&"x".repeat(200)), "{line}");
}

#[test]
fn a_wide_line_names_the_writer_where_the_source_knows_it() {
    let mut record = a_record().op(Op::Create).after("1").build();
    record.txn = Some(Box::new(Txn {
        session: SessionId(0x0100_002f_037b_0000),
        cxid: 4,
        index: 0,
        count: 1,
        kind: TxnKind::Create,
        time: 0,
        ended_by: None,
        client: Some("10.0.0.5:4180".into()),
        user: Some("al\u{1b}ice".into()),
        rest: 0,
    }));
    let wide = format_line(&record, &Style::PLAIN.with_layout(Layout::Wide));
    let writer = writer_words(&record).unwrap();
    assert!(
        writer.starts_with("by session 0x0100002f037b0000 from 10.0.0.5:4180, user al"),
        "{writer}"
    );
    assert!(!writer.contains('\u{1b}') && wide.ends_with(&writer), "{wide}");
    assert!(!format_line(&record, &Style::PLAIN).contains("session"));
    record.txn = None;
    assert_eq!(writer_words(&record), None);
}

#[test]
fn values_that_were_cut_say_whether_they_changed_after_the_cut() {
    let check = |old: &str, new: &str, expected: &str| {
        let mut record = a_record().before("x").after("x").build();
        let cut = |text: &str| Data::limited(text.as_bytes(), DataForm::Auto, 4);
        record.before.as_mut().unwrap().data = Some(cut(old));
        record.after.as_mut().unwrap().data = Some(cut(new));
        assert_eq!(value_words(&record, ValueForm::Auto, 80), expected);
    };
    check("same_one", "same_two", "same (8 B) (changed after the first 4 B)");
    check(
        "same_one",
        "same_longer",
        "same (11 B) (changed after the first 4 B)",
    );
    check("same_one", "same_one", "same (8 B) (same data)");
    check("same", "same", "same (same data)");
}

#[test]
fn bytes_are_shown_from_where_they_differ_and_in_hex_as_a_whole() {
    let bytes = |last: u8| -> Vec<u8> { (0..39).chain([last]).collect() };
    let record = a_record().before(bytes(200)).after(bytes(201)).build();
    assert_eq!(
        value_words(&record, ValueForm::Auto, 80),
        "…25 26 c8 |%&.| (40 B) → …25 26 c9 |%&.| (40 B)"
    );
    let text = a_record().op(Op::Create).after("a\tb").build();
    assert_eq!(value_words(&text, ValueForm::Hex, 4), "61 09 62 |a.b| (3 B)");
    let long = a_record().op(Op::Create).after(bytes(0)).build();
    assert_eq!(value_words(&long, ValueForm::Auto, 20), "00 01 02 03… (40 B)");
    assert_eq!(value_words(&long, ValueForm::Auto, 18), "(40 B binary)");
    assert_eq!(
        value_words(&record, ValueForm::Auto, 44),
        "…25 26 c8 (40 B) → …25 26 c9 (40 B)"
    );
    assert_eq!(
        value_words(&record, ValueForm::Auto, 30),
        "(40 B) byte 40: c8 → c9"
    );
    assert!(value_words(&long, ValueForm::Hex, 4).ends_with("(40 B)"));
}

#[test]
fn colour_is_around_the_words_and_nothing_else_changes() {
    let colored = Style {
        color: true,
        ..Style::PLAIN
    };
    for record in some_records(40, 3) {
        let line = format_line(&record, &colored);
        let mut plain = line.clone();
        for code in ["0", "2", "31", "32", "33", "35", "36"] {
            plain = plain.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_ne!(line, plain);
        assert_eq!(plain, format_line(&record, &Style::PLAIN));
    }
}

#[test]
fn no_znode_can_write_to_the_terminal() {
    for record in limit_records() {
        let line = format_line(&record, &Style::PLAIN);
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    let evil = "\u{1b}]0;title\u{7}\u{9b}2J\r\u{8}\u{202e}";
    for &op in Op::ALL {
        let record = a_record()
            .op(op)
            .path(&format!("/{evil}"))
            .before(evil)
            .after(evil);
        let line = format_line(&record.build(), &Style::PLAIN);
        assert!(
            !line
                .chars()
                .any(|letter| letter.is_control() || letter == '\u{202e}'),
            "{line:?}"
        );
    }
}

/// A pipe whose other end the test holds.
#[derive(Clone, Default)]
struct Pipe {
    flushed: Arc<Mutex<Vec<u8>>>,
    held: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed.lock().unwrap().append(&mut self.held);
        Ok(())
    }
}

struct PipeRig(Pipe);

impl Rig for PipeRig {
    async fn fresh(&mut self) {
        self.0 = Pipe::default();
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        Box::new(ConsoleSink::with_writer(
            Format::Record,
            Style::PLAIN,
            Box::new(self.0.clone()),
        ))
    }

    async fn arrived(&mut self) -> Vec<Arrived> {
        let text = self.0.flushed.lock().unwrap().clone();
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(Arrived::from_json).collect()
    }
}

#[tokio::test]
async fn the_sink_keeps_every_promise_of_its_contract() {
    every_promise(&mut PipeRig(Pipe::default())).await;
}

struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_closed_pipe_ends_the_sink_in_order() {
    let mut sink = ConsoleSink::with_writer(Format::Pretty, Style::PLAIN, Box::new(ClosedPipe));
    sink.open().await.unwrap();

    let batch = Delivery {
        records: some_records(3, 1),
    };
    let failed = sink.deliver(&batch).await.unwrap_err();

    assert_eq!(failed.done, 0);
    let error = failed.error.unwrap();
    assert_eq!(error.kind, SinkErrorKind::Ended);
    assert_eq!(error.message, "nobody reads the standard output any more");
    sink.close().await.unwrap();
}

#[test]
fn options_have_defaults_and_unknown_ones_are_refused() {
    let read = |text: &str| serde_json::from_str::<ConsoleConfig>(text);
    assert_eq!(
        read("{}").unwrap(),
        ConsoleConfig {
            format: Format::Pretty,
            color: Color::Auto
        }
    );
    assert_eq!(
        read(r#"{"format": "record", "color": "never"}"#).unwrap().format,
        Format::Record
    );
    assert!(read(r#"{"colour": "never"}"#).is_err());
}
