//! The contract of all sinks, with the state of the tree in the place of records.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bridge_core::amount::{Size, Span};
use bridge_core::path::ZnodePath;
use bridge_core::sink::Sink;
use bridge_core::testing::{Arrived, Rig, every_promise};
use serde_json::Value;
use tempfile::TempDir;

use super::path;
use crate::{Instead, RenderConfig, RenderSink};

/// Every znode with its data, as JSON.
const ALL: &str = r#"[{% for znode in nodes %}
{"path": {{ znode.path }}, "encoding": {{ znode.encoding }}, "value": {{ znode.value }}}{% if not loop.last %},{% endif %}

{% endfor %}]"#;

/// A file for each check of the suite.
struct RenderRig {
    folder: TempDir,
    checks: u32,
    has_reload: bool,
}

impl RenderRig {
    fn file(&self) -> PathBuf {
        self.folder.path().join(format!("{}.json", self.checks))
    }
}

impl Rig for RenderRig {
    async fn fresh(&mut self) {
        self.checks += 1;
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        let mut config = RenderConfig::new(path("/"), self.file(), ALL);
        config.content_type = Some("application/json".to_owned());
        config.missing = Instead::Render;
        config.debounce = Span::millis(0);
        config.max_file = Size(16 << 20);
        if self.has_reload {
            config.reload = Some(vec!["/bin/true".to_owned()]);
        }
        Box::new(RenderSink::new(config))
    }

    async fn arrived(&mut self) -> Vec<Arrived> {
        Vec::new()
    }

    async fn state(&mut self) -> Option<BTreeMap<ZnodePath, Vec<u8>>> {
        let text = fs::read(self.file()).unwrap();
        let znodes: Vec<Value> = serde_json::from_slice(&text).unwrap();
        let read = |znode: &Value| {
            let value = znode["value"].as_str().unwrap();
            let bytes = match znode["encoding"].as_str() {
                Some("base64") => decoded(value),
                _ => value.as_bytes().to_vec(),
            };
            (path(znode["path"].as_str().unwrap()), bytes)
        };
        Some(znodes.iter().map(read).collect())
    }
}

/// The bytes of a base64 text.
fn decoded(text: &str) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = |letter: u8| LETTERS.iter().position(|known| *known == letter);
    let mut bytes = Vec::new();
    let (mut held, mut count) = (0_usize, 0);
    for value in text.bytes().filter_map(bits) {
        held = (held << 6 | value) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((held >> count & 0xff) as u8);
        }
    }
    bytes
}

#[tokio::test]
async fn the_sink_keeps_every_promise_of_its_contract() {
    for has_reload in [false, true] {
        let mut rig = RenderRig {
            folder: tempfile::tempdir().unwrap(),
            checks: 0,
            has_reload,
        };
        every_promise(&mut rig).await;
    }
}
