//! The contract that every sink keeps.

use bridge_core::sink::Sink;
use bridge_core::testing::{Arrived, Rig, every_promise};
use bridge_servers::real_servers;

use crate::rig;

/// One partition: control records of different roots have different keys, and the suite wants all in one order.
struct KafkaRig {
    bootstrap: String,
    topic: String,
}

impl Rig for KafkaRig {
    async fn fresh(&mut self) {
        self.topic = rig::create_topic(&self.bootstrap, 1, &[("max.message.bytes", "20000000")]).await;
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        Box::new(rig::sink(&rig::config(&self.bootstrap, &self.topic)))
    }

    async fn arrived(&mut self) -> Vec<Arrived> {
        let messages = rig::messages(&self.bootstrap, &self.topic).await;
        messages.iter().filter_map(rig::Message::arrived).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sink_keeps_every_promise_of_its_contract() {
    real_servers!("the contract of sinks, at Kafka");
    let mut rig = KafkaRig {
        bootstrap: rig::shared_broker().await.bootstrap(),
        topic: String::new(),
    };
    every_promise(&mut rig).await;
}
