//! A key-value bucket as the destination: a mirror of the tree. A key is a path, its value the data of the znode, and a
//! delete is the bucket's own mark (`KV-Operation: DEL`).
//!
//! A bucket is a stream with rules for its subjects, so everything else is as with a stream. The one danger of its own: a
//! record that is delivered again late would put an old value in the place of a newer one. So the key of a record that
//! may have been delivered before is looked at first, and a record is passed over that is older than what the key has:
//! by its place in the journal and by its transaction, where both are known exactly.

use std::sync::Arc;

use async_nats::HeaderMap;
use bridge_core::number::{Seq, Zxid};
use bridge_core::outbound::headers::Header;
use bridge_core::outbound::{NameRules, escaped_name};
use bridge_core::record::{Op, Record, ZxidKind};
use bridge_core::sink::SinkError;

use crate::connection::Connection;
use crate::last;

/// The prefix of the stream of a bucket.
const STREAM: &str = "KV_";

/// The kind of an entry; without it, it is a value.
const OPERATION: &str = "KV-Operation";
/// The entry is the delete of its key.
const DELETE: &str = "DEL";

/// The place in the journal, where the transaction is known exactly: what is older must not take its place.
const SEQ: &str = "zkbridge-seq";
const ZXID: &str = "zkbridge-zxid";
const CLUSTER: &str = "zkbridge-cluster";

/// The key of the path without names; no escaped name is only that.
const ROOT: &str = "_";

/// The longest key with the prefix of its bucket; a longer one ends with a hash. Servers take four times as much in one
/// line of the protocol, which also holds the reply's subject.
const SUBJECT_LENGTH_MAX: usize = 1_024;

/// Records after the first one of this sink that may be in the bucket from before, if the bucket does not say it: more
/// than a delivery ever holds.
const STORED_AHEAD_MAX: u64 = 10_000;

/// The keys of records, with the prefix of their bucket.
pub(crate) static KEY: NameRules = NameRules {
    option: "bucket",
    filter: tokens,
    further: &[],
    meaning: "a key of a bucket",
    length_max: SUBJECT_LENGTH_MAX,
    reason_against: |_| None,
    remedy: "letters, digits, '-' and '_'",
};

/// One token for each name, from which it can be read back. Unlike the tokens of a subject, none is left out.
fn tokens(names: &[&str]) -> String {
    match names {
        [] => ROOT.to_owned(),
        names => {
            let escaped: Vec<String> = names.iter().map(|name| escaped_name(name)).collect();
            escaped.join(".")
        }
    }
}

/// The stream of a bucket.
pub(crate) fn stream_of(bucket: &str) -> String {
    format!("{STREAM}{bucket}")
}

/// All subjects of a bucket.
pub(crate) fn subjects_of(bucket: &str) -> String {
    format!("$KV.{bucket}.>")
}

/// The template of the keys, with the cluster or without.
pub(crate) fn template(bucket: &str, with_cluster: bool) -> String {
    let cluster = match with_cluster {
        true => "{{ cluster | bucket }}.",
        false => "",
    };
    format!("$KV.{bucket}.{cluster}{{{{ names | bucket }}}}")
}

/// The headers of an entry beside those of every message.
pub(crate) fn headers(record: &Record) -> Vec<Header> {
    let mut all = Vec::new();
    if record.op == Op::Delete {
        all.push((OPERATION.into(), DELETE.to_owned()));
    }
    if record.zxid_kind == ZxidKind::Exact {
        all.push((SEQ.into(), record.seq.to_string()));
    }
    all
}

/// Keeps records out of the bucket that are older than its entries.
pub(crate) struct Mirror {
    stream: Arc<str>,
    cluster: Arc<str>,
    /// Everything in the bucket is from records up to this one; `None` before the first record.
    stored_to: Option<Seq>,
}

/// An entry, as far as its headers say it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    seq: Seq,
    zxid: Zxid,
}

impl Mirror {
    pub(crate) fn new(stream: Arc<str>, cluster: &str) -> Mirror {
        Mirror {
            stream,
            cluster: cluster.into(),
            stored_to: None,
        }
    }

    /// Whether the key has an entry that is newer than the record.
    pub(crate) async fn is_outdated(
        &mut self,
        connection: &mut Connection,
        subject: &Arc<str>,
        record: &Record,
    ) -> Result<bool, SinkError> {
        let stored_to = *self
            .stored_to
            .get_or_insert(Seq(record.seq.0.saturating_add(STORED_AHEAD_MAX)));
        // A listing repeats what is there, and may be as long as the tree.
        if record.seq > stored_to || record.op == Op::Snapshot {
            return Ok(false);
        }
        let last = last::of_subject(connection, &self.stream, subject).await?;
        let entry = last.and_then(|message| self.entry(&message.headers));
        Ok(entry.is_some_and(|entry| entry.is_newer_than(record)))
    }

    /// The bucket has this record.
    pub(crate) fn acknowledged(&mut self, record: &Record) {
        let stored_to = self.stored_to.unwrap_or(record.seq);
        self.stored_to = Some(stored_to.max(record.seq));
    }

    /// `None` for an entry of another writer, and for one whose transaction is not known exactly.
    fn entry(&self, headers: &HeaderMap) -> Option<Entry> {
        let text = |name: &str| headers.get(name).map(|value| value.as_str());
        if text(CLUSTER)? != &*self.cluster {
            return None;
        }
        Some(Entry {
            seq: Seq(text(SEQ)?.parse().ok()?),
            zxid: text(ZXID)?.parse().ok()?,
        })
    }
}

impl Entry {
    /// By both numbers: a new journal counts from 1 again, and an ensemble that was set back has lower transactions.
    fn is_newer_than(&self, record: &Record) -> bool {
        self.seq > record.seq && record.zxid.is_some_and(|zxid| self.zxid > zxid)
    }
}

#[cfg(test)]
mod tests {
    use bridge_core::outbound::NameTemplate;
    use bridge_core::testing::a_record;

    use super::*;

    fn key(path: &str, with_cluster: bool) -> String {
        let template = NameTemplate::parse(&KEY, &template("tree", with_cluster));
        let template = template.unwrap_or_else(|issue| panic!("{issue:?}"));
        let record = a_record().path(path).build();
        let subject = template.of_cluster("main").name(&record).unwrap();
        subject.strip_prefix("$KV.tree.").unwrap().to_owned()
    }

    /// The path of a key, as docs/sinks/nats.md says that it is read back.
    fn path_of(key: &str) -> String {
        if key == ROOT {
            return "/".to_owned();
        }
        let mut path = Vec::new();
        for token in key.split('.') {
            path.push(b'/');
            let mut letters = token.bytes();
            while let Some(letter) = letters.next() {
                path.push(match letter {
                    b'_' => {
                        let digits = [letters.next().unwrap(), letters.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    letter => letter,
                });
            }
        }
        String::from_utf8(path).unwrap()
    }

    #[test]
    fn a_key_has_what_buckets_take_and_is_read_back_as_its_path() {
        assert_eq!(key("/services/a.b:80", false), "services.a_2eb_3a80");
        assert_eq!(key("/services", true), "main.services");
        let deep = format!("/{}", vec!["name"; 100].join("/"));
        for path in [
            "/",
            "/a",
            "/a/b",
            "/a_b/ü",
            "/.hidden/x y",
            "/UP/-/_/__2e",
            "/a.b/*/>",
            &deep,
        ] {
            let key = key(path, false);
            let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.=/".contains(letter);
            assert!(key.chars().all(is_allowed), "{key}");
            assert!(
                !key.starts_with('.') && !key.ends_with('.') && !key.contains(".."),
                "{key}"
            );
            assert_eq!(path_of(&key), path);
        }
    }

    #[test]
    fn a_key_that_is_too_long_ends_with_a_hash_and_no_two_are_equal() {
        let (one, other) = (
            format!("/{}1", "x".repeat(2_000)),
            format!("/{}2", "x".repeat(2_000)),
        );
        let (one, other) = (key(&one, false), key(&other, false));
        assert!(one.len() <= SUBJECT_LENGTH_MAX && one.contains("__"), "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn an_entry_takes_precedence_only_if_place_and_transaction_are_both_later() {
        let entry = |seq, zxid| Entry {
            seq: Seq(seq),
            zxid: Zxid(zxid),
        };
        let mut record = a_record().seq(10).build();
        record.zxid = Some(Zxid(100));
        assert!(entry(11, 101).is_newer_than(&record));
        for (seq, zxid) in [(10, 100), (10, 101), (11, 100), (9, 101), (11, 99)] {
            assert!(!entry(seq, zxid).is_newer_than(&record), "{seq} {zxid}");
        }
        record.zxid = None;
        assert!(!entry(11, 101).is_newer_than(&record));
    }

    #[test]
    fn only_a_delete_has_a_mark_and_only_an_exact_transaction_its_place() {
        let names = |record: &Record| -> Vec<String> {
            headers(record)
                .into_iter()
                .map(|(name, _)| name.into_owned())
                .collect()
        };
        assert_eq!(names(&a_record().op(Op::Create).build()), [SEQ]);
        assert_eq!(names(&a_record().op(Op::Delete).build()), [OPERATION, SEQ]);
        let mut bounded = a_record().op(Op::Delete).build();
        bounded.zxid_kind = ZxidKind::UpperBound;
        assert_eq!(names(&bounded), [OPERATION]);
    }
}
