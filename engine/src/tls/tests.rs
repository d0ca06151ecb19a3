use std::fs;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

/// A directory of its own, gone with the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("shardcast-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn config(certificate: &Path, key: &Path) -> Config {
    Config {
        tls_cert: Some(certificate.to_path_buf()),
        tls_key: Some(key.to_path_buf()),
        ..Config::default()
    }
}

/// PEM of a certificate and of its key.
fn made(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn what_cannot_be_used_is_said_with_file_and_remedy() {
    let directory = Directory::new("faults");
    let (good, good_key) = made(|_| {});
    let (_, other_key) = made(|_| {});
    let (expired, expired_key) = made(|params| params.not_after = date_time_ymd(2020, 2, 3));
    let (future, future_key) = made(|params| params.not_before = date_time_ymd(4000, 1, 1));
    // Certificate, key, parts of the message.
    let cases: [(&str, &str, &[&str]); 7] = [
        (
            &expired,
            &expired_key,
            &["tls_cert = ", "expired on 2020-02-03T00:00:00Z", "renew"],
        ),
        (
            &future,
            &future_key,
            &["tls_cert = ", "good from 4000-01-01T00:00:00Z", "clock"],
        ),
        (
            &good,
            &other_key,
            &["tls_key = ", "not that of the certificate in", "cert.pem"],
        ),
        (&good, "", &["tls_key = ", "no private key", "PRIVATE KEY"]),
        (
            "text",
            &good_key,
            &["tls_cert = ", "no certificate", "BEGIN CERTIFICATE"],
        ),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            &good_key,
            &["tls_cert = ", "not PEM"],
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &good_key,
            &["tls_cert = ", "cannot be used"],
        ),
    ];
    for (certificate, key, parts) in cases {
        let certificate = directory.write("cert.pem", certificate);
        let key = directory.write("key.pem", key);
        let message = Certificate::of(&config(&certificate, &key))
            .unwrap_err()
            .to_string();
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    let missing = directory.0.join("nothing.pem");
    let key = directory.write("key.pem", &good_key);
    let message = Certificate::of(&config(&missing, &key))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("nothing.pem: the file cannot be read"),
        "{message}"
    );
    assert!(Certificate::of(&Config::default()).unwrap().is_none());
}

#[test]
fn a_reload_takes_what_can_be_used_and_keeps_what_it_had_otherwise() {
    let directory = Directory::new("reload");
    let (first, first_key) = made(|_| {});
    let (second, second_key) = made(|_| {});
    let certificate_path = directory.write("cert.pem", &first);
    let key_path = directory.write("key.pem", &first_key);
    let certificate = Certificate::of(&config(&certificate_path, &key_path))
        .unwrap()
        .unwrap();
    let shown = || certificate.current.load().cert[0].clone();
    let before = shown();
    directory.write("cert.pem", &second);
    certificate.reload().unwrap_err();
    assert_eq!(shown(), before, "the key is still the first one's");
    directory.write("key.pem", &second_key);
    certificate.reload().unwrap();
    assert_ne!(shown(), before);
}

#[test]
fn the_configuration_offers_both_versions_and_the_protocol_of_the_handshake() {
    let directory = Directory::new("config");
    let (pem, key) = made(|_| {});
    let config = config(
        &directory.write("cert.pem", &pem),
        &directory.write("key.pem", &key),
    );
    let certificate = Arc::new(Certificate::of(&config).unwrap().unwrap());
    let server = server_config(&certificate);
    assert_eq!(server.alpn_protocols, [b"http/1.1"]);
    assert!(server.ticketer.enabled());
    assert_eq!(
        server.max_early_data_size, 0,
        "requests that can be replayed"
    );
}
