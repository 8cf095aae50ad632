//! The compact form of the rows that almost each change reads and writes: registrations, instances and services.
//!
//! A row begins with the number of its form. Numbers are LEB128, and signed ones are in zigzag. A text has its length
//! before it; one that may be absent has its length and one more, and zero is none. Values of any type are JSON. A row
//! that begins with `{` is JSON, as all were in journals of earlier builds, and those that are seldom are still.

use bridge_core::number::{SessionId, Zxid};
use bridge_core::record::{Endpoint, InstanceStatus, Timestamp};
use integer_encoding::VarInt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::registration::{Registration, ServiceKey};
use crate::rows::{Announced, InstanceRow, Meaning, NodeRow, Row, ServiceRow, json};

/// The forms. Files contain these numbers: never change or reuse one.
const NODE: u8 = 1;
const INSTANCE: u8 = 2;
const SERVICE: u8 = 3;

/// The first byte of a row in JSON.
const JSON: u8 = b'{';

/// Most rows.
const BYTES_GUESS: usize = 192;

impl Row for NodeRow {
    fn to_bytes(&self) -> Vec<u8> {
        let Some(Meaning::Live {
            service,
            instance,
            home,
            registration,
        }) = &self.meaning
        else {
            return json(self);
        };
        let mut to = Writing::of(NODE);
        to.number(self.czxid.0);
        to.number(self.owner.0);
        to.number(self.since.0);
        to.flag(self.is_unreadable);
        to.flag(self.is_unread);
        to.service(service);
        to.text(instance);
        to.text(home);
        to.registration(registration);
        to.0
    }

    fn of_bytes(bytes: &[u8]) -> Option<NodeRow> {
        let Some(from) = Reading::of(NODE, bytes) else {
            return of_json(bytes);
        };
        from.all(|from| {
            Some(NodeRow {
                czxid: Zxid(from.number()?),
                owner: SessionId(from.number()?),
                since: Timestamp(from.number()?),
                is_unreadable: from.flag()?,
                is_unread: from.flag()?,
                meaning: Some(Meaning::Live {
                    service: from.service()?,
                    instance: from.text()?,
                    home: from.text()?,
                    registration: from.registration()?,
                }),
            })
        })
    }
}

impl Row for InstanceRow {
    fn to_bytes(&self) -> Vec<u8> {
        let (Some(announced), None) = (&self.announced, &self.pending) else {
            return json(self);
        };
        let mut to = Writing::of(INSTANCE);
        to.service(&self.service);
        to.text(&self.instance);
        to.option(self.renamed_from.as_deref());
        to.text(&self.home);
        to.text(&announced.path);
        to.number(announced.czxid.0);
        to.number(announced.owner.0);
        to.number(announced.since.0);
        to.registration(&announced.registration);
        to.0
    }

    fn of_bytes(bytes: &[u8]) -> Option<InstanceRow> {
        let Some(from) = Reading::of(INSTANCE, bytes) else {
            return of_json(bytes);
        };
        from.all(|from| {
            Some(InstanceRow {
                service: from.service()?,
                instance: from.text()?,
                renamed_from: from.option()?,
                home: from.text()?,
                announced: Some(Announced {
                    path: from.text()?,
                    czxid: Zxid(from.number()?),
                    owner: SessionId(from.number()?),
                    since: Timestamp(from.number()?),
                    registration: from.registration()?,
                }),
                pending: None,
            })
        })
    }
}

impl Row for ServiceRow {
    fn to_bytes(&self) -> Vec<u8> {
        let mut to = Writing::of(SERVICE);
        to.text(&self.home);
        to.number(self.available);
        to.flag(self.is_available);
        to.0
    }

    fn of_bytes(bytes: &[u8]) -> Option<ServiceRow> {
        let Some(from) = Reading::of(SERVICE, bytes) else {
            return of_json(bytes);
        };
        from.all(|from| {
            Some(ServiceRow {
                home: from.text()?,
                available: from.number()?,
                is_available: from.flag()?,
            })
        })
    }
}

fn of_json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let is_json = bytes.first() == Some(&JSON);
    is_json.then(|| serde_json::from_slice(bytes).ok()).flatten()
}

/// A row that is being written.
struct Writing(Vec<u8>);

impl Writing {
    fn of(form: u8) -> Writing {
        let mut bytes = Vec::with_capacity(BYTES_GUESS);
        bytes.push(form);
        Writing(bytes)
    }

    fn number(&mut self, number: impl VarInt) {
        let at = self.0.len();
        self.0.resize(at + number.required_space(), 0);
        number.encode_var(&mut self.0[at..]);
    }

    fn flag(&mut self, flag: bool) {
        self.0.push(flag.into());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn option(&mut self, text: Option<&str>) {
        self.number(text.map_or(0, |text| text.len() as u64 + 1));
        self.0.extend_from_slice(text.unwrap_or_default().as_bytes());
    }

    fn value(&mut self, value: &Value) {
        self.text(&value.to_string());
    }

    fn service(&mut self, service: &ServiceKey) {
        self.text(&service.name);
        self.option(service.group.as_deref());
        self.option(service.version.as_deref());
    }

    fn registration(&mut self, facts: &Registration) {
        self.0.push(status_number(facts.status));
        for text in [
            &facts.native_status,
            &facts.role,
            &facts.version,
            &facts.zone,
            &facts.application,
            &facts.process,
        ] {
            self.option(text.as_deref());
        }
        self.number(facts.endpoints.len() as u64);
        for endpoint in &facts.endpoints {
            self.option(endpoint.name.as_deref());
            self.option(endpoint.scheme.as_deref());
            self.text(&endpoint.host);
            self.number(endpoint.port.map_or(0, |port| u32::from(port) + 1));
        }
        self.flag(facts.weight.is_some());
        if let Some(weight) = &facts.weight {
            self.value(weight);
        }
        self.number(facts.metadata.len() as u64);
        for (name, value) in &facts.metadata {
            self.text(name);
            self.value(value);
        }
    }
}

/// The rest of a row that is being read.
struct Reading<'a>(&'a [u8]);

impl<'a> Reading<'a> {
    /// `None`: the row has another form.
    fn of(form: u8, bytes: &'a [u8]) -> Option<Reading<'a>> {
        let (first, rest) = bytes.split_first()?;
        (*first == form).then_some(Reading(rest))
    }

    /// Reads all of it, or nothing.
    fn all<T>(mut self, read: impl FnOnce(&mut Reading<'a>) -> Option<T>) -> Option<T> {
        let row = read(&mut self)?;
        self.0.is_empty().then_some(row)
    }

    fn number<T: VarInt>(&mut self) -> Option<T> {
        let (number, bytes) = T::decode_var(self.0)?;
        self.0 = self.0.get(bytes..)?;
        Some(number)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.byte()? != 0)
    }

    fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text_of(&mut self, length: u64) -> Option<String> {
        std::str::from_utf8(self.bytes(length)?).ok().map(str::to_owned)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()?;
        self.text_of(length)
    }

    /// The outer `None`: these are not the bytes of a row.
    #[allow(clippy::option_option, reason = "an absent text is no failure")]
    fn option(&mut self) -> Option<Option<String>> {
        match self.number::<u64>()?.checked_sub(1) {
            None => Some(None),
            Some(length) => self.text_of(length).map(Some),
        }
    }

    fn value(&mut self) -> Option<Value> {
        let length = self.number()?;
        serde_json::from_slice(self.bytes(length)?).ok()
    }

    fn service(&mut self) -> Option<ServiceKey> {
        Some(ServiceKey {
            name: self.text()?,
            group: self.option()?,
            version: self.option()?,
        })
    }

    fn endpoint(&mut self) -> Option<Endpoint> {
        Some(Endpoint {
            name: self.option()?,
            scheme: self.option()?,
            host: self.text()?,
            port: match self.number::<u32>()?.checked_sub(1) {
                None => None,
                Some(port) => Some(u16::try_from(port).ok()?),
            },
        })
    }

    fn registration(&mut self) -> Option<Registration> {
        let mut facts = Registration {
            status: status_of_number(self.byte()?)?,
            native_status: self.option()?,
            role: self.option()?,
            version: self.option()?,
            zone: self.option()?,
            application: self.option()?,
            process: self.option()?,
            ..Registration::default()
        };
        for _ in 0..self.number::<u64>()? {
            facts.endpoints.push(self.endpoint()?);
        }
        if self.flag()? {
            facts.weight = Some(self.value()?);
        }
        for _ in 0..self.number::<u64>()? {
            let name = self.text()?;
            facts.metadata.insert(name, self.value()?);
        }
        Some(facts)
    }
}

/// The number of a status. Files contain these numbers: never change or reuse one.
fn status_number(status: InstanceStatus) -> u8 {
    match status {
        InstanceStatus::Up => 0,
        InstanceStatus::Starting => 1,
        InstanceStatus::Draining => 2,
        InstanceStatus::Disabled => 3,
        InstanceStatus::ReadOnly => 4,
        InstanceStatus::Unknown => 5,
    }
}

fn status_of_number(number: u8) -> Option<InstanceStatus> {
    use InstanceStatus::{Disabled, Draining, ReadOnly, Starting, Unknown, Up};
    [Up, Starting, Draining, Disabled, ReadOnly, Unknown]
        .into_iter()
        .find(|status| status_number(*status) == number)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn registrations() -> [Registration; 2] {
        let endpoint = |port| Endpoint {
            name: text("ssl"),
            scheme: text("https"),
            host: "h".to_owned(),
            port,
        };
        let full = Registration {
            status: InstanceStatus::Draining,
            native_status: text("STOPPING"),
            endpoints: vec![endpoint(Some(u16::MAX)), endpoint(None), Endpoint::default()],
            role: text("replica"),
            version: text(""),
            weight: Some(Value::from(1.5)),
            zone: text("ü"),
            application: text("pay"),
            metadata: [("a".to_owned(), Value::Null), ("b".to_owned(), "c".into())].into(),
            process: text("7"),
        };
        [Registration::default(), full]
    }

    fn rows() -> Vec<(NodeRow, InstanceRow, ServiceRow)> {
        let service = ServiceKey {
            name: "pay".to_owned(),
            group: text("blue"),
            version: None,
        };
        let of = |registration: Registration| {
            let node = NodeRow {
                czxid: Zxid(u64::MAX),
                owner: SessionId(0x8000_0000_0000_0001),
                since: Timestamp(1_795_355_000_120),
                meaning: Some(Meaning::Live {
                    service: service.clone(),
                    instance: "h:1".to_owned(),
                    home: "/services/pay".to_owned(),
                    registration: registration.clone(),
                }),
                is_unreadable: true,
                is_unread: false,
            };
            let instance = InstanceRow {
                service: service.clone(),
                instance: "h:1".to_owned(),
                renamed_from: text("h:2"),
                home: "/services/pay".to_owned(),
                announced: Some(Announced {
                    registration,
                    path: "/services/pay/i".to_owned(),
                    czxid: Zxid(3),
                    owner: SessionId::NONE,
                    since: Timestamp(0),
                }),
                pending: None,
            };
            let service = ServiceRow {
                home: "/services/pay".to_owned(),
                available: 300,
                is_available: true,
            };
            (node, instance, service)
        };
        registrations().map(of).into()
    }

    /// The row is read from both forms, and from nothing that only begins with it or goes on after it.
    fn check<T: Row + PartialEq + Debug>(row: &T) {
        let (mut bytes, written) = (row.to_bytes(), json(row));
        assert!(
            bytes.len() * 2 < written.len(),
            "{} of {}",
            bytes.len(),
            written.len()
        );
        assert_eq!(T::of_bytes(&bytes).as_ref(), Some(row));
        assert_eq!(T::of_bytes(&written).as_ref(), Some(row));
        for end in 0..bytes.len() {
            assert_eq!(T::of_bytes(&bytes[..end]), None, "{end}");
        }
        bytes.push(0);
        assert_eq!(T::of_bytes(&bytes), None);
    }

    #[test]
    fn a_row_is_less_than_half_of_its_json_and_is_read_from_both() {
        for (node, instance, service) in rows() {
            check(&node);
            check(&instance);
            check(&service);
        }
    }

    #[test]
    fn rows_without_a_compact_form_are_json() {
        let (node, instance, _) = rows().remove(0);
        let node = NodeRow {
            meaning: None,
            ..node
        };
        assert_eq!(node.to_bytes(), json(&node));
        assert_eq!(NodeRow::of_bytes(&node.to_bytes()), Some(node));
        let instance = InstanceRow {
            announced: None,
            ..instance
        };
        assert_eq!(InstanceRow::of_bytes(&instance.to_bytes()), Some(instance));
    }
}
