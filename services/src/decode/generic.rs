//! A convention that the configuration describes: a path with names, an encoding, and JSON pointers.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use bridge_core::record::InstanceStatus;
use serde_json::{Map, Value, json};

use super::{Decoded, Payload, Place, Znode, is_empty, name_of, pointed};
use crate::config::{DecodeFrom, Decoding, ServiceConfig, StatusAt, Unwrapping, UrlForm};
use crate::payload::{gunzip, host_port, number_or_text, object, port, scalar_text, text};
use crate::registration::Registration;
use crate::template::Template;
use crate::url::{Url, form_decode, is_secret, masked, parameters};

pub(super) fn decode(config: &ServiceConfig, template: &Template, znode: &Znode<'_>) -> Decoded {
    let Some(names) = template.names(znode.path) else {
        return Decoded::Nothing;
    };
    let from_data = config.from == DecodeFrom::Data && config.decode != Decoding::None;
    if from_data && is_empty(znode) && znode.owner.0 == 0 {
        return Decoded::Nothing;
    }
    let service = names.get("service").cloned().unwrap_or_default();
    let place = Place::new(service, template.home(znode.path));
    let place = match &config.identity {
        // The name may be a URL with a user.
        Some(identity) => place.of(masked(&Template::fill(identity, &names))),
        None => place,
    };
    let name = name_of(znode.path);
    let znode = match from_data {
        true => *znode,
        false => Znode {
            payload: Payload::Bytes(name.as_bytes()),
            ..*znode
        },
    };
    place.register(&znode, |bytes| {
        let mut bytes = Cow::Borrowed(bytes);
        for unwrap in &config.unwrap {
            bytes = unwrapped(*unwrap, &bytes)?.into();
        }
        registration(config, &value(config.decode, &bytes)?)
    })
}

fn unwrapped(unwrap: Unwrapping, bytes: &[u8]) -> Result<Vec<u8>, String> {
    match unwrap {
        Unwrapping::Gzip => gunzip(bytes),
        Unwrapping::Percent => form_decode(text(bytes)?)
            .map(String::into_bytes)
            .ok_or_else(|| "no form encoding".to_owned()),
        Unwrapping::Base64url => URL_SAFE
            .decode(bytes)
            .or_else(|_| URL_SAFE_NO_PAD.decode(bytes))
            .map_err(|_| "no base64".to_owned()),
    }
}

fn value(decode: Decoding, bytes: &[u8]) -> Result<Value, String> {
    match decode {
        Decoding::Json => object(bytes),
        Decoding::None => Ok(Value::Object(Map::new())),
        Decoding::Text => Ok(json!({"text": text(bytes)?.trim()})),
        Decoding::Query => {
            let pairs = parameters(text(bytes)?.trim()).ok_or("no 'name=value&…'")?;
            Ok(visible(pairs.into_iter().collect()))
        }
        Decoding::Hostport => {
            let (host, port) = host_port(text(bytes)?.trim()).ok_or("no 'host:port'")?;
            Ok(json!({"host": host, "port": port}))
        }
        Decoding::Url => {
            let url = Url::parse(text(bytes)?.trim()).ok_or("no URL")?;
            let mut members: Map<String, Value> = Map::new();
            if let Value::Object(parameters) = visible(url.parameters.into_iter().collect()) {
                members.extend(parameters);
            }
            members.insert("scheme".to_owned(), url.scheme.into());
            members.insert("host".to_owned(), url.host.into());
            members.insert("port".to_owned(), url.port.map_or(Value::Null, Value::from));
            members.insert("path".to_owned(), url.path.into());
            Ok(Value::Object(members))
        }
    }
}

/// Parameters as an object, without secrets.
fn visible(pairs: Vec<(String, String)>) -> Value {
    let pairs = pairs.into_iter().filter(|(name, _)| !is_secret(name));
    Value::Object(
        pairs
            .map(|(name, value)| (name, number_or_text(&value)))
            .collect(),
    )
}

fn registration(config: &ServiceConfig, found: &Value) -> Result<Registration, String> {
    let at = |pointer: &Option<String>| found.pointer(pointer.as_deref()?);
    let text_at =
        |pointer: &Option<String>| at(pointer).and_then(scalar_text).filter(|text| !text.is_empty());
    let mut registration = Registration {
        zone: text_at(&config.zone),
        version: text_at(&config.version),
        ..Registration::default()
    };
    registration.weigh(at(&config.weight));
    let native = text_at(&config.status.at);
    registration.status = native
        .as_deref()
        .map_or(InstanceStatus::Up, |word| status(&config.status, word));
    registration.native_status = native;
    endpoints(config, found, &mut registration)?;
    if let (Some(metadata), Some(pointer)) = (at(&config.metadata), &config.metadata) {
        let fields = [&config.zone, &config.version, &config.weight, &config.status.at];
        let fields = fields.into_iter().flatten().chain(&config.volatile);
        let lifted: Vec<String> = fields.filter_map(|field| pointed(Some(field), pointer)).collect();
        let without: Vec<&str> = lifted.iter().map(String::as_str).collect();
        registration.metadata_of(metadata, &without);
    }
    Ok(registration)
}

fn status(at: &StatusAt, word: &str) -> InstanceStatus {
    let has = |words: &[String]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    if has(&at.starting) {
        InstanceStatus::Starting
    } else if has(&at.draining) {
        InstanceStatus::Draining
    } else if has(&at.disabled) {
        InstanceStatus::Disabled
    } else if has(&at.read_only) {
        InstanceStatus::ReadOnly
    } else {
        InstanceStatus::Up
    }
}

fn endpoints(config: &ServiceConfig, found: &Value, registration: &mut Registration) -> Result<(), String> {
    let at = &config.endpoints;
    if let Some(pointer) = &at.each {
        let list = found.pointer(pointer).unwrap_or(&Value::Null);
        let list = list.as_array().ok_or_else(|| format!("'{pointer}' is no list"))?;
        for one in list {
            match one.as_str() {
                Some(text) => address(registration, text, at.form)?,
                None => members(config, one, registration)?,
            }
        }
        return Ok(());
    }
    if config.decode == Decoding::Text {
        let text = found["text"].as_str().unwrap_or_default();
        return address(registration, text, at.form);
    }
    let is_address = matches!(config.decode, Decoding::Url | Decoding::Hostport);
    if at.host.is_some() || is_address {
        members(config, found, registration)?;
    }
    Ok(())
}

fn address(registration: &mut Registration, text: &str, form: UrlForm) -> Result<(), String> {
    match form {
        UrlForm::Url => {
            let url = Url::parse(text).ok_or("an address that is no URL")?;
            registration.endpoint(None, Some(&url.scheme), &url.host, url.port);
        }
        UrlForm::Hostport => {
            let (host, port) = host_port(text).ok_or("an address that is no 'host:port'")?;
            registration.endpoint(None, None, &host, port);
        }
    }
    Ok(())
}

fn members(config: &ServiceConfig, found: &Value, registration: &mut Registration) -> Result<(), String> {
    let at = &config.endpoints;
    let member = |pointer: &Option<String>, default: &str| {
        let pointer = pointer.as_deref().unwrap_or(default);
        found
            .pointer(pointer)
            .and_then(scalar_text)
            .filter(|text| !text.is_empty())
    };
    let host = member(&at.host, "/host").ok_or("an address without a host")?;
    let port = member(&at.port, "/port").as_deref().and_then(port);
    let scheme = member(&at.scheme, "/scheme");
    registration.endpoint(None, scheme.as_deref(), &host, port);
    Ok(())
}
