//! Certificates that ensembles have and TLS libraries do not take: the true reason, and what to do.

use bridge_servers::{ZooKeeper, real_servers};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

use crate::bridge::Bridge;
use crate::secured::{Papers, ROOT, assert_follows, assert_refused, bridge, shared};
use crate::writer::Writer;

/// A certificate of X.509 version 1, as 'openssl x509 -req' makes it without an -extfile, and its key.
const VERSION_1: [&str; 2] = [
    "\
-----BEGIN CERTIFICATE-----\n\
MIIBMDCB1wIUdceWh8jeWeaxqRhJkBGvucr5xfAwCgYIKoZIzj0EAwIwIDEeMBwG\n\
A1UEAwwVdmVyc2lvbiBvbmUgYXV0aG9yaXR5MCAXDTI2MTEyOTIyMDUwN1oYDzIx\n\
MjYxMTA1MjIwNTA3WjAUMRIwEAYDVQQDDAl6b29rZWVwZXIwWTATBgcqhkjOPQIB\n\
BggqhkjOPQMBBwNCAAR5oJcCO1lJdbvwDvVaMRSLgGPPOD/A8SQfnPEymMt2we0U\n\
uY3qeQnFUp1o8TJwnMl7FwP8H/yI8xcOWCm0Lb3SMAoGCCqGSM49BAMCA0gAMEUC\n\
IQCorCOCDyb2VYpdH36+1MXVjO8aYuQfMaCzXV87uaLcigIgCdjIr7456pcPnqHY\n\
drtSOKhqml2Nyq7Ztn4FcLTETzs=\n\
-----END CERTIFICATE-----\n\
",
    "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgUqoW3yRMxG3eFLUs\n\
YdBQojTy3sqgysD8fm6msLVlHDahRANCAAR5oJcCO1lJdbvwDvVaMRSLgGPPOD/A\n\
8SQfnPEymMt2we0UuY3qeQnFUp1o8TJwnMl7FwP8H/yI8xcOWCm0Lb3S\n\
-----END PRIVATE KEY-----\n\
",
];

/// A server with its certificate and key in `<name>.both`, and a bridge with these lines of `[source.tls]`.
struct Odd {
    zookeeper: ZooKeeper,
    papers: Papers,
}

impl Odd {
    async fn start(papers: Papers, name: &str) -> Odd {
        let zookeeper = ZooKeeper::builder()
            .encrypted(
                &papers.path(&format!("{name}.both")),
                &papers.path("authority.pem"),
            )
            .start()
            .await
            .unwrap();
        Odd { zookeeper, papers }
    }

    fn bridge(&self, ca: &str, more: &str) -> Bridge {
        let lines = self.papers.line("ca", ca) + &self.papers.identity("client") + more;
        bridge(
            &self.zookeeper.secure_connect_string(),
            &format!("[source.tls]\n{lines}"),
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_with_only_a_common_name_is_explained_and_taken_without_verify_hostname() {
    real_servers!("a certificate without alternative names");
    let papers = Papers::make();
    papers.signed_with("common-name", |params| params.subject_alt_names.clear());
    let odd = Odd::start(papers, "common-name").await;

    let strict = odd.bridge("authority.pem", "");
    assert_refused(
        &strict,
        &[
            "no subject alternative name",
            "common name (CN)",
            "tls.verify_hostname = false",
        ],
    )
    .await;
    let stranger = odd.bridge("stranger.pem", "verify_hostname = false\n");
    assert_refused(&stranger, &["no authority in tls.ca has signed"]).await;

    let mut lenient = odd.bridge("authority.pem", "verify_hostname = false\n");
    let writer = Writer::connect(&odd.zookeeper.connect_string()).await;
    writer.create(ROOT, b"").await;
    assert_follows(&mut lenient, &writer, &format!("{ROOT}/by-common-name")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_as_the_servers_own_certificate_is_explained() {
    real_servers!("a self-signed authority as a server's certificate");
    let papers = Papers::make();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "myself");
    let certificate = params.self_signed(&key).unwrap();
    papers.write("myself", &certificate.pem(), &key.serialize_pem());
    let odd = Odd::start(papers, "myself").await;

    let expected = ["certificate of an authority (CA:TRUE) as its own", "CA:FALSE"];
    assert_refused(&odd.bridge("myself.pem", ""), &expected).await;
    let lenient = odd.bridge("myself.pem", "verify_hostname = false\n");
    assert_refused(&lenient, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_version_1_is_explained() {
    real_servers!("a certificate of version 1");
    let papers = Papers::make();
    let [certificate, key] = VERSION_1;
    papers.write("old", certificate, key);
    let odd = Odd::start(papers, "old").await;
    let bridge = odd.bridge("authority.pem", "");
    assert_refused(&bridge, &["X.509 version 1", "-extfile"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_key_is_named_with_how_to_decrypt_it() {
    real_servers!("an encrypted key");
    let guarded = shared().await;
    let papers = &guarded.papers;
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(papers.path("locked.key"), encrypted).unwrap();
    let tls = papers.line("ca", "authority.pem")
        + &papers.line("cert", "client.pem")
        + &papers.line("key", "locked.key");
    let bridge = guarded.encrypted(&tls);
    assert_refused(
        &bridge,
        &["locked.key cannot be used", "passphrase", "openssl pkey"],
    )
    .await;
}
