//! Who vouches for a backend on `https`.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

/// A file that names no authorities.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It cannot be read, or is no PEM.
    #[error("cannot be read as PEM: {0}")]
    Pem(String),
    /// It has no certificate.
    #[error("holds no certificate; it must begin with -----BEGIN CERTIFICATE-----")]
    Empty,
    /// One of its certificates cannot be an authority's.
    #[error("holds a certificate that vouches for nobody: {0}")]
    Unusable(rustls::Error),
}

/// The authorities of a file, or the public ones where none is named.
///
/// # Errors
/// The file names no authorities.
pub(super) fn configured(path: Option<&Path>) -> Result<RootCertStore, AuthorityError> {
    let mut store = RootCertStore::empty();
    let Some(path) = path else {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(store);
    };
    let unreadable = |error: pem::Error| AuthorityError::Pem(error.to_string());
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        store
            .add(certificate.map_err(unreadable)?)
            .map_err(AuthorityError::Unusable)?;
    }
    match store.is_empty() {
        true => Err(AuthorityError::Empty),
        false => Ok(store),
    }
}
