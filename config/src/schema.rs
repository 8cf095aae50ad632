//! The JSON Schema of the configuration, generated from its types: for editors, and for the allowed values in messages.

use bridge_console::ConsoleConfig;
use bridge_core::delivery::{Filter, RejectPolicy};
use bridge_exec::ExecConfig;
use bridge_file::FileConfig;
use bridge_kafka::KafkaConfig;
use bridge_nats::NatsConfig;
use bridge_render::RenderConfig;
use bridge_webhook::WebhookConfig;
use bridge_zookeeper::config::ZookeeperConfig;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::model::{SinkCommon, SourceCommon, Top};

/// The JSON Schema (draft 2020-12) of the configuration. Texts are described as they are after `${…}` was replaced,
/// as far as a pattern would get into the way of it.
pub fn config_schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut top = Object::default();
    top.add::<Top>(&mut generator);
    let source = source(&mut generator);
    let sinks = [
        sink::<KafkaConfig>("kafka", &mut generator),
        sink::<NatsConfig>("nats", &mut generator),
        sink::<WebhookConfig>("webhook", &mut generator),
        sink::<FileConfig>("file", &mut generator),
        sink::<ExecConfig>("exec", &mut generator),
        sink::<RenderConfig>("render", &mut generator),
        sink::<ConsoleConfig>("console", &mut generator),
    ];
    top.put(
        "source",
        "The ensembles.",
        json!({"type": "array", "minItems": 1, "items": source}),
    );
    top.put(
        "sink",
        "The destinations.",
        json!({"type": "array", "items": {"oneOf": sinks}}),
    );
    top.required.push(json!("source"));
    let mut schema = top.finish();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("zkbridge configuration");
    schema["$defs"] = Value::Object(generator.take_definitions(true));
    schema
}

/// The schema as `zkbridge schema config` prints it and as it is checked in.
///
/// # Panics
///
/// Never: a schema is valid JSON.
pub fn config_schema_text() -> String {
    let mut text = serde_json::to_string_pretty(&config_schema()).expect("a schema is plain JSON");
    text.push('\n');
    text
}

fn source(generator: &mut SchemaGenerator) -> Value {
    let mut object = Object::default();
    object.put(
        "type",
        "The type of the source.",
        json!({"const": "zookeeper", "default": "zookeeper"}),
    );
    object.add::<SourceCommon>(generator);
    object.add::<ZookeeperConfig>(generator);
    object.finish()
}

fn sink<T: JsonSchema>(type_name: &str, generator: &mut SchemaGenerator) -> Value {
    let mut object = Object::default();
    object.put(
        "type",
        "The type of the destination.",
        json!({"const": type_name}),
    );
    object.required.push(json!("type"));
    object.add::<SinkCommon>(generator);
    object.add::<Filter>(generator);
    object.add::<RejectPolicy>(generator);
    object.add::<T>(generator);
    object.finish()
}

/// A table that several types read.
#[derive(Default)]
struct Object {
    properties: Map<String, Value>,
    required: Vec<Value>,
}

impl Object {
    fn add<T: JsonSchema>(&mut self, generator: &mut SchemaGenerator) {
        let mut schema = T::json_schema(generator).to_value();
        if let Some(properties) = schema["properties"].as_object_mut() {
            self.properties.append(properties);
        }
        if let Some(required) = schema["required"].as_array_mut() {
            self.required.append(required);
        }
    }

    fn put(&mut self, key: &str, description: &str, mut schema: Value) {
        schema["description"] = json!(description);
        self.properties.insert(key.to_owned(), schema);
    }

    fn finish(self) -> Value {
        json!({
            "type": "object",
            "properties": self.properties,
            "required": self.required,
            "additionalProperties": false,
        })
    }
}

/// The schema that a reference names, or the schema itself.
pub(crate) fn resolved<'a>(whole: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema.get("$ref").and_then(Value::as_str);
    let name = name.and_then(|name| name.strip_prefix("#/$defs/"));
    name.and_then(|name| whole["$defs"].get(name)).unwrap_or(schema)
}

/// The allowed values of a key, for messages.
pub(crate) struct Hints {
    schema: Value,
}

impl Hints {
    pub(crate) fn new() -> Hints {
        Hints {
            schema: config_schema(),
        }
    }

    /// The allowed values of the key, in words. `names` are keys without indexes: `source.roots`.
    pub(crate) fn allowed(&self, names: &str) -> Option<String> {
        let mut schemas = vec![&self.schema];
        for name in names.split('.') {
            schemas = schemas
                .into_iter()
                .flat_map(|schema| self.tables(schema))
                .filter_map(|table| table["properties"].get(name))
                .collect();
        }
        let mut said: Vec<String> = schemas
            .into_iter()
            .filter_map(|schema| self.in_words(schema))
            .collect();
        said.dedup();
        said.into_iter().next()
    }

    /// The schema of the whole configuration.
    pub(crate) fn top(&self) -> &Value {
        &self.schema
    }

    /// The schemas of a key below these schemas; none if none of them knows the key.
    pub(crate) fn properties<'a>(&'a self, schemas: &[&'a Value], key: &str) -> Vec<&'a Value> {
        let tables = schemas.iter().flat_map(|schema| self.tables(schema));
        let below = |table: &'a Value| {
            let named = table["properties"].get(key);
            named.or_else(|| Some(&table["additionalProperties"]).filter(|other| other.is_object()))
        };
        tables.filter_map(below).collect()
    }

    /// The schemas of the elements of lists that these schemas describe.
    pub(crate) fn items<'a>(&'a self, schemas: &[&'a Value]) -> Vec<&'a Value> {
        let alternatives = schemas.iter().flat_map(|schema| self.alternatives(schema));
        alternatives.filter_map(|schema| schema.get("items")).collect()
    }

    /// Whether a value of this schema may be a text.
    pub(crate) fn takes_text(&self, schema: &Value) -> bool {
        self.alternatives(schema).into_iter().any(|schema| {
            let listed = schema.get("enum").and_then(Value::as_array);
            match (schema.get("type"), schema.get("const")) {
                (Some(Value::Array(kinds)), _) => kinds.iter().any(|kind| kind == "string"),
                (Some(kind), _) => kind == "string",
                (None, Some(word)) => word.is_string(),
                (None, None) => listed.is_some_and(|words| words.iter().any(Value::is_string)),
            }
        })
    }

    /// Whether a value of this schema is a secret.
    pub(crate) fn is_write_only(&self, schema: &Value) -> bool {
        let alternatives = self.alternatives(schema);
        alternatives.iter().any(|schema| schema["writeOnly"] == true)
    }

    /// A schema with what it refers to, and all that it offers as a choice.
    fn alternatives<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        let schema = self.resolved(schema);
        let choices = self.choices(schema).into_iter();
        let choices = choices.flat_map(|choice| self.alternatives(choice));
        std::iter::once(schema).chain(choices).collect()
    }

    /// The tables that a schema describes: itself, the elements of a list, or the alternatives.
    fn tables<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        let schema = self.resolved(schema);
        let mut tables = vec![schema];
        if let Some(items) = schema.get("items") {
            tables.extend(self.tables(items));
        }
        for choice in self.choices(schema) {
            tables.extend(self.tables(choice));
        }
        tables
    }

    fn choices<'a>(&self, schema: &'a Value) -> Vec<&'a Value> {
        let of = |key: &str| schema.get(key).and_then(Value::as_array);
        let lists = [of("oneOf"), of("anyOf")];
        lists.into_iter().flatten().flatten().collect()
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        resolved(&self.schema, schema)
    }

    fn in_words(&self, schema: &Value) -> Option<String> {
        let schema = self.resolved(schema);
        if let Some(examples) = schema.get("examples").and_then(Value::as_array) {
            let shown: Vec<String> = examples.iter().map(Value::to_string).collect();
            return Some(format!("a text as in {}", shown.join(", ")));
        }
        let words = self.words(schema);
        if !words.is_empty() {
            return Some(words.join(", "));
        }
        if let Some(items) = schema.get("items") {
            return Some(format!("a list, each element {}", self.in_words(items)?));
        }
        let choices = self
            .choices(schema)
            .into_iter()
            .filter_map(|choice| self.in_words(choice));
        let choices: Vec<String> = choices.collect();
        if !choices.is_empty() {
            return Some(choices.join(", or "));
        }
        let kind = match schema.get("type")? {
            Value::String(kind) => kind.as_str(),
            Value::Array(kinds) => kinds.first()?.as_str()?,
            _ => return None,
        };
        let words = match kind {
            "string" => "a text in quotes",
            "boolean" => "true or false",
            "integer" => "an integer",
            "number" => "a number",
            "object" => "a table",
            "array" => "a list",
            _ => return None,
        };
        Some(words.to_owned())
    }

    fn words(&self, schema: &Value) -> Vec<String> {
        let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
        let constant = |schema: &Value| schema.get("const").map(Value::to_string);
        let alone = constant(schema);
        let choices = self.choices(schema).into_iter().filter_map(constant);
        listed.map(Value::to_string).chain(alone).chain(choices).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_describes_the_values_of_a_key() {
        let hints = Hints::new();
        let check = |names: &str, expected: &str| {
            let allowed = hints.allowed(names).unwrap_or_default();
            assert!(allowed.contains(expected), "{names}: {allowed}");
        };
        check("source.session_timeout", "\"10s\"");
        check("source.journal.durability", "\"power_loss\", \"process_crash\"");
        check("source.roots", "a list");
        check("source.tls.verify_hostname", "true or false");
        check("http.listen", "\"127.0.0.1:9641\"");
        check("sink.retry.max", "\"10s\"");
        check("sink.brokers", "a text");
        check("sink.tombstones", "true or false");
        assert_eq!(hints.allowed("nothing"), None);
    }
}
