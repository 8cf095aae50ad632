//! The options of each type of sink.

use std::collections::BTreeMap;
use std::fmt;

use bridge_core::objection::Objection;
use schemars::JsonSchema;
use serde::Deserialize;

/// The options of a sink of type `kafka`.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Where to begin: `a:9092,b:9092`.
    pub brokers: String,
    /// The topic of a record: a template over `cluster`, `root`, `path`, `op` and `names`.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// Properties of librdkafka.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

fn default_topic() -> String {
    "zk.{{ cluster }}".to_owned()
}

impl KafkaConfig {
    /// Nothing yet.
    pub fn objections(&self) -> Vec<Objection> {
        Vec::new()
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KafkaConfig")
    }
}
