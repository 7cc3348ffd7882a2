//! Private keys in all their wrappings.

use std::path::Path;

use pem::Pem;
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use zeroize::Zeroizing;

use super::password::Password;
use super::{TlsError, files, legacy_key};

const RSA: &str = "RSA PRIVATE KEY";
const ELLIPTIC: &str = "EC PRIVATE KEY";
const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// The first private key of a file.
pub fn load(path: &Path, password: &Password) -> Result<PrivateKeyDer<'static>, TlsError> {
    let sections = files::sections(path)?;
    let section = sections
        .iter()
        .find(|section| [RSA, ELLIPTIC, PLAIN, ENCRYPTED].contains(&section.tag()));
    let Some(section) = section else {
        let problem = "there is no private key in it (PEM: RSA, EC or PKCS #8); if the key stands \
                       in a file of its own, name that with \"key\"";
        return Err(TlsError::file(path, problem));
    };
    let is_encrypted = section.tag() == ENCRYPTED || legacy_key::is_encrypted(section);
    if !is_encrypted {
        return Ok(typed(section.tag(), section.contents()));
    }
    if matches!(password, Password::None) {
        let problem = "the key is encrypted, and nothing says its password: set key-password-file \
                       or key-password-command in <zeod>, or password-function in <ssl>";
        return Err(TlsError::file(path, problem));
    }
    let password = password.get().map_err(TlsError::Password)?;
    let failed = |problem| TlsError::file(path, problem);
    decrypt(section, &password).map_err(failed)
}

fn decrypt(section: &Pem, password: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if section.tag() != ENCRYPTED {
        let key = Zeroizing::new(legacy_key::decrypt(section, password)?);
        return Ok(typed(section.tag(), &key));
    }
    let wrapped = EncryptedPrivateKeyInfoRef::try_from(section.contents()).map_err(|error| {
        format!(
            "the key is encrypted in a way that is not known ({error}); \
             \"openssl pkcs8 -topk8 -v2 aes256\" makes one that is"
        )
    })?;
    let key = wrapped.decrypt(password).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(pkcs5::Error::UnsupportedAlgorithm { oid }) => format!(
            "the key is encrypted by {oid}, which is not known; \
             \"openssl pkcs8 -topk8 -v2 aes256\" makes one that is"
        ),
        error => format!("the key cannot be decrypted; is the password right? ({error})"),
    })?;
    Ok(typed(PLAIN, key.as_bytes()))
}

fn typed(tag: &str, key: &[u8]) -> PrivateKeyDer<'static> {
    let key = key.to_vec();
    match tag {
        RSA => PrivatePkcs1KeyDer::from(key).into(),
        ELLIPTIC => PrivateSec1KeyDer::from(key).into(),
        _ => PrivatePkcs8KeyDer::from(key).into(),
    }
}
