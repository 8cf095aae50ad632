//! The contract that every sink keeps.

use bridge_core::sink::Sink;
use bridge_core::testing::{Arrived, Rig, every_promise};
use bridge_servers::{NATS_LINES, Nats, real_servers};

use crate::rig;

struct NatsRig {
    server: Nats,
    stream: String,
    fence: bool,
    /// Whether the sink goes through the proxy.
    is_garbled: bool,
}

impl Rig for NatsRig {
    async fn fresh(&mut self) {
        self.stream = rig::create_stream(&self.server.urls()).await;
        self.is_garbled = false;
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        let mut config = match self.is_garbled {
            true => rig::hasty_config(&self.server.proxied_url(), &self.stream),
            false => rig::config(&self.server.urls(), &self.stream),
        };
        config.fence = self.fence;
        Box::new(rig::sink(&config))
    }

    async fn arrived(&mut self) -> Vec<Arrived> {
        let messages = rig::messages(&self.server.urls(), &self.stream).await;
        messages.iter().map(rig::Message::arrived).collect()
    }

    async fn garble(&mut self, seed: Option<u64>) -> bool {
        self.is_garbled = true;
        let proxy = self.server.proxy();
        match seed {
            Some(seed) => proxy.hostile(seed).await.unwrap(),
            None => proxy.restore().await.unwrap(),
        }
        true
    }
}

async fn keeps_every_promise(version: &str, fence: bool) {
    let mut rig = NatsRig {
        server: rig::proxied_server(version).await,
        stream: String::new(),
        fence,
        is_garbled: false,
    };
    every_promise(&mut rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sink_keeps_every_promise_of_its_contract_at_the_newest_server() {
    real_servers!("the contract of sinks, at the newest NATS");
    keeps_every_promise(NATS_LINES[1], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sink_keeps_every_promise_of_its_contract_at_the_server_of_debian_12() {
    real_servers!("the contract of sinks, at the NATS of Debian 12");
    keeps_every_promise(NATS_LINES[0], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_sink_keeps_every_promise_of_its_contract() {
    real_servers!("the contract of sinks, at NATS with a fence");
    keeps_every_promise(NATS_LINES[1], true).await;
}
