//! The znodes of a subtree as values of templates.
//!
//! *Invariants.* Nothing depends on the clock or on the order of reads: an equal subtree gives equal values. A value that
//! is not the data of the znode, because it was cut or masked, is an error where it is used, and never a text.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, from_args};
use minijinja::{Error, ErrorKind, State};

use super::message_variables::value_of;
use crate::path::ZnodePath;
use crate::record::{Data, DataValue};
use crate::subtree::{Subtree, SubtreeZnode};

/// The variables of a template for files.
pub(super) const VARIABLES: [&str; 4] = ["cluster", "path", "node", "nodes"];

/// The znodes of one rendering.
pub(super) struct TreeValues(Arc<TreeIndex>);

impl TreeValues {
    pub(super) fn of(subtree: &Arc<Subtree>) -> TreeValues {
        TreeValues(Arc::new(TreeIndex::of(Arc::clone(subtree))))
    }

    /// The values of the variables.
    pub(super) fn variables(&self) -> Value {
        let TreeValues(tree) = self;
        let subtree = &tree.subtree;
        let node = match subtree.znodes().first() {
            Some(top) if top.path == subtree.path => TreeIndex::view(tree, 0),
            _ => Value::from(()),
        };
        let all: Vec<Value> = (0..subtree.znodes().len())
            .map(|at| TreeIndex::view(tree, at))
            .collect();
        Value::from_pairs([
            ("cluster", Value::from(&*subtree.cluster)),
            ("path", Value::from(subtree.path.as_str())),
            ("node", node),
            ("nodes", Value::from(all)),
        ])
    }

    /// The znode whose value the template used last: probably the one that it failed over.
    pub(super) fn last_used(&self) -> Option<&ZnodePath> {
        let TreeValues(tree) = self;
        let znode = tree.subtree.znodes().get(tree.last_used.load(Ordering::Relaxed));
        znode.map(|znode| &znode.path)
    }
}

/// The places of the znodes of a subtree.
struct TreeIndex {
    subtree: Arc<Subtree>,
    places: HashMap<ZnodePath, usize>,
    /// The children of each znode, in the order of their names.
    children: Vec<Vec<usize>>,
    /// For each znode the first place after those below it.
    ends: Vec<usize>,
    /// Made when they are first used.
    values: Vec<OnceLock<Value>>,
    /// The place of the znode whose value was used last; none yet at `usize::MAX`.
    last_used: AtomicUsize,
}

impl TreeIndex {
    fn of(subtree: Arc<Subtree>) -> TreeIndex {
        let count = subtree.znodes().len();
        let mut index = TreeIndex {
            places: HashMap::with_capacity(count),
            children: vec![Vec::new(); count],
            ends: vec![count; count],
            values: (0..count).map(|_| OnceLock::new()).collect(),
            last_used: AtomicUsize::new(usize::MAX),
            subtree: Arc::clone(&subtree),
        };
        // The znodes above the present one.
        let mut way: Vec<usize> = Vec::new();
        for (at, znode) in subtree.znodes().iter().enumerate() {
            while let Some(above) = way.pop_if(|above| !subtree.znodes()[*above].path.covers(&znode.path)) {
                index.ends[above] = at;
            }
            if let Some(above) = way.last() {
                index.children[*above].push(at);
            }
            index.places.insert(znode.path.clone(), at);
            way.push(at);
        }
        index
    }

    fn view(tree: &Arc<TreeIndex>, at: usize) -> Value {
        Value::from_object(ZnodeView {
            tree: Arc::clone(tree),
            at,
        })
    }

    fn views(tree: &Arc<TreeIndex>, places: impl Iterator<Item = usize>) -> Value {
        let views: Vec<Value> = places.map(|at| TreeIndex::view(tree, at)).collect();
        Value::from(views)
    }
}

/// A znode in a template: its fields, and `get(path)` for one below it.
struct ZnodeView {
    tree: Arc<TreeIndex>,
    at: usize,
}

impl ZnodeView {
    fn znode(&self) -> &SubtreeZnode {
        &self.tree.subtree.znodes()[self.at]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let znode = self.znode();
        let stat = znode.stat.as_ref();
        let data = znode.data.as_ref();
        Some(match name {
            "path" => Value::from(znode.path.as_str()),
            "name" => Value::from(znode.path.name()),
            "value" => {
                self.tree.last_used.store(self.at, Ordering::Relaxed);
                self.tree.values[self.at]
                    .get_or_init(|| data.map_or(Value::UNDEFINED, |data| value_of_data(&znode.path, data)))
                    .clone()
            }
            "size" => Value::from(data?.size),
            "encoding" => Value::from(match data?.value() {
                DataValue::Json(_) => "json",
                DataValue::Text(_) => "utf8",
                DataValue::Base64(_) => "base64",
            }),
            "ephemeral" => Value::from(stat?.is_ephemeral()),
            "version" => Value::from(stat?.version),
            "czxid" => Value::from(stat?.czxid.to_string()),
            "mzxid" => Value::from(stat?.mzxid.to_string()),
            "ctime" => Value::from(stat?.ctime),
            "mtime" => Value::from(stat?.mtime),
            "children" => TreeIndex::views(&self.tree, self.tree.children[self.at].iter().copied()),
            "below" => TreeIndex::views(&self.tree, self.at + 1..self.tree.ends[self.at]),
            _ => return None,
        })
    }

    /// The znode at a path below this one, or at a path of its own that begins with a slash.
    fn get(&self, path: &str) -> Value {
        let whole = match path.strip_prefix('/') {
            Some(_) => path.to_owned(),
            None => {
                let above = self.znode().path.as_str().trim_end_matches('/');
                format!("{above}/{path}")
            }
        };
        let found = ZnodePath::parse(&whole)
            .ok()
            .and_then(|path| self.tree.places.get(&path));
        found.map_or(Value::UNDEFINED, |at| TreeIndex::view(&self.tree, *at))
    }
}

impl Object for ZnodeView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.field(key.as_str()?)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn call_method(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        if method != "get" {
            return Err(Error::new(
                ErrorKind::UnknownMethod,
                format!("a znode has no method '{method}'; it has get(path)"),
            ));
        }
        let (path,): (&str,) = from_args(args)?;
        super::message_filters::charge(state, path.len())?;
        Ok(self.get(path))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.znode().path)
    }
}

impl fmt::Debug for ZnodeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ZnodeView").field(&self.znode().path).finish()
    }
}

fn value_of_data(path: &ZnodePath, data: &Data) -> Value {
    let unusable = |reason: &str| {
        let message = format!("the value of {path} {reason}");
        Value::from(Error::new(ErrorKind::InvalidOperation, message))
    };
    if data.truncated {
        return unusable("was cut at max_data of the source: raise max_data");
    }
    if data.is_masked() {
        return unusable("is masked by the source: take its path out of mask");
    }
    match data.value() {
        DataValue::Text(text) => Value::from(text),
        DataValue::Base64(text) => Value::from(text),
        DataValue::Json(document) => match serde_json::from_str(document.get()) {
            Ok(document) => value_of(document),
            Err(error) => unusable(&format!("is no JSON for a template: {error}")),
        },
    }
}
