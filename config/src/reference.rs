//! The reference of the configuration as Markdown: every key with what it takes, its default and its meaning, from
//! the schema alone, so that it cannot say anything that the types do not.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::schema::{config_schema, resolved};

const BEGIN: &str = "\
# Configuration reference

Every key of the configuration file. [configuration.md](configuration.md) explains the file as a whole; `zkbridge init`
prints it with comments. This page is made from the types that read the file, by
`cargo run -- schema reference > docs/configuration-reference.md`, and a test fails where it is out of date.

Keys of tables below a section are written with a dot: `journal.retention` of a source is `retention` in
`[source.journal]`. A name in *italics* is a kind of value, explained [at the end](#kinds-of-values). A default of
**required** means that there is none; *none* that the key may be left out.
";

/// The page as `zkbridge schema reference` prints it and as it is checked in.
pub fn config_reference() -> String {
    let schema = config_schema();
    let mut page = Page {
        schema: &schema,
        text: BEGIN.to_owned(),
        kinds: BTreeSet::new(),
    };
    page.sections();
    page.kinds_of_values();
    page.text
}

struct Page<'a> {
    schema: &'a Value,
    text: String,
    /// Definitions that a row has named.
    kinds: BTreeSet<&'a str>,
}

/// A key with its schema.
type Key<'a> = (&'a String, &'a Value);

impl<'a> Page<'a> {
    fn sections(&mut self) {
        let top = keys(self.schema);
        let is_list = |name: &str| matches!(name, "source" | "sink");
        let general: Vec<Key<'a>> = top.into_iter().filter(|(name, _)| !is_list(name)).collect();
        self.heading("At the top", "`data_dir`, and the tables `[http]` and `[log]`.");
        self.table(&general, self.schema);

        let source = &self.schema["properties"]["source"]["items"];
        self.heading("Sources", "One `[[source]]` for each ensemble; at least one.");
        self.table(&keys(source), source);

        let sinks = alternatives(&self.schema["properties"]["sink"]["items"]);
        let every = common(&sinks);
        self.heading(
            "Sinks",
            "One `[[sink]]` for each destination. These keys are those of every type; `type` says which it is.",
        );
        if let Some(first) = sinks.first() {
            self.table(&every, first);
        }
        let types = sinks
            .iter()
            .map(|sink| code(&sink["properties"]["type"]["const"]));
        let types: Vec<String> = types.collect();
        self.text.push_str(&format!(
            "| `type` | {} | **required** | The type of the destination. |\n",
            types.join(", ")
        ));
        for sink in sinks {
            let word = sink["properties"]["type"]["const"].as_str().unwrap_or_default();
            let own: Vec<Key<'a>> = keys(sink)
                .into_iter()
                .filter(|(name, _)| *name != "type" && every.iter().all(|(other, _)| other != name))
                .collect();
            let about = format!("Besides those of every sink. [More about it](sinks/{word}.md).");
            self.heading(&format!("Sinks of type {word}"), &about);
            self.table(&own, sink);
        }
    }

    fn heading(&mut self, title: &str, about: &str) {
        self.text.push_str(&format!("\n## {title}\n\n{about}\n"));
    }

    fn table(&mut self, keys: &[Key<'a>], of: &'a Value) {
        self.text
            .push_str("\n| key | takes | default | meaning |\n| --- | --- | --- | --- |\n");
        for (name, schema) in keys {
            let is_required = required(of, name);
            self.row("", (name, schema), &Value::Null, is_required);
        }
    }

    /// The row of a key, and those of the keys below it.
    fn row(&mut self, above: &str, (name, schema): Key<'a>, defaults: &Value, is_required: bool) {
        let name = format!("{above}{name}");
        let default = match schema.get("default") {
            Some(default) => default.clone(),
            None => defaults[name.rsplit('.').next().unwrap_or_default()].clone(),
        };
        let choices = self.choices(schema);
        let below = choices.iter().find(|choice| choice.get("properties").is_some());
        let is_only_table = below.is_some() && choices.len() == 1 && !is_optional(self.resolved(schema));
        if !is_only_table {
            let takes = self.takes(schema);
            let default = self.default(schema, &default, is_required);
            let meaning = self.meaning(schema);
            self.text
                .push_str(&format!("| `{name}` | {takes} | {default} | {meaning} |\n"));
        }
        // The keys of a table, or of each table of a list.
        let of_list = || {
            let items = choices.iter().map(|choice| self.resolved(&choice["items"]));
            items.into_iter().find(|items| items.get("properties").is_some())
        };
        let below = below.copied().or_else(of_list);
        for key in below.into_iter().flat_map(keys) {
            let is_required = below.is_some_and(|below| required(below, key.0));
            self.row(&format!("{name}."), key, &default, is_required);
        }
    }

    fn resolved(&self, schema: &'a Value) -> &'a Value {
        resolved(self.schema, schema)
    }

    /// The schema of a key without null.
    fn choices(&self, schema: &'a Value) -> Vec<&'a Value> {
        let schema = self.resolved(schema);
        let Some(any) = schema["anyOf"].as_array() else {
            return vec![schema];
        };
        let some = any.iter().filter(|choice| choice["type"] != "null");
        some.map(|choice| self.resolved(choice)).collect()
    }

    fn takes(&mut self, schema: &'a Value) -> String {
        if let Some(any) = self.resolved(schema)["anyOf"].as_array() {
            let some = any.iter().filter(|choice| choice["type"] != "null");
            let words: Vec<String> = some.map(|choice| self.takes(choice)).collect();
            return words.join(" or ");
        }
        if let Some(words) = self.words(schema) {
            let words: Vec<String> = words.iter().map(|(word, _)| code(word)).collect();
            return words.join(", ");
        }
        let named = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next());
        let schema = self.resolved(schema);
        match named {
            Some(name) if schema.get("properties").is_none() => {
                self.kinds.insert(name);
                format!("*{name}*")
            }
            _ => self.plain(schema),
        }
    }

    /// Words of a schema without a name.
    fn plain(&mut self, schema: &'a Value) -> String {
        let bounds = || {
            let bound = |key: &str| schema.get(key).map(Value::to_string);
            match (bound("minimum"), bound("maximum")) {
                (Some(least), Some(most)) => format!(", {least} to {most}"),
                (Some(least), None) if least != "0" => format!(", {least} or more"),
                _ => String::new(),
            }
        };
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.first().unwrap_or(&Value::Null),
            kind => kind,
        };
        match kind.as_str() {
            Some("array") => format!("list of {}", self.takes(&schema["items"])),
            Some("object") if schema.get("properties").is_some() => "table".to_owned(),
            Some("object") => format!("table of {}", self.takes(&schema["additionalProperties"])),
            Some("integer") => format!("integer{}", bounds()),
            Some("boolean") => "`true`, `false`".to_owned(),
            Some("string") => "text".to_owned(),
            _ => "value".to_owned(),
        }
    }

    /// The only words that a key takes, each with its meaning.
    fn words(&self, schema: &'a Value) -> Option<Vec<(&'a Value, Option<&'a str>)>> {
        let schema = self.resolved(schema);
        if let Some(word) = schema.get("const") {
            return Some(vec![(word, None)]);
        }
        if let Some(words) = schema["enum"].as_array() {
            return Some(words.iter().map(|word| (word, None)).collect());
        }
        let choices = schema["oneOf"].as_array()?;
        let word = |choice: &'a Value| {
            let one = choice
                .get("const")
                .map(|word| vec![(word, choice["description"].as_str())]);
            one.or_else(|| self.words(choice))
        };
        let words: Option<Vec<_>> = choices.iter().map(word).collect();
        Some(words?.into_iter().flatten().collect())
    }

    fn default(&self, schema: &'a Value, default: &Value, is_required: bool) -> String {
        if is_required {
            return "**required**".to_owned();
        }
        if !default.is_null() {
            return code(default);
        }
        let kind = match is_optional(self.resolved(schema)) {
            true => None,
            false => self.resolved(schema)["type"].as_str(),
        };
        let none = match kind {
            Some("array") => "`[]`",
            Some("object") => "`{}`",
            _ => "*none*",
        };
        none.to_owned()
    }

    fn meaning(&self, schema: &'a Value) -> String {
        let described = schema["description"].as_str();
        let own = described.or_else(|| self.resolved(schema)["description"].as_str());
        let mut meaning = own.unwrap_or_default().to_owned();
        let choices = self.choices(schema);
        let items = choices.iter().map(|choice| choice.get("items").unwrap_or(choice));
        for (word, about) in items.filter_map(|one| self.words(one)).flatten() {
            if let Some(about) = about {
                meaning.push_str(&format!("<br>`{word}`: {about}"));
            }
        }
        in_a_cell(&meaning)
    }

    fn kinds_of_values(&mut self) {
        self.heading(
            "Kinds of values",
            "All of them are written as texts in quotes, but for tables and numbers.",
        );
        self.text
            .push_str("\n| kind | what it is | as in |\n| --- | --- | --- |\n");
        for name in std::mem::take(&mut self.kinds) {
            let kind = &self.schema["$defs"][name];
            let about = in_a_cell(kind["description"].as_str().unwrap_or_default());
            let examples = kind["examples"].as_array().into_iter().flatten();
            let examples: Vec<String> = examples.map(code).collect();
            self.text
                .push_str(&format!("| *{name}* | {about} | {} |\n", examples.join(", ")));
        }
    }
}

fn keys(schema: &Value) -> Vec<Key<'_>> {
    let properties = schema["properties"].as_object();
    properties.into_iter().flatten().collect()
}

fn alternatives(schema: &Value) -> Vec<&Value> {
    schema["oneOf"].as_array().into_iter().flatten().collect()
}

/// The keys that all have, with the same meaning.
fn common<'a>(tables: &[&'a Value]) -> Vec<Key<'a>> {
    let Some((first, others)) = tables.split_first() else {
        return Vec::new();
    };
    let is_everywhere = |(name, schema): &Key<'a>| {
        others
            .iter()
            .all(|other| other["properties"].get(*name) == Some(schema))
    };
    keys(first).into_iter().filter(is_everywhere).collect()
}

fn required(table: &Value, key: &str) -> bool {
    let required = table["required"].as_array();
    required.into_iter().flatten().any(|name| name == key)
}

fn is_optional(schema: &Value) -> bool {
    let any = schema["anyOf"].as_array();
    any.into_iter().flatten().any(|choice| choice["type"] == "null")
}

fn code(value: &Value) -> String {
    in_a_cell(&format!("`{value}`"))
}

/// A text on one line, with nothing in it that would end the cell.
fn in_a_cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_row_with_what_it_takes_its_default_and_its_meaning() {
        let page = config_reference();
        let check = |row: &str| assert!(page.contains(row), "{row}\n{page}");
        check("| `data_dir` | text | `\"zkbridge-data\"` | ");
        check("| `http.listen` | *Listen* | `\"127.0.0.1:9641\"` | ");
        check("| `log.level` | `\"off\"`, `\"error\"`, ");
        check("<br>`\"warn\"`: Also warnings: problems that the bridge recovered from.");
        check("| `connect` | *Connect* | **required** | ");
        check("| `exclude` | list of *PathGlob* | `[]` | ");
        check("| `journal.retention` | *Horizon* | `\"7d\"` | ");
        check("| `auth` | table or list of table | *none* | ");
        check("| `auth.id` | *Secret* | *none* | ");
        check("| `service.grace` | *Span* | `\"0s\"` | ");
        check("| `retry.max` | *Span* | `\"30s\"` | ");
        check("| `create_topics` | `true`, `false` or table | ");
        check("| `parallel` | integer, 1 to 1000 | `16` | ");
        check("| *Span* | A length of time: a number and its unit. | `\"250ms\"`, ");
    }

    #[test]
    fn a_key_of_every_sink_is_listed_once() {
        let page = config_reference();
        assert_eq!(page.matches("| `retry.max` |").count(), 1);
        assert_eq!(page.matches("## Sinks of type ").count(), 7);
    }
}
