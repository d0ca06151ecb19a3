//! Files with keys, as OpenSSL writes them, and what is no key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::key::KeyError;
use super::signer::openssl;
use super::*;

/// A file that is gone when the test ends.
struct File(std::path::PathBuf);

impl File {
    fn new(content: &[u8]) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("shardcast-key-{}-{number}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A file that is left behind does no harm.
        drop(std::fs::remove_file(&self.0));
    }
}

fn read(content: &[u8]) -> Result<Key, KeyError> {
    Key::from_file(&File::new(content).0)
}

#[test]
fn a_key_of_each_kind_checks_its_tokens() {
    for signer in Signer::of_each_kind() {
        let file = signer.public_file();
        // Editors and mail change line ends, and people write above a key what it is for.
        let mut forms = vec![file.clone()];
        if signer.algorithm() != "HS256" {
            let text = String::from_utf8(file).unwrap();
            forms.push(text.replace('\n', "\r\n").into_bytes());
            forms.push(format!("the key of 2026\n\n{text}\n").into_bytes());
        }
        for form in forms {
            let verifier = verifier(vec![read(&form).unwrap()]);
            assert!(
                verify(&verifier, &signer.token(&claims())).is_ok(),
                "{}",
                signer.algorithm()
            );
        }
    }
}

#[test]
fn how_a_secret_is_written() {
    let text = "a secret of more than 32 characters";
    let bytes: Vec<u8> = (0..32).rev().collect();
    let encoded = STANDARD.encode(&bytes);
    let cases: [(Vec<u8>, &[u8]); 6] = [
        (text.into(), text.as_bytes()),
        (format!("{text}\n").into(), text.as_bytes()),
        (format!("{text}\r\n").into(), text.as_bytes()),
        (format!("base64:{encoded}\n").into(), &bytes),
        (encoded.clone().into(), encoded.as_bytes()),
        // Bytes are no text, also where the last of them is a line feed.
        ([&bytes[..], b"\n"].concat(), &[&bytes[..], b"\n"].concat()),
    ];
    for (file, secret) in cases {
        let verifier = verifier(vec![read(&file).unwrap()]);
        let token = Signer::with_secret(secret).token(&claims());
        assert!(verify(&verifier, &token).is_ok(), "{file:?}");
    }
}

#[test]
fn what_is_no_key() {
    let (rsa, small) = (Signer::rsa(2048), {
        let private = openssl(
            &[
                "genpkey",
                "-quiet",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:1024",
            ],
            &[],
        );
        openssl(&["pkey", "-pubout"], &private)
    });
    let curve = {
        let private = openssl(
            &[
                "genpkey",
                "-quiet",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-384",
            ],
            &[],
        );
        openssl(&["pkey", "-pubout"], &private)
    };
    let compressed = openssl(
        &["ec", "-pubin", "-conv_form", "compressed"],
        &Signer::p256().public_file(),
    );
    let pem = String::from_utf8(rsa.public_file()).unwrap();
    let cut = &pem[..pem.len() / 2];
    let lines: Vec<&str> = pem.lines().collect();
    let emptied = [lines[0], lines[lines.len() - 1]].join("\n");
    let wrong_der = pem.replacen("MII", "MIJ", 1);
    let cases: Vec<(&[u8], &str)> = vec![
        (b"", "holds a secret of 0 bytes, and at least 32"),
        (b"short\n", "holds a secret of 5 bytes, and at least 32"),
        (b"base64:AAAA", "holds a secret of 3 bytes, and at least 32"),
        (b"base64:???", "what follows is not base64"),
        (&small, "an RSA key of 1024 bits; 2048 to 8192"),
        (&curve, "a key of an unknown kind"),
        (&compressed, "compressed or malformed point"),
        (cut.as_bytes(), "is not a public key in PEM"),
        (emptied.as_bytes(), "is not a public key in PEM"),
        (wrong_der.as_bytes(), "is not a public key in PEM"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "holds a certificate",
        ),
        (
            b"-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n",
            "is not a public key in PEM",
        ),
    ];
    for (content, expected) in cases {
        let message = read(content).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let message = read(&rsa.private_pem()).unwrap_err().to_string();
    assert!(message.contains("holds a private key"), "{message}");
    let message = read(&vec![b'x'; 70_000]).unwrap_err().to_string();
    assert!(message.contains("more than 65536 bytes"), "{message}");
    let message = Key::from_file(std::path::Path::new("/nowhere/key"))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("cannot be read") && message.contains("No such file"),
        "{message}"
    );
}

#[test]
fn a_key_does_not_show_itself() {
    let secret = b"0123456789abcdef0123456789abcdef";
    let shown = format!("{:?}", read(secret).unwrap());
    assert_eq!(shown, "Key { id: None, algorithm: Hs256, .. }");
}

#[test]
fn der_that_is_cut_or_changed_anywhere_does_not_panic() {
    for signer in Signer::of_each_kind() {
        if signer.algorithm() == "HS256" {
            continue;
        }
        let pem = signer.public_file();
        let der = openssl(&["pkey", "-pubin", "-outform", "DER"], &pem);
        assert!(super::super::der::public_key(&der).is_some());
        for end in 0..der.len() {
            assert_eq!(super::super::der::public_key(&der[..end]), None);
        }
        for (place, byte) in
            (0..der.len()).flat_map(|place| [(place, 0x00), (place, 0x84), (place, 0xff)])
        {
            let mut changed = der.clone();
            changed[place] = byte;
            // Any answer will do.
            let _ = super::super::der::public_key(&changed);
        }
    }
}
