"""Tokens as PyJWT makes them, one for each algorithm, with what checks them.

Prints one JSON object a line: `algorithm`, `key` (PEM, or the secret), `jwk`, `token`.
"""

import json
import secrets
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = secrets.token_urlsafe(48)
PRIVATE = {
    "RS256": (rsa.generate_private_key(public_exponent=65537, key_size=3072), RSAAlgorithm),
    "ES256": (ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm),
}
CLAIMS = {
    "sub": "ada",
    "iat": time.time(),
    "exp": int(time.time()) + 3600,
    "aud": ["mail", "chat"],
    "rooms": [{"room": "chat.*", "rights": ["join", "publish"]}],
}


def show(algorithm, signer, key, jwk):
    kid = f"key-{algorithm}"
    token = jwt.encode(CLAIMS, signer, algorithm=algorithm, headers={"kid": kid})
    print(json.dumps({"algorithm": algorithm, "key": key, "jwk": {**jwk, "kid": kid}, "token": token}))


show("HS256", SECRET, SECRET, HMACAlgorithm.to_jwk(SECRET, as_dict=True))
for name, (private, kind) in PRIVATE.items():
    public = private.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    show(name, private, pem.decode(), kind.to_jwk(public, as_dict=True))
