//! Who may use which storage.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::config::{
    AccessSection, CertificateName, CertificateNameError, FINGERPRINT_BYTES, Subject,
};

/// A client that has shown a certificate, and the key that belongs to it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The SHA-256 of the certificate.
    pub fingerprint: [u8; FINGERPRINT_BYTES],
    /// Whom the certificate is for.
    pub subject: Subject,
}

/// What a client may do with a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Load, but not store.
    ReadOnly,
    /// Everything.
    ReadWrite,
}

/// The `<access>` sections. A storage with one is closed to everybody else.
#[derive(Debug, Default)]
pub struct AccessLists(BTreeMap<String, Vec<(CertificateName, Access)>>);

impl AccessLists {
    /// Reads the names of the sections.
    pub fn new(sections: &[AccessSection]) -> Result<Self, CertificateNameError> {
        let mut lists = Self::default();
        for section in sections {
            let list = lists.0.entry(section.storage.clone()).or_default();
            let may_write = section
                .read_write
                .iter()
                .map(|name| (name, Access::ReadWrite));
            let may_read = section
                .read_only
                .iter()
                .map(|name| (name, Access::ReadOnly));
            for (name, access) in may_write.chain(may_read) {
                list.push((CertificateName::parse(name)?, access));
            }
        }
        Ok(lists)
    }

    /// What `peer` may do with `storage`; `None`: nothing. Who is named twice
    /// may do more.
    pub(super) fn access(&self, storage: &str, peer: Option<&Peer>) -> Option<Access> {
        let Some(list) = self.0.get(storage) else {
            return Some(Access::ReadWrite);
        };
        let peer = peer?;
        list.iter()
            .filter(|(name, _)| peer.is_named(name))
            .map(|(_, access)| *access)
            .max()
    }
}

impl Peer {
    fn is_named(&self, name: &CertificateName) -> bool {
        match name {
            CertificateName::Fingerprint(fingerprint) => *fingerprint == self.fingerprint,
            CertificateName::Subject(subject) => *subject == self.subject,
            CertificateName::CommonName(name) => self.subject.common_name() == Some(name.as_str()),
        }
    }

    /// As an access list would name this certificate and no other.
    pub(super) fn fingerprint_name(&self) -> String {
        let mut name = "sha256:".to_owned();
        for byte in self.fingerprint {
            // Writing to a String does not fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }
}

/// So much of a subject is shown in the log.
const SHOWN_CHARS: usize = 200;

/// The subject, as it stands in the log.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.subject.to_string();
        match subject.char_indices().nth(SHOWN_CHARS) {
            Some((end, _)) => write!(f, "{}...", subject.get(..end).unwrap_or_default()),
            None if subject.is_empty() => f.write_str("without a subject"),
            None => f.write_str(&subject),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(common_name: &str) -> Peer {
        let organisation = ("O", "Example".to_owned());
        Peer {
            fingerprint: [u8::try_from(common_name.len()).unwrap_or(u8::MAX); 32],
            subject: Subject::new([organisation, ("CN", common_name.to_owned())]),
        }
    }

    #[test]
    fn a_listed_storage_is_closed_to_all_others() {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let section = AccessSection {
            storage: "main".to_owned(),
            read_write: texts(&["CN=zope,O=Example", &format!("sha256:{}", "03".repeat(32))]),
            read_only: texts(&["reader", "zope"]),
        };
        let lists = AccessLists::new(&[section]).unwrap();
        let access = |name| lists.access("main", Some(&peer(name)));
        assert_eq!(access("zope"), Some(Access::ReadWrite));
        assert_eq!(access("abc"), Some(Access::ReadWrite));
        assert_eq!(access("reader"), Some(Access::ReadOnly));
        assert_eq!(access("other"), None);
        assert_eq!(lists.access("main", None), None);
        assert_eq!(lists.access("temp", None), Some(Access::ReadWrite));
    }

    #[test]
    fn a_section_without_names_lets_nobody_in() {
        let section = AccessSection {
            storage: "main".to_owned(),
            ..AccessSection::default()
        };
        let lists = AccessLists::new(&[section]).unwrap();
        assert_eq!(lists.access("main", Some(&peer("zope"))), None);
    }

    #[test]
    fn a_long_subject_is_cut_in_the_log() {
        let shown = peer(&"é".repeat(1000)).to_string();
        assert_eq!(shown.chars().count(), SHOWN_CHARS + 3);
    }
}
