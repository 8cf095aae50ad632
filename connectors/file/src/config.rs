//! The options of a file sink: typed, documented, checked. Nothing in this module opens a file.

use std::path::PathBuf;

use bridge_core::objection::Objection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The options of a sink of type `file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The file; one record as JSON on each line. A relative path is relative to the working directory. Missing folders
    /// are made, readable by the owner only, as the file is. Records are appended to a file that is there.
    pub path: PathBuf,
}

impl FileConfig {
    /// Everything about the options that cannot work, or is surely not meant.
    pub fn objections(&self) -> Vec<Objection> {
        let mut found = Vec::new();
        let text = self.path.to_string_lossy();
        if self.path.file_name().is_none() || text.ends_with('/') {
            found.push(Objection::error(
                "path",
                format!("'{text}' names a folder and no file"),
                "give the path of a file, such as \"audit/zk.jsonl\"",
            ));
        }
        found
    }
}
