//! An ensemble with certificates and passwords: which credentials work, and the messages for those that do not.

use std::path::{Path, PathBuf};

use bridge_servers::{Child, ZooKeeper, eventually, real_servers};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use zookeeper_client::{Acls, CreateMode};

use crate::bridge::{BOUND, Bridge};
use crate::writer::Writer;

pub(crate) const ROOT: &str = "/secured";
pub(crate) const USER: &str = "bridge";
pub(crate) const PASSWORD: &str = "pa55-w0rd";
/// In ISO-8859-1, in which RFC 2831 wants it hashed.
pub(crate) const ODD_USER: &str = "brücke";
pub(crate) const ODD_PASSWORD: &str = "pässwört-ÿ";

/// Certificates: an authority, the servers', a client's, one that has expired, and an unknown authority.
pub(crate) struct Papers {
    folder: TempDir,
    ours: Option<Issuer<'static, KeyPair>>,
}

impl Papers {
    pub(crate) fn make() -> Papers {
        let folder = tempfile::tempdir().unwrap();
        let papers = Papers { folder, ours: None };
        let ours = papers.authority("authority");
        papers.authority("stranger");
        let papers = Papers {
            ours: Some(ours),
            ..papers
        };
        papers.signed_with("server", |_| {});
        papers.signed_with("client", |_| {});
        papers.signed_with("expired", |params| params.not_after = date_time_ymd(2001, 1, 1));
        papers
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `.pem`, `.key`, and both in one file, as servers read them.
    pub(crate) fn write(&self, name: &str, certificate: &str, key: &str) {
        std::fs::write(self.path(&format!("{name}.pem")), certificate).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key).unwrap();
        std::fs::write(self.path(&format!("{name}.both")), [key, certificate].concat()).unwrap();
    }

    pub(crate) fn line(&self, key: &str, file: &str) -> String {
        format!("{key} = \"{}\"\n", self.path(file).display())
    }

    pub(crate) fn identity(&self, name: &str) -> String {
        self.line("cert", &format!("{name}.pem")) + &self.line("key", &format!("{name}.key"))
    }

    fn authority(&self, name: &str) -> Issuer<'static, KeyPair> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        self.write(name, &certificate.pem(), &key.serialize_pem());
        Issuer::new(params, key)
    }

    /// A certificate for servers and clients by the authority, after a change.
    pub(crate) fn signed_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2100, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let addresses = [SanType::IpAddress([127, 0, 0, 1].into())];
        params.subject_alt_names = addresses.to_vec();
        change(&mut params);
        let ours = self.ours.as_ref().expect("the authority is made first");
        let certificate = params.signed_by(&key, ours).unwrap();
        self.write(name, &certificate.pem(), &key.serialize_pem());
    }
}

/// A server with an encrypted port for those who have a certificate, and SASL for those who have a password.
pub(crate) struct Guarded {
    pub(crate) zookeeper: ZooKeeper,
    pub(crate) papers: Papers,
}

pub(crate) async fn shared() -> &'static Guarded {
    static GUARDED: OnceCell<Guarded> = OnceCell::const_new();
    GUARDED.get_or_init(start).await
}

async fn start() -> Guarded {
    let papers = Papers::make();
    let users = papers.path("users.conf");
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule";
    let text = format!(
        "Server {{ {module} required user_{USER}=\"{PASSWORD}\" user_{ODD_USER}=\"{ODD_PASSWORD}\"; }};\n"
    );
    std::fs::write(&users, text).unwrap();
    let builder = ZooKeeper::builder()
        .encrypted(&papers.path("server.both"), &papers.path("authority.pem"))
        .property(
            "authProvider.sasl",
            "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        )
        .system_property("java.security.auth.login.config", users.to_str().unwrap())
        .system_property("file.encoding", "UTF-8");
    let zookeeper = builder.start().await.unwrap();
    let writer = Writer::connect(&zookeeper.connect_string()).await;
    writer.create(ROOT, b"").await;
    Guarded { zookeeper, papers }
}

impl Guarded {
    /// A bridge on the encrypted port with these lines of `[source.tls]`.
    pub(crate) fn encrypted(&self, tls: &str) -> Bridge {
        bridge(
            &self.zookeeper.secure_connect_string(),
            &format!("[source.tls]\n{tls}"),
        )
    }

    fn line(&self, key: &str, file: &str) -> String {
        self.papers.line(key, file)
    }

    fn identity(&self, name: &str) -> String {
        self.papers.identity(name)
    }
}

/// A bridge of [`ROOT`] with more lines of its source.
pub(crate) fn bridge(connect: &str, more: &str) -> Bridge {
    Bridge::configured(&format!(
        "[[source]]\nconnect = \"{connect}\"\nroots = [\"{ROOT}\"]\nsession_timeout = \"5s\"\n{more}\n\
         [[sink]]\ntype = \"file\"\npath = \"out.jsonl\"\n"
    ))
}

/// A change that was made after the start arrives.
pub(crate) async fn assert_follows(bridge: &mut Bridge, writer: &Writer, path: &str) {
    bridge.start_ready().await;
    writer.create(path, b"seen").await;
    let file = bridge.folder().join("out.jsonl");
    let arrived = eventually("the change", BOUND, || async { holds(&file, path) });
    arrived.await.unwrap();
    bridge.terminate().await;
}

fn holds(file: &Path, path: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.contains(path))
}

/// `check --connect` says so in one message, and shows no password. On a busy machine a server may not have answered in
/// time, which is said, too; then it is asked again.
pub(crate) async fn assert_refused(bridge: &Bridge, words: &[&str]) {
    eventually(&format!("a message with {words:?}"), BOUND, || async {
        let mut child = Child::start(&bridge.command(&["check", "--connect"])).unwrap();
        let code = child.exit_code(BOUND).await.unwrap();
        let said = in_one_line(&[child.stdout(), child.stderr()].concat());
        assert_eq!(code, 3, "{said}");
        assert!(!said.contains(PASSWORD) && !said.contains("not-it"), "{said}");
        let is_told = words.iter().all(|word| said.contains(word));
        assert!(
            is_told || said.contains("no available hosts"),
            "{words:?}:\n{said}"
        );
        is_told
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_ensemble_is_followed_by_a_bridge_with_a_certificate() {
    real_servers!("TLS to ZooKeeper");
    let guarded = shared().await;
    let writer = Writer::connect(&guarded.zookeeper.connect_string()).await;
    let tls = guarded.line("ca", "authority.pem") + &guarded.identity("client");
    let mut bridge = guarded.encrypted(&tls);
    assert_follows(&mut bridge, &writer, &format!("{ROOT}/tls")).await;
}

/// Joins lines that were wrapped between words.
fn in_one_line(lines: &[String]) -> String {
    lines
        .iter()
        .flat_map(|line| line.split_whitespace())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The output of doctor, and its exit code.
async fn doctor(bridge: &Bridge) -> (i32, String) {
    let mut child = Child::start(&bridge.command(&["doctor"])).unwrap();
    let code = child.exit_code(BOUND).await.unwrap();
    (code, child.stdout().join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_asks_servers_on_encrypted_ports_as_the_bridge_does() {
    real_servers!("doctor on an encrypted port");
    let guarded = shared().await;
    let ca = guarded.line("ca", "authority.pem");

    let right = guarded.encrypted(&(ca.clone() + &guarded.identity("client")));
    let (code, said) = doctor(&right).await;
    assert!(said.contains("standalone, answers in"), "{said}");
    assert!(said.contains("session: granted"), "{said}");
    assert_eq!(code, 0, "{said}");

    let (code, said) = doctor(&guarded.encrypted(&(ca + &guarded.identity("expired")))).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cannot be asked: "), "{said}");
    assert!(said.contains("certificate"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_timeout_that_the_servers_do_not_grant_is_said_at_the_check_and_at_the_start() {
    real_servers!("the servers' bounds of session timeouts");
    let guarded = shared().await;
    let connect = guarded.zookeeper.connect_string();
    let mut bridge = Bridge::configured(&format!(
        "[[source]]\nconnect = \"{connect}\"\nroots = [\"{ROOT}\"]\nsession_timeout = \"700s\"\n\
         [[sink]]\ntype = \"file\"\npath = \"out.jsonl\"\n"
    ));
    let words = "of 600 s where 700 s were asked for";

    let mut child = Child::start(&bridge.command(&["check", "--connect"])).unwrap();
    assert_eq!(child.exit_code(BOUND).await.unwrap(), 0);
    let said = in_one_line(&child.stdout());
    assert!(
        said.contains(words) && said.contains("maxSessionTimeout"),
        "{said}"
    );

    bridge.start_ready().await;
    bridge.terminate().await;
    let log = bridge.log();
    let said = log.iter().filter(|line| line.contains(words));
    assert_eq!(said.count(), 1, "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_certificates_are_refused_with_a_remedy() {
    real_servers!("certificates that ZooKeeper does not take");
    let guarded = shared().await;
    let ca = guarded.line("ca", "authority.pem");

    let stranger = guarded.line("ca", "stranger.pem") + &guarded.identity("client");
    assert_refused(&guarded.encrypted(&stranger), &["certificate", "ca"]).await;
    let expired = ca.clone() + &guarded.identity("expired");
    assert_refused(&guarded.encrypted(&expired), &["certificate", "cert"]).await;
    assert_refused(&guarded.encrypted(&ca), &["certificate", "cert"]).await;
    let missing = guarded.line("ca", "nowhere.pem");
    assert_refused(&guarded.encrypted(&missing), &["nowhere.pem", "PEM"]).await;
    // The port for connections that are not encrypted.
    let tls = ca + &guarded.identity("client");
    let plain = guarded.zookeeper.connect_string();
    let bridge = bridge(&plain, &format!("[source.tls]\n{tls}"));
    assert_refused(&bridge, &["encrypted"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sasl_accepts_the_right_password_and_explains_a_wrong_one() {
    real_servers!("SASL DIGEST-MD5 to ZooKeeper");
    let guarded = shared().await;
    let connect = guarded.zookeeper.connect_string();
    let sasl = |password: &str| {
        format!("[source.auth]\nsasl = \"digest-md5\"\nuser = \"{USER}\"\npassword = \"{password}\"\n")
    };
    let writer = Writer::connect(&connect).await;
    let mut right = bridge(&connect, &sasl(PASSWORD));
    assert_follows(&mut right, &writer, &format!("{ROOT}/sasl")).await;

    let wrong = bridge(&connect, &sasl("not-it"));
    assert_refused(&wrong, &["credentials", "password"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_a_password_outside_ascii_are_accepted_by_sasl() {
    real_servers!("SASL with umlauts");
    let guarded = shared().await;
    let connect = guarded.zookeeper.connect_string();
    let writer = Writer::connect(&connect).await;
    let sasl = format!(
        "[source.auth]\nsasl = \"digest-md5\"\nuser = \"{ODD_USER}\"\npassword = \"{ODD_PASSWORD}\"\n"
    );
    assert_follows(&mut bridge(&connect, &sasl), &writer, &format!("{ROOT}/umlauts")).await;
    let wrong = sasl.replace("ÿ", "y");
    assert_refused(&bridge(&connect, &wrong), &["credentials", "password"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_credentials_open_what_each_of_them_may_read() {
    real_servers!("several credentials");
    let guarded = shared().await;
    let connect = guarded.zookeeper.connect_string();
    let writer = Writer::connect(&connect).await;
    let root = format!("{ROOT}/several");
    writer.create(&root, b"").await;
    let mut credentials = String::new();
    let owned = CreateMode::Persistent.with_acls(Acls::creator_all());
    for user in ["one", "two"] {
        let owner = Writer::connect(&connect).await;
        let id = format!("{user}:secret");
        owner.client.auth("digest", id.as_bytes()).await.unwrap();
        let path = format!("{root}/{user}");
        owner.client.create(&path, b"for one user", &owned).await.unwrap();
        credentials += &format!("[[source.auth]]\nscheme = \"digest\"\nid = \"{id}\"\n");
    }
    let source = |auth: &str| {
        Bridge::configured(&format!(
            "[[source]]\nconnect = \"{connect}\"\nroots = [\"{root}\"]\n{auth}\n\
             [[sink]]\ntype = \"file\"\npath = \"out.jsonl\"\n"
        ))
    };
    let mut both = source(&credentials);
    both.start_ready().await;
    both.at_rest().await;
    let status = both.status().await;
    assert_eq!(status["sources"][0]["unreadable"], 0, "{status:#}");
    for user in ["one", "two"] {
        assert!(holds(&both.folder().join("out.jsonl"), &format!("{root}/{user}")));
    }
    both.terminate().await;

    let half = credentials.replacen("[[source.auth]]", "[source.auth]", 1);
    let half = half.split("[[source.auth]]").next().unwrap();
    let mut one = source(half);
    one.start_ready().await;
    one.until("the znode of the other user to be named", |status| {
        status["sources"][0]["unreadable_paths"] == serde_json::json!([format!("{root}/two")])
    })
    .await;
    one.terminate().await;
}
