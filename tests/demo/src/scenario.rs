//! The demo's changes in ZooKeeper, in seven acts. Each act waits for its records or messages before the next one begins.

use std::time::Duration;

use anyhow::{Result, bail};
use bridge_console::text::escaped;
use tokio::pin;
use tokio::time::{Instant, interval, timeout_at};

use crate::clients::{Instance, LASTING, Operator, SHORT, ServiceProcess};
use crate::consumer::{Shown, TopicReader};
use crate::expectation::{ExpectedRecord, Step, Version};
use crate::screen::{Screen, TICK};
use crate::servers::{REGISTRY, Servers};
use crate::verdict::{Arrival, Tree, Verdict, is_complete, is_gap_over, judge};

/// The subtrees that the bridge watches.
pub(crate) const ROOTS: [&str; 2] = ["/services", "/config"];

const CART: &str = "/services/cart";
const INSTANCES: [&str; 3] = [
    "/services/cart/10.0.0.7:80",
    "/services/cart/10.0.0.8:80",
    "/services/cart/10.0.0.9:80",
];
const WEIGHT: &str = r#"{"w":1}"#;

/// Where the instances of act 5 register.
const PAYMENTS: &str = "/registry/payments";
const PAYMENTS_HOST: &str = "10.0.0.7";
const PAYMENTS_PORTS: [u16; 2] = [8080, 8081];

/// The messages of act 5: two instances come, and go with their session.
const COMING: [&str; 3] = [
    "payments 10.0.0.7:8080 is up",
    "payments is available: 1 instance",
    "payments 10.0.0.7:8081 is up",
];
const GOING: [&str; 3] = [
    "payments 10.0.0.7:8080 is down: its session ended",
    "payments 10.0.0.7:8081 is down: its session ended",
    "payments has no available instance",
];

const SETTINGS: &str = "/config/cart";
const TIMEOUT: &str = "/config/cart/timeout";
const BANNER: &str = "/config/cart/banner";
const CURRENCY: &str = "/config/cart/currency";
const LIMIT: &str = "/config/cart/limit";

/// How long the records of an act may take. They take milliseconds; the expiry of a session takes its timeout.
const ARRIVAL_BOUND: Duration = Duration::from_secs(30);

/// The clients, the znodes that they know to exist, and the steps that they have done.
pub(crate) struct Scenario {
    operator: Operator,
    instances: Vec<Instance>,
    known: Tree,
    steps: Vec<Step>,
}

/// A wait that reached its bound. The scenario ends here, and the verdict names what is missing.
#[derive(Debug)]
struct Absent(String);

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "waited {} s in vain for {}", ARRIVAL_BOUND.as_secs(), self.0)
    }
}

impl std::error::Error for Absent {}

impl Scenario {
    /// Creates the znodes that exist before the bridge starts.
    pub(crate) async fn prepare(servers: &Servers) -> Result<Scenario> {
        let operator = Operator::connect(&servers.connect_string()).await?;
        let mut scenario = Scenario {
            operator,
            instances: Vec::new(),
            known: Tree::new(),
            steps: Vec::new(),
        };
        let znodes = [
            (ROOTS[0], ""),
            (CART, ""),
            (ROOTS[1], ""),
            (SETTINGS, ""),
            (TIMEOUT, "5s"),
            (BANNER, "Spring sale"),
            (CURRENCY, "EUR"),
            (LIMIT, "100"),
        ];
        for (path, data) in znodes {
            scenario.create(path, data).await?;
        }
        // Of another source: no record of the topic is about them.
        for path in [REGISTRY, PAYMENTS] {
            scenario.operator.create(path, "").await?;
        }
        let listed = scenario.known.iter();
        let wanted: Vec<ExpectedRecord> = listed
            .map(|(path, version)| ExpectedRecord::snapshot(path, version.clone()))
            .collect();
        let done = format!("{} znodes are there already", wanted.len());
        let expected = format!("{} snapshot", wanted.len());
        scenario.step(&done, &expected, wanted);
        Ok(scenario)
    }

    fn step(&mut self, done: &str, expected: &str, wanted: Vec<ExpectedRecord>) {
        self.steps.push(Step::new(done, expected, wanted));
    }

    async fn create(&mut self, path: &str, data: &str) -> Result<ExpectedRecord> {
        let version = self.operator.create(path, data).await?;
        self.known.insert(path.to_owned(), version.clone());
        Ok(ExpectedRecord::create(path, version))
    }

    async fn set(&mut self, path: &str, data: &str) -> Result<ExpectedRecord> {
        let before = self.forget(path)?;
        let after = self.operator.set(path, data).await?;
        self.known.insert(path.to_owned(), after.clone());
        Ok(ExpectedRecord::update(path, before, after))
    }

    async fn delete(&mut self, path: &str) -> Result<ExpectedRecord> {
        let before = self.forget(path)?;
        self.operator.delete(path).await?;
        Ok(ExpectedRecord::delete(path, before))
    }

    async fn register(&mut self, servers: &Servers, path: &str, timeout: Duration) -> Result<ExpectedRecord> {
        let server = servers.zookeeper().client_addr(0);
        let instance = Instance::register(server, path, WEIGHT, timeout).await?;
        let wanted = ExpectedRecord::create(path, instance.version.clone());
        self.instances.push(instance);
        Ok(wanted)
    }

    fn forget(&mut self, path: &str) -> Result<Version> {
        match self.known.remove(path) {
            Some(version) => Ok(version),
            None => bail!("the scenario has no znode {path} at this point"),
        }
    }
}

/// Awaits the action. Shows how long it takes, and the records that arrive meanwhile.
async fn reading(
    screen: &mut Screen,
    reader: &mut TopicReader,
    what: &str,
    action: impl Future<Output = Result<()>>,
) -> Result<()> {
    screen.wait(what);
    let mut tick = interval(TICK);
    pin!(action);
    loop {
        tokio::select! {
            biased;
            done = &mut action => {
                screen.end_wait();
                return done;
            }
            shown = reader.next() => print(screen, &shown?),
            _ = tick.tick() => screen.tick(),
        }
    }
}

/// Prints records, one on a line.
pub(crate) fn print(screen: &mut Screen, shown: &[Shown]) {
    for shown in shown {
        let line = shown.line(screen.style());
        screen.line(&line);
    }
}

/// A scenario under way.
pub(crate) struct Run<'a> {
    pub(crate) screen: &'a mut Screen,
    pub(crate) servers: &'a mut Servers,
    pub(crate) reader: &'a mut TopicReader,
    pub(crate) scenario: &'a mut Scenario,
}

impl Run<'_> {
    /// Runs all acts, or as many as get their records, and compares what arrived with what was done.
    pub(crate) async fn all(&mut self) -> Result<Verdict> {
        let absent = match self.acts().await {
            Ok(()) => None,
            Err(error) => Some(error.downcast::<Absent>()?),
        };
        self.screen.end_wait();
        print(self.screen, &self.reader.held_back());
        let tree = self.scenario.operator.tree(&ROOTS).await?;
        let mut verdict = judge(&self.scenario.steps, self.reader.arrivals(), &ROOTS, &tree);
        if let Some(absent) = absent {
            verdict.complaints.insert(0, absent.to_string());
        }
        Ok(verdict)
    }

    async fn acts(&mut self) -> Result<()> {
        self.screen
            .heading("1. What is there already comes as a snapshot");
        self.arrive(None).await?;
        self.three_instances_register().await?;
        self.a_setting_changes_twice().await?;
        self.a_session_dies().await?;
        self.slack_hears_of_instances_that_die().await?;
        self.things_happen_while_the_bridge_is_dead().await?;
        self.the_bridge_comes_back().await?;
        self.everything_is_read().await
    }

    async fn three_instances_register(&mut self) -> Result<()> {
        self.screen
            .heading("2. Three instances of a service register: ephemeral znodes");
        let mut wanted = Vec::new();
        for (path, timeout) in INSTANCES.into_iter().zip([LASTING, LASTING, SHORT]) {
            wanted.push(self.scenario.register(self.servers, path, timeout).await?);
        }
        self.scenario
            .step("three instances register", "3 create, ephemeral", wanted);
        self.arrive(None).await
    }

    async fn a_setting_changes_twice(&mut self) -> Result<()> {
        self.screen.heading("3. A setting changes twice");
        for (data, done) in [
            ("10s", "a setting changes"),
            ("30s", "the same setting changes again"),
        ] {
            let wanted = self.scenario.set(TIMEOUT, data).await?;
            self.scenario.step(done, "1 update", vec![wanted]);
            self.arrive(None).await?;
        }
        Ok(())
    }

    async fn a_session_dies(&mut self) -> Result<()> {
        self.screen
            .heading("4. An instance loses its network, and its session dies");
        let Some(instance) = self.scenario.instances.pop() else {
            bail!("no instance is registered at this point");
        };
        instance.lose_network().await?;
        let wanted = ExpectedRecord::delete(&instance.path, instance.version.clone());
        self.scenario.step(
            "the session of an instance dies",
            "1 delete, its session",
            vec![wanted],
        );
        let timeout = SHORT.as_secs();
        let what = format!("ZooKeeper gives it {timeout} s to come back");
        self.arrive(Some(&what)).await
    }

    async fn slack_hears_of_instances_that_die(&mut self) -> Result<()> {
        self.screen
            .heading("5. A process with two instances of a service dies, and Slack hears of it");
        let server = self.servers.zookeeper().client_addr(0);
        let process =
            ServiceProcess::register(server, PAYMENTS, (PAYMENTS_HOST, PAYMENTS_PORTS), SHORT).await?;
        self.messages(&COMING, None).await?;
        process.lose_network().await?;
        let timeout = SHORT.as_secs();
        let what = format!("ZooKeeper gives it {timeout} s to come back");
        self.messages(&GOING, Some(&what)).await
    }

    /// Waits for messages that end with these texts, in any order, and prints them. A repeated one is printed, too.
    async fn messages(&mut self, texts: &[&str], shown_as: Option<&str>) -> Result<()> {
        if let Some(shown_as) = shown_as {
            self.screen.wait(shown_as);
        }
        let deadline = Instant::now() + ARRIVAL_BOUND;
        let mut tick = interval(TICK);
        let mut missing = texts.to_vec();
        while let Some(text) = missing.first().copied() {
            tokio::select! {
                biased;
                message = timeout_at(deadline, self.servers.slack().next()) => match message {
                    Ok(message) => {
                        let message = message?;
                        self.screen.line(&format!("  Slack  {}", escaped(&message)));
                        missing.retain(|text| !message.ends_with(text));
                    }
                    Err(_) => return Err(Absent(format!("the message: {text}")).into()),
                },
                _ = tick.tick() => self.screen.tick(),
            }
        }
        self.screen.end_wait();
        Ok(())
    }

    async fn things_happen_while_the_bridge_is_dead(&mut self) -> Result<()> {
        self.screen
            .heading("6. The bridge is killed, and much happens while it is dead");
        let id = self.servers.bridge_id().unwrap_or_default();
        self.servers.kill_bridge().await?;
        self.screen.done(&format!("kill -9 {id}"));

        let wanted = self.scenario.delete(BANNER).await?.reconciled();
        self.scenario
            .step("bridge dead: one is deleted", "1 delete, in a gap", vec![wanted]);
        self.screen.done(&format!("delete   {BANNER}"));

        let wanted = vec![
            self.scenario.delete(CURRENCY).await?.reconciled(),
            self.scenario.create(CURRENCY, "EUR").await?.reconciled(),
        ];
        self.scenario.step(
            "bridge dead: one deleted, made again",
            "1 delete, 1 create",
            wanted,
        );
        self.screen.done(&format!("delete   {CURRENCY}"));
        self.screen.done(&format!("create   {CURRENCY}  EUR, as it was"));

        let wanted = self.scenario.set(LIMIT, "250").await?.reconciled();
        self.scenario
            .step("bridge dead: one is changed", "1 update, in a gap", vec![wanted]);
        self.screen.done(&format!("set      {LIMIT}  250"));
        Ok(())
    }

    async fn the_bridge_comes_back(&mut self) -> Result<()> {
        self.screen
            .heading("7. The bridge is started again, finds all of it and goes on");
        self.servers.start_bridge()?;
        let ready = self.servers.bridge_ready();
        reading(self.screen, self.reader, "starting the bridge", ready).await?;
        self.arrive(None).await?;
        let gaps = |arrivals: &[Arrival]| is_gap_over(&ROOTS, arrivals);
        self.until("the end of the gap of each root", None, gaps).await?;
        // Its record is the last one: once it has arrived, no other is under way.
        let wanted = self
            .scenario
            .register(self.servers, INSTANCES[2], LASTING)
            .await?;
        self.scenario
            .step("an instance is back", "1 create, ephemeral", vec![wanted]);
        self.arrive(None).await
    }

    async fn everything_is_read(&mut self) -> Result<()> {
        let deadline = Instant::now() + ARRIVAL_BOUND;
        while !self.reader.has_all().await? {
            match timeout_at(deadline, self.reader.next()).await {
                Ok(shown) => print(self.screen, &shown?),
                Err(_) => return Err(Absent("the end of the topic".to_owned()).into()),
            }
        }
        Ok(())
    }

    /// Waits for the records of all steps so far. With `shown_as`, the screen shows the wait.
    async fn arrive(&mut self, shown_as: Option<&str>) -> Result<()> {
        let steps = self.scenario.steps.clone();
        let last = steps.last().map(|step| step.done.clone()).unwrap_or_default();
        let what = format!("the records of this step: {last}");
        self.until(&what, shown_as, |arrivals| is_complete(&steps, arrivals))
            .await
    }

    async fn until(
        &mut self,
        what: &str,
        shown_as: Option<&str>,
        is_there: impl Fn(&[Arrival]) -> bool,
    ) -> Result<()> {
        if let Some(shown_as) = shown_as {
            self.screen.wait(shown_as);
        }
        let deadline = Instant::now() + ARRIVAL_BOUND;
        let mut tick = interval(TICK);
        while !is_there(self.reader.arrivals()) {
            tokio::select! {
                biased;
                shown = timeout_at(deadline, self.reader.next()) => match shown {
                    Ok(shown) => print(self.screen, &shown?),
                    Err(_) => return Err(Absent(what.to_owned()).into()),
                },
                _ = tick.tick() => self.screen.tick(),
            }
        }
        self.screen.end_wait();
        Ok(())
    }
}
