//! Which client certificates are good.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use der::{Decode, Encode};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use x509_cert::crl::CertificateList;

use super::files::Trust;
use super::identity::{self, Known};
use super::{TlsError, refusal};

tokio::task_local! {
    /// Whom the certificate names that the client of this task shows.
    static SHOWN: RefCell<Option<String>>;
}

/// Runs a handshake; also says whom the certificate named that was shown in
/// it, as the error of a handshake does not tell.
pub async fn noting_subject<T>(handshake: impl Future<Output = T>) -> (T, Option<String>) {
    let noted = async {
        let result = handshake.await;
        (result, SHOWN.with(RefCell::take))
    };
    SHOWN.scope(RefCell::default(), noted).await
}

/// Accepts what OpenSSL does: a certificate that is listed, whoever signed it,
/// and one that a listed one signed. webpki alone does the latter only.
#[derive(Debug)]
pub struct Verifier {
    listed: HashMap<CertificateDer<'static>, Known>,
    /// `None`: none of the certificates can sign others.
    signed: Option<Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Lets in whom `trust` names.
    pub fn new(trust: Trust, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let damaged = |error: &dyn std::fmt::Display| {
            let problem = format!("a certificate or revocation list in it is damaged: {error}");
            TlsError::file(&trust.source, problem)
        };
        let mut roots = RootCertStore::empty();
        let mut listed = HashMap::new();
        let mut last_error = None;
        for certificate in &trust.certificates {
            if trust.are_listed {
                let known = Known::of(certificate).map_err(|error| damaged(&error))?;
                if let Err(error) = known.is_valid_at(UnixTime::now()) {
                    let subject = identity::subject(certificate).unwrap_or_default();
                    let why = refusal::certificate_words(&error);
                    tracing::warn!("{}: the certificate {subject}: {why}", trust.source);
                    // webpki does not look at the dates of those that sign.
                    listed.insert(certificate.clone(), known);
                    continue;
                }
                listed.insert(certificate.clone(), known);
            }
            last_error = roots.add(certificate.clone()).err().or(last_error);
        }
        if let (true, Some(error)) = (roots.is_empty() && listed.is_empty(), last_error) {
            return Err(damaged(&error));
        }
        for list in &trust.revoked {
            let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(list)
                .map_err(|error| damaged(&error))?;
            let issuer = list
                .tbs_cert_list
                .issuer
                .to_der()
                .map_err(|error| damaged(&error))?;
            for revoked in list.tbs_cert_list.revoked_certificates.iter().flatten() {
                let issued = (issuer.clone(), revoked.serial_number.as_bytes().to_vec());
                listed.retain(|_, known| known.issued != issued);
            }
        }
        let signed = if roots.is_empty() {
            None
        } else {
            let builder =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                    .with_crls(trust.revoked.iter().cloned());
            let builder = builder.only_check_end_entity_revocation();
            Some(builder.build().map_err(|error| damaged(&error))?)
        };
        Ok(Self {
            listed,
            signed,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ClientCertVerifier for Verifier {
    /// None, as with Python's server: the client has one certificate, and
    /// some would not show it if the names of its authorities were not here.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let peer = identity::peer(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        // Outside of a task nobody wants to know.
        let _ = SHOWN.try_with(|shown| shown.replace(Some(peer.to_string())));
        if let Some(known) = self.listed.get(end_entity) {
            known.is_for_clients_at(now)?;
            return Ok(ClientCertVerified::assertion());
        }
        match &self.signed {
            Some(signed) => signed.verify_client_cert(end_entity, intermediates, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self
            .listed
            .get(certificate)
            .is_some_and(|known| known.is_version_1)
        {
            let key =
                identity::public_key(certificate).map_err(|_| CertificateError::BadEncoding)?;
            return verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms);
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
