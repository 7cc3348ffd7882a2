//! Which client certificates are good.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
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
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;

use super::files::Trust;
use super::identity::{self, Issued, Known};
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
    pub fn new(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let mut listed = HashMap::new();
        let mut signers = trust.certificates.clone();
        if trust.are_listed {
            listed = known(trust)?;
            // webpki does not look whether those that sign may, nor at their dates.
            let now = UnixTime::now();
            signers.retain(|signer| {
                let known = listed.get(signer);
                known.is_some_and(|known| known.can_sign && known.is_valid_at(now).is_ok())
            });
        }
        let mut roots = RootCertStore::empty();
        let (_, refused) = roots.add_parsable_certificates(signers);
        if refused > 0 {
            let source = &trust.source;
            tracing::debug!("{source}: {refused} certificates cannot be used");
        }
        let signed = if roots.is_empty() {
            None
        } else {
            let roots = Arc::new(roots);
            let signed = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
                .with_crls(trust.revoked.iter().cloned())
                .only_check_end_entity_revocation()
                .build();
            Some(signed.map_err(|error| damaged(trust, &error))?)
        };
        let taken_back = taken_back(trust)?;
        listed.retain(|_, known| !taken_back.contains(&known.issued));
        Ok(Self {
            listed,
            signed,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

/// What has to be known of certificates that are let in as they are.
fn known(trust: &Trust) -> Result<HashMap<CertificateDer<'static>, Known>, TlsError> {
    let now = UnixTime::now();
    let mut listed = HashMap::new();
    for certificate in &trust.certificates {
        let known = Known::of(certificate).map_err(|error| damaged(trust, &error))?;
        if let Err(error) = known.is_valid_at(now) {
            let subject = identity::subject(certificate).unwrap_or_default();
            let why = refusal::certificate_words(&error);
            tracing::warn!("{}: the certificate {subject}: {why}", trust.source);
        }
        listed.insert(certificate.clone(), known);
    }
    Ok(listed)
}

/// The issuers and numbers that the revocation lists name.
fn taken_back(trust: &Trust) -> Result<HashSet<Issued>, TlsError> {
    let mut taken_back = HashSet::new();
    for list in &trust.revoked {
        let list = CertificateList::<Rfc5280>::from_der(list)
            .map_err(|error| damaged(trust, &error))?
            .tbs_cert_list;
        let issuer = list
            .issuer
            .to_der()
            .map_err(|error| damaged(trust, &error))?;
        let revoked = list.revoked_certificates.iter().flatten();
        taken_back.extend(revoked.map(|revoked| {
            let number = revoked.serial_number.as_bytes();
            (issuer.clone(), number.to_vec())
        }));
    }
    Ok(taken_back)
}

fn damaged(trust: &Trust, error: &dyn fmt::Display) -> TlsError {
    let problem = format!("a certificate or revocation list in it is damaged: {error}");
    TlsError::file(&trust.source, problem)
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
