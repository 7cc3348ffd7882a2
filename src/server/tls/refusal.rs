//! Why a client was turned away, in an administrator's words.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible};
use thiserror::Error;

/// Why a client is not let in.
#[derive(Debug, Error)]
pub enum Refusal {
    /// It said nothing, or not enough.
    #[error("no TLS handshake within {} s; a client without <ssl> waits like that", .0.as_secs())]
    TooLate(Duration),
    /// It went before it was done.
    #[error(
        "it went before the TLS handshake was done; a client without <ssl> does so, or a check \
         whether the port is open"
    )]
    Gone,
    /// It speaks ZEO, or anything else, without TLS.
    #[error(
        "it does not speak TLS, and this address is encrypted: the client needs an <ssl> section"
    )]
    NotTls,
    /// It has no certificate.
    #[error(
        "it shows no certificate; the <ssl> section of the client needs \"certificate\" and \"key\""
    )]
    NoCertificate,
    /// Its certificate is not good.
    #[error("its certificate {subject}: {}", certificate_words(.error))]
    Certificate {
        /// Whom it names.
        subject: String,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// It does not accept our certificate, or anything else of ours.
    #[error("it ended the TLS handshake: {0:?}; does it trust the certificate of this server?")]
    Alert(rustls::AlertDescription),
    /// It is too old, or wants what is not safe.
    #[error(
        "it has no version of TLS or no cipher in common with us, who speak 1.2 and 1.3 ({0:?})"
    )]
    Incompatible(PeerIncompatible),
    /// Anything else.
    #[error("TLS: {0}")]
    Other(Error),
    /// The network.
    #[error("{0}")]
    Io(io::Error),
}

impl Refusal {
    /// What a failed handshake means. `subject` is whom the client's
    /// certificate names, if it had got that far.
    pub fn of(error: io::Error, subject: Option<String>) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::InvalidCertificate(error)) => Self::Certificate {
                subject: subject.unwrap_or_else(|| "cannot be read".to_owned()),
                error: error.clone(),
            },
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Self::NotTls,
            Some(Error::AlertReceived(alert)) => Self::Alert(*alert),
            Some(Error::PeerIncompatible(why)) => Self::Incompatible(why.clone()),
            Some(other) => Self::Other(other.clone()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Gone,
            None => Self::Io(error),
        }
    }
}

/// What is wrong with a certificate.
pub fn certificate_words(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("expired on {}", date(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("not valid before {}", date(*not_before))
        }
        CertificateError::UnknownIssuer => {
            "neither it nor who signed it is among those of \"authenticate\"".to_owned()
        }
        CertificateError::BadSignature => {
            "its signature is wrong; is the certificate of that name in \"authenticate\" another \
             one, perhaps a former one?"
                .to_owned()
        }
        // webpki's own errors come in this wrapping.
        CertificateError::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "it is the certificate of an authority (CA:TRUE); list it by itself, or make one with \
             CA:FALSE"
                .to_owned()
        }
        CertificateError::Revoked => "it has been revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its extended key usage is not that of a client (clientAuth)".to_owned()
        }
        other => other.to_string(),
    }
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(
        |_| format!("second {seconds} since 1970"),
        |timestamp| timestamp.to_string(),
    )
}
