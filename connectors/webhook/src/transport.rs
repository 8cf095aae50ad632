//! The transport to the receiver: addresses, proxy, TLS, and the HTTP client.
//!
//! The proxy is chosen once, from the environment, and does not change afterwards: whether names are resolved and
//! checked here or by the proxy must never depend on chance.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::file_path::FilePath;
use bridge_core::issue::ConfigIssue;
use bridge_core::sink::{SinkError, SinkErrorKind};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::{Client, Proxy, Url, redirect};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{HttpVersion, WebhookConfig, literal_address, shown};
use crate::error;
use crate::resolve::{Guard, no_refusal};

/// How long a receiver is given to refuse a client's certificate: with TLS 1.3 it says so only after the handshake.
/// One that refuses does it at once; one that is content says nothing.
const ALERT_BOUND: Duration = Duration::from_millis(300);

const USER_AGENT: &str = concat!("zkbridge/", env!("CARGO_PKG_VERSION"));

/// A transport to one receiver.
pub(crate) struct Transport {
    pub(crate) client: Client,
    url: Url,
    shown: String,
    /// The resolver of the name; a proxy resolves it itself.
    guard: Guard,
    proxy: Option<Intercept>,
    tls: Arc<ClientConfig>,
    connect_timeout: Duration,
}

impl Transport {
    /// A transport with these options. Reads certificates; connects to nothing.
    pub(crate) fn new(
        config: &WebhookConfig,
        url: &Url,
        guard: Guard,
        proxies: &Matcher,
    ) -> Result<Transport, SinkError> {
        refuse_literal(url, &guard)?;
        let proxy = proxy_for(url, proxies)?;
        // The operator of this process chose the proxy, which is nearly always on a private network.
        let guard = Guard {
            rule: if proxy.is_some() { no_refusal } else { guard.rule },
            ..guard
        };
        let tls = tls_of(config, is_encrypted(url, proxy.as_ref()))?;
        let client = client_of(config, proxy.as_ref(), &guard, &tls);
        let client = client.map_err(|error| {
            configuration("the HTTP client cannot be made with these options".to_owned()).because(error)
        })?;
        Ok(Transport {
            client,
            url: url.clone(),
            shown: shown(url),
            guard,
            proxy,
            tls: Arc::new(tls),
            connect_timeout: config.connect_timeout.0,
        })
    }

    /// Connects without a request: addresses, connection, TLS handshake; with a proxy only the connection to the proxy.
    /// `worked_before`: an earlier call has succeeded.
    pub(crate) async fn prove(&self, worked_before: bool) -> Result<(), SinkError> {
        let proven = timeout(self.connect_timeout, self.connect()).await;
        let why = match proven {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("there is no connection after {:?}", self.connect_timeout),
            ),
        };
        let whom = match &self.proxy {
            Some(proxy) => format!("the proxy {}", bare(proxy)),
            None => self.shown.clone(),
        };
        Err(error::about_connection(&whom, &why, worked_before))
    }

    async fn connect(&self) -> io::Result<()> {
        if let Some(proxy) = &self.proxy {
            let port = proxy.uri().port_u16();
            let default = if proxy.uri().scheme_str() == Some("https") {
                443
            } else {
                80
            };
            let host = proxy.uri().host().unwrap_or_default();
            return self.reach(host, port.unwrap_or(default)).await.map(drop);
        }
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        let stream = self.reach(host, port).await?;
        if self.url.scheme() == "https" {
            self.shake_hands(host, stream).await?;
        }
        Ok(())
    }

    async fn reach(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let addresses = self.guard.addresses(unbracketed(host)).await?;
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        // As the client does for requests, so that an address that does not answer leaves time for the others.
        let share = self.connect_timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        for address in addresses {
            match timeout(share, TcpStream::connect(SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = error,
                Err(_) => {
                    let message = format!("{address} has not answered for {share:?}");
                    failure = io::Error::new(io::ErrorKind::TimedOut, message);
                }
            }
        }
        Err(failure)
    }

    async fn shake_hands(&self, host: &str, stream: TcpStream) -> io::Result<()> {
        let name = ServerName::try_from(unbracketed(host).to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let mut stream = connector.connect(name, stream).await?;
        let is_1_3 = stream.get_ref().1.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        if is_1_3 && let Ok(Err(error)) = timeout(ALERT_BOUND, stream.read_u8()).await {
            // An end without a word is a receiver that waits for no request; an alert is a word.
            if error.kind() == io::ErrorKind::InvalidData {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// An address in place of a name is seen by no resolver.
fn refuse_literal(url: &Url, guard: &Guard) -> Result<(), SinkError> {
    match literal_address(url).and_then(guard.rule) {
        None => Ok(()),
        Some(what) => Err(configuration(format!(
            "{} is not on the public internet ({what}); set allow_private_addresses = true if the receiver is meant to \
             be there",
            shown(url)
        ))),
    }
}

/// The proxy that the environment names for this address.
fn proxy_for(url: &Url, proxies: &Matcher) -> Result<Option<Intercept>, SinkError> {
    let Ok(uri) = url.as_str().parse() else {
        return Ok(None);
    };
    let Some(proxy) = proxies.intercept(&uri) else {
        return Ok(None);
    };
    match proxy.uri().scheme_str() {
        Some("http" | "https") => Ok(Some(proxy)),
        other => Err(configuration(format!(
            "the environment names a proxy of scheme '{}', and only http and https work: unset HTTPS_PROXY, HTTP_PROXY \
             or ALL_PROXY, or add the receiver to NO_PROXY",
            other.unwrap_or_default()
        ))),
    }
}

/// The variables that name proxies, as [`Matcher::from_env`] reads them.
const PROXY_VARIABLES: [&str; 6] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Objections to variables that name no proxy: they would be ignored, and requests would go direct. The value is not shown,
/// as it may hold a password.
pub(crate) fn malformed_proxies(value_of: impl Fn(&str) -> Option<String>) -> Vec<ConfigIssue> {
    let any = "http://receiver.invalid/".parse().expect("this is an address");
    let is_malformed = |name: &&&str| {
        let value = value_of(name).unwrap_or_default();
        let proxy = || Matcher::builder().all(value.clone()).build().intercept(&any);
        !value.trim().is_empty() && !proxy().is_some_and(|proxy| has_usable_port(&proxy))
    };
    let objection = |name: &&str| {
        let message = format!("the environment's {name} names no proxy, so that requests would go direct");
        let remedy = format!("give {name} an address, as in http://proxy:3128, or unset it");
        ConfigIssue::error("url", message, remedy)
    };
    PROXY_VARIABLES
        .iter()
        .filter(is_malformed)
        .map(objection)
        .collect()
}

/// Whether what follows the proxy's name is a port, or nothing. The default would take the place of any other text.
fn has_usable_port(proxy: &Intercept) -> bool {
    proxy.uri().port_u16().is_some() || proxy.uri().host() == Some(&*bare(proxy))
}

/// A proxy without its password.
fn bare(proxy: &Intercept) -> String {
    let authority = proxy.uri().authority().map(|authority| authority.as_str());
    let host = authority.map(|text| text.rsplit('@').next().unwrap_or(text));
    host.unwrap_or_default().to_owned()
}

fn client_of(
    config: &WebhookConfig,
    proxy: Option<&Intercept>,
    guard: &Guard,
    tls: &ClientConfig,
) -> reqwest::Result<Client> {
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(config.header_map())
        .redirect(redirect::Policy::none())
        .referer(false)
        .timeout(config.timeout.0)
        .connect_timeout(config.connect_timeout.0)
        // No limit of idle ones: there are no more than requests at a time, and one below that would close and open
        // connections all the time.
        .pool_idle_timeout(config.idle_timeout.0)
        .dns_resolver(guard.clone())
        .tls_backend_preconfigured(tls.clone())
        // The status decides; a header that the standard does not allow must not make a success a failure.
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .no_proxy();
    builder = match config.http {
        HttpVersion::Auto => builder,
        HttpVersion::One => builder.http1_only(),
        HttpVersion::Two => builder.http2_prior_knowledge(),
    };
    if let Some(found) = proxy {
        let mut proxy = Proxy::all(found.uri().to_string())?;
        if let Some(credentials) = found.basic_auth() {
            proxy = proxy.custom_http_auth(credentials.clone());
        }
        builder = builder.proxy(proxy);
    }
    builder.build()
}

/// Whether any peer uses TLS, so that certificate authorities are needed.
fn is_encrypted(url: &Url, proxy: Option<&Intercept>) -> bool {
    url.scheme() == "https" || proxy.is_some_and(|proxy| proxy.uri().scheme_str() == Some("https"))
}

fn tls_of(config: &WebhookConfig, needs_roots: bool) -> Result<ClientConfig, SinkError> {
    let (options, http) = (&config.tls, config.http);
    let roots = match needs_roots {
        true => roots(options.ca.as_ref())?,
        false => RootCertStore::empty(),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| configuration("no version of TLS can be spoken".to_owned()).because(error))?
        .with_root_certificates(roots);
    let mut config = match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => {
            let certificates = certificates(cert, "tls.cert")?;
            let secret = key
                .read_private_key()
                .map_err(pem::Error::Io)
                .and_then(|text| PrivateKeyDer::from_pem_slice(text.as_bytes()))
                .map_err(|error| unreadable(key, "tls.key", "a private key", error))?;
            builder
                .with_client_auth_cert(certificates, secret)
                .map_err(|error| {
                    configuration(format!(
                        "the key in {key} does not belong to the certificate in {cert}"
                    ))
                    .because(error)
                })?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match http {
        HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        HttpVersion::One => vec![b"http/1.1".to_vec()],
        HttpVersion::Two => vec![b"h2".to_vec()],
    };
    Ok(config)
}

/// The authorities that are trusted: those given, or those of the system.
fn roots(ca: Option<&FilePath>) -> Result<RootCertStore, SinkError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(ca) => {
            let (added, _) = roots.add_parsable_certificates(certificates(ca, "tls.ca")?);
            if added == 0 {
                return Err(configuration(format!(
                    "no certificate in {ca} can be used as an authority; correct tls.ca"
                )));
            }
        }
        None => {
            // An empty store refuses every receiver, which says what is missing.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

fn certificates(path: &FilePath, key: &str) -> Result<Vec<CertificateDer<'static>>, SinkError> {
    let read = path.read().map_err(pem::Error::Io);
    let read = read.and_then(|text| CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>());
    match read {
        Ok(found) if found.is_empty() => Err(configuration(format!(
            "{path} holds no certificate; give {key} a PEM file"
        ))),
        Ok(found) => Ok(found),
        Err(error) => Err(unreadable(path, key, "certificates", error)),
    }
}

fn unreadable(path: &FilePath, key: &str, what: &str, error: pem::Error) -> SinkError {
    configuration(format!(
        "{what} cannot be read from {path}; give {key} a PEM file that this process may read"
    ))
    .because(error)
}

fn configuration(message: String) -> SinkError {
    SinkError::new(SinkErrorKind::Configuration, message)
}

/// IPv6 is in brackets in a URL and nowhere else.
fn unbracketed(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}
