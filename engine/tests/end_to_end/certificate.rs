//! The certificate of a server under test, made for it, and clients that trust nothing else.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

/// Names what the tests of one process make.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A certificate of `localhost` and its key, in files of its own that go with the value.
pub(crate) struct Certificate {
    directory: PathBuf,
    path: PathBuf,
    key_path: PathBuf,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("shardcast-certificate-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let certificate = Self {
            path: directory.join("cert.pem"),
            key_path: directory.join("key.pem"),
            directory,
        };
        certificate.renew();
        certificate
    }

    /// Puts another certificate and another key into the files.
    pub(crate) fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        self.replace(&self.path, &made.cert.pem());
        self.replace(&self.key_path, &made.signing_key.serialize_pem());
    }

    /// Puts something into the file of the certificate that is none.
    pub(crate) fn spoil(&self) {
        fs::write(&self.path, "-----BEGIN CERTIFICATE-----\n").unwrap();
    }

    /// Whoever reads meanwhile gets the old text or the new one.
    fn replace(&self, path: &Path, text: &str) {
        let new = self.directory.join("new.pem");
        fs::write(&new, text).unwrap();
        fs::rename(&new, path).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn key_path(&self) -> &Path {
        &self.key_path
    }

    /// What clients are to be shown.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.path).unwrap()
    }

    /// How a server of the tests' own shows it.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::from_pem_file(&self.key_path).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.der()], key)
            .unwrap();
        Arc::new(config)
    }

    /// How clients connect that trust this certificate.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    /// TLS over a connection; the handshake comes with the first read or write.
    pub(crate) fn connect(&self, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
        tls_over(self.client_config(), stream)
    }
}

/// TLS over a connection to `localhost`.
pub(crate) fn tls_over(
    config: Arc<ClientConfig>,
    stream: TcpStream,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // What is left lies in the directory of temporary files.
        drop(fs::remove_dir_all(&self.directory));
    }
}
