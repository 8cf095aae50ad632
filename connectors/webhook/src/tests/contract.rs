//! The contract of sinks, at a receiver that behaves and at one that does not.

use bridge_core::path::ZnodePath;
use bridge_core::sink::Sink;
use bridge_core::testing::{
    Arrived, Rig, delivery_goes_on_after_every_fault, every_promise, other_paths_go_on_while_some_fail,
    rejected_records_let_the_others_pass,
};
use bridge_servers::Proxy;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::receiver::{Receiver, Reply};
use super::*;

struct WebhookRig {
    receiver: Receiver,
    batch: usize,
    /// The seed of its bad behaviour.
    misbehaves: Option<u64>,
    /// How it refuses a path.
    refusal: Reply,
    /// Changes its answers.
    proxy: Option<Proxy>,
}

impl WebhookRig {
    async fn start(batch: usize, misbehaves: Option<u64>) -> WebhookRig {
        WebhookRig {
            receiver: Receiver::start().await,
            batch,
            misbehaves,
            refusal: Reply::Status(404),
            proxy: None,
        }
    }
}

impl Rig for WebhookRig {
    async fn fresh(&mut self) {
        self.receiver = Receiver::start().await;
        self.proxy = None;
        if let Some(seed) = self.misbehaves {
            let mut random = StdRng::seed_from_u64(seed);
            self.receiver.answer(move |_| bad_manners(&mut random));
        }
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        let mut config = config(&self.receiver);
        config.batch = self.batch;
        config.secrets = vec![bridge_core::secret::Secret::new(SECRET)];
        if self.misbehaves.is_some() {
            config.timeout = Span::millis(100);
        }
        if let Some(proxy) = &self.proxy {
            config.url = bridge_core::secret::Secret::new(format!("http://{}/hook", proxy.addr()));
            config.timeout = Span::millis(1_500);
        }
        Box::new(WebhookSink::new(&config).unwrap())
    }

    async fn arrived(&mut self) -> Vec<Arrived> {
        let mut arrived = Vec::new();
        for request in self.receiver.taken() {
            let events: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            let list = events.as_array().cloned().unwrap_or_else(|| vec![events]);
            arrived.extend(
                list.iter()
                    .map(|event| Arrived::from_json(event["data"].to_string().as_bytes())),
            );
        }
        arrived
    }

    fn refuse(&mut self, paths: &[ZnodePath]) -> bool {
        let (refusal, refused) = (self.refusal.clone(), paths.to_vec());
        self.receiver.answer(move |request| {
            let has = |path: &String| refused.iter().any(|refused| refused.as_str() == path);
            match paths_in(&request.body).iter().any(has) {
                true => refusal.clone(),
                false => Reply::Status(204),
            }
        });
        true
    }

    async fn garble(&mut self, seed: Option<u64>) -> bool {
        let proxy = match self.proxy.take() {
            Some(proxy) => proxy,
            None => Proxy::start(self.receiver.address).await.unwrap(),
        };
        match seed {
            Some(seed) => proxy.hostile(seed).await.unwrap(),
            None => proxy.restore().await.unwrap(),
        }
        self.proxy = Some(proxy);
        true
    }
}

/// The paths of all records in a request.
fn paths_in(body: &[u8]) -> Vec<String> {
    let events: serde_json::Value = serde_json::from_slice(body).unwrap();
    let list = events.as_array().cloned().unwrap_or_else(|| vec![events]);
    let path = |event: &serde_json::Value| event["data"]["path"].as_str().unwrap_or_default().to_owned();
    list.iter().map(path).collect()
}

/// One request in eight meets with something.
fn bad_manners(random: &mut StdRng) -> Reply {
    match random.random_range(0..80) {
        0 => Reply::Status(500),
        1 => Reply::Status(503),
        2 => Reply::With(503, vec![("retry-after", "0".to_owned())]),
        3 => Reply::With(429, vec![("retry-after", "0".to_owned())]),
        4 => Reply::Status(302),
        5 => Reply::Cut,
        6 => Reply::CutAfter,
        7 => Reply::Hold,
        8 => Reply::Slow(Duration::from_millis(20)),
        9 => Reply::Large(200_000),
        _ => Reply::Status(200),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sink_keeps_every_promise_of_its_contract() {
    every_promise(&mut WebhookRig::start(1, None).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sink_keeps_every_promise_with_several_records_in_a_request() {
    every_promise(&mut WebhookRig::start(7, None).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_a_receiver_refuses_some_paths_the_others_go_on() {
    let refusals = [
        Reply::Status(404),
        Reply::Status(403),
        Reply::Status(401),
        Reply::Status(400),
        Reply::Status(500),
        Reply::Status(302),
        Reply::Cut,
    ];
    for (at, refusal) in refusals.into_iter().enumerate() {
        println!("{refusal:?}");
        let mut rig = WebhookRig::start([1, 7][at % 2], None).await;
        rig.refusal = refusal;
        other_paths_go_on_while_some_fail(&mut rig).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_overtaken_at_a_receiver_that_misbehaves() {
    let rows = match std::env::var("ZKBRIDGE_SEED") {
        Ok(seed) => [1, 5].map(|batch| (seed.parse().expect("ZKBRIDGE_SEED is a number"), batch)),
        Err(_) => [(1, 1), (2, 5)],
    };
    for (seed, batch) in rows {
        println!("ZKBRIDGE_SEED={seed}, batch {batch}");
        let mut rig = WebhookRig::start(batch, Some(seed)).await;
        delivery_goes_on_after_every_fault(&mut rig).await;
        rejected_records_let_the_others_pass(&mut rig).await;
    }
}
