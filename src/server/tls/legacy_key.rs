//! Keys that openssl encrypted before PKCS #8: a PEM section with the headers
//! `Proc-Type: 4,ENCRYPTED` and `DEK-Info: CIPHER,HEX` (source: RFC 1421, and
//! the manual of OpenSSL's `EVP_BytesToKey`).

use aes::{Aes128, Aes192, Aes256};
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use des::{Des, TdesEde3};
use md5::{Digest, Md5};
use pem::Pem;
use zeroize::Zeroizing;

/// The salt is the beginning of the initialisation vector.
const SALT_BYTES: usize = 8;

/// Is the section encrypted?
pub fn is_encrypted(section: &Pem) -> bool {
    let kind = section.headers().get("Proc-Type");
    kind.is_some_and(|kind| kind.ends_with("ENCRYPTED"))
}

/// What the section holds.
pub fn decrypt(section: &Pem, password: &[u8]) -> Result<Vec<u8>, String> {
    let info = section.headers().get("DEK-Info");
    let (cipher, vector) = info
        .and_then(|info| info.split_once(','))
        .ok_or("the key is encrypted, and no DEK-Info says how")?;
    let vector = bytes(vector.trim()).ok_or("the vector in DEK-Info is not hexadecimal")?;
    let content = section.contents();
    match cipher.trim() {
        "AES-256-CBC" => with::<Aes256>(32, password, &vector, content),
        "AES-192-CBC" => with::<Aes192>(24, password, &vector, content),
        "AES-128-CBC" => with::<Aes128>(16, password, &vector, content),
        "DES-EDE3-CBC" => with::<TdesEde3>(24, password, &vector, content),
        "DES-CBC" => with::<Des>(8, password, &vector, content),
        other => Err(format!(
            "the key is encrypted by {other}, which is not known; \
             \"openssl pkcs8 -topk8 -v2 aes256\" makes one that is"
        )),
    }
}

fn with<C: BlockCipherDecrypt + KeyInit>(
    key_bytes: usize,
    password: &[u8],
    vector: &[u8],
    content: &[u8],
) -> Result<Vec<u8>, String> {
    let salt = vector.get(..SALT_BYTES).unwrap_or(vector);
    let key = derived_key(key_bytes, password, salt);
    Decryptor::<C>::new_from_slices(&key, vector)
        .map_err(|_| "the vector in DEK-Info has the wrong length")?
        .decrypt_padded_vec::<Pkcs7>(content)
        .map_err(|_| "the key cannot be decrypted; is the password right?".to_owned())
}

/// `EVP_BytesToKey` with MD5 and one round.
fn derived_key(key_bytes: usize, password: &[u8], salt: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(key_bytes + Md5::output_size()));
    let mut last = Zeroizing::new(Vec::new());
    while key.len() < key_bytes {
        let mut hash = Md5::new();
        hash.update(&*last);
        hash.update(password);
        hash.update(salt);
        *last = hash.finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(key_bytes);
    key
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) {
        return None;
    }
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect();
    let byte = |pair: &[u8]| match pair {
        &[high, low] => Some(high << 4 | low),
        _ => None,
    };
    digits?.chunks(2).map(byte).collect()
}
