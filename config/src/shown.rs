//! The effective configuration, key by key, each with its origin.
//!
//! No secret is ever part of it: a reference is shown as the reference, and keys that hold secrets
//! as a mask.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bridge_core::file_path::looks_like_contents;
use bridge_core::secret::MASK;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};

use crate::environment::Environment;
use crate::hidden::{is_delicate, without_userinfo};
use crate::parse::{Format, parse};
use crate::problem::Refused;
use crate::schema::{config_schema, resolved};
use crate::tree::{KeyPath, Node, Place, Table, Text, Value};
use crate::{overrides, read};

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// As in `source[0].roots`.
    pub key: String,
    /// The value as it was written, or the default; null where the key is not set and has no default.
    pub value: Json,
    /// The origin of the value.
    pub origin: Origin,
}

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// The file, at this line.
    File(usize),
    /// A variable of the environment.
    Variable(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(line) => write!(f, "line {line}"),
            Origin::Variable(name) => f.write_str(name),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// All keys of a configuration that can be used, in the order of the file's sections.
///
/// # Errors
/// If the configuration cannot be used: all of its problems.
pub fn settings(
    file: &Path,
    text: &str,
    format: Format,
    environment: &Environment,
) -> Result<Vec<Setting>, Refused> {
    read(file, text, format, environment)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // It was read without a problem.
    let mut problems = Vec::new();
    let mut collector = SettingsCollector {
        schema: config_schema(),
        settings: Vec::new(),
    };
    if let Some(mut tree) = parse(text, format, &mut problems) {
        overrides::apply(&mut tree, text, environment, &mut problems);
        collector.whole(&tree);
    }
    Ok(collector.settings)
}

struct SettingsCollector {
    schema: Json,
    settings: Vec<Setting>,
}

impl SettingsCollector {
    fn whole(&mut self, tree: &Node) {
        let mut top = self.schema.clone();
        if let Some(properties) = top["properties"].as_object_mut() {
            properties.retain(|key, _| !matches!(key.as_str(), "source" | "sink"));
        }
        let start = KeyPath::default();
        self.table(&top, tree.table(), &Json::Null, &start);
        for section in ["source", "sink"] {
            let items = self.schema["properties"][section]["items"].clone();
            let Some((
                _,
                Node {
                    value: Value::List(list),
                    ..
                },
            )) = tree.table().and_then(|table| table.get(section))
            else {
                continue;
            };
            for (at, element) in list.iter().enumerate() {
                let schema = of_type(&items, element);
                let path = start.key(section).index(at);
                self.table(&schema, element.table(), &Json::Null, &path);
                self.name_of_type(&path, &schema);
            }
        }
    }

    /// A sink without a name has that of its type.
    fn name_of_type(&mut self, path: &KeyPath, schema: &Json) {
        let name = path.key("name").to_string();
        let setting = self.settings.iter_mut().find(|setting| setting.key == name);
        if let Some(setting) = setting.filter(|setting| setting.value.is_null()) {
            setting.value = schema["properties"]["type"]["const"].clone();
        }
    }

    /// The keys of a table; `defaults` are those of the table as a whole.
    fn table(&mut self, schema: &Json, table: Option<&Table>, defaults: &Json, path: &KeyPath) {
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        for (key, schema) in properties {
            let default = schema.get("default").unwrap_or(&defaults[key]).clone();
            let set = table.and_then(|table| table.get(key));
            let path = path.key(key);
            match (self.table_of(schema), set) {
                (Some((below, _)), Some((_, node))) if node.table().is_some() => {
                    self.table(&below, node.table(), &default, &path);
                }
                (Some((below, false)), None) => self.table(&below, None, &default, &path),
                (_, Some((place, node))) => {
                    let value = self.json(node, schema, is_delicate(key));
                    self.add(&path, value, origin(place, node));
                }
                (_, None) => {
                    let is_list = schema["type"] == "array" && default.is_null();
                    let value = if is_list { Json::Array(Vec::new()) } else { default };
                    self.add(&path, value, Origin::Default);
                }
            }
        }
    }

    fn add(&mut self, path: &KeyPath, value: Json, origin: Origin) {
        let key = path.to_string();
        self.settings.push(Setting { key, value, origin });
    }

    fn resolved(&self, schema: &Json) -> Json {
        resolved(&self.schema, schema).clone()
    }

    /// The schemas of a key other than null, and whether null is possible.
    fn choices(&self, schema: &Json) -> (Vec<Json>, bool) {
        let resolved = self.resolved(schema);
        let Some(any) = resolved["anyOf"].as_array() else {
            return (vec![resolved], false);
        };
        let is_null = |choice: &&Json| choice["type"] == "null";
        let choices = any
            .iter()
            .filter(|choice| !is_null(choice))
            .map(|choice| self.resolved(choice));
        (choices.collect(), any.iter().any(|choice| is_null(&choice)))
    }

    /// The schema of a key that is a table, or a list of such tables, and whether it may be left out as a whole.
    fn table_of(&self, schema: &Json) -> Option<(Json, bool)> {
        let (choices, is_optional) = self.choices(schema);
        let (mut tables, others): (Vec<Json>, Vec<Json>) = choices
            .into_iter()
            .partition(|choice| choice.get("properties").is_some());
        let only = tables.pop().filter(|_| tables.is_empty())?;
        // In the place of such a table there may be a list of them.
        let are_lists = others.iter().all(|choice| choice.get("items").is_some());
        are_lists.then_some((only, is_optional || !others.is_empty()))
    }

    fn is_secret(&self, schema: &Json) -> bool {
        self.choices(schema)
            .0
            .iter()
            .any(|choice| choice["writeOnly"] == true)
    }

    fn json(&self, node: &Node, schema: &Json, is_delicate: bool) -> Json {
        let is_secret = is_delicate || self.is_secret(schema);
        match &node.value {
            Value::Nothing | Value::Assumed | Value::Skipped => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Integer(_) | Value::Float(_) if is_secret => MASK.into(),
            Value::Integer(value) => {
                i64::try_from(*value).map_or_else(|_| value.to_string().into(), Json::from)
            }
            Value::Float(value) => Json::from(*value),
            Value::Date(text) => Json::from(text.as_str()),
            Value::Text(text) => shown(text, is_secret).into(),
            Value::List(list) => {
                let (choices, _) = self.choices(schema);
                let items = choices.iter().find_map(|choice| choice.get("items"));
                let items = items.cloned().unwrap_or(Json::Null);
                let each = list.iter().map(|node| self.json(node, &items, is_secret));
                Json::Array(each.collect())
            }
            Value::Table(table) => Json::Object(self.object(table, schema, is_secret)),
        }
    }

    fn object(&self, table: &Table, schema: &Json, is_secret: bool) -> Map<String, Json> {
        let (choices, _) = self.choices(schema);
        let below = |key: &str| {
            let known = choices.iter().find_map(|choice| choice["properties"].get(key));
            let other = choices.iter().map(|choice| &choice["additionalProperties"]);
            known
                .or_else(|| other.into_iter().find(|other| other.is_object()))
                .cloned()
        };
        let shown = table.iter().map(|(key, (_, node))| {
            let schema = below(key).unwrap_or(Json::Null);
            (
                key.clone(),
                self.json(node, &schema, is_secret || is_delicate(key)),
            )
        });
        shown.collect()
    }
}

/// Of the alternatives of a section the one of this element.
fn of_type(items: &Json, element: &Node) -> Json {
    let Some(alternatives) = items["oneOf"].as_array() else {
        return items.clone();
    };
    let named = element.table().and_then(|table| table.get("type"));
    let word = match named {
        Some((
            _,
            Node {
                value: Value::Text(text),
                ..
            },
        )) => text.text.as_str(),
        _ => "",
    };
    let of_type = |alternative: &&Json| alternative["properties"]["type"]["const"] == word;
    alternatives.iter().find(of_type).cloned().unwrap_or(Json::Null)
}

fn origin(place: &Place, node: &Node) -> Origin {
    match (&node.place, place) {
        (Place::Variable(name), _) | (_, Place::Variable(name)) => Origin::Variable(Arc::clone(name)),
        (Place::At { line, .. }, _) | (_, Place::At { line, .. }) => Origin::File(*line),
        (Place::File, Place::File) => Origin::File(1),
    }
}

/// A text without its secret parts.
fn shown(text: &Text, is_secret: bool) -> String {
    let text = text.text.as_str();
    match is_secret {
        true if text.is_empty() || is_reference(text) => text.to_owned(),
        true => MASK.to_owned(),
        false if looks_like_contents(text) => MASK.to_owned(),
        false => without_defaults(&without_credentials(text)),
    }
}

/// Whether a text is one reference and nothing else: it then names the place of the secret, not the secret.
fn is_reference(text: &str) -> bool {
    let inside = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inside.is_some_and(|inside| !inside.contains(['$', '}']) && !inside.contains(":-"))
}

/// A reference's own default may be a secret.
fn without_defaults(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(":-").filter(|(before, _)| before.contains("${")) {
        let end = after.find('}').unwrap_or(after.len());
        shown.push_str(&format!("{before}:-{MASK}"));
        rest = &after[end..];
    }
    shown + rest
}

/// An address without user, password and query.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return without_userinfo(text);
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{MASK}@{host}"),
        None => authority.to_owned(),
    };
    let path = match path.split_once('?') {
        Some((path, _)) => format!("{path}?{MASK}"),
        None => path.to_owned(),
    };
    format!("{scheme}://{authority}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"data_dir = "data"

[[source]]
connect = "a:2181"
roots = ["/services"]
[source.auth]
scheme = "digest"
id = "bridge:hunter2"
[source.journal]
max_size = "1 GiB"

[[sink]]
name = "bus"
type = "kafka"
brokers = "b:9092"
topic = "${TOPIC:-hunter2}"
[sink.properties]
"sasl.password" = "hunter2"
"linger.ms" = 5

[[sink]]
type = "webhook"
url = "https://me:hunter2@example.com/zk?key=hunter2"
secrets = ["${HOOK}", "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="]
"#;

    fn all() -> Vec<Setting> {
        let environment = Environment::of([
            ("HOOK", "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="),
            ("TOPIC", "hunter2"),
            ("ZKBRIDGE_HTTP__LISTEN", "127.0.0.1:7"),
            ("ZKBRIDGE_HTTP__TOKEN", "hunter2hunter2hunter2"),
        ]);
        settings(Path::new("a.toml"), FILE, Format::Toml, &environment).unwrap()
    }

    #[test]
    fn each_value_is_shown_with_where_it_comes_from() {
        let all = all();
        let check = |key: &str, value: &str, origin: &str| {
            let found = all.iter().find(|setting| setting.key == key);
            let found = found.unwrap_or_else(|| panic!("no {key} in {all:#?}"));
            assert_eq!(
                (&*found.value.to_string(), &*found.origin.to_string()),
                (value, origin),
                "{key}"
            );
        };
        check("data_dir", "\"data\"", "line 1");
        check("log.level", "\"info\"", "default");
        check("http.listen", "\"127.0.0.1:7\"", "ZKBRIDGE_HTTP__LISTEN");
        check("http.token", "\"***\"", "ZKBRIDGE_HTTP__TOKEN");
        check("source[0].roots", "[\"/services\"]", "line 5");
        check("source[0].exclude", "[]", "default");
        check("source[0].session_timeout", "\"10s\"", "default");
        check("source[0].auth.scheme", "\"digest\"", "line 7");
        check("source[0].auth.id", "\"***\"", "line 8");
        check("source[0].tls", "null", "default");
        check("source[0].journal.max_size", "\"1 GiB\"", "line 10");
        check("source[0].journal.retention", "\"7d\"", "default");
        check("sink[0].topic", "\"${TOPIC:-***}\"", "line 16");
        check("sink[0].compression", "\"zstd\"", "default");
        check(
            "sink[0].properties",
            "{\"linger.ms\":5,\"sasl.password\":\"***\"}",
            "line 17",
        );
        check("sink[0].name", "\"bus\"", "line 13");
        check("sink[1].name", "\"webhook\"", "default");
        check("sink[1].url", "\"***\"", "line 23");
        check("sink[1].secrets", "[\"${HOOK}\",\"***\"]", "line 24");
    }

    #[test]
    fn credentials_in_a_list_are_masked_as_those_in_a_table_are() {
        let text = "[[source]]\nconnect = \"a:2181\"\n\
                    [[source.auth]]\nscheme = \"digest\"\nid = \"one:hunter2\"\n\
                    [[source.auth]]\nsasl = \"digest-md5\"\nuser = \"two\"\npassword = \"hunter3\"\n\
                    [[sink]]\ntype = \"console\"\n";
        let all = settings(Path::new("a.toml"), text, Format::Toml, &Environment::of([])).unwrap();
        let auth = all.iter().find(|setting| setting.key == "source[0].auth");
        let shown = auth.expect("the list is a setting").value.to_string();
        assert!(shown.contains("\"***\"") && shown.contains("\"two\""), "{shown}");
        assert!(!shown.contains("hunter") && !shown.contains("one:"), "{shown}");
    }

    #[test]
    fn an_address_is_shown_without_who_asks_and_what() {
        let check = |text, expected| assert_eq!(without_credentials(text), expected);
        check("nats://me:hunter2@host:4222", "nats://***@host:4222");
        check("https://host/zk?key=hunter2", "https://host/zk?***");
        check("a:9092,b:9092", "a:9092,b:9092");
    }

    #[test]
    fn no_secret_is_part_of_it() {
        let text = serde_json::to_string(&all()).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVy"), "{text}");
    }
}
