//! The render sink at real files with real commands.

mod contract;
mod crashes;
mod files;
mod options;
mod states;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_core::amount::Span;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Record};
use bridge_core::sink::{Delivery, Sink, SinkError};
use bridge_core::testing::{MemoryJournal, a_record};
use tempfile::TempDir;

use crate::{RenderConfig, RenderSink};

/// A line for each znode.
const LINES: &str = "{% for znode in node.children %}\n{{ znode.name }}={{ znode.value }}\n{% endfor %}\n";

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

/// A folder, a journal, and the options of a sink that writes there.
struct Place {
    folder: TempDir,
    journal: MemoryJournal,
    config: RenderConfig,
    seq: u64,
}

impl Place {
    /// `/app` with these children and values.
    fn with(children: &[(&str, &str)]) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let mut config = RenderConfig::new(path("/app"), folder.path().join("app.conf"), LINES);
        config.debounce = Span::millis(0);
        let mut place = Place {
            folder,
            journal: MemoryJournal::with(Vec::new()),
            config,
            seq: 0,
        };
        place.change(Op::Create, "/app", "");
        for (name, value) in children {
            place.change(Op::Create, &format!("/app/{name}"), value);
        }
        place
    }

    /// A change in the journal.
    fn change(&mut self, op: Op, at: &str, value: &str) -> Arc<Record> {
        self.seq += 1;
        let record = a_record().seq(self.seq).path(at).op(op).after(value).arc();
        self.journal.append(vec![Arc::clone(&record)]);
        record
    }

    /// A control record of the root `/` in the journal.
    fn control(&mut self, op: Op) -> Arc<Record> {
        self.seq += 1;
        let record = a_record().seq(self.seq).control(op).arc();
        self.journal.append(vec![Arc::clone(&record)]);
        record
    }

    /// A sink with the image of the journal.
    fn sink(&self) -> RenderSink {
        let mut sink = RenderSink::new(self.config.clone());
        sink.attach(Box::new(self.journal.subtrees()));
        sink
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("app.conf")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_else(|error| format!("no file: {error}"))
    }

    /// A shell script as a command.
    fn script(&self, text: &str) -> Option<Vec<String>> {
        let words = ["/bin/sh", "-ec", text];
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    /// The path of something in the folder, as a word of a script.
    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The files in the folder, without the lock.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !name.ends_with(".zkbridge")).collect();
        names.sort();
        names
    }
}

async fn deliver(sink: &mut RenderSink, record: &Arc<Record>) -> Result<(), SinkError> {
    let records = vec![Arc::clone(record)];
    let delivered = sink.deliver(&Delivery { records }).await;
    delivered.map_err(|refused| refused.error.expect("it says why"))
}

/// The lines of a file; none if there is no file.
fn lines(file: impl AsRef<Path>) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}
