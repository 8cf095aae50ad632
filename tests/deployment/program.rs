//! The real binary with a configuration of a deployment.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bridge_servers::{Child, page_of};
use serde_json::Value;

/// How long a start may take on a machine busy with other tests.
const BOUND: Duration = Duration::from_secs(60);

/// A bridge that was started as a deployment would, in a folder of its own and on a free port.
pub struct Program {
    _child: Child,
    address: SocketAddr,
}

impl Program {
    pub async fn start(words: &[String], folder: &Path, variables: &[(&str, &str)]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
        command.args(words).current_dir(folder);
        command.envs(variables.iter().copied());
        command.env("ZKBRIDGE_LOG__FORMAT", "json");
        command.env("ZKBRIDGE_DATA_DIR", folder.join("data"));
        command.env("ZKBRIDGE_HTTP__LISTEN", "127.0.0.1:0");
        let mut child = Child::start(&command).expect("it starts");
        let address = child.until("its address", BOUND, |lines| {
            let mut logged = lines
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(&line.text).ok());
            logged.find_map(|line| line["address"].as_str()?.parse().ok())
        });
        let address = address.await.unwrap();
        Program {
            _child: child,
            address,
        }
    }

    /// The status code of a page, asked with these lines of a header.
    pub async fn code(&self, page: &str, header: &str) -> u16 {
        let answer = page_of(self.address, page, header).await;
        answer.unwrap_or_else(|| panic!("{page} is not answered")).0
    }
}
