//! `zkbridge journal check`: checks the journals for damage.

use std::io::IsTerminal;

use bridge_console::{Color, Style};
use bridge_core::journal::{Finding, Inspection, Reader};
use serde_json::{Value, json};

use super::ChosenJournals;
use crate::command::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::terminal::{Tone, count, line, notice};

pub(super) fn run(args: &ChosenJournals) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let style = Style::for_stdout(Color::Auto);
    let (mut total, mut reports) = (0, Vec::new());
    for (source, journal) in journals.of_source(args.source.as_deref())? {
        let name = source.name.to_string();
        let is_watched = std::io::stderr().is_terminal();
        let mut report = |what: &'static str, reader: &mut Reader| -> Result<(), Failure> {
            let inspection = reader.inspect(|subject| {
                if is_watched {
                    notice(format_args!("{name}: checking the {subject} of the {what} …"));
                }
            })?;
            total += inspection.total;
            match args.json {
                true => reports.push(for_programs(what, &name, &inspection)),
                false => print(&for_people(what, &name, &inspection, &style))?,
            }
            Ok(())
        };
        report("journal", &mut *journal.reader()?)?;
        // The time before it, which zkbridge backfill has made.
        if let Some(mut past) = journal.past_reader()? {
            report("history", &mut past)?;
        }
    }
    if args.json {
        print_json(&json!({"ok": total == 0, "journals": reports}))?;
    }
    match total {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Runtime, "")),
    }
}

fn for_people(what: &str, name: &str, inspection: &Inspection, style: &Style) -> String {
    let looked_at = format!(
        "{} and {} of the image looked at",
        count(inspection.records, "record"),
        count(inspection.paths, "path")
    );
    if inspection.total == 0 {
        return format!(
            "{what} of {name}: {}, {looked_at}\n",
            Tone::Good.paint("whole", style)
        );
    }
    let found = format!("{} wrong", count(inspection.total, "thing"));
    let mut text = format!(
        "{what} of {name}: {}, {looked_at}\n",
        Tone::Bad.paint(&found, style)
    );
    for finding in &inspection.findings {
        text.push_str(&line(finding.subject, &sentence(finding), Tone::Plain, style));
        text.push_str(&line(
            "",
            &format!("help: {}", finding.remedy),
            Tone::Quiet,
            style,
        ));
    }
    let left_out = inspection.total - inspection.findings.len() as u64;
    if left_out > 0 {
        text.push_str(&format!("  and {left_out} more\n"));
    }
    text
}

fn sentence(finding: &Finding) -> String {
    let seq = finding.seq.map(|seq| format!("seq {seq}"));
    let place: Vec<String> = finding.path.clone().into_iter().chain(seq).collect();
    match place.is_empty() {
        true => finding.message.clone(),
        false => format!("{}: {}", place.join(", "), finding.message),
    }
}

fn for_programs(what: &str, name: &str, inspection: &Inspection) -> Value {
    let findings = inspection.findings.iter().map(|finding| {
        json!({
            "subject": finding.subject,
            "path": finding.path,
            "seq": finding.seq,
            "message": finding.message,
            "remedy": finding.remedy,
        })
    });
    json!({
        "source": name,
        "file": what,
        "ok": inspection.total == 0,
        "records": inspection.records,
        "paths": inspection.paths,
        "total": inspection.total,
        "findings": findings.collect::<Vec<_>>(),
    })
}
