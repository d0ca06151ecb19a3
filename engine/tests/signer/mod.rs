//! Signs tokens the way an issuer does. The keys are made anew in each test, by OpenSSL, which also writes their public halves.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use ring::{hmac, signature};
use serde_json::{Value, json};

/// A key that signs.
pub(crate) struct Signer {
    key: SigningKey,
    /// PKCS #8 in DER; of a secret the secret.
    private: Vec<u8>,
}

enum SigningKey {
    Secret(hmac::Key),
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    /// One of each kind.
    pub(crate) fn of_each_kind() -> [Self; 4] {
        [
            Self::secret(),
            Self::rsa(2048),
            Self::p256(),
            Self::ed25519(),
        ]
    }

    /// A secret for HS256.
    pub(crate) fn secret() -> Self {
        let mut secret = vec![0; 32];
        SystemRandom::new().fill(&mut secret).unwrap();
        Self::with_secret(&secret)
    }

    /// This secret.
    pub(crate) fn with_secret(secret: &[u8]) -> Self {
        Self {
            key: SigningKey::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret)),
            private: secret.to_vec(),
        }
    }

    /// An RSA key of so many bits.
    pub(crate) fn rsa(bits: u32) -> Self {
        let private = generate(&[
            "-algorithm",
            "RSA",
            "-pkeyopt",
            &format!("rsa_keygen_bits:{bits}"),
        ]);
        Self {
            key: SigningKey::Rsa(RsaKeyPair::from_pkcs8(&private).unwrap()),
            private,
        }
    }

    /// An EC key on P-256.
    pub(crate) fn p256() -> Self {
        let private = generate(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &private,
            &SystemRandom::new(),
        );
        Self {
            key: SigningKey::P256(key.unwrap()),
            private,
        }
    }

    /// An Ed25519 key.
    pub(crate) fn ed25519() -> Self {
        let private = generate(&["-algorithm", "ED25519"]);
        Self {
            key: SigningKey::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&private).unwrap()),
            private,
        }
    }

    /// The name of its algorithm.
    pub(crate) fn algorithm(&self) -> &'static str {
        match &self.key {
            SigningKey::Secret(_) => "HS256",
            SigningKey::Rsa(_) => "RS256",
            SigningKey::P256(_) => "ES256",
            SigningKey::Ed25519(_) => "EdDSA",
        }
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_of(&json!({"alg": self.algorithm(), "typ": "JWT"}), claims)
    }

    /// A token whose header names the key.
    pub(crate) fn token_named(&self, kid: &str, claims: &Value) -> String {
        self.token_of(&json!({"alg": self.algorithm(), "kid": kid}), claims)
    }

    /// A token with this header and these claims.
    pub(crate) fn token_of(&self, header: &Value, claims: &Value) -> String {
        self.token_of_text(&header.to_string(), &claims.to_string())
    }

    /// A token with whatever stands in the texts.
    pub(crate) fn token_of_text(&self, header: &str, claims: &str) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            SigningKey::Secret(key) => hmac::sign(key, message).as_ref().to_vec(),
            SigningKey::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let padding: &dyn signature::RsaEncoding = &RSA_PKCS1_SHA256;
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            SigningKey::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            SigningKey::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// What stands in the file of a server that checks its tokens: PEM, or the secret itself.
    pub(crate) fn public_file(&self) -> Vec<u8> {
        match &self.key {
            SigningKey::Secret(_) => self.private.clone(),
            _ => openssl(&["pkey", "-inform", "DER", "-pubout"], &self.private),
        }
    }

    /// The private half in PEM, which a server must not be given.
    pub(crate) fn private_pem(&self) -> Vec<u8> {
        openssl(&["pkey", "-inform", "DER"], &self.private)
    }

    /// The key as a member of a JWK set.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.key {
            SigningKey::Secret(_) => json!({"kty": "oct", "kid": kid, "k": text(&self.private)}),
            SigningKey::Rsa(key) => {
                let public: PublicKeyComponents<Vec<u8>> = key.public().into();
                json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": text(&public.n), "e": text(&public.e)})
            }
            SigningKey::P256(key) => {
                let point = &key.public_key().as_ref()[1..];
                json!({"kty": "EC", "kid": kid, "crv": "P-256", "x": text(&point[..32]), "y": text(&point[32..])})
            }
            SigningKey::Ed25519(key) => {
                json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": text(key.public_key().as_ref())})
            }
        }
    }
}

/// PKCS #8 in DER, which OpenSSL does not write at once for every kind of key.
fn generate(arguments: &[&str]) -> Vec<u8> {
    let pem = openssl(&[&["genpkey", "-quiet"], arguments].concat(), &[]);
    openssl(&["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"], &pem)
}

/// What OpenSSL's command prints when it reads this.
pub(crate) fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tests of tokens need the command `openssl` to make keys");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
    output.stdout
}
