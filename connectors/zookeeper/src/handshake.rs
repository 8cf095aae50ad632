//! Finds out why an encrypted connection fails: the client library reports no reason, so this module makes a handshake
//! of its own.
//!
//! A server that does not accept the bridge's certificate reports that only after the handshake (TLS 1.3), with the
//! first answer; so a request is sent, too.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::file_path::FilePath;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{Server, Tls};
use crate::probe::{Probe, ask, understand};

/// How long one server may take.
const BOUND: Duration = Duration::from_secs(2);

/// Asks one server over an encrypted connection as `[source.tls]` has it. Never takes longer than about two seconds.
pub async fn probe_encrypted(server: &Server, tls: &Tls) -> Probe {
    let attempt = async {
        let config = client_config(tls)?;
        let name = ServerName::try_from(server.host.clone())
            .map_err(|_| format!("'{}' is no name that a certificate can have", server.host))?;
        let stream = TcpStream::connect((server.host.as_str(), server.port))
            .await
            .map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await.map_err(|e| explain(&e))?;
        ask(&mut stream).await.map_err(|error| explain(&error))
    };
    match timeout(BOUND, attempt).await {
        Ok(Ok(answer)) => understand(&answer),
        Ok(Err(reason)) => Probe::Unreachable(reason),
        Err(_) => Probe::Unreachable(format!(
            "no answer to a handshake within {} s; is this the port for encrypted connections (secureClientPort)?",
            BOUND.as_secs()
        )),
    }
}

/// The configuration of encrypted connections, with the files that it names.
pub(crate) fn client_config(tls: &Tls) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for authority in tls.ca.iter().map(certificates) {
        for certificate in authority? {
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert)?;
    let text = key.read().map_err(|error| unusable(key, &error))?;
    let secret = PrivateKeyDer::from_pem_slice(&text).map_err(|error| unusable(key, &error))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|error| unusable(cert, &error))
}

fn certificates(file: &FilePath) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = file.read().map_err(|error| unusable(file, &error))?;
    let read: Result<_, _> = CertificateDer::pem_slice_iter(&text).collect();
    read.map_err(|error| unusable(file, &error))
}

fn unusable(file: &FilePath, error: &dyn std::fmt::Display) -> String {
    format!("{file} cannot be used for encrypted connections: {error}")
}

/// The remedy for a failed handshake.
fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let remedy = match inner {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "no authority in tls.ca has signed the server's certificate: give the file of the one that has"
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "the server's certificate is for another name: connect by a name in the certificate",
        Some(Error::InvalidCertificate(_)) => {
            "the server's certificate cannot be trusted: it has to be renewed on the server"
        }
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the server answers, but not encrypted: name its secureClientPort in 'connect', or leave [source.tls] out"
        }
        Some(Error::AlertReceived(alert)) if is_about_our_certificate(*alert) => {
            "the server does not take the bridge's certificate: give tls.cert and tls.key of one that is valid and \
             signed by an authority that the server knows"
        }
        _ => {
            "the encrypted connection ended: is this the secureClientPort, and does the server take tls.cert?"
        }
    };
    format!("{error}; {remedy}")
}

fn is_about_our_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure
            | AlertDescription::NoCertificate
    )
}
