//! What stands in a certificate.

use std::fmt::Write as _;

use der::asn1::{BmpString, Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use der::{Decode, Encode, Tag, Tagged};
use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::attr::AttributeValue;
use x509_cert::certificate::Version;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::name::Name;

use crate::config::Subject;
use crate::session::Peer;

/// `id-kp-clientAuth` and `anyExtendedKeyUsage` (source: RFC 5280).
const CLIENT_PURPOSES: [&str; 2] = ["1.3.6.1.5.5.7.3.2", "2.5.29.37.0"];

/// Whom a client's certificate names.
pub fn peer(certificate: &CertificateDer<'_>) -> Result<Peer, der::Error> {
    Ok(Peer {
        fingerprint: Sha256::digest(certificate).into(),
        subject: subject(certificate)?,
    })
}

/// Whom a certificate is for.
pub fn subject(certificate: &CertificateDer<'_>) -> Result<Subject, der::Error> {
    let certificate = Certificate::from_der(certificate)?;
    Ok(subject_of(certificate.tbs_certificate().subject()))
}

/// The public key in a certificate.
pub fn public_key(
    certificate: &CertificateDer<'_>,
) -> Result<SubjectPublicKeyInfoDer<'static>, der::Error> {
    let certificate = Certificate::from_der(certificate)?;
    let key = certificate.tbs_certificate().subject_public_key_info();
    Ok(key.to_der()?.into())
}

/// An issuer's name and its number for a certificate, in DER.
pub type Issued = (Vec<u8>, Vec<u8>);

/// A certificate that is let in because it is known, whoever signed it.
#[derive(Debug)]
pub struct Known {
    not_before: UnixTime,
    not_after: UnixTime,
    /// Says that it is for other things than to be a client.
    is_for_others: bool,
    /// May sign others. webpki would let every certificate that it is given do so.
    pub can_sign: bool,
    /// X.509 version 1, from before there were extensions. `openssl x509 -req`
    /// still makes them, and webpki does not read them.
    pub is_version_1: bool,
    /// Who signed it, and under which number: so revocation lists name it.
    pub issued: Issued,
}

impl Known {
    /// Reads a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, der::Error> {
        let certificate = Certificate::from_der(certificate)?;
        let content = certificate.tbs_certificate();
        let purposes = content.get_extension::<ExtendedKeyUsage>()?;
        let is_for_others = purposes.is_some_and(|(_, ExtendedKeyUsage(purposes))| {
            let is_for_clients = |purpose: &der::oid::ObjectIdentifier| {
                CLIENT_PURPOSES.contains(&&*purpose.to_string())
            };
            !purposes.iter().any(is_for_clients)
        });
        let constraints = content.get_extension::<BasicConstraints>()?;
        let usage = content.get_extension::<KeyUsage>()?;
        let is_authority = constraints.is_some_and(|(_, constraints)| constraints.ca);
        let can_sign = is_authority && usage.is_none_or(|(_, usage)| usage.key_cert_sign());
        let time =
            |time: x509_cert::time::Time| UnixTime::since_unix_epoch(time.to_unix_duration());
        Ok(Self {
            not_before: time(content.validity().not_before),
            not_after: time(content.validity().not_after),
            is_for_others,
            can_sign,
            is_version_1: content.version() == Version::V1,
            issued: (
                content.issuer().to_der()?,
                content.serial_number().as_bytes().to_vec(),
            ),
        })
    }

    /// Is it valid at this time?
    pub fn is_valid_at(&self, time: UnixTime) -> Result<(), CertificateError> {
        if time < self.not_before {
            let not_before = self.not_before;
            return Err(CertificateError::NotValidYetContext { time, not_before });
        }
        if time > self.not_after {
            let not_after = self.not_after;
            return Err(CertificateError::ExpiredContext { time, not_after });
        }
        Ok(())
    }

    /// May a client show it at this time?
    pub fn is_for_clients_at(&self, time: UnixTime) -> Result<(), CertificateError> {
        if self.is_for_others {
            return Err(CertificateError::InvalidPurpose);
        }
        self.is_valid_at(time)
    }
}

fn subject_of(name: &Name) -> Subject {
    Subject::new(name.iter().map(|attribute| {
        let text = text(&attribute.value).unwrap_or_else(|| hex(attribute.value.value()));
        (attribute.oid.to_string(), text)
    }))
}

fn text(value: &AttributeValue) -> Option<String> {
    match value.tag() {
        Tag::Utf8String => value
            .decode_as::<Utf8StringRef<'_>>()
            .ok()
            .map(|text| text.to_string()),
        Tag::PrintableString => value
            .decode_as::<PrintableStringRef<'_>>()
            .ok()
            .map(|text| text.to_string()),
        Tag::Ia5String => value
            .decode_as::<Ia5StringRef<'_>>()
            .ok()
            .map(|text| text.to_string()),
        Tag::TeletexString => value
            .decode_as::<TeletexStringRef<'_>>()
            .ok()
            .map(|text| text.to_string()),
        Tag::BmpString => value
            .decode_as::<BmpString>()
            .ok()
            .map(|text| text.to_string()),
        _ => None,
    }
}

/// A value that is no text.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("#".to_owned(), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
