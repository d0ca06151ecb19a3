//! TLS to the server: what is trusted, and what every connection's handshake begins with.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use clap::{Args, ValueEnum};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature as verify_1_2,
    verify_tls13_signature as verify_1_3,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, ProtocolVersion, RootCertStore, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion, version,
};
use shardcast_shard::tls::{ClientSession, TlsError};

/// The protocol of the handshake (RFC 7301, RFC 6455 §11): WebSockets over HTTP/2 are not asked for.
const ALPN: &[u8] = b"http/1.1";

/// Options of connections over TLS.
#[derive(Args, Clone, Debug)]
pub struct TlsOptions {
    /// Certificates to trust over wss://, as a PEM file: that of the server itself, or of who vouches for it.
    #[arg(long = "tls-ca", value_name = "FILE", help_heading = "Server")]
    pub authorities: Option<PathBuf>,
    /// Takes any certificate over wss://.
    #[arg(
        long = "tls-insecure",
        conflicts_with = "authorities",
        help_heading = "Server"
    )]
    pub insecure: bool,
    /// The version of TLS over wss:// [default: 1.3].
    #[arg(
        long = "tls-version",
        value_name = "VERSION",
        value_enum,
        help_heading = "Server"
    )]
    pub version: Option<TlsVersion>,
}

impl TlsOptions {
    /// An option that was given, for what it is worth without TLS: nothing.
    pub(crate) const fn given(&self) -> Option<&'static str> {
        match self {
            Self {
                authorities: Some(_),
                ..
            } => Some("--tls-ca"),
            Self { insecure: true, .. } => Some("--tls-insecure"),
            Self {
                version: Some(_), ..
            } => Some("--tls-version"),
            _ => None,
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsVersion {
    /// RFC 5246.
    #[value(name = "1.2")]
    V1_2,
    /// RFC 8446.
    #[value(name = "1.3")]
    V1_3,
}

impl TlsVersion {
    const fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::V1_2 => &version::TLS12,
            Self::V1_3 => &version::TLS13,
        }
    }
}

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// Nobody has said whom to trust.
    #[error(
        "wss:// needs to know which certificate to trust: name the server's own, or that of who vouches for it, with --tls-ca FILE, \
         or take any with --tls-insecure"
    )]
    Trust,
    /// The file cannot be read.
    #[error("--tls-ca {path}: the file cannot be read: {error}; name a PEM file that this user may read", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file holds no certificate.
    #[error(
        "--tls-ca {path}: {fault}; the file must have a section `-----BEGIN CERTIFICATE-----` for each certificate to trust",
        path = path.display()
    )]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The server's name is none that a certificate could bear.
    #[error(
        "{0}: the name is neither an address nor a host name, and no certificate can be for it"
    )]
    Name(String),
    /// rustls refuses what it is to do.
    #[error("setting up TLS: {0}")]
    Config(#[from] Error),
}

/// What all connections of a generator begin a handshake with, and what the first of them agreed on.
#[derive(Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    verifies: bool,
    agreed: OnceLock<SupportedCipherSuite>,
}

impl TlsClient {
    /// Reads what is to be trusted. `host` is the server's, without a port.
    ///
    /// # Errors
    /// Nothing is to be trusted, or what is cannot be read.
    pub fn new(options: &TlsOptions, host: &str) -> Result<Self, TlsSetupError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsSetupError::Name(host.to_owned()))?;
        let provider = Arc::new(ring::default_provider());
        let verifier = match (&options.authorities, options.insecure) {
            (Some(path), _) => Verifier::trusting(path, Arc::clone(&provider))?,
            (None, true) => Verifier::indifferent(Arc::clone(&provider)),
            (None, false) => return Err(TlsSetupError::Trust),
        };
        let version = options.version.unwrap_or(TlsVersion::V1_3);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version.supported()])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Every handshake is a full one, as those of as many clients are, and an idle connection keeps no tickets.
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            name,
            verifies: !options.insecure,
            agreed: OnceLock::new(),
        })
    }

    /// The session of one more connection.
    ///
    /// # Errors
    /// The configuration makes no sense to rustls.
    pub(crate) fn session(&self) -> Result<ClientSession, TlsError> {
        ClientSession::client(Arc::clone(&self.config), self.name.clone())
    }

    /// Notes what a connection has agreed on: with one server, all agree on the same.
    pub(crate) fn note_agreed(&self, session: &ClientSession) {
        if let Some(suite) = session.cipher_suite() {
            self.agreed.get_or_init(|| suite);
        }
    }

    /// What a reader of the report must know; `None` when no handshake has succeeded.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let suite = self.agreed.get()?;
        let version = match suite.version().version {
            ProtocolVersion::TLSv1_2 => "1.2",
            _ => "1.3",
        };
        let verified = match self.verifies {
            true => "was",
            false => "was not",
        };
        Some(format!(
            "All connections were over TLS {version} with {:?}; every handshake was a full one, and the certificate {verified} verified.",
            suite.suite()
        ))
    }
}

/// Why a session has ended, for somebody who can do something about it.
pub(crate) fn reason(error: &TlsError) -> String {
    match error {
        TlsError::NotTls => {
            "the server answered without TLS; give its URL as ws:// instead of wss://".to_owned()
        }
        TlsError::Protocol(Error::InvalidCertificate(error)) => format!(
            "the server's certificate is refused: {error}; name it, or that of who vouches for it, with --tls-ca, or take any with --tls-insecure"
        ),
        error => error.to_string(),
    }
}

/// Decides whether a server is the one that is meant.
struct Verifier {
    /// Trusted for what they are, whatever they say of themselves: most tools write into a certificate that signs itself that it is an authority,
    /// which a server may not be.
    known: Vec<CertificateDer<'static>>,
    /// Trusted to vouch for others; `None` where nobody needs to.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn indifferent(provider: Arc<CryptoProvider>) -> Self {
        Self {
            known: Vec::new(),
            authorities: None,
            provider,
        }
    }

    fn trusting(path: &Path, provider: Arc<CryptoProvider>) -> Result<Self, TlsSetupError> {
        let broken = |fault: String| TlsSetupError::Certificate {
            path: path.to_path_buf(),
            fault,
        };
        let known = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| match error {
                pem::Error::Io(error) => TlsSetupError::Unreadable {
                    path: path.to_path_buf(),
                    error,
                },
                error => broken(format!("the file is not PEM: {error:?}")),
            })?;
        if known.is_empty() {
            return Err(broken("there is no certificate in the file".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &known {
            roots
                .add(certificate.clone())
                .map_err(|error| broken(format!("a certificate cannot be used: {error}")))?;
        }
        let authorities =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| broken(error.to_string()))?;
        Ok(Self {
            known,
            authorities: Some(authorities),
            provider,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        if self.known.iter().any(|known| known == certificate) {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        authorities.verify_server_cert(certificate, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_1_2(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_1_3(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("known", &self.known.len())
            .field("verifies", &self.authorities.is_some())
            .finish_non_exhaustive()
    }
}
