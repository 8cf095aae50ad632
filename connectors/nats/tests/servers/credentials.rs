//! Every kind of credentials, right and wrong.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bridge_core::secret::Secret;
use bridge_core::sink::SinkErrorKind;
use bridge_core::testing::some_records;
use bridge_nats::{Auth, CreateStream, NatsConfig, StreamSettings};
use bridge_servers::{NATS_LINES, Nats, real_servers};
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::rig;

fn config(nats: &Nats, auth: Option<Auth>) -> NatsConfig {
    let mut config = rig::hasty_config(&nats.urls(), "changes");
    config.create_stream = CreateStream::Yes(StreamSettings::default());
    config.auth = auth;
    config
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text))
}

fn token(token: &str) -> Option<Auth> {
    Some(Auth {
        token: secret(token),
        ..Auth::default()
    })
}

fn password(user: &str, password: &str) -> Option<Auth> {
    Some(Auth {
        user: Some(user.to_owned()),
        password: secret(password),
        ..Auth::default()
    })
}

fn nkey(pair: &KeyPair) -> Option<Auth> {
    Some(Auth {
        nkey: secret(&pair.seed().unwrap()),
        ..Auth::default()
    })
}

fn creds(file: PathBuf) -> Option<Auth> {
    Some(Auth {
        creds: Some(file.into()),
        ..Auth::default()
    })
}

/// The right ones deliver; the wrong ones, and none, are refused as such and appear in no error.
async fn check(nats: &Nats, right: Option<Auth>, wrong: Vec<Option<Auth>>) {
    let mut sink = rig::opened(&config(nats, right)).await;
    rig::deliver(&mut sink, &some_records(20, 3)).await.unwrap();
    for auth in wrong.into_iter().chain([None]) {
        let config = config(nats, auth);
        let (kind, said) = rig::refusal(&config).await;
        assert_eq!(kind, SinkErrorKind::Authentication, "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_token_lets_in_and_another_does_not() {
    real_servers!("a token lets in and another does not");
    for version in NATS_LINES {
        let nats = Nats::builder()
            .version(version)
            .lines("authorization { token: opensesame }");
        check(
            &nats.start().await.unwrap(),
            token("opensesame"),
            vec![token("hunter2")],
        )
        .await;
    }
}

#[tokio::test]
async fn a_password_lets_in_and_another_does_not() {
    real_servers!("a password lets in and another does not");
    let nats = Nats::builder().lines("authorization { user: bridge, password: opensesame }");
    let wrong = vec![
        password("bridge", "hunter2"),
        password("somebody", "opensesame"),
        token("hunter2"),
    ];
    check(
        &nats.start().await.unwrap(),
        password("bridge", "opensesame"),
        wrong,
    )
    .await;
}

#[tokio::test]
async fn an_nkey_lets_in_and_another_does_not() {
    real_servers!("an nkey lets in and another does not");
    let (right, other) = (KeyPair::new_user(), KeyPair::new_user());
    let lines = format!("authorization {{ users: [{{ nkey: {} }}] }}", right.public_key());
    let nats = Nats::builder().lines(&lines).start().await.unwrap();
    // One letter is another: the checksum does not fit.
    let seed = right.seed().unwrap();
    let last = if seed.ends_with('A') { 'B' } else { 'A' };
    let damaged = format!("{}{last}", &seed[..seed.len() - 1]);
    let damaged = Some(Auth {
        nkey: secret(&damaged),
        ..Auth::default()
    });
    check(&nats, nkey(&right), vec![nkey(&other), damaged]).await;
}

/// A JWT as `nsc` makes it.
fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let (sub, iss) = (subject.public_key(), issuer.public_key());
    let claims = part(json!({"jti": "x", "iat": 1, "iss": iss, "name": "x", "sub": sub, "nats": nats}));
    let signed = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

fn account_claims(storage: i64) -> Value {
    json!({
        "limits": {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage,
        },
        "default_permissions": {"pub": {}, "sub": {}},
        "type": "account",
        "version": 2,
    })
}

fn credentials(jwt: &str, user: &KeyPair) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    )
}

#[tokio::test]
async fn a_file_of_credentials_lets_in_and_another_does_not() {
    real_servers!("a file of credentials lets in and another does not");
    let (operator, account, system) = (
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
    );
    let user = KeyPair::new_user();
    let user_claims =
        || json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2});
    let operator_claims = json!({"type": "operator", "version": 2, "system_account": system.public_key()});
    let lines = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}",
        jwt(&operator, &operator, operator_claims),
        system.public_key(),
        account.public_key(),
        jwt(&operator, &account, account_claims(-1)),
        system.public_key(),
        jwt(&operator, &system, account_claims(0)),
    );
    let nats = Nats::builder().lines(&lines).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        creds(file)
    };
    let right = write("right", &credentials(&jwt(&account, &user, user_claims()), &user));
    let stranger = KeyPair::new_account();
    let foreign = write(
        "foreign",
        &credentials(&jwt(&stranger, &user, user_claims()), &user),
    );
    let none = write("none", "hunter2");
    let gone = creds(folder.path().join("gone"));
    check(&nats, right, vec![foreign, none, gone.clone()]).await;
    let (_, said) = rig::refusal(&config(&nats, gone)).await;
    assert!(said.contains("gone cannot be read"), "{said}");
}
