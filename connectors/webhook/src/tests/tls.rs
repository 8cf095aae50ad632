//! Encrypted ways, with authorities made for the test.

use std::path::PathBuf;

use bridge_core::sink::SinkErrorKind as Kind;
use bridge_core::testing::some_records;
use hyper::Version;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tempfile::TempDir;

use super::*;
use crate::HttpVersion;

/// An authority and the files of what it signed.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate with its key.
pub(super) struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(super) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn signs(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed { certificate, key }
    }

    fn file(&self, name: &str, text: String) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn pem(&self) -> PathBuf {
        self.file("ca.pem", self.issuer.pem())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The receiver's side: its certificate, whom it asks for one, and the versions of HTTP that it offers.
pub(super) fn server(signed: &Signed, asks: Option<&Authority>, protocols: &[&str]) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match asks {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain: Vec<CertificateDer<'static>> = vec![signed.certificate.der().clone()];
    let key = PrivateKeyDer::try_from(signed.key.serialize_der()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// The options for a receiver with a certificate for `localhost`.
fn trusting(receiver: &Receiver, authority: &Authority) -> WebhookConfig {
    let mut config = local(&receiver.url_at("localhost"));
    config.tls.ca = Some(authority.pem().into());
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_of_http_is_agreed_in_the_handshake() {
    let authority = Authority::new();
    let signed = authority.signs("localhost");
    for (offered, wanted, expected) in [
        (&["h2", "http/1.1"][..], HttpVersion::Auto, Version::HTTP_2),
        (&["http/1.1"][..], HttpVersion::Auto, Version::HTTP_11),
        (&[][..], HttpVersion::Auto, Version::HTTP_11),
        (&["h2", "http/1.1"][..], HttpVersion::One, Version::HTTP_11),
        (&["h2", "http/1.1"][..], HttpVersion::Two, Version::HTTP_2),
    ] {
        let receiver = Receiver::start_tls(server(&signed, None, offered)).await;
        let mut config = trusting(&receiver, &authority);
        config.http = wanted;
        let mut sink = opened(&config).await;
        deliver(&mut sink, &some_records(40, 4)).await.unwrap();
        let requests = receiver.taken();
        assert_eq!(requests.len(), 40);
        assert!(
            requests.iter().all(|request| request.version == expected),
            "{offered:?} {wanted:?}"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_found_before_anything_is_sent() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let rows = [
        (stranger.signs("localhost"), "another authority"),
        (authority.signs("elsewhere.example.com"), "another name"),
    ];
    for (signed, what) in rows {
        let receiver = Receiver::start_tls(server(&signed, None, &["h2"])).await;
        let mut sink = WebhookSink::new(&trusting(&receiver, &authority)).unwrap();
        let error = sink.open().await.unwrap_err();
        assert_eq!(error.kind, Kind::Authentication, "{what}: {error:?}");
        assert!(
            error.message.contains("certificate is not trusted"),
            "{what}: {error}"
        );
        assert_eq!(receiver.requests().len(), 0);
    }
}

#[tokio::test]
async fn the_authorities_of_the_system_know_no_certificate_made_here() {
    let authority = Authority::new();
    let receiver = Receiver::start_tls(server(&authority.signs("localhost"), None, &[])).await;
    let mut sink = WebhookSink::new(&local(&receiver.url_at("localhost"))).unwrap();
    assert_eq!(sink.open().await.unwrap_err().kind, Kind::Authentication);
}

#[tokio::test]
async fn a_certificate_of_our_own_is_shown_to_a_receiver_that_asks() {
    let authority = Authority::new();
    let receiver = server(
        &authority.signs("localhost"),
        Some(&authority),
        &["h2", "http/1.1"],
    );
    let receiver = Receiver::start_tls(receiver).await;
    let mut config = trusting(&receiver, &authority);
    let error = WebhookSink::new(&config).unwrap().open().await.unwrap_err();
    assert_eq!(error.kind, Kind::Authentication, "{error:?}");
    assert!(error.message.contains("tls.cert"), "{error}");

    let ours = authority.signs("zkbridge");
    config.tls.cert = Some(authority.file("cert.pem", ours.certificate.pem()).into());
    config.tls.key = Some(authority.file("key.pem", ours.key.serialize_pem()).into());
    let mut sink = opened(&config).await;
    deliver(&mut sink, &of_paths(&["/a", "/b"])).await.unwrap();
    assert_eq!(receiver.taken().len(), 2);

    config.tls.key = Some(
        authority
            .file("other.pem", authority.signs("x").key.serialize_pem())
            .into(),
    );
    let error = WebhookSink::new(&config).unwrap().open().await.unwrap_err();
    assert_eq!(error.kind, Kind::Configuration);
    assert!(
        error.message.contains("does not belong to the certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn files_that_are_not_what_they_should_be_are_named() {
    let authority = Authority::new();
    let receiver = Receiver::start_tls(server(&authority.signs("localhost"), None, &[])).await;
    let good = trusting(&receiver, &authority);
    let check = async |change: &dyn Fn(&mut WebhookConfig), part: &str| {
        let mut config = good.clone();
        change(&mut config);
        let error = WebhookSink::new(&config).unwrap().open().await.unwrap_err();
        assert_eq!(error.kind, Kind::Configuration, "{error:?}");
        assert!(error.message.contains(part), "{error}");
    };
    let empty = authority.file("empty.pem", String::new());
    check(
        &|config| config.tls.ca = Some("/nowhere/ca.pem".into()),
        "read from /nowhere/ca.pem",
    )
    .await;
    check(
        &|config| config.tls.ca = Some(empty.clone().into()),
        "holds no certificate",
    )
    .await;
    let cert = authority.file("a.pem", authority.signs("a").certificate.pem());
    let without_key = |config: &mut WebhookConfig| {
        config.tls.cert = Some(cert.clone().into());
        config.tls.key = Some(cert.clone().into());
    };
    check(&without_key, "a private key cannot be read").await;
}
