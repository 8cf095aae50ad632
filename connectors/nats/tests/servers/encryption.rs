//! TLS: one side, both sides, and authorities that nobody knows.

use std::path::PathBuf;

use bridge_core::sink::SinkErrorKind;
use bridge_core::testing::some_records;
use bridge_nats::{CreateStream, NatsConfig, StreamSettings, Tls};
use bridge_servers::{NATS_LINES, Nats, real_servers};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::rig;

/// An authority with its certificates, as files.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Authority {
            folder,
            issuer: Issuer::new(params, key),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a certificate for 127.0.0.1; gives the files of it and its key.
    fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = (
            self.file(&format!("{name}.pem")),
            self.file(&format!("{name}.key")),
        );
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    /// The lines of a server with a certificate of this authority.
    fn lines(&self, more: &str) -> String {
        let (certificate, key) = self.sign("server");
        format!(
            "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {:?}, timeout: 10, {more} }}",
            self.file("ca.pem")
        )
    }
}

fn config(nats: &Nats, tls: Option<Tls>) -> NatsConfig {
    let mut config = rig::hasty_config(&nats.urls(), "changes");
    config.create_stream = CreateStream::Yes(StreamSettings::default());
    config.tls = tls;
    config
}

fn trusting(authority: &Authority) -> Tls {
    Tls {
        ca: Some(authority.file("ca.pem").into()),
        ..Tls::default()
    }
}

async fn assert_delivers(config: &NatsConfig) {
    let mut sink = rig::opened(config).await;
    rig::deliver(&mut sink, &some_records(20, 3)).await.unwrap();
}

async fn assert_refused(config: &NatsConfig, expected: SinkErrorKind, words: &str) {
    let (kind, said) = rig::refusal(config).await;
    assert_eq!(kind, expected, "{said}");
    assert!(said.to_lowercase().contains(words), "{said}");
}

#[tokio::test]
async fn an_encrypted_server_is_known_by_its_authority_and_no_other() {
    real_servers!("an encrypted server is known by its authority and no other");
    for version in NATS_LINES {
        let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
        let nats = Nats::builder()
            .version(version)
            .lines(&ours.lines(""))
            .start()
            .await
            .unwrap();
        assert_delivers(&config(&nats, Some(trusting(&ours)))).await;
        let kind = SinkErrorKind::Authentication;
        assert_refused(&config(&nats, Some(trusting(&strangers))), kind, "unknownissuer").await;
        // The server asks for encryption; the system's authorities do not know it.
        assert_refused(&config(&nats, None), kind, "[sink.tls]").await;
        let missing = Tls {
            ca: Some(ours.file("missing.pem").into()),
            ..Tls::default()
        };
        assert_refused(&config(&nats, Some(missing)), kind, "missing.pem cannot be read").await;
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_one_of_its_authority() {
    real_servers!("a server that asks for a certificate gets one of its authority");
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let nats = Nats::builder()
        .lines(&ours.lines("verify: true"))
        .start()
        .await
        .unwrap();
    let with = |(cert, key): (PathBuf, PathBuf)| {
        let tls = Tls {
            cert: Some(cert.into()),
            key: Some(key.into()),
            ..trusting(&ours)
        };
        config(&nats, Some(tls))
    };
    assert_delivers(&with(ours.sign("client"))).await;
    let kind = SinkErrorKind::Authentication;
    assert_refused(&with(strangers.sign("client")), kind, "[sink.tls]").await;
    assert_refused(&config(&nats, Some(trusting(&ours))), kind, "[sink.tls]").await;
    let (cert, _) = ours.sign("client");
    let (_, other_key) = ours.sign("other");
    assert_refused(&with((cert, other_key)), kind, "[sink.tls]").await;
}

#[tokio::test]
async fn encryption_can_come_before_the_first_word_and_is_never_given_up() {
    real_servers!("encryption can come before the first word and is never given up");
    let ours = Authority::new("ours");
    let nats = Nats::builder()
        .lines(&ours.lines("handshake_first: true"))
        .start()
        .await
        .unwrap();
    let first = Tls {
        handshake_first: true,
        ..trusting(&ours)
    };
    assert_delivers(&config(&nats, Some(first))).await;

    let plain = Nats::start().await.unwrap();
    let (kind, said) = rig::refusal(&config(&plain, Some(trusting(&ours)))).await;
    assert_ne!(
        kind,
        SinkErrorKind::Missing,
        "it talked to a server without encryption: {said}"
    );
    assert!(said.contains("[sink.tls]"), "{said}");
}
