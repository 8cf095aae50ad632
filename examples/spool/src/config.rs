//! The options of a spool sink: typed, documented, checked. Nothing in this module opens a file.

use std::path::PathBuf;

use bridge_core::amount::Size;
use bridge_core::issue::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A record of a znode without data takes about so much.
const LARGEST_MIN: Size = Size(4 << 10);

/// The options of a sink of type `spool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpoolConfig {
    /// The folder. Readers find the files in `new` below it, in the order of their names; missing folders are made.
    pub folder: PathBuf,
    /// A record whose line would be longer is rejected.
    #[serde(default = "default_largest")]
    pub largest: Size,
}

fn default_largest() -> Size {
    Size(16 << 20)
}

impl SpoolConfig {
    /// The defaults for this folder.
    pub fn new(folder: impl Into<PathBuf>) -> SpoolConfig {
        SpoolConfig {
            folder: folder.into(),
            largest: default_largest(),
        }
    }

    /// Everything about the options that cannot work, or is surely not meant.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        if self.folder.as_os_str().is_empty() {
            found.push(ConfigIssue::error(
                "folder",
                "it is empty",
                "give the path of a folder, such as \"/var/spool/zk\"",
            ));
        }
        if self.largest < LARGEST_MIN {
            found.push(ConfigIssue::error(
                "largest",
                format!("{} is less than most records take", self.largest),
                format!("give \"{LARGEST_MIN}\" or more; \"16 MiB\" takes all"),
            ));
        }
        found
    }
}
