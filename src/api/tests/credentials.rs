//! No answer without a credential, and none that shows more than the credential allows.

use axum::http::{Method, header};
use bridge_config::{HttpConfig, TokenConfig};

use super::*;
use crate::api::route::ROUTES;

/// The path of a route with values for its parameters.
fn target(path: &str) -> String {
    path.replace("{source}", "main").replace("{seq}", "1")
}

#[tokio::test]
async fn no_route_answers_without_a_credential() {
    let mut served = Served::new();
    served.write(&[("/a", 1, "secret")]);
    for route in ROUTES {
        for headers in [
            &[][..],
            &[("authorization", "Bearer a wrong token")],
            &[("authorization", "Basic dGVzdDp0ZXN0")],
            &[("cookie", "zkbridge-session=00")],
        ] {
            let target = target(route.path);
            let response = served.send(request(&target, headers)).await;
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            let (code, _) = problem(response).await;
            assert_eq!(code, 401, "{target} {headers:?}");
        }
    }
    // The control: with the token each route exists.
    for route in ROUTES {
        let response = served.ask(TOKEN, &target(route.path)).await;
        assert_ne!(response.status(), StatusCode::UNAUTHORIZED, "{}", route.path);
        assert_ne!(
            response
                .headers()
                .get(header::CONTENT_TYPE)
                .map(|kind| kind == "text/html"),
            Some(true)
        );
    }
    let (code, _) = problem(served.send(request("/nowhere", &[])).await).await;
    assert_eq!(code, 401, "not even the routes are named");
}

#[tokio::test]
async fn a_request_under_another_name_needs_a_token() {
    let served = Served::new();
    let sent = |headers: &[(&str, &str)]| {
        let mut request = request("/sources", headers);
        request
            .headers_mut()
            .insert(header::HOST, "evil.example".parse().unwrap());
        request
    };
    let (code, problem) = problem(served.send(sent(&[])).await).await;
    assert_eq!(
        (code, problem["type"].as_str()),
        (421, Some("urn:zkbridge:problem:wrong-host"))
    );
    let bearer = format!("Bearer {TOKEN}");
    let answered = served.send(sent(&[("authorization", &bearer)])).await;
    assert_eq!(answered.status(), StatusCode::OK);
}

fn login(body: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::post("/api/v1/session")
        .header(header::HOST, "localhost:9641")
        .header(header::CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn a_code_opens_a_session_in_a_cookie_that_ends_with_a_logout() {
    let served = Served::new();
    let code = served.access.new_code();
    let response = served
        .send(login(&format!("{{\"code\": \"{code}\"}}"), &[]))
        .await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let cookie = response.headers()[header::SET_COOKIE]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    let (cookie, _) = cookie.split_once(';').unwrap();
    let stale = "zkbridge-session=00";
    for both in [format!("{stale}; {cookie}"), format!("{cookie}; {stale}")] {
        let asked = served.send(request("/session", &[("cookie", &both)])).await;
        assert_eq!(asked.status(), StatusCode::OK, "{both}");
    }
    let asked = served.send(request("/session", &[("cookie", cookie)])).await;
    let session: Value = serde_json::from_str(&body(asked).await).unwrap();
    assert_eq!(session["caller"], "operator");
    let again = served
        .send(login(&format!("{{\"code\": \"{code}\"}}"), &[]))
        .await;
    assert_eq!(problem(again).await.0, 401);
    let mut logout = request("/session", &[("cookie", cookie)]);
    *logout.method_mut() = Method::DELETE;
    assert_eq!(served.send(logout).await.status(), StatusCode::NO_CONTENT);
    let (code, _) = problem(served.send(request("/session", &[("cookie", cookie)])).await).await;
    assert_eq!(code, 401);
}

#[tokio::test]
async fn a_login_from_another_page_or_without_json_is_refused() {
    let served = Served::new();
    let body = format!("{{\"token\": \"{TOKEN}\"}}");
    let check = async |headers: &[(&str, &str)], expected: u16| {
        let code = served.send(login(&body, headers)).await.status().as_u16();
        assert_eq!(code, expected, "{headers:?}");
    };
    check(&[("sec-fetch-site", "cross-site")], 403).await;
    check(&[("sec-fetch-site", "same-site")], 403).await;
    check(&[("sec-fetch-site", "same-origin")], 204).await;
    let mut form = login(&body, &[]);
    let kind = "application/x-www-form-urlencoded".parse().unwrap();
    form.headers_mut().insert(header::CONTENT_TYPE, kind);
    assert_eq!(problem(served.send(form).await).await.0, 403);
    let mut tls = login(&body, &[("x-forwarded-proto", "https")]);
    tls.headers_mut().remove("sec-fetch-site");
    let response = served.send(tls).await;
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-") && cookie.ends_with("; Secure"),
        "{cookie}"
    );
}

#[tokio::test]
async fn a_token_shows_its_paths_only_and_no_value_if_it_may_not() {
    let token = |name: &str, paths: &[&str], values| TokenConfig {
        name: name.parse().unwrap(),
        token: Secret::new(format!("the token of {name}")),
        paths: paths.iter().map(|glob| glob.parse().unwrap()).collect(),
        values,
    };
    let mut served = Served::with(HttpConfig {
        tokens: vec![token("open", &["/open"], true), token("blind", &[], false)],
        ..HttpConfig::default()
    });
    served.write(&[
        ("/open", 1, "public"),
        ("/open/x", 2, "public"),
        ("/closed", 3, "secret"),
    ]);
    let routes = [
        "/sources/main/changes",
        "/sources/main/children?path=/",
        "/sources/main/changes?text=secret",
        "/sources/main/diff?a=0",
        "/sources/main/activity",
    ];
    for target in routes {
        let text = body(served.ask("the token of open", target).await).await;
        assert!(
            !text.contains("closed") && !text.contains("secret"),
            "{target}: {text}"
        );
        let text = body(served.ask("the token of blind", target).await).await;
        assert!(
            !text.contains("public") && !text.contains("\"secret\""),
            "{target}: {text}"
        );
    }
    // The control: the default token sees both.
    let all = served.json("/sources/main/changes").await.to_string();
    assert!(all.contains("closed") && all.contains("secret") && all.contains("public"));
    for target in [
        "/sources/main/node?path=/closed",
        "/sources/main/node?path=/never",
        "/status",
        "/sinks",
    ] {
        let (code, _) = problem(served.ask("the token of open", target).await).await;
        assert_eq!(code, 403, "{target}");
    }
    // A hidden record is answered like a removed one.
    let (code, _) = problem(served.ask("the token of open", "/sources/main/records/3").await).await;
    assert_eq!(code, 410);
    let found = body(
        served
            .ask("the token of blind", "/sources/main/changes?text=public")
            .await,
    )
    .await;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(
        found["items"].as_array().unwrap().len(),
        0,
        "a filter is no oracle"
    );
}

#[tokio::test]
async fn a_token_with_paths_learns_of_the_gaps_of_the_root_above_them_and_of_no_other() {
    use bridge_core::number::Epoch;
    use bridge_core::record::GapReason;
    let mut served = Served::with(HttpConfig {
        tokens: vec![TokenConfig {
            name: "open".parse().unwrap(),
            token: Secret::new("the token of open"),
            paths: vec!["/open".parse().unwrap()],
            values: true,
        }],
        ..HttpConfig::default()
    });
    served.write(&[("/open", 1, "public"), ("/closed", 2, "secret")]);
    for root in ["/", "/closed"] {
        let begin = RecordKind::GapBegin {
            epoch: Epoch(2),
            from_zxid: Zxid(2),
            reason: GapReason::Disconnected,
        };
        let append = Append {
            root: Some(ZnodePath::parse(root).unwrap()),
            captured: Timestamp(NOON + 3_000),
            kind: begin,
        };
        served.journal.append(append).unwrap();
    }
    served.journal.commit().unwrap();
    let asked = served.ask("the token of open", "/sources/main/gaps").await;
    let gaps: Value = serde_json::from_str(&body(asked).await).unwrap();
    let roots: Vec<_> = gaps["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gap| &gap["root"])
        .collect();
    assert_eq!(roots, ["/"]);
    // The control.
    let all = served.json("/sources/main/gaps").await;
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
}
