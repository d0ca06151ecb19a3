//! The certificate of a server: from its files to what shards answer a handshake with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

use crate::config::Config;

/// How long before its end a certificate is warned of.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 3600);

/// The protocol of the handshake (RFC 7301, RFC 6455 §11): WebSockets over HTTP/2 are not offered.
const ALPN: &[u8] = b"http/1.1";

/// What is wrong with a certificate, and with which of its two files.
#[derive(Debug, thiserror::Error)]
#[error("{setting} = {path}: {fault}", path = path.display())]
pub struct CertificateError {
    /// The setting that names the file.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("the file cannot be read: {0}; name a PEM file that this user may read")]
    Unreadable(std::io::Error),
    /// It is not PEM.
    #[error(
        "the file is not PEM: {0:?}; convert it, as with `openssl x509 -inform der` or `openssl pkey -inform der`"
    )]
    NotPem(pem::Error),
    /// There is nothing of the kind in it.
    #[error("there is no {0} in the file; it must have a section `-----BEGIN {1}-----`")]
    Nothing(&'static str, &'static str),
    /// The certificate is no longer good.
    #[error("the certificate expired on {0}; renew it")]
    Expired(String),
    /// The certificate is not good yet.
    #[error("the certificate is good from {0} on; wait, or set the clock of this machine")]
    NotYet(String),
    /// The certificate makes no sense.
    #[error(
        "the first certificate of the file cannot be used: {0}; it must be that of the server, those that vouch for it come behind it"
    )]
    Certificate(webpki::Error),
    /// The key makes no sense.
    #[error(
        "the key cannot be used: {0}; it must be RSA, ECDSA on P-256 or P-384, or Ed25519, and not encrypted"
    )]
    Key(rustls::Error),
    /// The key belongs to another certificate.
    #[error("the key is not that of the certificate in {0}; give the two that were made together")]
    Mismatch(String),
}

/// The certificate that handshakes are answered with. It may be replaced while shards use it.
#[derive(Debug)]
pub struct Certificate {
    certificate_path: PathBuf,
    key_path: PathBuf,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
}

impl Certificate {
    /// The certificate that a configuration names, if it names one.
    ///
    /// # Errors
    /// What is in the files cannot be used.
    pub fn of(config: &Config) -> Result<Option<Self>, CertificateError> {
        let (Some(certificate_path), Some(key_path)) = (&config.tls_cert, &config.tls_key) else {
            return Ok(None);
        };
        let provider = Arc::new(provider());
        let current = read(certificate_path, key_path, &provider)?;
        Ok(Some(Self {
            certificate_path: certificate_path.clone(),
            key_path: key_path.clone(),
            provider,
            current: ArcSwap::from_pointee(current),
        }))
    }

    /// Reads both files again. When that fails the certificate stays as it is.
    ///
    /// # Errors
    /// What is in the files cannot be used.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let new = read(&self.certificate_path, &self.key_path, &self.provider)?;
        self.current.store(Arc::new(new));
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// What a handshake agrees on: TLS 1.2 or 1.3 with forward secrecy and authenticated encryption, all that rustls has.
pub(crate) fn server_config(certificate: &Arc<Certificate>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&certificate.provider));
    #[expect(
        clippy::expect_used,
        reason = "ring has suites for both versions, which the tests see"
    )]
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("suites for TLS 1.2 and 1.3");
    let resolver: Arc<dyn ResolvesServerCert> = Arc::<Certificate>::clone(certificate);
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    // Of what both ends have the first in this end's order, which has the cheapest first; all of it is strong.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // One is enough for a client that opens one connection after the other.
    config.send_tls13_tickets = 1;
    match Ticketer::new() {
        // Tickets are the clients' to keep: resumption costs no memory here, and works on every shard.
        Ok(ticketer) => config.ticketer = ticketer,
        Err(error) => tracing::warn!(%error, "connections over TLS are not resumed"),
    }
    Arc::new(config)
}

/// What ring has, the suites in the order of what a byte costs where the processor has instructions for AES.
fn provider() -> CryptoProvider {
    let mut provider = default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| match suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
            CipherSuite::TLS13_AES_256_GCM_SHA384 => 1,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => 2,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 3,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => 4,
            _ => 5,
        });
    provider
}

fn read(
    certificate_path: &Path,
    key_path: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    let of_certificate = |fault| CertificateError {
        setting: "tls_cert",
        path: certificate_path.to_path_buf(),
        fault,
    };
    let of_key = |fault| CertificateError {
        setting: "tls_key",
        path: key_path.to_path_buf(),
        fault,
    };
    let chain = read_chain(certificate_path).map_err(of_certificate)?;
    check_time(&chain, certificate_path).map_err(of_certificate)?;
    let key = PrivateKeyDer::from_pem_file(key_path)
        .map_err(|error| of_key(fault_of(error, "private key", "PRIVATE KEY")))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            of_key(Fault::Mismatch(certificate_path.display().to_string()))
        }
        error => of_key(Fault::Key(error)),
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let fault = |error| fault_of(error, "certificate", "CERTIFICATE");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(fault)?
        .collect();
    let chain = chain.map_err(fault)?;
    match chain.is_empty() {
        true => Err(fault(pem::Error::NoItemsFound)),
        false => Ok(chain),
    }
}

fn fault_of(error: pem::Error, what: &'static str, section: &'static str) -> Fault {
    match error {
        pem::Error::Io(error) => Fault::Unreadable(error),
        pem::Error::NoItemsFound => Fault::Nothing(what, section),
        error => Fault::NotPem(error),
    }
}

/// Whether the first certificate is good now; warns if it is not for long.
fn check_time(chain: &[CertificateDer<'static>], path: &Path) -> Result<(), Fault> {
    let Some(first) = chain.first() else {
        return Ok(());
    };
    let certificate = EndEntityCert::try_from(first).map_err(Fault::Certificate)?;
    // Nobody is trusted here, so the answer is never good; but times are looked at before trust is.
    let at = |time| {
        let usage = KeyUsage::server_auth();
        let verified =
            certificate.verify_for_usage(ALL_VERIFICATION_ALGS, &[], &[], time, usage, None, None);
        verified.map(drop)
    };
    let now = UnixTime::now();
    match at(now) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            return Err(Fault::Expired(date(not_after)));
        }
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => {
            return Err(Fault::NotYet(date(not_before)));
        }
        _ => {}
    }
    let soon = Duration::from_secs(now.as_secs()) + EXPIRY_WARNING;
    if let Err(webpki::Error::CertExpired { not_after, .. }) = at(UnixTime::since_unix_epoch(soon))
    {
        tracing::warn!(
            path = %path.display(),
            "the certificate expires on {}; renew it and send SIGHUP",
            date(not_after)
        );
    }
    Ok(())
}

/// As RFC 3339, up to the year 9999, in which the times of certificates end (RFC 5280 §4.1.2.5).
fn date(time: UnixTime) -> String {
    const LAST_SECOND: u64 = 253_402_300_799;
    let since_1970 = Duration::from_secs(time.as_secs().min(LAST_SECOND));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
