//! The PEM files that the configuration names.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use pem::Pem;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

use super::{TlsError, identity};
use crate::config::SslAuthentication;

/// The longest file that is read. The bundle of all public authorities has a
/// quarter of a megabyte.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// Whose certificates are let in.
#[derive(Debug, Default)]
pub struct Trust {
    /// Where they come from, for error messages.
    pub source: String,
    /// The certificates, each once.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Lists of certificates that were taken back.
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
    /// Whether the certificates are themselves let in, not only those that they signed.
    pub are_listed: bool,
}

/// The server's certificate and those that lead to its authority.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let sections = sections(path)?;
    let chain: Vec<_> = sections.iter().filter_map(certificate).collect();
    let Some(leaf) = chain.first() else {
        return Err(TlsError::file(path, "there is no certificate in it (PEM)"));
    };
    let known = identity::Known::of(leaf)
        .map_err(|error| TlsError::file(path, format!("the certificate is damaged: {error}")))?;
    if let Err(error) = known.is_valid_at(UnixTime::now()) {
        let why = super::refusal::certificate_words(&error);
        tracing::warn!("{}: {why}; clients will refuse it", path.display());
    }
    Ok(chain)
}

/// The certificates to be let in.
pub fn trust(authentication: &SslAuthentication) -> Result<Trust, TlsError> {
    match authentication {
        SslAuthentication::Certificates(path) if path.is_dir() => directory(path),
        SslAuthentication::Certificates(path) => {
            let mut trust = Trust::listed(path);
            trust.take(&sections(path)?);
            trust.checked(path)
        }
        SslAuthentication::Signed => system(),
    }
}

/// All the files that can be read; other files may lie beside them.
fn directory(path: &Path) -> Result<Trust, TlsError> {
    let failed = |error: io::Error| TlsError::file(path, error.to_string());
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    let mut trust = Trust::listed(path);
    for file in files {
        match sections(&file) {
            Ok(sections) => trust.take(&sections),
            Err(error) => tracing::debug!("passed over: {error}"),
        }
    }
    trust
        .certificates
        .retain(|certificate| identity::Known::of(certificate).is_ok());
    trust.checked(path)
}

fn system() -> Result<Trust, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let problem = format!(
            "the system has no certificates of authorities; name a file instead{}{}",
            if errors.is_empty() { "" } else { ": " },
            errors.join("; ")
        );
        return Err(TlsError::SystemAuthorities { problem });
    }
    Ok(Trust {
        source: "the authorities that the system knows".to_owned(),
        certificates: found.certs,
        ..Trust::default()
    })
}

impl Trust {
    fn listed(path: &Path) -> Self {
        Self {
            source: path.display().to_string(),
            are_listed: true,
            ..Self::default()
        }
    }

    fn take(&mut self, sections: &[Pem]) {
        for section in sections {
            if let Some(certificate) = certificate(section)
                && !self.certificates.contains(&certificate)
            {
                self.certificates.push(certificate);
            }
            if section.tag() == "X509 CRL" {
                self.revoked.push(section.contents().to_vec().into());
            }
        }
    }

    fn checked(self, path: &Path) -> Result<Self, TlsError> {
        if self.certificates.is_empty() {
            let problem = "there is no certificate in it (PEM), so no client could be let in";
            return Err(TlsError::file(path, problem));
        }
        Ok(self)
    }
}

fn certificate(section: &Pem) -> Option<CertificateDer<'static>> {
    let is_one = matches!(section.tag(), "CERTIFICATE" | "X509 CERTIFICATE");
    is_one.then(|| section.contents().to_vec().into())
}

/// What stands between `-----BEGIN` and `-----END` lines.
pub fn sections(path: &Path) -> Result<Vec<Pem>, TlsError> {
    let failed = |error: io::Error| TlsError::file(path, error.to_string());
    let mut content = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        let problem = format!("it is longer than {MAX_FILE_BYTES} bytes");
        return Err(TlsError::file(path, problem));
    }
    pem::parse_many(&content).map_err(|error| TlsError::file(path, format!("no PEM: {error}")))
}
