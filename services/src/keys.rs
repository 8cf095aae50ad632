//! The keys of the rows: a letter for the kind, then the parts, each ended by a zero byte.
//!
//! ```text
//! m section                                     the options of the section, to notice a change
//! n section path                                a znode with its meaning
//! o owner section path                          the ephemeral znodes of a session
//! l section service instance ¬czxid path        the registrations of an instance, the newest first
//! i section service instance                    an instance, as it was announced
//! s section service                             a service
//! f section service instance                    how often it went lately
//! a section service instance path               znodes with further facts of an instance
//! r section service path                        rules of a service
//! e section election                            an election or a lock
//! q section election order path                 its candidates, in their order
//! u root deadline subject                       an event that is held back; d in journals of earlier builds
//! p number                                      what a transaction has touched that may not be over, in order
//! g root                                        an open gap
//! w root                                        a root that is being listed
//! h root number, t root subject                 subjects that changed in it: in order, and by name
//! v root section service                        services to compare at its end
//! ```

use bridge_core::number::{SessionId, Zxid};

use crate::registration::ServiceKey;

/// Most keys.
const BYTES_GUESS: usize = 96;

/// A key under construction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    fn of(kind: u8) -> Key {
        let mut bytes = Vec::with_capacity(BYTES_GUESS);
        bytes.push(kind);
        Key(bytes)
    }

    /// A part and its end. Zero bytes are written in another way, so that no text reaches into the next part.
    fn text(mut self, text: &str) -> Key {
        if text.bytes().all(|byte| byte > 1) {
            self.0.extend_from_slice(text.as_bytes());
            self.0.push(0);
            return self;
        }
        for byte in text.bytes() {
            match byte {
                0 => self.0.extend([1, 1]),
                1 => self.0.extend([1, 2]),
                byte => self.0.push(byte),
            }
        }
        self.0.push(0);
        self
    }

    fn number(mut self, number: u64) -> Key {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn service(self, service: &ServiceKey) -> Key {
        let (group, version) = (service.group.as_deref(), service.version.as_deref());
        self.text(&service.name)
            .text(group.unwrap_or_default())
            .text(version.unwrap_or_default())
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Kinds of rows of a section that follow from znodes, besides the znodes themselves.
pub(crate) const OF_SECTION: [u8; 6] = *b"larqmf";

/// Kinds of rows of a section that say what was announced.
pub(crate) const ANNOUNCED_OF_SECTION: [u8; 3] = *b"ise";

/// What a transaction has touched that may not be over.
pub(crate) const TOUCHES: u8 = b'p';

/// Deadlines in journals of earlier builds.
pub(crate) const EARLIER_DEADLINES: u8 = b'd';

pub(crate) fn section(kind: u8, section: &str) -> Key {
    Key::of(kind).text(section)
}

pub(crate) fn options(section: &str) -> Key {
    Key::of(b'm').text(section)
}

/// The rows of all sections.
pub(crate) fn all_options() -> Key {
    all(b'm')
}

/// All rows of a kind.
pub(crate) fn all(kind: u8) -> Key {
    Key::of(kind)
}

/// The section of a row.
pub(crate) fn section_of(key: &[u8]) -> String {
    part(key, 0)
}

/// The part after the section.
pub(crate) fn second_of(key: &[u8]) -> String {
    part(key, 1)
}

/// A part of a key, as [`Key::text`] has written it.
fn part(key: &[u8], at: usize) -> String {
    let parts = key.get(1..).unwrap_or_default().split(|byte| *byte == 0);
    let written = parts.into_iter().nth(at).unwrap_or_default();
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            1 => rest.next().map_or(1, |next| next - 1),
            byte => *byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn node(section: &str, path: &str) -> Key {
    Key::of(b'n').text(section).text(path)
}

pub(crate) fn owned(owner: SessionId, section: &str, path: &str) -> Key {
    owned_by(owner).text(section).text(path)
}

pub(crate) fn owned_by(owner: SessionId) -> Key {
    Key::of(b'o').number(owner.0)
}

pub(crate) fn lives(section: &str, service: &ServiceKey, instance: &str) -> Key {
    Key::of(b'l').text(section).service(service).text(instance)
}

pub(crate) fn life(section: &str, service: &ServiceKey, instance: &str, czxid: Zxid, path: &str) -> Key {
    lives(section, service, instance).number(!czxid.0).text(path)
}

pub(crate) fn instance(section: &str, service: &ServiceKey, instance: &str) -> Key {
    Key::of(b'i').text(section).service(service).text(instance)
}

/// The instances of all groups and versions of a service.
pub(crate) fn instances_named(section: &str, name: &str) -> Key {
    Key::of(b'i').text(section).text(name)
}

pub(crate) fn service(section: &str, service: &ServiceKey) -> Key {
    Key::of(b's').text(section).service(service)
}

pub(crate) fn beside(section: &str, service: &ServiceKey, instance: &str) -> Key {
    Key::of(b'a').text(section).service(service).text(instance)
}

pub(crate) fn beside_at(section: &str, service: &ServiceKey, instance: &str, path: &str) -> Key {
    beside(section, service, instance).text(path)
}

pub(crate) fn flaps(section: &str, service: &ServiceKey, instance: &str) -> Key {
    Key::of(b'f').text(section).service(service).text(instance)
}

/// The instance of a row of [`flaps`].
pub(crate) fn flapping_of(key: &[u8]) -> (ServiceKey, String) {
    let of = |at| Some(part(key, at)).filter(|text| !text.is_empty());
    let service = ServiceKey {
        name: part(key, 1),
        group: of(2),
        version: of(3),
    };
    (service, part(key, 4))
}

pub(crate) fn rules(section: &str, name: &str) -> Key {
    Key::of(b'r').text(section).text(name)
}

pub(crate) fn rule(section: &str, name: &str, path: &str) -> Key {
    rules(section, name).text(path)
}

pub(crate) fn election(section: &str, election: &str) -> Key {
    Key::of(b'e').text(section).text(election)
}

pub(crate) fn queue(section: &str, election: &str) -> Key {
    Key::of(b'q').text(section).text(election)
}

pub(crate) fn candidate(section: &str, election: &str, order: &str, path: &str) -> Key {
    queue(section, election).text(order).text(path)
}

pub(crate) fn deadlines() -> Key {
    Key::of(b'u')
}

pub(crate) fn deadlines_of(root: &str) -> Key {
    deadlines().text(root)
}

pub(crate) fn deadline(root: &str, due: i64, subject: &str) -> Key {
    deadlines_of(root)
        .number(due.cast_unsigned() ^ 1 << 63)
        .text(subject)
}

/// After the last deadline of a root.
pub(crate) fn after_deadlines_of(root: &str) -> Vec<u8> {
    let mut key = deadlines_of(root).0;
    // A number has eight bytes, and no text has a byte 255.
    key.extend([u8::MAX; 9]);
    key
}

/// The root and the deadline of a row.
pub(crate) fn deadline_of(key: &[u8]) -> Option<(String, i64)> {
    let end = key.iter().position(|byte| *byte == 0)?;
    let due = due_of(key.get(end + 1..)?)?;
    Some((part(key, 0), due))
}

/// The deadline of a row of an earlier build.
pub(crate) fn earlier_deadline_of(key: &[u8]) -> Option<i64> {
    due_of(key.get(1..)?)
}

fn due_of(bytes: &[u8]) -> Option<i64> {
    let number = bytes.get(..8)?.try_into().ok()?;
    Some((u64::from_be_bytes(number) ^ 1 << 63).cast_signed())
}

pub(crate) fn touch(at: usize) -> Key {
    all(TOUCHES).number(at as u64)
}

pub(crate) fn gaps() -> Key {
    Key::of(b'g')
}

pub(crate) fn gap(root: &str) -> Key {
    Key::of(b'g').text(root)
}

/// The roots that are being listed.
pub(crate) fn listings() -> Key {
    Key::of(b'w')
}

pub(crate) fn listing(root: &str) -> Key {
    listings().text(root)
}

pub(crate) fn deferred(root: &str) -> Key {
    Key::of(b'h').text(root)
}

pub(crate) fn deferred_at(root: &str, number: u64) -> Key {
    deferred(root).number(number)
}

pub(crate) fn deferred_services(root: &str) -> Key {
    Key::of(b'v').text(root)
}

pub(crate) fn deferred_service(root: &str, section: &str, service: &ServiceKey) -> Key {
    deferred_services(root).text(section).service(service)
}

pub(crate) fn deferred_subject(root: &str, subject: &str) -> Key {
    Key::of(b't').text(root).text(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_reaches_into_the_next_part_and_deadlines_are_in_order() {
        assert_ne!(node("a\0b", "c"), node("a", "b\0c"));
        assert!(!node("a", "/x").bytes().starts_with(node("a\0", "").bytes()));
        let odd = node("a\0\u{1}b", "/x");
        assert_eq!(
            (section_of(odd.bytes()), second_of(odd.bytes())),
            ("a\0\u{1}b".to_owned(), "/x".to_owned())
        );
        let dues = [i64::MIN, -1, 0, 1, 1_795_355_000_120, i64::MAX];
        let root = "/a\u{1}";
        let keys: Vec<Key> = dues.iter().map(|due| deadline(root, *due, "x")).collect();
        assert!(keys.is_sorted_by(|a, b| a.bytes() < b.bytes()));
        for (key, due) in keys.iter().zip(dues) {
            assert_eq!(deadline_of(key.bytes()), Some((root.to_owned(), due)));
            assert!(key.bytes() < &after_deadlines_of(root)[..]);
        }
        assert!(after_deadlines_of(root) < deadline("/b", i64::MIN, "").0);
    }
}
