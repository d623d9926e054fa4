//! How a master's certificate is judged.
//!
//! Whatever the policy says of the certificate, the handshake's signature is always checked: whoever answers has the key of
//! the certificate that was shown, so a pin means something.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::TransportError;
use crate::endpoint::{Fingerprint, TlsPolicy};

/// What can be done about a certificate that is not trusted.
const MAKE_TRUSTED: &str = "a master with tls=1 has a self-signed certificate that is new at every start: use `--tls pin` (and \
                            `tidegate endpoint trust` after each restart) or `--tls insecure`; for tls=2 with a private CA use `--ca FILE`";

/// Does the TLS handshake; returns the stream and the fingerprint of the certificate that was shown.
pub(super) async fn handshake(
    tcp: TcpStream,
    host: &str,
    policy: &TlsPolicy,
) -> Result<(TlsStream<TcpStream>, Option<Fingerprint>), TransportError> {
    let shown = Arc::new(Mutex::new(None));
    let connector = connector(policy, shown.clone())?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| TransportError::Tls { detail: "the host name cannot stand in a certificate".to_owned() })?;
    let outcome = connector.connect(name, tcp).await;
    let shown = *shown.lock().unwrap_or_else(PoisonError::into_inner);
    match outcome {
        Ok(stream) => Ok((stream, shown)),
        Err(error) => Err(explain(&error, policy, shown)),
    }
}

fn connector(policy: &TlsPolicy, shown: Arc<Mutex<Option<Fingerprint>>>) -> Result<TlsConnector, TransportError> {
    let provider = Arc::new(ring::default_provider());
    let roots = match policy {
        TlsPolicy::Verify => Some(system_roots()?),
        TlsPolicy::VerifyWith(path) => Some(roots_from(path)?),
        TlsPolicy::Pin(_) | TlsPolicy::Insecure => None,
    };
    let by_roots = roots
        .map(|roots| WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build())
        .transpose()
        .map_err(|error| TransportError::Untrusted { detail: format!("no usable root certificate: {error}") })?;
    let pin = if let TlsPolicy::Pin(pin) = policy { *pin } else { None };
    let judge = Judge { provider: provider.clone(), by_roots, pin, shown };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TransportError::Tls { detail: error.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn system_roots() -> Result<RootCertStore, TransportError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let detail =
            "this machine has no root certificates; install the package ca-certificates, or name a file with `--ca FILE`";
        return Err(TransportError::Untrusted { detail: detail.to_owned() });
    }
    Ok(roots)
}

fn roots_from(path: &Path) -> Result<RootCertStore, TransportError> {
    let unusable = |why: String| TransportError::Untrusted { detail: format!("the CA file {}: {why}", path.display()) };
    let read = |file: File| -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
            let certificate = certificate.map_err(|error| io::Error::other(error.to_string()))?;
            roots.add(certificate).map_err(io::Error::other)?;
        }
        Ok(roots)
    };
    let roots = File::open(path).and_then(read).map_err(|error| unusable(error.to_string()))?;
    if roots.is_empty() { Err(unusable("it holds no certificate in PEM form".to_owned())) } else { Ok(roots) }
}

fn explain(error: &io::Error, policy: &TlsPolicy, shown: Option<Fingerprint>) -> TransportError {
    if let (TlsPolicy::Pin(Some(expected)), Some(shown)) = (policy, shown)
        && *expected != shown
    {
        return TransportError::PinMismatch { expected: expected.to_string(), shown: shown.to_string() };
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            TransportError::Untrusted { detail: format!("{}; {MAKE_TRUSTED}", certificate_error(why)) }
        }
        Some(rustls::Error::InvalidMessage(_)) => TransportError::Tls {
            detail: "what answers does not speak TLS; use an http:// URL if the master has no tls".to_owned(),
        },
        Some(other) => TransportError::Tls { detail: other.to_string() },
        None => TransportError::Tls { detail: error.to_string() },
    }
}

fn certificate_error(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "it is self-signed, or its issuer is not known here".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; check the clocks".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another host name".to_owned()
        }
        other => other.to_string(),
    }
}

/// Judges by roots where there are any, else by the pin where there is one, and notes what it was shown.
#[derive(Debug)]
struct Judge {
    provider: Arc<CryptoProvider>,
    by_roots: Option<Arc<WebPkiServerVerifier>>,
    pin: Option<Fingerprint>,
    shown: Arc<Mutex<Option<Fingerprint>>>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fingerprint = Fingerprint(Sha256::digest(end_entity).into());
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
        match (&self.by_roots, self.pin) {
            (Some(by_roots), _) => by_roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            (None, Some(pin)) if pin != fingerprint => Err(CertificateError::ApplicationVerificationFailure.into()),
            (None, _) => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
