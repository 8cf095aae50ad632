//! The values that the chart refuses.

use bridge_servers::real_servers;

use super::chart::rendered_text;

/// Rendering with these settings fails, with these words and without the secret.
async fn check(settings: &[&str], words: &[&str]) {
    let rendered = rendered_text(settings).await;
    let refused = rendered
        .err()
        .unwrap_or_else(|| panic!("{settings:?} are rendered"));
    let refused = refused.to_string();
    assert!(
        words.iter().all(|word| refused.contains(word)),
        "{settings:?}: {refused}"
    );
    assert!(!refused.contains("hunter2"), "{refused}");
}

/// The keys that the reference marks as secret, below `config`: a table with a key, a list with an element.
fn secret_keys() -> Vec<(String, String)> {
    let reference = include_str!("../../docs/configuration-reference.md");
    let mut keys = Vec::new();
    let (mut place, mut setting) = (String::new(), String::new());
    for line in reference.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            (place, setting) = match (heading, heading.strip_prefix("Sinks of type ")) {
                ("Sources", _) => (
                    "source[0].".to_owned(),
                    "config.source[0].connect=a:1,".to_owned(),
                ),
                (_, Some(kind)) => ("sink[0].".to_owned(), format!("config.sink[0].type={kind},")),
                _ => Default::default(),
            };
        }
        let cells: Vec<&str> = line.split(" | ").collect();
        if let [name, takes, _, _] = cells[..]
            && takes.contains("*Secret*")
        {
            let name = name
                .trim_matches(['|', ' ', '`'])
                .replace("tokens.", "tokens[0].");
            let inner = match takes {
                "table of *Secret*" => ".X",
                "list of *Secret*" => "[0]",
                _ => "",
            };
            let key = format!("config.{place}{name}{inner}");
            keys.push((key.clone(), format!("{setting}{key}")));
        }
    }
    keys
}

#[tokio::test]
async fn every_key_that_the_reference_calls_a_secret_takes_no_literal_in_the_chart() {
    real_servers!("the secrets in the values of the chart");
    let keys = secret_keys();
    assert!(keys.len() >= 14, "{keys:?}");
    for (key, setting) in keys {
        let named = key.trim_end_matches("[0]");
        check(&[&format!("{setting}=hunter2")], &[named, "secretEnv"]).await;
        rendered_text(&[&format!("{setting}=${{HUNTER}}")])
            .await
            .unwrap_or_else(|error| panic!("{key} as a reference: {error}"));
    }
}

#[tokio::test]
async fn keys_that_take_no_secret_take_a_literal_although_others_of_their_name_do() {
    real_servers!("the other values of the chart");
    let kafka = "config.sink[0].type=kafka,config.sink[0].brokers=a:1";
    let tls = "config.sink[0].type=webhook,config.sink[0].url=${URL}";
    for setting in [
        format!("{kafka},config.sink[0].key=cluster_path"),
        format!("{tls},config.sink[0].tls.key=/etc/key.pem"),
    ] {
        rendered_text(&[&setting])
            .await
            .unwrap_or_else(|error| panic!("{setting}: {error}"));
    }
}

#[tokio::test]
async fn values_with_a_literal_secret_or_a_wrong_key_are_refused_with_what_to_do() {
    real_servers!("the values that the chart refuses");
    let sink = "config.sink[0].type=nats,config.sink[0].servers=nats://a:4222";
    let literal = |key: &str| format!("{sink},config.sink[0].{key}=hunter2");
    check(&[&literal("password")], &["config.sink[0].password", "secretEnv"]).await;
    check(&[&literal("secrets[0]")], &["config.sink[0].secrets"]).await;
    check(&[&literal("properties.sasl\\.password")], &["sasl.password"]).await;
    check(
        &["config.source[0].connect=a:1,config.source[0].auth.password=hunter2"],
        &["auth.password"],
    )
    .await;
    check(&["persistnce.size=1Gi"], &["persistnce"]).await;
    check(&["http.port=none"], &["/http/port"]).await;
    check(&["image.digest=latest"], &["/image/digest"]).await;
    let referred = format!("{sink},config.sink[0].password=${{NATS_PASSWORD}}");
    rendered_text(&[&referred])
        .await
        .expect("a reference is no literal");
}
