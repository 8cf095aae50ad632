//! Unusual values and names of znodes.

use bridge_servers::real_servers;

use crate::stage::{Place, Scene};

/// The largest value that a server takes with its default `jute.maxbuffer`, the path and the rest of the request
/// being below 1 KB.
const LARGEST: usize = (1 << 20) - 1024;

#[tokio::test(flavor = "multi_thread")]
async fn values_of_all_kinds_and_sizes_arrive_as_they_were_written() {
    real_servers!("values");
    let mut place = Place::shared().await;
    place.is_large = true;
    let mut scene = Scene::at("values", place).await;
    scene.writer.create(scene.root(), "").await;
    scene.bridge.start_ready().await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let values: [(&str, Vec<u8>); 7] = [
        ("empty", Vec::new()),
        ("binary", all_bytes),
        ("nul", b"a\0b".to_vec()),
        ("text", "žluťoučký kůň 🐴 \"\\\n\u{7f}".into()),
        ("json", br#"{"a": 1e400, "b": 12345678901234567890}"#.to_vec()),
        ("large-text", vec![b'x'; LARGEST]),
        ("large-binary", vec![0xff; LARGEST]),
    ];
    for (name, value) in &values {
        scene.writer.create(&scene.path(name), value).await;
    }
    // A record with two of the largest values, before and after.
    let mut other = values[6].1.clone();
    other[0] = 0;
    scene.writer.set(&scene.path("large-binary"), other).await;
    scene.writer.set(&scene.path("binary"), "").await;
    scene.writer.set(&scene.path("empty"), "no more").await;
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_all_kinds_arrive_as_they_were_written() {
    real_servers!("names");
    let mut scene = Scene::live("names").await;
    // Servers reject control characters and characters outside the basic plane.
    let names = [
        "with space",
        " leading and trailing ",
        "...",
        ".hidden",
        "a.b.c",
        "ünïcödé-雪",
        "\"quoted\" and 'quoted'",
        "back\\slash",
        "percent%2Fslash",
        "*?[glob]{a,b}",
        "{{ template }}",
        "10.0.0.7:8080",
        "control:",
    ];
    for name in names {
        let (path, below) = (scene.path(name), scene.path(&format!("{name}/{name}")));
        scene.writer.create(&path, name).await;
        scene.writer.create(&below, name).await;
        scene.writer.set(&path, "changed").await;
        scene.writer.delete(&below).await;
    }
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_znodes_are_listed_at_the_first_start_and_then_followed() {
    real_servers!("first start");
    let mut scene = Scene::open("first-start").await;
    for at in 0..300 {
        let path = scene.path(&format!("n{:02}", at % 20));
        let below = format!("{path}/{at}");
        if at < 20 {
            scene.writer.create(&path, at.to_string()).await;
        }
        scene.writer.create(&below, below.as_bytes()).await;
        scene.writer.set(&path, at.to_string()).await;
    }
    scene.bridge.start_ready().await;
    scene.writer.set(&scene.path("n00"), "after").await;
    scene.writer.delete(&scene.path("n00/0")).await;
    scene.judge().await;
    assert_eq!(
        scene.story(&scene.path("n00")),
        ["snapshot reconciled", "update exact"]
    );
    assert_eq!(
        scene.story(&scene.path("n00/0")),
        ["snapshot reconciled", "delete exact"]
    );
    assert_eq!(scene.gaps(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn quick_writes_are_delivered_or_listed_as_superseded() {
    real_servers!("quick sets");
    let mut scene = Scene::open("quick-sets").await;
    let paths: Vec<String> = (0..20).map(|at| scene.path(&format!("n{at}"))).collect();
    for path in &paths {
        scene.writer.create(path, "0").await;
    }
    scene.bridge.start_ready().await;
    let client = &scene.writer.client;
    let sets = (0..500).map(|at: usize| client.set_data(&paths[at % 20], at.to_string().as_bytes(), None));
    for set in futures::future::join_all(sets.collect::<Vec<_>>()).await {
        set.unwrap();
    }
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_writes_is_accounted_for_completely() {
    real_servers!("a storm");
    let mut scene = Scene::live("storm").await;
    let root = scene.root().to_owned();
    let other = crate::writer::Writer::connect(&scene.place.direct).await;
    let (mut one, mut two) = (
        crate::writer::Storm::new(&scene.writer, &root, 11),
        crate::writer::Storm::new(&other, &root, 12),
    );
    tokio::join!(one.blow(1500), two.blow(1500));
    drop(other);
    scene.judge().await;
}
