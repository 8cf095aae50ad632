//! Finds out why an encrypted connection fails: the client library reports no reason, so this module makes a handshake
//! of its own.
//!
//! A server that does not accept the bridge's certificate reports that only after the handshake (TLS 1.3), with the
//! first answer; so a request is sent, too.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::file_path::FilePath;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, InvalidMessage,
    RootCertStore, SignatureScheme,
};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{Server, Tls};
use crate::probe::{Probe, ask, connect, understand};

/// How long one server may take.
const BOUND: Duration = Duration::from_secs(2);

/// Asks one server over an encrypted connection as `[source.tls]` has it. Never takes longer than about two seconds.
pub async fn probe_encrypted(server: &Server, tls: &Tls) -> Probe {
    let answer = answer_encrypted(server, tls).await;
    answer.map_or_else(Probe::Unreachable, |answer| understand(&answer))
}

/// The whole answer to `srvr` over an encrypted connection, or the reason why there is none.
pub(crate) async fn answer_encrypted(server: &Server, tls: &Tls) -> Result<String, String> {
    let attempt = async {
        let config = client_config(tls)?;
        let name = ServerName::try_from(server.host.clone())
            .map_err(|_| format!("'{}' is no name that a certificate can have", server.host))?;
        let stream = connect(server).await.map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await.map_err(|e| explain(&e))?;
        ask(&mut stream).await.map_err(|error| explain(&error))
    };
    let unanswered = |_| {
        Err(format!(
            "no answer to a handshake within {} s; is this the port for encrypted connections (secureClientPort)?",
            BOUND.as_secs()
        ))
    };
    timeout(BOUND, attempt).await.unwrap_or_else(unanswered)
}

/// The configuration of encrypted connections, with the files that it names.
pub(crate) fn client_config(tls: &Tls) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for authority in tls.ca.iter().map(certificates) {
        for certificate in authority? {
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
    }
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots))
        .build()
        .map_err(|error| error.to_string())?;
    let verifier = CertificateCheck {
        inner: verifier,
        checks_name: tls.verify_hostname,
    };
    let builder = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert)?;
    let text = key.read_private_key().map_err(|error| unusable(key, &error))?;
    let secret = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| unusable(key, &error))?;
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

/// Verifies the chain of a server's certificate as usual, and its name unless that is switched off. The name comes last,
/// so that an objection to it means that the chain is good.
#[derive(Debug)]
struct CertificateCheck {
    inner: Arc<WebPkiServerVerifier>,
    checks_name: bool,
}

impl ServerCertVerifier for CertificateCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.inner
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The remedy for a failed handshake.
fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let remedy = match inner {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "no authority in tls.ca has signed the server's certificate: give the file of the one that has"
        }
        Some(Error::InvalidCertificate(error)) => about_certificate(error),
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

/// The remedy for a server's certificate that is not accepted.
fn about_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "the server's certificate has no subject alternative name, and a common name (CN) is not looked at: give it \
             one with the name in 'connect', or set tls.verify_hostname = false, which accepts every certificate of \
             the authorities in tls.ca"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another name: connect by a name in the certificate"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired: renew it on the server"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: check the clocks of both machines"
        }
        CertificateError::Other(other) => about_other(&format!("{other:?}")),
        _ => "the server's certificate cannot be trusted: have an authority in tls.ca issue another one",
    }
}

/// Objections that rustls passes on from webpki under their names.
fn about_other(error: &str) -> &'static str {
    if error.contains("CaUsedAsEndEntity") {
        "the server uses the certificate of an authority (CA:TRUE) as its own, as a self-signed one often is: issue a \
         certificate with basicConstraints CA:FALSE for the server, signed by that authority, and give the authority in \
         tls.ca"
    } else if error.contains("UnsupportedCertVersion") {
        "the server's certificate is of X.509 version 1, which has no room for names and purposes: issue one of version \
         3 (with 'openssl x509 -req' by an -extfile that has a subjectAltName)"
    } else {
        "the server's certificate cannot be trusted: have an authority in tls.ca issue another one"
    }
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
