//! Selects the records of a list: by path, operation and writer, and by a text in the values that the caller may see.

use std::net::IpAddr;

use bridge_core::delivery::{CompiledFilter, Filter};
use bridge_core::number::SessionId;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Record, State};

/// Characters that make a pattern a glob.
const WILDCARDS: [char; 5] = ['*', '?', '[', '{', '\\'];

/// Selects znodes: a path selects the znode and everything below it, a glob the paths that it matches.
///
/// In a glob `*` is within one name and `**` goes across names. A trailing slash is ignored.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// A znode and everything below it.
    Subtree(ZnodePath),
    /// The paths of a glob.
    Glob(Box<CompiledFilter>),
}

/// A text that is no pattern of paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path pattern '{pattern}': {reason}")]
pub struct BadPattern {
    pattern: String,
    reason: String,
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// If it neither begins like a path nor is a valid glob.
    pub fn parse(text: &str) -> Result<PathPattern, BadPattern> {
        let trimmed = match text.trim_end_matches('/') {
            "" if !text.is_empty() => "/",
            trimmed => trimmed,
        };
        let bad = |reason: String| BadPattern {
            pattern: text.to_owned(),
            reason,
        };
        if !trimmed.contains(WILDCARDS) {
            let path = ZnodePath::parse(trimmed).map_err(|error| bad(error.to_string()))?;
            return Ok(PathPattern::Subtree(path));
        }
        let filter = Filter {
            paths: vec![trimmed.to_owned()],
            ..Filter::default()
        };
        let filter = CompiledFilter::new(&filter).map_err(|error| bad(error.to_string()))?;
        Ok(PathPattern::Glob(Box::new(filter)))
    }

    /// Whether a path is selected.
    pub fn selects(&self, path: &ZnodePath) -> bool {
        match self {
            PathPattern::Subtree(top) => top.covers(path),
            PathPattern::Glob(filter) => filter.passes_path(path),
        }
    }
}

impl std::str::FromStr for PathPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<PathPattern, BadPattern> {
        PathPattern::parse(text)
    }
}

/// Selects records. The default selects all; each condition narrows it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The znodes; empty: all znodes, and control records.
    pub paths: Vec<PathPattern>,
    /// One more pattern that the path has to match.
    pub within: Option<PathPattern>,
    /// The session that wrote, from sources that read transactions, or that owns the znode, from any source.
    pub session: Option<SessionId>,
    /// The client whose session wrote: its address, with or without the port. Only of sources that know it.
    pub client: Option<String>,
    /// The user whose session wrote. Where a source knows several names, as in `127.0.0.1,alice`, one of them is enough.
    pub user: Option<String>,
    /// A text in the value after the change, or before a delete.
    pub text: Option<String>,
    /// The operations; empty: all.
    pub ops: Vec<Op>,
    /// The filter of a sink, if only its records are selected.
    pub sink: Option<CompiledFilter>,
}

impl Selection {
    /// Whether a record is selected, without its values.
    pub fn selects(&self, record: &Record) -> bool {
        let is_of_paths = match &record.path {
            _ if self.paths.is_empty() => true,
            Some(path) => self.paths.iter().any(|pattern| pattern.selects(path)),
            None => false,
        };
        let is_within = match (&self.within, &record.path) {
            (None, _) => true,
            (Some(pattern), Some(path)) => pattern.selects(path),
            (Some(_), None) => false,
        };
        is_of_paths
            && is_within
            && self.session.is_none_or(|session| is_of_session(record, session))
            && self.is_of_writer(record)
            && (self.ops.is_empty() || self.ops.contains(&record.op))
            && self.sink.as_ref().is_none_or(|sink| sink.passes(record))
    }
}

impl Selection {
    fn is_of_writer(&self, record: &Record) -> bool {
        let txn = record.txn.as_ref();
        let has = |wanted: &Option<String>, known: Option<&str>, is_same: fn(&str, &str) -> bool| {
            let wanted = wanted.as_deref();
            wanted.is_none_or(|wanted| known.is_some_and(|known| is_same(known, wanted)))
        };
        let client = txn.and_then(|txn| txn.client.as_deref());
        let user = txn.and_then(|txn| txn.user.as_deref());
        has(&self.client, client, is_client) && has(&self.user, user, is_user)
    }

    /// Whether a record has the text, as the caller sees the record.
    pub(crate) fn finds(&self, shown: &Record) -> bool {
        let Some(text) = &self.text else { return true };
        let state = shown.after.as_ref().or(shown.before.as_ref());
        let data = state.and_then(|state| state.data.as_ref());
        data.is_some_and(|data| holds(&data.bytes, text))
    }
}

/// Whether the bytes hold the text. Bytes that are no text are compared one by one.
fn holds(bytes: &[u8], text: &str) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(value) => value.contains(text),
        Err(_) => text.is_empty() || bytes.windows(text.len()).any(|part| part == text.as_bytes()),
    }
}

/// Whether a client, `address:port`, has this address, which may have the port.
fn is_client(client: &str, wanted: &str) -> bool {
    let host = client.rsplit_once(':').map_or(client, |(host, _)| host);
    client == wanted || is_same_host(host, wanted)
}

/// Whether two addresses are equal. Java writes those of IPv6 without abbreviation, and some versions without brackets.
fn is_same_host(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|text| text.trim_start_matches('[').trim_end_matches(']'));
    let ip = |text: &str| text.parse::<IpAddr>().ok();
    one == other || ip(one).is_some_and(|one| Some(one) == ip(other))
}

/// Whether a list of names such as `127.0.0.1,alice` has this one. A name may itself have commas.
fn is_user(names: &str, wanted: &str) -> bool {
    format!(",{names},").contains(&format!(",{wanted},"))
}

fn is_of_session(record: &Record, session: SessionId) -> bool {
    let owner = |state: &Option<State>| {
        let stat = state.as_ref().and_then(|state| state.stat);
        stat.map(|stat| stat.ephemeral_owner)
    };
    let writer = record.txn.as_ref().map(|txn| txn.session);
    [writer, owner(&record.after), owner(&record.before)].contains(&Some(session))
}
