//! From the tree to the configuration: every section is read on its own, so that one that is wrong hides no other.

use bridge_core::delivery::{Filter, RejectPolicy};
use bridge_core::file_path::FilePath;
use bridge_core::issue::ConfigIssue;
use bridge_core::secret::{MASK, Secret};
use bridge_webhook::Preset;
use serde::de::DeserializeOwned;

use crate::decode::{Fault, FaultKind, decode};
use crate::later::{is_later_key, remedy_of_later_value};
use crate::model::{Name, SinkCommon, SinkKind, SourceCommon, SourceConfig, SourceKind, Top};
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::schema::Hints;
use crate::section::Parts;
use crate::tree::{KeyPath, Node, Place, Step, Table, Value, is_word};

/// One reading of one tree.
pub(crate) struct Reading<'a> {
    tree: &'a Node,
    pub(crate) problems: Vec<Problem>,
    /// Keys with a problem of their own: further problems would only be its consequences.
    touched: Vec<KeyPath>,
    hints: Hints,
    /// Texts of the tree that no message may show.
    hidden: &'a [Secret],
}

/// The contents of the sections, as far as they could be read.
pub(crate) struct Sections {
    pub(crate) top: Top,
    pub(crate) sources: Vec<(KeyPath, SourceConfig)>,
    pub(crate) sinks: Vec<(KeyPath, SinkDraft)>,
}

/// A sink whose sources are not yet looked up.
pub(crate) struct SinkDraft {
    pub(crate) name: Name,
    pub(crate) common: SinkCommon,
    pub(crate) filter: Filter,
    pub(crate) reject: RejectPolicy,
    pub(crate) kind: SinkKind,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(tree: &'a Node, hints: Hints, hidden: &'a [Secret]) -> Reading<'a> {
        Reading {
            tree,
            problems: Vec::new(),
            touched: Vec::new(),
            hints,
            hidden,
        }
    }

    /// Reads all sections.
    pub(crate) fn sections(&mut self) -> Sections {
        let mut parts = Parts::of(self.tree).unwrap_or_else(Parts::empty);
        let (sources, sinks) = (parts.take("source"), parts.take("sink"));
        let top = KeyPath::default();
        let node = parts.part::<Top>();
        let top_options = self.decode(&node, &top).unwrap_or_default();
        self.refuse_rest(parts, &top);
        let mut sections = Sections {
            top: top_options,
            sources: Vec::new(),
            sinks: Vec::new(),
        };
        for (path, node) in self.elements("source", sources) {
            sections
                .sources
                .extend(self.source(&node, &path).map(|source| (path, source)));
        }
        for (path, node) in self.elements("sink", sinks) {
            sections
                .sinks
                .extend(self.sink(&node, &path).map(|sink| (path, sink)));
        }
        sections
    }

    /// Whether the file has no such section.
    pub(crate) fn is_absent(&self, key: &str) -> bool {
        match self.tree.table().and_then(|table| table.get(key)) {
            None => true,
            Some((_, node)) => matches!(&node.value, Value::List(list) if list.is_empty()),
        }
    }

    /// The names of all sources, also of those with problems.
    pub(crate) fn source_names(&self) -> Vec<String> {
        let sources = match self
            .tree
            .at(&[Step::Key("source".to_owned())])
            .map(|node| &node.value)
        {
            Some(Value::List(list)) => list.as_slice(),
            _ => &[],
        };
        let name = |source: &Node| match source.at(&[Step::Key("name".to_owned())]).map(|node| &node.value) {
            Some(Value::Text(text)) => text.text.clone(),
            _ => SourceCommon::default().name.to_string(),
        };
        let mut names: Vec<String> = sources.iter().map(name).collect();
        names.dedup();
        names
    }

    /// The tables of a list of tables.
    fn elements(&mut self, key: &str, node: Option<Node>) -> Vec<(KeyPath, Node)> {
        let path = KeyPath::default().key(key);
        let list = match node {
            None => return Vec::new(),
            Some(Node {
                value: Value::List(list),
                ..
            }) => list,
            Some(node) => {
                let remedy = format!("write [[{key}]] above its keys (in YAML and JSON: a list)");
                let message = self.no_tables(&node);
                self.report(&path, message, |problem| problem.remedy(remedy));
                return Vec::new();
            }
        };
        let mut tables = Vec::new();
        for (index, node) in list.into_iter().enumerate() {
            let path = path.index(index);
            match &node.value {
                Value::Table(_) => tables.push((path, node)),
                Value::Skipped => {}
                _ => {
                    let message = self.no_tables(&node);
                    self.report(&path, message, |problem| problem.remedy("give a table"));
                }
            }
        }
        tables
    }

    fn no_tables(&self, node: &Node) -> String {
        format!("{} is given where tables are wanted", self.shown(node))
    }

    fn source(&mut self, node: &Node, path: &KeyPath) -> Option<SourceConfig> {
        let mut parts = Parts::of(node)?;
        let type_name = parts.take("type");
        let type_name = self.type_of(type_name, path, &SourceKind::TYPES, Some("zookeeper"))?;
        debug_assert_eq!(type_name, "zookeeper");
        let kind = self.kind(&mut parts, path).map(SourceKind::Zookeeper);
        let common = parts.part::<SourceCommon>();
        let common: Option<SourceCommon> = self.decode(&common, path);
        self.refuse_rest(parts, path);
        let (kind, common) = (kind?, common?);
        self.object(path, kind.options().objections());
        self.object(&path.key("journal"), common.journal.objections());
        for (at, section) in common.service.iter().enumerate() {
            self.object(&path.key("service").index(at), section.objections());
        }
        Some(SourceConfig {
            name: common.name,
            mask: common.mask,
            journal: common.journal,
            services: common.service,
            kind,
        })
    }

    fn sink(&mut self, node: &Node, path: &KeyPath) -> Option<SinkDraft> {
        let mut parts = Parts::of(node)?;
        let type_name = parts.take("type");
        let type_name = self.type_of(type_name, path, &SinkKind::TYPES, None)?;
        let kind = match type_name {
            "kafka" => self.kind(&mut parts, path).map(SinkKind::Kafka),
            "nats" => self.kind(&mut parts, path).map(SinkKind::Nats),
            "webhook" => self.kind(&mut parts, path).map(SinkKind::Webhook),
            "file" => self.kind(&mut parts, path).map(SinkKind::File),
            "exec" => self.kind(&mut parts, path).map(SinkKind::Exec),
            "render" => self.kind(&mut parts, path).map(SinkKind::Render),
            _ => self.kind(&mut parts, path).map(SinkKind::Console),
        };
        let (common, filter, reject) = (
            parts.part::<SinkCommon>(),
            parts.part::<Filter>(),
            parts.part::<RejectPolicy>(),
        );
        let common: Option<SinkCommon> = self.decode(&common, path);
        let filter: Option<Filter> = self.decode(&filter, path);
        let reject: Option<RejectPolicy> = self.decode(&reject, path);
        self.refuse_rest(parts, path);
        let (kind, common) = (kind?, common?);
        self.object(path, kind.objections());
        let name = common.name.clone().unwrap_or_else(|| Name::known(type_name));
        Some(SinkDraft {
            name,
            common,
            filter: filter?,
            reject: reject?,
            kind,
        })
    }

    fn kind<T: DeserializeOwned>(&mut self, parts: &mut Parts, path: &KeyPath) -> Option<T> {
        let part = parts.part::<T>();
        self.decode(&part, path)
    }

    /// The type of a section; `None` after it was reported, or where another section's problem says enough.
    fn type_of(
        &mut self,
        node: Option<Node>,
        section: &KeyPath,
        known: &[&'static str],
        default: Option<&'static str>,
    ) -> Option<&'static str> {
        let path = section.key("type");
        let list = known.map_words();
        let Some(node) = node else {
            if default.is_none() {
                let message = "the type must be given";
                self.report(&path, message, |problem| {
                    problem
                        .allowed(list)
                        .remedy("add a line such as type = \"kafka\"")
                });
            }
            return default;
        };
        let word = match &node.value {
            Value::Text(text) => text.text.as_str(),
            Value::Skipped => return None,
            _ => "",
        };
        if let Some(known) = known.iter().find(|known| **known == word) {
            return Some(known);
        }
        if node.brought_in().is_none()
            && known.contains(&"webhook")
            && Preset::ALL.iter().any(|preset| preset.as_str() == word)
        {
            let message = format!("'{word}' is a preset of a webhook and no type of its own");
            self.report(&path, message, |problem| {
                let remedy = format!("write type = \"webhook\" and preset = \"{word}\"");
                problem.allowed(list).remedy(remedy)
            });
            return None;
        }
        self.wrong_word(&path, &node, known);
        None
    }

    /// Reads one type of options from its table; all that is wrong is reported.
    fn decode<T: DeserializeOwned>(&mut self, node: &Node, path: &KeyPath) -> Option<T> {
        let mut faults = Vec::new();
        let options = decode(node, &mut |fault| faults.push(fault.clone()));
        for fault in faults {
            self.fault(&fault, path);
        }
        options
    }

    fn fault(&mut self, fault: &Fault, section: &KeyPath) {
        let path = section.join(&fault.path);
        // No copy: a table can have thousands of keys, each with a fault.
        let nothing = Node::new(Place::File, Value::Nothing);
        let tree = self.tree;
        let node = tree.at(&path.0).unwrap_or(&nothing);
        match &fault.kind {
            FaultKind::Unknown { name, known } => self.unknown(&path, name, known),
            FaultKind::Missing { name } => {
                let message = format!("'{name}' must be given");
                let remedy = format!("add a line {name} = …");
                self.report(&path.key(name), message, |problem| problem.remedy(remedy));
            }
            FaultKind::WrongType { expected } => {
                let shown = match fault.secret {
                    true => "a value that is not shown".to_owned(),
                    // A number in place of a table may be a secret in the wrong place.
                    false if expected.contains("table") => node.kind(),
                    false => self.shown(node),
                };
                let message = format!("{shown} is given where {expected} is wanted");
                self.report(&path, message, |problem| {
                    let allowed = problem.allowed.clone().unwrap_or_else(|| expected.clone());
                    problem.allowed(allowed).remedy(format!("write {expected}"))
                });
            }
            FaultKind::WrongWord { known } => self.wrong_word(&path, node, known),
            FaultKind::Refused { .. } if fault.secret => {
                self.report(&path, "the secret is refused", correct_it)
            }
            FaultKind::Refused { message } => self.report(&path, message.as_str(), correct_it),
        }
    }

    fn wrong_word(&mut self, path: &KeyPath, node: &Node, known: &[&'static str]) {
        let word = match &node.value {
            Value::Text(text) => text.text.as_str(),
            _ => "",
        };
        // A text that cannot be a mistyped word may be a secret in the wrong place.
        let shown = match &node.value {
            Value::Text(text) if !is_word(&text.text) => node.kind(),
            _ => self.shown(node),
        };
        if let Some(remedy) = remedy_of_later_value(&path.names(), word) {
            let message = format!("{shown} does not exist yet in this version of zkbridge");
            self.report(path, message, |problem| {
                problem.allowed(known.map_words()).remedy(remedy)
            });
            return;
        }
        let message = format!("{shown} is not a value of this key");
        // A text that was brought in is not shown, and neither is the word that it resembles.
        let near = nearest(word, known.iter().copied()).filter(|_| node.brought_in().is_none());
        self.report(path, message, |problem| {
            let problem = problem.allowed(known.map_words());
            match near {
                Some(near) => problem.remedy(format!("write \"{near}\"")),
                None => problem.remedy("give one of these"),
            }
        });
    }

    /// The value in a few words, or its type where the text may be a secret.
    fn shown(&self, node: &Node) -> String {
        match &node.value {
            Value::Text(text) if self.hidden.iter().any(|hidden| hidden.reveal() == text.text) => node.kind(),
            _ => node.shown(),
        }
    }

    fn refuse_rest(&mut self, parts: Parts, path: &KeyPath) {
        let (rest, known) = parts.rest();
        for name in rest {
            self.unknown(path, &name, &known);
        }
    }

    fn unknown(&mut self, table: &KeyPath, name: &str, known: &[&'static str]) {
        let path = table.key(name);
        if is_later_key(&path.names()) {
            let message = format!("'{name}' does not exist yet in this version of zkbridge");
            self.report(&path, message, |problem| {
                problem.remedy("leave it out, or wait for a later version")
            });
            return;
        }
        let mut sorted = known.to_vec();
        sorted.sort_unstable();
        let near = nearest(name, sorted.iter().copied());
        let is_shown = is_word(name);
        let message = match is_shown {
            true => format!("there is no key '{name}' here"),
            false => "there is a key here that is not shown, as no key has such a name".to_owned(),
        };
        let said = message.clone();
        self.report(&path, message, |mut problem| {
            // It names the key only, whatever brought the value in.
            problem.message = said;
            if !is_shown {
                problem.key = table.key(MASK).to_string();
            }
            let problem = problem.allowed(sorted.join(", "));
            match near {
                Some(near) => problem.remedy(format!("did you mean '{near}'?")),
                None => problem.remedy("leave it out"),
            }
        });
    }

    /// Reports the issues that the type of a section finds in it.
    pub(crate) fn object(&mut self, section: &KeyPath, objections: Vec<ConfigIssue>) {
        for objection in objections {
            let path = self.as_written(section.join_text(&objection.key));
            if self.is_touched(&path) || self.is_consequence(&path, &objection) {
                continue;
            }
            let problem = self.problem(&path, objection.message).remedy(objection.remedy);
            let hidden = self
                .tree
                .at(&path.0)
                .is_some_and(|node| node.brought_in().is_some());
            self.problems.push(Problem {
                severity: objection.severity,
                // The form is right, so it is only shown if the message itself is hidden.
                allowed: problem.allowed.filter(|_| hidden),
                ..problem
            });
        }
    }

    /// Objects to the contents of a file where a path is wanted. For paths that messages show: those of keys and
    /// certificates have a type of their own.
    pub(crate) fn object_to_contents(&mut self, path: &KeyPath) {
        let Some(Value::Text(text)) = self.tree.at(&path.0).map(|node| &node.value) else {
            return;
        };
        let file = match &text.brought_in {
            Some(reference) => FilePath::brought_in(&text.text, reference),
            None => FilePath::from(&text.text),
        };
        let key = path.0.last().map(|step| KeyPath(vec![step.clone()]).to_string());
        let objection = file.objection(&key.unwrap_or_default());
        let objection = objection.map(|objection| ConfigIssue {
            key: String::new(),
            ..objection
        });
        self.object(path, objection.into_iter().collect());
    }

    /// Whether the key, or one above or below it, has a problem of its own, so that its value was not read from the file.
    pub(crate) fn is_touched(&self, path: &KeyPath) -> bool {
        self.touched.iter().any(|touched| touched.touches(path)) || self.is_skipped(&path.0)
    }

    fn is_skipped(&self, path: &[Step]) -> bool {
        self.tree
            .at(path)
            .is_some_and(|node| matches!(node.value, Value::Skipped))
    }

    /// Whether an objection follows from a value that could not be brought in: from one in the list that it is about, or
    /// from one beside its key that it names.
    fn is_consequence(&self, path: &KeyPath, objection: &ConfigIssue) -> bool {
        let is_skipped = |node: &Node| matches!(node.value, Value::Skipped);
        let has_skipped = |node: &Node| {
            let mut table = node.table().into_iter().flatten();
            is_skipped(node) || table.any(|(_, (_, node))| is_skipped(node))
        };
        if let Some(Value::List(list)) = self.tree.at(&path.0).map(|node| &node.value)
            && list.iter().any(has_skipped)
        {
            return true;
        }
        let above = path.0.split_last().map_or(&[][..], |(_, above)| above);
        let table = objection.key.rsplit_once('.').map(|(table, _)| table);
        let is_named = |name: &str| {
            let key = table.map_or_else(|| name.to_owned(), |table| format!("{table}.{name}"));
            let is_end = |letter: char| !letter.is_alphanumeric() && !matches!(letter, '.' | '_');
            objection.message.split(is_end).any(|word| word == key)
        };
        let beside = self.tree.at(above).and_then(Node::table).into_iter().flatten();
        beside
            .filter(|(_, (_, node))| is_skipped(node))
            .any(|(name, _)| is_named(name))
    }

    /// The path with the indexes of the file: elements that were refused are missing in the lists that were read.
    fn as_written(&self, read: KeyPath) -> KeyPath {
        let mut path = KeyPath::default();
        for step in read.0 {
            let step = match step {
                Step::Index(index) => Step::Index(self.index_as_written(&path, index)),
                key => key,
            };
            path = path.step(step);
        }
        path
    }

    fn index_as_written(&self, list: &KeyPath, index: usize) -> usize {
        let was_read = |at: &usize| {
            let path = list.index(*at);
            list.0.len() == 1 || !self.touched.contains(&path) && !self.is_skipped(&path.0)
        };
        (0..).filter(was_read).nth(index).unwrap_or(index)
    }

    /// Reports a key as wrong.
    fn report(
        &mut self,
        path: &KeyPath,
        message: impl Into<String>,
        finish: impl FnOnce(Problem) -> Problem,
    ) {
        let problem = finish(self.problem(path, message.into()));
        self.touched.push(path.clone());
        self.problems.push(problem);
    }

    /// A problem at a key. A message that may repeat a text that was brought in is replaced.
    fn problem(&self, path: &KeyPath, message: String) -> Problem {
        let place = self.tree.place_of(&path.0);
        let brought_in = self.tree.at(&path.0).and_then(Node::brought_in);
        let message = match brought_in {
            Some(from) => {
                format!(
                    "the value is not as it should be; it is not shown because it was brought in by {from}"
                )
            }
            None => message,
        };
        let problem = Problem::error(place, path.to_string(), message);
        match self.hints.allowed(&path.names()) {
            Some(allowed) => problem.allowed(allowed),
            None => problem,
        }
    }
}

fn correct_it(problem: Problem) -> Problem {
    let remedy = match &problem.place {
        Place::Variable(name) => format!("set {name} to such a value, or unset it"),
        _ => "write such a value, or leave the key out if it has a default".to_owned(),
    };
    problem.remedy(remedy)
}

impl Parts {
    fn empty() -> Parts {
        let nothing = Node::new(Place::File, Value::Table(Table::new()));
        Parts::of(&nothing).expect("a table is a table")
    }
}

/// Words as a message lists them.
trait MapWords {
    fn map_words(&self) -> String;
}

impl MapWords for [&'static str] {
    fn map_words(&self) -> String {
        let quoted: Vec<String> = self.iter().map(|word| format!("\"{word}\"")).collect();
        quoted.join(", ")
    }
}
