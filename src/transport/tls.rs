//! TLS to a master: how its certificate is judged, by the endpoint's policy.
//!
//! A pinned certificate is compared after the handshake and before the first byte of the request, so that the API key
//! never goes to another one. The handshake itself proves that the peer holds the certificate's key, under every policy.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, InvalidMessage, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::TransportError;
use super::socket::Socket;
use crate::blocking::Blocking;
use crate::endpoint::{Fingerprint, TlsPolicy};

/// Makes TLS connections; reads the system's roots once.
#[derive(Default)]
pub(super) struct Tls {
    system_roots: RefCell<Option<Arc<ClientConfig>>>,
}

impl Tls {
    /// The configuration for a policy. Reads files on another thread where it must.
    pub(super) async fn config(&self, policy: &TlsPolicy) -> Result<Arc<ClientConfig>, TransportError> {
        match policy {
            TlsPolicy::Verify => {
                if let Some(config) = &*self.system_roots.borrow() {
                    return Ok(Arc::clone(config));
                }
                let config = Blocking::Threads.run("system_roots", system_config).await?;
                *self.system_roots.borrow_mut() = Some(Arc::clone(&config));
                Ok(config)
            }
            // Read at each connection, so that a renewed file takes effect without a restart.
            TlsPolicy::VerifyWith(path) => {
                let path = path.clone();
                Blocking::Threads.run("ca_file", move || file_config(&path)).await
            }
            TlsPolicy::Pin(_) | TlsPolicy::Insecure => Ok(any_certificate_config()),
        }
    }
}

/// The handshake. The certificate is judged by `policy` when this returns.
pub(super) async fn handshake(
    config: Arc<ClientConfig>,
    policy: &TlsPolicy,
    host: &str,
    tcp: Socket,
) -> Result<(TlsStream<Socket>, Option<Fingerprint>), TransportError> {
    let name = match ServerName::try_from(host.to_owned()) {
        Ok(name) => name,
        // A name that no certificate can carry; without a check of names it does not matter what stands here.
        Err(_) if !matches!(policy, TlsPolicy::Verify | TlsPolicy::VerifyWith(_)) => {
            ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0])))
        }
        Err(error) => return Err(TransportError::Untrusted { detail: format!("no certificate can be for {host}: {error}") }),
    };
    let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(|error| handshake_error(&error))?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let shown = certificate.map(|certificate| Fingerprint(Sha256::digest(certificate.as_ref()).into()));
    match (policy, shown) {
        (TlsPolicy::Pin(Some(expected)), Some(shown)) if *expected != shown => {
            Err(TransportError::PinMismatch { expected: expected.to_string(), shown: shown.to_string() })
        }
        (TlsPolicy::Pin(_), None) => Err(TransportError::Untrusted { detail: "the master showed no certificate".to_owned() }),
        _ => Ok((stream, shown)),
    }
}

fn handshake_error(error: &io::Error) -> TransportError {
    let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return if error.kind() == io::ErrorKind::UnexpectedEof {
            TransportError::Tls { detail: "the connection was closed during the handshake".to_owned() }
        } else {
            TransportError::Tls { detail: error.to_string() }
        };
    };
    match cause {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => TransportError::SpeaksPlain,
        Error::InvalidCertificate(reason) => TransportError::Untrusted { detail: untrusted(reason) },
        other => TransportError::Tls { detail: other.to_string() },
    }
}

fn untrusted(reason: &CertificateError) -> String {
    let what = match reason {
        CertificateError::UnknownIssuer => "no known authority signed it".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another host name".to_owned()
        }
        other => Error::InvalidCertificate(other.clone()).to_string(),
    };
    format!(
        "{what}; a master with tls=1 makes a self-signed certificate at every start: use `--tls pin` or `--tls insecure` \
         for it, or tls=2 with a certificate of your own (`--ca FILE` for a private authority)"
    )
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn system_config() -> Result<Arc<ClientConfig>, TransportError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason = found.errors.first().map_or_else(|| "none were found".to_owned(), ToString::to_string);
        let detail =
            format!("this system has no root certificates ({reason}); install them (ca-certificates) or use `--ca FILE`");
        return Err(TransportError::Untrusted { detail });
    }
    verifying_config(roots)
}

fn file_config(path: &Path) -> Result<Arc<ClientConfig>, TransportError> {
    let unusable = |why: String| TransportError::Untrusted { detail: format!("the CA file {} {why}", path.display()) };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(format!("cannot be read: {error}")))?;
        roots.add(certificate).map_err(|error| unusable(format!("has an unusable certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(unusable("holds no certificate".to_owned()));
    }
    verifying_config(roots)
}

fn verifying_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, TransportError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TransportError::Tls { detail: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(only_http1(config))
}

fn any_certificate_config() -> Arc<ClientConfig> {
    let provider = provider();
    let verifier = AnyCertificate(provider.signature_verification_algorithms);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    only_http1(config)
}

/// Masters offer HTTP/2 as well; it brings nothing for one long answer.
fn only_http1(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Accepts every certificate whose key the peer holds.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
