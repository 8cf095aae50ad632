//! The answers of the routes.

use std::io::Read as _;

use flate2::read::GzDecoder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::api::openapi::openapi_text;
use crate::api::route::ROUTES;

fn story() -> Served {
    let mut served = Served::new();
    served.write(&[("/a", 1, "one"), ("/a/x", 2, "two"), ("/b", 3, "three")]);
    served.write(&[("/a", 4, "four"), ("/a/y", 5, "five")]);
    served
}

#[tokio::test]
async fn each_question_is_answered_with_its_moment() {
    let served = story();
    let moment = served.json("/sources/main/moment?at=0x2").await;
    assert_eq!((&moment["seq"], &moment["tail"]), (&2.into(), &5.into()));
    assert_eq!(moment["after"]["seq"], 3);

    let node = served.json("/sources/main/node?path=/a&at=2").await;
    assert_eq!(node["then"]["data"]["value"], "one");
    assert_eq!(
        (&node["then"]["certain"], &node["moment"]["at"]),
        (&true.into(), &"2".into())
    );
    let node = served.json("/sources/main/node?path=%2Fa&at=now").await;
    assert_eq!(node["then"]["data"]["value"], "four");

    let children = served.json("/sources/main/children?path=/a&at=4").await;
    let names: Vec<&str> = children["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["x"]);
    assert_eq!(
        children["unknown"], 1,
        "y, as no listing says that it did not exist"
    );

    let history = served.json("/sources/main/history?path=/a&to=3").await;
    assert_eq!(history["items"].as_array().unwrap().len(), 1);
    assert_eq!(history["items"][0]["record"]["after"]["data"]["value"], "one");

    for (at, words) in [
        ("20261130", "write 2026-11-30 for the date"),
        ("1795355000", "Unix time"),
    ] {
        let (status, problem) = served.problem(&format!("/sources/main/moment?at={at}")).await;
        assert_eq!(status, 400, "{problem}");
        assert!(problem.to_string().contains(words), "{problem}");
    }

    let diff = served.json("/sources/main/diff?under=/a&a=3&b=5").await;
    assert_eq!(diff["items"][0]["path"], "/a");
    assert_eq!(diff["items"][0]["kind"], "changed");
    let kinds = served
        .json("/sources/main/diff?under=/a&a=3&b=5&kind=created,rewritten")
        .await;
    assert!(
        kinds["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item["kind"] != "changed"),
        "{kinds}"
    );

    let activity = served.json("/sources/main/activity?buckets=2").await;
    let total: u64 = activity["items"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|bucket| bucket["ops"].as_object().unwrap().values())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(total, 5);
    assert_eq!(
        served.json("/sources/main/gaps").await["items"],
        Value::Array(Vec::new())
    );
    assert_eq!(served.json("/sources/main/records/3").await["path"], "/b");
    assert_eq!(served.json("/sources").await[0]["source"], "main");
}

#[tokio::test]
async fn the_pages_of_a_list_are_the_list_whatever_is_appended_meanwhile() {
    let mut served = story();
    let whole = served.json("/sources/main/changes").await["items"].clone();
    let mut found = Vec::new();
    let mut target = "/sources/main/changes?limit=2".to_owned();
    loop {
        let page = served.json(&target).await;
        found.extend(page["items"].as_array().unwrap().iter().cloned());
        served.write(&[("/later", 90 + found.len() as u64, "later")]);
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/sources/main/changes?limit=2&cursor={next}");
    }
    assert_eq!(Value::Array(found), whole);
    let page = served.json("/sources/main/changes?limit=2").await;
    let other = format!(
        "/sources/main/changes?op=create&cursor={}",
        page["next"].as_str().unwrap()
    );
    let (code, problem) = served.problem(&other).await;
    assert_eq!((code, problem["parameter"].as_str()), (410, Some("cursor")));
}

#[tokio::test]
async fn a_filter_selects_by_path_glob_operation_writer_and_text() {
    let served = story();
    let check = async |filter: &str, expected: &[u64]| {
        let list = served.json(&format!("/sources/main/changes?{filter}")).await;
        let seqs: Vec<u64> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| record["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(seqs, expected, "{filter}");
    };
    check("under=/a", &[1, 2, 4, 5]).await;
    check("under=/a&glob=/a/*", &[2, 5]).await;
    check("op=update", &[4]).await;
    check("op=update,create&under=/b", &[3]).await;
    check("text=o", &[1, 2, 4]).await;
    check("from=2&to=3", &[2, 3]).await;
    check("order=newest&limit=2", &[5, 4]).await;
    check("session=0x1", &[]).await;
    // No writer is known of the records of a watch.
    check("client=10.0.0.5", &[]).await;
    check("user=alice", &[]).await;
}

#[tokio::test]
async fn a_wrong_parameter_is_a_problem_that_names_it_and_says_what_to_do() {
    let served = story();
    let check = async |target: &str, code: u16, kind: &str, parameter: Option<&str>| {
        let (found, problem) = served.problem(target).await;
        assert_eq!(found, code, "{target}: {problem}");
        assert_eq!(
            problem["type"],
            format!("urn:zkbridge:problem:{kind}"),
            "{target}"
        );
        assert_eq!(problem["parameter"].as_str(), parameter, "{target}");
    };
    let main = "/sources/main";
    check("/nowhere", 404, "no-route", None).await;
    check("/sources/other/moment", 404, "no-source", None).await;
    check(
        &format!("{main}/moment?at=1795355000"),
        400,
        "bad-moment",
        Some("at"),
    )
    .await;
    check(
        &format!("{main}/moment?at=last%20week"),
        400,
        "bad-moment",
        Some("at"),
    )
    .await;
    check(
        &format!("{main}/moment?when=1"),
        400,
        "bad-parameter",
        Some("when"),
    )
    .await;
    check(&format!("{main}/moment?at=1&at=2"), 400, "bad-moment", Some("at")).await;
    check(&format!("{main}/node"), 400, "bad-parameter", Some("path")).await;
    check(&format!("{main}/node?path=a"), 400, "bad-parameter", Some("path")).await;
    check(
        &format!("{main}/node?path=/%FF"),
        400,
        "bad-parameter",
        Some("path"),
    )
    .await;
    check(&format!("{main}/node?path=/never"), 404, "never-seen", None).await;
    check(&format!("{main}/history?path=/never"), 404, "never-seen", None).await;
    check(&format!("{main}/changes?op=move"), 400, "bad-filter", Some("op")).await;
    check(
        &format!("{main}/changes?glob=/%5B"),
        400,
        "bad-filter",
        Some("glob"),
    )
    .await;
    for limit in ["-1", "0"] {
        check(
            &format!("{main}/changes?limit={limit}"),
            400,
            "bad-parameter",
            Some("limit"),
        )
        .await;
    }
    check(
        &format!("{main}/changes?order=up"),
        400,
        "bad-parameter",
        Some("order"),
    )
    .await;
    check(&format!("{main}/diff"), 400, "bad-moment", Some("a")).await;
    check(
        &format!("{main}/diff?a=1&kind=new"),
        400,
        "bad-filter",
        Some("kind"),
    )
    .await;
    check(&format!("{main}/records/99"), 404, "never-seen", None).await;
    check(&format!("{main}/records/x"), 400, "bad-parameter", Some("seq")).await;
    check(&format!("{main}/letters?sink=none"), 404, "never-seen", None).await;
    let mut post = request("/sources", &[("authorization", &format!("Bearer {TOKEN}"))]);
    *post.method_mut() = axum::http::Method::PUT;
    let kind = "application/json".parse().unwrap();
    post.headers_mut().insert(header::CONTENT_TYPE, kind);
    assert_eq!(problem(served.send(post).await).await.0, 405);
}

#[tokio::test]
async fn an_answer_that_is_known_is_not_sent_again_and_a_long_one_is_compressed() {
    let mut served = story();
    let bearer = format!("Bearer {TOKEN}");
    let target = "/sources/main/changes";
    let first = served.ask(TOKEN, target).await;
    let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
    let headers = [
        ("authorization", bearer.as_str()),
        ("if-none-match", tag.as_str()),
    ];
    let again = served.send(request(target, &headers)).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(body(again).await, "");
    served.write(&[("/c", 9, "nine")]);
    let changed = served.send(request(target, &headers)).await;
    assert_eq!(changed.status(), StatusCode::OK);

    let headers = [
        ("authorization", bearer.as_str()),
        ("accept-encoding", "br, gzip"),
    ];
    let zipped = served.send(request(target, &headers)).await;
    assert_eq!(zipped.headers()[header::CONTENT_ENCODING], "gzip");
    let bytes = zipped.into_body().collect().await.unwrap().to_bytes();
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, body(served.ask(TOKEN, target).await).await);
}

#[tokio::test]
async fn a_raw_value_is_an_attachment_that_no_browser_interprets() {
    let mut served = Served::new();
    served.write(&[("/page", 1, "<script>alert(1)</script>")]);
    let response = served.ask(TOKEN, "/sources/main/node?path=/page&raw=1").await;
    let headers = response.headers().clone();
    assert_eq!(headers[header::CONTENT_TYPE], "application/octet-stream");
    assert!(
        headers[header::CONTENT_DISPOSITION]
            .to_str()
            .unwrap()
            .starts_with("attachment")
    );
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(body(response).await, "<script>alert(1)</script>");
}

#[tokio::test]
async fn a_raw_value_says_in_its_headers_how_certain_it_is() {
    let mut served = Served::new();
    served.write(&[("/page", 1, "one"), ("/page", 5, "two")]);
    let check = async |at: &str, value: &str| {
        let target = format!("/sources/main/node?path=/page&at={at}");
        let document = served.json(&target).await;
        let raw = served.ask(TOKEN, &format!("{target}&raw=1")).await;
        let headers = raw.headers().clone();
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let certainty = text("zkbridge-certainty");
        assert_eq!(
            certainty.as_deref(),
            document["then"]["certainty"].as_str(),
            "{at}"
        );
        assert!(certainty.is_some());
        let doubts: Vec<&str> = headers
            .get_all("zkbridge-doubt")
            .iter()
            .map(|doubt| doubt.to_str().unwrap())
            .collect();
        assert_eq!(document["then"]["doubts"], serde_json::json!(doubts), "{at}");
        assert_eq!(text("zkbridge-size"), Some(value.len().to_string()));
        assert_eq!(text("zkbridge-seq"), Some(document["then"]["seq"].to_string()));
        assert_eq!(
            text("zkbridge-mzxid").as_deref(),
            document["then"]["stat"]["mzxid"].as_str()
        );
        assert_eq!(text("zkbridge-masked"), None);
        assert_eq!(body(raw).await, value);
        headers[header::ETAG].clone()
    };
    let certain = check("2", "two").await;
    // The same bytes, and another answer: a cache must not take one for the other.
    let beyond = check("99", "two").await;
    assert_ne!(certain, beyond);
    check("1", "one").await;
}

#[test]
fn the_description_that_is_checked_in_is_the_one_of_the_routes() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let text = openapi_text();
    if std::env::var_os("ZKBRIDGE_UPDATE_SCHEMA").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        known == text,
        "docs/openapi.json is not up to date: run 'cargo run -- schema openapi > docs/openapi.json'"
    );
}

#[test]
fn every_route_and_every_parameter_is_described_and_every_reference_leads_somewhere() {
    let text = openapi_text();
    let description: Value = serde_json::from_str(&text).unwrap();
    for route in ROUTES {
        let get = &description["paths"][format!("/api/v1{}", route.path)]["get"];
        let described = get["parameters"].as_array().unwrap();
        for parameter in route.parameters {
            assert!(
                described.iter().any(|known| known["name"] == parameter.name),
                "{} {}",
                route.path,
                parameter.name
            );
        }
        let documented = include_str!("../../../docs/api.md");
        assert!(
            documented.contains(route.path),
            "docs/api.md does not name {}",
            route.path
        );
    }
    for part in text.split("\"$ref\": \"").skip(1) {
        let reference = part.split('"').next().unwrap();
        let pointer = reference
            .strip_prefix('#')
            .expect("a reference is inside of the document");
        assert!(description.pointer(pointer).is_some(), "{reference}");
    }
}

/// Texts that a parameter may hold, most of them wrong.
fn a_text(random: &mut StdRng) -> String {
    const TEXTS: [&str; 22] = [
        "",
        "/",
        "/a",
        "/a/",
        "//",
        "a",
        "now",
        "0",
        "1",
        "-1",
        "18446744073709551615",
        "99999999999999999999999",
        "0x",
        "0xffffffffffffffff",
        "9999-12-31T23:59:59Z",
        "-9999-01-01",
        "9999999y",
        "/[",
        "/**/{a,b}/**",
        "\u{0}",
        "\u{1f600}\r\n",
        "create,",
    ];
    match random.random_range(0..4) {
        0 => (0..random.random_range(0..40))
            .map(|_| random.random::<char>())
            .collect(),
        _ => TEXTS[random.random_range(0..TEXTS.len())].to_owned(),
    }
}

#[tokio::test]
async fn no_parameter_whatever_it_holds_is_more_than_a_problem_of_the_caller() {
    let served = story();
    let seed = std::env::var("ZKBRIDGE_SEED").map_or(11, |seed| seed.parse().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    let mut answered = 0;
    for _ in 0..600 {
        let route = &ROUTES[random.random_range(0..ROUTES.len())];
        let mut query = form_urlencoded::Serializer::new(String::new());
        for parameter in route.parameters {
            if parameter.is_required || random.random_ratio(1, 3) {
                query.append_pair(parameter.name, &a_text(&mut random));
            }
        }
        let path = route.path.replace("{source}", "main");
        let path = path.replace(
            "{seq}",
            ["1", "0", "x", "99999999999999999999"][random.random_range(0..4)],
        );
        let target = format!("{path}?{}", query.finish());
        let response = served.ask(TOKEN, &target).await;
        let code = response.status().as_u16();
        assert!(
            code == 200 || (400..500).contains(&code),
            "seed {seed}: {target}: {code}"
        );
        answered += u64::from(code == 200);
    }
    assert!(answered > 60, "{answered} of 600 were answered");
}

#[tokio::test]
async fn a_question_whose_caller_has_gone_keeps_its_turn_until_it_ends() {
    let served = Served::new();
    let view = View::new(vec![served._status.subscribe()], Vec::new());
    let journals = crate::api::journals::ApiJournals::new(served._folder.path(), view);
    let source = journals.source("main").unwrap();
    let caller = served.access.by_token(TOKEN).unwrap();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let asked = source.ask(&caller, move |_, _| {
        begin.send(()).unwrap();
        let _ = ended.recv_timeout(BOUND);
        Ok(())
    });
    tokio::select! {
        _ = asked => panic!("it has not ended"),
        begun = begun => begun.unwrap(),
    }
    // The caller is gone, and the question still reads.
    assert!(source.ask(&caller, |_, _| Ok(())).await.is_err());
    end.send(()).unwrap();
    source.ask(&caller, |_, _| Ok(())).await.unwrap();
}

#[tokio::test]
async fn children_of_a_znode_without_any_record_are_not_an_empty_list() {
    let served = story();
    let list = served.json("/sources/main/children?path=/b").await;
    assert_eq!(
        list["items"],
        Value::Array(Vec::new()),
        "it is known, and has none"
    );
    let (code, problem) = served.problem("/sources/main/children?path=/never").await;
    assert_eq!(
        (code, problem["type"].as_str()),
        (404, Some("urn:zkbridge:problem:never-seen"))
    );
}
