//! A broker that lets nobody in without proof: certificates, passwords, rights.

use std::path::{Path, PathBuf};

use bridge_kafka::KafkaConfig;
use bridge_servers::Kafka;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::rig;

/// TLS; the client needs no certificate.
pub const TLS: &str = "TLS";
/// TLS, with the certificate of another host.
pub const ELSEWHERE: &str = "ELSEWHERE";
/// TLS; the client must show a certificate of the same authority.
pub const MUTUAL: &str = "MUTUAL";
/// SASL without TLS: PLAIN.
pub const PASSWORD: &str = "PASSWORD";
/// SASL over TLS: SCRAM. A connection is asked for its password again every two seconds.
pub const SCRAM: &str = "SCRAM";

const USERS: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required user_writer=\"w-pass\" \
                     user_slow=\"slow-pass\" user_nobody=\"n-pass\";";
const SCRAM_MODULE: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
const CONFIG_TOOL: &str = "kafka.admin.ConfigCommand";
const ACL_TOOL: &str = "org.apache.kafka.tools.AclCommand";

/// The mechanisms of [`SCRAM`].
pub const SCRAMS: [&str; 2] = ["SCRAM-SHA-256", "SCRAM-SHA-512"];

/// A broker with a listener for each kind of proof. Its plain listener lets everybody do everything.
pub struct Guarded {
    pub kafka: Kafka,
    pub papers: Papers,
}

/// Certificates and keys, as files.
pub struct Papers {
    folder: TempDir,
}

/// One for all tests that guard it differently by user and topic only. It ends with the process.
pub async fn shared() -> &'static Guarded {
    static GUARDED: OnceCell<Guarded> = OnceCell::const_new();
    GUARDED.get_or_init(start).await
}

async fn start() -> Guarded {
    let papers = Papers::make();
    let mut builder = Kafka::builder()
        .listener(TLS, "SSL")
        .listener(ELSEWHERE, "SSL")
        .listener(MUTUAL, "SSL")
        .listener(PASSWORD, "SASL_PLAINTEXT")
        .listener(SCRAM, "SASL_SSL")
        .property("auto.create.topics.enable", "false")
        .property("listener.name.password.sasl.enabled.mechanisms", "PLAIN")
        .property(
            "listener.name.scram.sasl.enabled.mechanisms",
            "SCRAM-SHA-256,SCRAM-SHA-512",
        )
        .property("listener.name.password.plain.sasl.jaas.config", USERS)
        .property("listener.name.scram.scram-sha-256.sasl.jaas.config", SCRAM_MODULE)
        .property("listener.name.scram.scram-sha-512.sasl.jaas.config", SCRAM_MODULE)
        .property(
            "listener.name.scram.scram-sha-256.connections.max.reauth.ms",
            "2000",
        )
        .property(
            "listener.name.scram.scram-sha-512.connections.max.reauth.ms",
            "2000",
        )
        .property("listener.name.mutual.ssl.client.auth", "required")
        .property(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        .property(
            "super.users",
            "User:ANONYMOUS;User:writer;User:CN=bridge;User:slow;User:scram;User:short-lived",
        );
    for (listener, paper) in [
        ("tls", "broker"),
        ("mutual", "broker"),
        ("scram", "broker"),
        ("elsewhere", "elsewhere"),
    ] {
        for (key, value) in [
            ("keystore.type", "PEM".to_owned()),
            ("keystore.location", papers.store_of(paper)),
            ("truststore.type", "PEM".to_owned()),
            ("truststore.location", papers.authority()),
        ] {
            builder = builder.property(&format!("listener.name.{listener}.ssl.{key}"), &value);
        }
    }
    let kafka = builder.start().await.unwrap();
    Guarded { kafka, papers }
}

impl Guarded {
    /// The options for a topic through a listener. They include those of TLS.
    pub fn config(&self, listener: &str, topic: &str) -> KafkaConfig {
        let mut config = rig::hasty_config(&self.kafka.bootstrap_of(listener), topic);
        let protocol = match listener {
            PASSWORD => "SASL_PLAINTEXT",
            SCRAM => "SASL_SSL",
            _ => "SSL",
        };
        config.properties.set("security.protocol", protocol);
        if listener != PASSWORD {
            config.properties.set("ssl.ca.location", self.papers.authority());
        }
        config
    }

    /// The same for a user with a password.
    pub fn config_of(
        &self,
        listener: &str,
        topic: &str,
        mechanism: &str,
        user: &str,
        password: &str,
    ) -> KafkaConfig {
        let mut config = self.config(listener, topic);
        config.properties.set("sasl.mechanism", mechanism);
        config.properties.set("sasl.username", user);
        config.properties.set("sasl.password", password);
        config
    }

    /// Gives a user of SCRAM this password.
    pub async fn set_password(&self, user: &str, mechanism: &str, password: &str) {
        let secret = format!("{mechanism}=[iterations=4096,password={password}]");
        self.configure(user, "--add-config", &secret).await;
    }

    /// Takes it away.
    pub async fn delete_password(&self, user: &str, mechanism: &str) {
        self.configure(user, "--delete-config", mechanism).await;
    }

    /// Lets a user write no more than so many bytes a second.
    pub async fn set_quota(&self, user: &str, bytes: u32) {
        self.configure(user, "--add-config", &format!("producer_byte_rate={bytes}"))
            .await;
    }

    async fn configure(&self, user: &str, action: &str, settings: &str) {
        let bootstrap = self.kafka.bootstrap();
        let arguments = [
            "--bootstrap-server",
            &bootstrap,
            "--alter",
            "--entity-type",
            "users",
            "--entity-name",
            user,
            action,
            settings,
        ];
        self.kafka.tool(CONFIG_TOOL, &arguments).await.unwrap();
    }

    /// Lets a user do these things with a topic: `--operation Write`.
    pub async fn allow(&self, user: &str, topic: &str, operations: &[&str]) {
        let (bootstrap, user) = (self.kafka.bootstrap(), format!("User:{user}"));
        let mut arguments = vec![
            "--bootstrap-server",
            &bootstrap,
            "--add",
            "--allow-principal",
            &user,
        ];
        arguments.extend(["--topic", topic]);
        arguments.extend(operations.iter().flat_map(|operation| ["--operation", operation]));
        self.kafka.tool(ACL_TOOL, &arguments).await.unwrap();
    }
}

impl Papers {
    /// An authority; a certificate for the broker, one for another host, one for a client; and another authority.
    fn make() -> Papers {
        let folder = tempfile::tempdir().unwrap();
        let papers = Papers { folder };
        papers.authority_named("authority");
        papers.authority_named("stranger");
        papers.signed("broker", "127.0.0.1", "broker");
        papers.signed("elsewhere", "kafka.example.com", "broker");
        papers.signed("client", "bridge", "bridge");
        papers
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(path: &Path) -> String {
        path.to_str().unwrap().to_owned()
    }

    pub fn authority(&self) -> String {
        Papers::text(&self.path("authority.pem"))
    }

    /// An authority that signed nothing here.
    pub fn stranger(&self) -> String {
        Papers::text(&self.path("stranger.pem"))
    }

    pub fn certificate(&self) -> String {
        Papers::text(&self.path("client.pem"))
    }

    pub fn key(&self) -> String {
        Papers::text(&self.path("client.key"))
    }

    fn store_of(&self, name: &str) -> String {
        Papers::text(&self.path(&format!("{name}.store")))
    }

    fn authority_named(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = Papers::authority_params(name).self_signed(&key).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn authority_params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    /// A certificate of the authority: alone, its key, and both with the authority's for a broker.
    fn signed(&self, file: &str, host: &str, name: &str) {
        let authority_key = std::fs::read_to_string(self.path("authority.key")).unwrap();
        let issuer = Issuer::new(
            Papers::authority_params("authority"),
            KeyPair::from_pem(&authority_key).unwrap(),
        );
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let store = format!("{}{}", key.serialize_pem(), certificate.pem());
        for (ending, text) in [
            ("pem", certificate.pem()),
            ("key", key.serialize_pem()),
            ("store", store),
        ] {
            std::fs::write(self.path(&format!("{file}.{ending}")), text).unwrap();
        }
    }
}
