//! Dubbo by interface and SOFARPC: the whole registration is a URL in the name of the znode.

use bridge_core::record::InstanceStatus;
use serde_json::Value;

use super::{Decoded, Decoder, Payload, Place, Rule, Znode};
use crate::payload::number_or_text;
use crate::registration::{Registration, ServiceKey};
use crate::url::{MASK, Url, form_decode, is_secret};

/// Parameters that are lifted into the event, or differ with each start or, of SOFARPC, with each registration.
const NO_METADATA: [&str; 12] = [
    "interface",
    "group",
    "version",
    "weight",
    "application",
    "pid",
    "timestamp",
    "startTime",
    "side",
    "disabled",
    "enabled",
    "category",
];

/// `{base}/{interface}/{providers|configurators}/{url}`; everything else below the root is no instance.
pub(super) fn decode(decoder: &Decoder, names: &[&str]) -> Decoded {
    match *names {
        [interface, "providers", name] => provider(decoder, interface, name),
        [interface, "configurators", name] => configurator(interface, name),
        _ => Decoded::Nothing,
    }
}

/// The same names; one byte of data switches the provider on or off.
pub(super) fn decode_sofarpc(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    let &[interface, "providers", name] = names else {
        return Decoded::Nothing;
    };
    let mut decoded = provider(decoder, interface, name);
    if let Decoded::Live { registration, .. } = &mut decoded {
        match znode.payload {
            Payload::Bytes([0, ..]) => registration.status = InstanceStatus::Disabled,
            Payload::NotRead => return Decoded::Waiting,
            Payload::Bytes(_) | Payload::Unusable(_) => {}
        }
    }
    decoded
}

fn provider(decoder: &Decoder, interface: &str, name: &str) -> Decoded {
    let place = Place::new(interface, decoder.at_base(interface));
    let Some(url) = form_decode(name).as_deref().and_then(Url::parse) else {
        return place.unreadable("a name that is no URL in form encoding".to_owned());
    };
    if url.scheme == "empty" {
        return Decoded::Nothing;
    }
    let owned = |name: &str| url.parameter(name).map(str::to_owned);
    let service = ServiceKey {
        name: interface.to_owned(),
        group: owned("group"),
        version: owned("version"),
    };
    let mut registration = Registration {
        version: service.version.clone(),
        application: owned("application"),
        weight: url.parameter("weight").map(number_or_text),
        zone: decoder.config.zone.as_deref().and_then(owned),
        process: process(&url),
        ..Registration::default()
    };
    if switch(&url, "disabled").unwrap_or_else(|| switch(&url, "enabled") == Some(false)) {
        registration.status = InstanceStatus::Disabled;
    }
    registration.endpoint(None, Some(&url.scheme), &url.host, url.port);
    for (name, value) in &url.parameters {
        let is_lifted = NO_METADATA.contains(&name.as_str()) || decoder.config.zone.as_deref() == Some(name);
        if !is_lifted {
            let shown = if is_secret(name) { MASK } else { value };
            registration.meta(name, &Value::from(shown));
        }
    }
    let instance = registration.address().unwrap_or_else(|| url.host.clone());
    let place = Place { service, ..place };
    place.live(instance, registration)
}

/// A parameter as Dubbo reads a switch: `true` in either case is on, and any other word is off.
fn switch(url: &Url, name: &str) -> Option<bool> {
    url.parameter(name).map(|word| word.eq_ignore_ascii_case("true"))
}

/// The process number and the time of the export, which a restart changes and a process that registers again does not.
/// SOFARPC has no such time: there the number alone says it, and nothing in a container, where it is always 1.
fn process(url: &Url) -> Option<String> {
    let (pid, started) = (url.parameter("pid"), url.parameter("timestamp"));
    let is_known = started.is_some() || pid.is_some_and(|pid| pid != "1");
    is_known.then(|| format!("{}@{}", pid.unwrap_or_default(), started.unwrap_or_default()))
}

/// `override://host:port/…?disabled=true` below `configurators`. Its own `enabled` is the switch of the rule. Without a
/// port it is for a consumer, and with an application for one application's consumers.
fn configurator(interface: &str, name: &str) -> Decoded {
    let Some(url) = form_decode(name).as_deref().and_then(Url::parse) else {
        return Decoded::Nothing;
    };
    if url.scheme != "override" {
        return Decoded::Nothing;
    }
    let is_for_all = url.host == "0.0.0.0";
    let is_for_one = url
        .parameter("application")
        .is_some_and(|application| application != "*");
    if (url.port.is_none() && !is_for_all) || is_for_one {
        return Decoded::Nothing;
    }
    Decoded::Rule {
        service: interface.to_owned(),
        rule: Rule {
            host: (!is_for_all).then(|| url.host.clone()),
            port: url.port,
            group: url.parameter("group").map(str::to_owned),
            version: url.parameter("version").map(str::to_owned),
            disables: switch(&url, "disabled") == Some(true) && switch(&url, "enabled") != Some(false),
        },
    }
}
