//! `zkbridge template --sink` and `--tree`: the file of a render sink over the journal or over znodes in a file. Writes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::Path;

use bridge_config::{RenderConfig, SinkConfig, SinkKind};
use bridge_core::number::Seq;
use bridge_core::outbound::TemplateForm;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Stat};
use bridge_core::sink::{SinkError, SinkErrorKind};
use bridge_core::subtree::{Subtree, SubtreeCompleteness, SubtreeLimit, SubtreeZnode};
use bridge_render::RenderPreview;
use serde_json::Value;

use super::print;
use super::sink::configured;
use super::template::{TEXT_MEDIA_TYPE, TemplateArgs, read, refused, shown};
use crate::exit::{Exit, Failure};

/// The name of the cluster where no sink names one.
const CLUSTER: &str = "main";

/// The most bytes of data of znodes in a file, in all.
const DATA_BYTES_MAX: usize = 64 << 20;

/// Runs the command with a sink, or with znodes.
pub(super) fn run(args: &TemplateArgs) -> Result<(), Failure> {
    let own = args.file.as_deref().map(read).transpose()?;
    let znodes = args.tree.as_deref().map(znodes).transpose()?;
    let (config, preview) = match &args.sink {
        Some(name) => {
            let journals = args.config.journals()?;
            let sink = configured(journals.config(), name)?;
            let mut config = options(sink)?.clone();
            if let Some(template) = own {
                config.template = template;
            }
            let source = sink.sources.first().map_or(CLUSTER, |source| source);
            let preview = match znodes {
                Some(znodes) => RenderPreview::of_tree(&config, tree(znodes, &config, source)?),
                None => {
                    let opened = journals.of_source(Some(source))?;
                    let (_, journal) = opened.first().expect("the named source has a journal");
                    RenderPreview::of_image(&config, &mut *journal.reader()?)
                }
            };
            (config, preview)
        }
        None => {
            let template = own.ok_or_else(|| refused("no template is given".to_owned()))?;
            let znodes = znodes.ok_or_else(|| refused("no znodes are given".to_owned()))?;
            let Some((top, _)) = znodes.first_key_value() else {
                return Err(refused(
                    "there is no znode\nhelp: give the one at the top at least: {\"/services\": \"\"}"
                        .to_owned(),
                ));
            };
            let mut config = RenderConfig::new(path_of(top), "the file", template);
            let form = args.content_type.as_deref().unwrap_or(TEXT_MEDIA_TYPE);
            config.content_type = Some(form.to_owned());
            let tree = tree(znodes, &config, CLUSTER)?;
            let preview = RenderPreview::of_tree(&config, tree);
            (config, preview)
        }
    };
    match preview.map_err(failed)? {
        RenderPreview::Text(text) if std::io::stdout().is_terminal() => {
            let form = config.content_type.as_deref().unwrap_or(TEXT_MEDIA_TYPE);
            match TemplateForm::of_media_type(form) {
                TemplateForm::Json => print(&shown(text.trim_end_matches('\n'), TemplateForm::Json)),
                form => print(&shown(&text, form)),
            }
        }
        // In a pipe every byte, for a comparison with the file.
        RenderPreview::Text(text) => print(&text),
        RenderPreview::Kept(reason) => {
            let message = format!(
                "the file would stay as it is: {reason}\nhelp: wait until the tree is complete, or set 'missing' and 'gaps'"
            );
            Err(Failure::new(Exit::Runtime, message))
        }
    }
}

/// The options of a sink, which must be of the type `render`.
fn options(sink: &SinkConfig) -> Result<&RenderConfig, Failure> {
    match &sink.kind {
        SinkKind::Render(options) => Ok(options),
        kind => Err(refused(format!(
            "sink '{}' is of the type {}: it writes no file by a template\nhelp: name a sink of the type render, or give \
             its template as FILE",
            sink.name,
            kind.type_name()
        ))),
    }
}

fn failed(error: SinkError) -> Failure {
    let exit = match error.kind {
        SinkErrorKind::Configuration => Exit::Configuration,
        _ => Exit::Runtime,
    };
    Failure::new(exit, error.message)
}

/// Names of a path, which sort as znodes are visited: each before those below it.
type Names = Vec<String>;

fn names_of(path: &ZnodePath) -> Names {
    path.names().map(str::to_owned).collect()
}

fn path_of(names: &Names) -> ZnodePath {
    names
        .iter()
        .fold(ZnodePath::slash(), |path, name| path.child(name))
}

/// The znodes of a file, an object of paths and values: a text is the data, another document is that of a source with
/// `data = "json"`, and null is data that is not known.
fn znodes(file: &Path) -> Result<BTreeMap<Names, Option<Data>>, Failure> {
    let wrong = |reason: String| {
        refused(format!(
            "{}: {reason}\nhelp: give an object of paths and values: {{\"/services/a\": \"1\"}}",
            file.display()
        ))
    };
    let text = read(file)?;
    let found: BTreeMap<String, Value> =
        serde_json::from_str(&text).map_err(|error| wrong(format!("it has no znodes: {error}")))?;
    let mut znodes = BTreeMap::new();
    for (path, value) in found {
        let parsed = ZnodePath::parse(&path).map_err(|error| wrong(format!("'{path}': {error}")))?;
        let data = match value {
            Value::Null => None,
            Value::String(text) => Some(Data::limited(text.as_bytes(), DataForm::Auto, usize::MAX)),
            document => Some(Data::limited(
                document.to_string().as_bytes(),
                DataForm::Json,
                usize::MAX,
            )),
        };
        znodes.insert(names_of(&parsed), data);
    }
    Ok(znodes)
}

/// The znodes as the subtree of a sink. Those above them exist, and are empty.
fn tree(
    mut znodes: BTreeMap<Names, Option<Data>>,
    config: &RenderConfig,
    cluster: &str,
) -> Result<Subtree, Failure> {
    let top = names_of(&config.tree);
    let mut above = BTreeSet::new();
    for names in znodes.keys() {
        if !names.starts_with(&top) {
            return Err(refused(format!(
                "{} is not below {}\nhelp: give znodes of the tree only",
                path_of(names),
                config.tree
            )));
        }
        above.extend((top.len()..names.len()).map(|count| names[..count].to_vec()));
    }
    for names in above {
        let empty = || Some(Data::limited(b"", DataForm::Auto, usize::MAX));
        znodes.entry(names).or_insert_with(empty);
    }
    let complete = SubtreeCompleteness::Complete;
    let mut tree = Subtree::new(cluster.into(), config.tree.clone(), Seq::default(), complete);
    let limit = SubtreeLimit {
        znodes: config.max_znodes as usize,
        bytes: DATA_BYTES_MAX,
    };
    for (names, data) in znodes {
        let znode = SubtreeZnode {
            path: path_of(&names),
            stat: Some(Stat::default()),
            data,
        };
        let added = tree.add(znode, limit);
        added.map_err(|error| refused(format!("{error}\nhelp: give fewer znodes, or raise max_znodes")))?;
    }
    Ok(tree)
}
