//! Quorum ports with encryption and with authentication: the right credentials work, and the wrong ones have a message.

use std::path::{Path, PathBuf};

use bridge_servers::{ZooKeeper, ZooKeeperBuilder, real_servers};
use bridge_zookeeper::observer::ObserverOptions;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::player::Player;
use crate::workload::writes;

/// Options for the first server, with these besides.
fn options(zookeeper: &ZooKeeper, more: &Value) -> ObserverOptions {
    let mut options = json!({
        "bypasses_acls": true,
        "servers": [zookeeper.quorum_addr(0).to_string()],
        "init_timeout": "10s",
    });
    for (key, value) in more.as_object().unwrap() {
        options[key] = value.clone();
    }
    serde_json::from_value(options).unwrap()
}

/// The observer follows transactions that are made after its connection.
async fn assert_follows(zookeeper: &ZooKeeper, more: &Value) {
    writes(zookeeper, "/w", 5).await;
    let mut player = Player::run(options(zookeeper, more), &zookeeper.connect_string(), None);
    player.until("a stage", |seen| seen.ups == 1).await;
    let zxid = player.seen.zxid();
    writes(zookeeper, "/w", 5).await;
    player.until("the writes", |seen| seen.zxid() >= zxid + 5).await;
    player.end().await;
}

/// The observer is refused with these words, and reports nothing.
async fn assert_refused(zookeeper: &ZooKeeper, more: &Value, words: &str) {
    let mut player = Player::run(options(zookeeper, more), &zookeeper.connect_string(), None);
    let what = format!("a refusal of {more}");
    player.until(&what, |seen| !seen.troubles.is_empty()).await;
    let seen = player.end().await;
    let message = &seen.troubles[0].1;
    assert!(message.contains(words), "{more}: {message}");
    assert!(seen.staged.is_empty());
}

/// Writes a certificate and its key.
fn save(folder: &Path, name: &str, certificate: &str, key: &KeyPair) {
    std::fs::write(folder.join(format!("{name}.pem")), certificate).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    let both = key.serialize_pem() + certificate;
    std::fs::write(folder.join(format!("{name}-both.pem")), both).unwrap();
}

fn authority(folder: &Path, name: &str) -> Issuer<'static, KeyPair> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap();
    save(folder, name, &certificate.pem(), &key);
    Issuer::new(params, key)
}

fn signed(folder: &Path, name: &str, by: &Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    // Both sides check that the certificate names the address of the other.
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let certificate = params.signed_by(&key, by).unwrap();
    save(folder, name, &certificate.pem(), &key);
}

fn with_tls(folder: &Path) -> ZooKeeperBuilder {
    let text = |name: &str| folder.join(name).display().to_string();
    ZooKeeper::builder()
        .quorum()
        .property("sslQuorum", "true")
        .property("ssl.quorum.keyStore.type", "PEM")
        .property("ssl.quorum.keyStore.location", &text("server-both.pem"))
        .property("ssl.quorum.trustStore.type", "PEM")
        .property("ssl.quorum.trustStore.location", &text("ours.pem"))
}

#[tokio::test]
async fn an_encrypted_quorum_port_takes_the_certificate_of_the_bridge_and_no_other() {
    real_servers!("an encrypted quorum port takes the certificate of the bridge and no other");
    let papers = TempDir::new().unwrap();
    let folder = papers.path();
    let ours = authority(folder, "ours");
    let strange = authority(folder, "strange");
    signed(folder, "server", &ours);
    signed(folder, "bridge", &ours);
    signed(folder, "stranger", &strange);
    let zookeeper = with_tls(folder).start().await.unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let tls = |ca: &str, identity: &str| {
        let [ca, cert, key] = [ca, &format!("{identity}.pem"), &format!("{identity}.key")].map(path);
        json!({"tls": {"ca": ca, "cert": cert, "key": key}})
    };
    assert_follows(&zookeeper, &tls("ours.pem", "bridge")).await;
    assert_refused(&zookeeper, &json!({"tls": {"ca": path("ours.pem")}}), "").await;
    assert_refused(
        &zookeeper,
        &tls("strange.pem", "bridge"),
        "the authority of the servers' certificates",
    )
    .await;
    assert_refused(&zookeeper, &tls("ours.pem", "stranger"), "").await;
    assert_refused(
        &zookeeper,
        &json!({}),
        "require SASL (quorum.auth.serverRequireSasl) or TLS",
    )
    .await;
    assert_follows(&zookeeper, &tls("ours.pem", "bridge")).await;
}

fn jaas(folder: &Path) -> PathBuf {
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
    let text = format!(
        "QuorumServer {{ {module} user_bridge=\"pa55\"; }};\n\
         QuorumLearner {{ {module} username=\"bridge\" password=\"pa55\"; }};\n"
    );
    let file = folder.join("jaas.conf");
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn a_quorum_port_with_passwords_takes_the_right_one_and_no_other() {
    real_servers!("a quorum port with passwords takes the right one and no other");
    let papers = TempDir::new().unwrap();
    let file = jaas(papers.path());
    for version in ["3.6.4", "3.9.5"] {
        let zookeeper = ZooKeeper::builder()
            .version(version)
            .quorum()
            .system_property("java.security.auth.login.config", &file.display().to_string())
            .property("quorum.auth.enableSasl", "true")
            .property("quorum.auth.learnerRequireSasl", "true")
            .property("quorum.auth.serverRequireSasl", "true")
            .start()
            .await
            .unwrap();
        let sasl = |user: &str, password: &str| json!({"sasl": {"user": user, "password": password}});
        assert_follows(&zookeeper, &sasl("bridge", "pa55")).await;
        assert_refused(&zookeeper, &sasl("bridge", "wrong"), "[source.observer.sasl]").await;
        // With the right password ZooKeeper takes an unknown name, too, after one that it knew.
        assert_refused(&zookeeper, &sasl("nobody", "wrong"), "[source.observer.sasl]").await;
        assert_refused(&zookeeper, &json!({}), "require SASL").await;
    }
    // A server without passwords.
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    let sasl = json!({"sasl": {"user": "bridge", "password": "pa55"}});
    assert_refused(&zookeeper, &sasl, "quorum.auth.enableSasl must be true").await;
}
