//! Public keys in DER: `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7), as far as the kinds of keys that are known here need it.

/// A key, borrowed from the text that it stands in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublicKey<'a> {
    /// Modulus and exponent, big-endian, without leading zeros (RFC 8017 §A.1.1).
    Rsa { n: &'a [u8], e: &'a [u8] },
    /// A point on the curve P-256, as it is encoded (RFC 5480 §2.2).
    P256(&'a [u8]),
    /// RFC 8410 §4.
    Ed25519(&'a [u8]),
    /// A key of a kind that is not known here.
    Other,
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;

/// 1.2.840.113549.1.1.1 (RFC 3279 §2.3.1).
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1 (RFC 5480 §2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7 (RFC 5480 §2.1.1.1).
const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.101.112 (RFC 8410 §3).
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Reads a key; `None` where the bytes are none.
pub(super) fn public_key(mut der: &[u8]) -> Option<PublicKey<'_>> {
    let mut body = element(&mut der, SEQUENCE)?;
    let mut algorithm = element(&mut body, SEQUENCE)?;
    let kind = element(&mut algorithm, OBJECT_IDENTIFIER)?;
    // A number of bits that is no multiple of eight does not occur here.
    let (&0, key) = element(&mut body, BIT_STRING)?.split_first()? else {
        return None;
    };
    if !der.is_empty() || !body.is_empty() {
        return None;
    }
    match kind {
        RSA_ENCRYPTION => rsa(key),
        EC_PUBLIC_KEY => match element(&mut algorithm, OBJECT_IDENTIFIER) {
            Some(PRIME256V1) => Some(PublicKey::P256(key)),
            _ => Some(PublicKey::Other),
        },
        ED25519 => Some(PublicKey::Ed25519(key)),
        _ => Some(PublicKey::Other),
    }
}

fn rsa(mut der: &[u8]) -> Option<PublicKey<'_>> {
    let mut numbers = element(&mut der, SEQUENCE)?;
    let n = without_zeros(element(&mut numbers, INTEGER)?);
    let e = without_zeros(element(&mut numbers, INTEGER)?);
    (der.is_empty() && numbers.is_empty()).then_some(PublicKey::Rsa { n, e })
}

/// A positive number whose first bit is set has a zero in front of it.
pub(super) fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Takes the content of the next element, which must have the tag given.
fn element<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&[found, first], mut rest) = input.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    // Below 128 the length itself, above it how many bytes the length has.
    let length = match first {
        0..=0x7f => usize::from(first),
        0x81 | 0x82 => {
            let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            bytes
                .iter()
                .fold(0, |length, &byte| length << 8 | usize::from(byte))
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    *input = after;
    Some(content)
}
