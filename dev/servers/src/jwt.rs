//! JSON Web Tokens, signed by a new key.

use std::fmt;

use rcgen::{CertificateParams, KeyPair, SigningKey};

use crate::error::StartError;

/// Number of bytes of each of the two numbers of a signature.
const WIDTH: usize = 32;

/// An issuer of tokens that a server verifies by a public key: an identity provider, a cluster.
/// Each has a new key.
///
/// ```
/// use claviger_servers::JwtIssuer;
///
/// # fn a_test() -> Result<(), claviger_servers::StartError> {
/// let issuer = JwtIssuer::new()?;
/// let token = issuer.sign(r#"{"sub": "orders", "exp": 4102444800}"#)?;
/// assert_eq!(token.split('.').count(), 3);
/// # Ok(()) }
/// # a_test().expect("it signs");
/// ```
pub struct JwtIssuer {
    key: KeyPair,
}

impl JwtIssuer {
    /// Creates an issuer with a new key, for ES256.
    ///
    /// # Errors
    /// [`StartError::Certificate`] if the key cannot be created.
    pub fn new() -> Result<Self, StartError> {
        Ok(Self {
            key: KeyPair::generate().map_err(StartError::Certificate)?,
        })
    }

    /// Returns the public key of its tokens, in PEM.
    pub fn public_key(&self) -> String {
        self.key.public_key_pem()
    }

    /// Returns a self-signed certificate of that key, in PEM.
    ///
    /// # Errors
    /// [`StartError::Certificate`] if it cannot be created.
    pub fn certificate(&self) -> Result<String, StartError> {
        let certificate = CertificateParams::default()
            .self_signed(&self.key)
            .map_err(StartError::Certificate)?;
        Ok(certificate.pem())
    }

    /// Signs a token with these claims, a JSON object.
    ///
    /// # Errors
    /// [`StartError::Certificate`] if it cannot be signed.
    pub fn sign(&self, claims: &str) -> Result<String, StartError> {
        let text = format!(
            "{}.{}",
            base64url(br#"{"alg":"ES256","typ":"JWT"}"#),
            base64url(claims.as_bytes())
        );
        let der = self
            .key
            .sign(text.as_bytes())
            .map_err(StartError::Certificate)?;
        let signature = raw_signature(&der)
            .ok_or(StartError::Certificate(rcgen::Error::CouldNotParseKeyPair))?;
        Ok(format!("{text}.{}", base64url(&signature)))
    }
}

impl fmt::Debug for JwtIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtIssuer")
    }
}

/// Converts a signature from DER, a sequence of two integers, to the two numbers side by side.
fn raw_signature(der: &[u8]) -> Option<Vec<u8>> {
    let [0x30, _, rest @ ..] = der else {
        return None;
    };
    let mut rest = rest;
    let mut signature = Vec::with_capacity(2 * WIDTH);
    for _ in 0..2 {
        let [0x02, length, after @ ..] = rest else {
            return None;
        };
        let (number, after) = after.split_at_checked(usize::from(*length))?;
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        signature.extend(std::iter::repeat_n(0, WIDTH.checked_sub(number.len())?));
        signature.extend(number);
        rest = after;
    }
    Some(signature)
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0_u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let letter = group >> (18 - 6 * place) & 63;
            text.push(char::from(LETTERS[letter as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;

    #[test]
    fn bytes_become_letters_without_padding() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("?>\u{ff}", "Pz7Dvw"),
        ] {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn every_signature_has_64_bytes() {
        // A number with a leading zero, and a short one.
        let der = [&[0x30, 38, 0x02, 33, 0][..], &[0xff; 32], &[0x02, 1, 7]].concat();
        let signature = raw_signature(&der).unwrap();
        assert_eq!(
            (
                signature.len(),
                signature[0],
                signature[31],
                signature[62],
                signature[63]
            ),
            (64, 0xff, 0xff, 0, 7)
        );
        assert_eq!(raw_signature(&[0x30, 2, 0x02, 9]), None);
        let issuer = JwtIssuer::new().unwrap();
        for _ in 0..50 {
            assert_eq!(
                raw_signature(&issuer.key.sign(b"x").unwrap())
                    .unwrap()
                    .len(),
                64
            );
        }
    }
}
