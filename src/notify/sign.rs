//! Signatures by HMAC-SHA256 (RFC 2104), as services ask for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    // A key of any length is one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// In hexadecimal digits.
pub fn hex(key: &str, message: &[u8]) -> String {
    hmac(key.as_bytes(), message).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// In Base64.
pub fn base64(key: &str, message: &str) -> String {
    STANDARD.encode(hmac(key.as_bytes(), message.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_vector_of_rfc_4231() {
        let wanted = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex("Jefe", b"what do ya want for nothing?"), wanted);
    }
}
