//! Whose certificates are let in.

use rcgen::{ExtendedKeyUsagePurpose, SerialNumber};

use crate::authority::{Identity, params};
use crate::client::{EACH_VERSION, Manner};
use crate::raw_client::Reply;
use crate::site::Site;

#[test]
fn a_listed_client_is_served_by_both_versions_of_tls_and_named_in_the_log() {
    let zope = Identity::own("zope1");
    let site = Site::start(&zope.pem(), "");
    for versions in EACH_VERSION {
        let manner = Manner {
            identity: Some(&zope),
            versions,
        };
        let mut client = site.connect(&manner).unwrap();
        assert!(matches!(
            client.register("1", false).unwrap(),
            Reply::Value(_)
        ));
        assert!(matches!(
            client.call("ping", b")").unwrap(),
            Reply::Value(_)
        ));
    }
    site.await_log("connected to storage 1, certificate CN=zope1,O=Example");
    site.await_log("disconnected\n");
    assert!(site.process.stop().unwrap().success());
}

/// As `openssl req -x509` makes them: each is an authority of its own.
#[test]
fn a_listed_authority_is_let_in_itself() {
    let authority = Identity::authority("zope1");
    let site = Site::start(&authority.pem(), "");
    site.assert_lets_in(&authority);
}

#[test]
fn those_that_a_listed_authority_signed_are_let_in_unless_it_took_that_back() {
    let authority = Identity::authority("authority");
    let signed = |name: &str, serial| {
        let mut params = params(name);
        params.serial_number = Some(SerialNumber::from(serial));
        authority.sign(params)
    };
    let (zope, former) = (signed("zope1", 1_u64), signed("former", 2));
    let own = Identity::own("own");
    let pem = authority.pem() + &own.pem() + &authority.revoke(2);
    let site = Site::start(&pem, "");
    site.assert_lets_in(&zope);
    site.assert_lets_in(&own);
    site.assert_refuses(
        &Manner::with(&former),
        "certificate CN=former,O=Example: it has been revoked",
    );
    let namesake = Identity::authority("authority").sign(params("zope1"));
    site.assert_refuses(
        &Manner::with(&namesake),
        "certificate CN=zope1,O=Example: its signature is wrong",
    );
}

/// webpki would not find this out for a certificate that is listed.
#[test]
fn an_authority_whose_key_is_for_other_things_signs_for_nobody() {
    let mut other = params("other");
    other.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    other.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let other = Identity::own_with(other);
    let site = Site::start(&other.pem(), "");
    site.assert_lets_in(&other);
    let signed = other.sign(params("zope1"));
    site.assert_refuses(&Manner::with(&signed), "neither it nor who signed it");
}

/// Unlike with OpenSSL; the line in the log has to say so.
#[test]
fn an_authority_below_a_listed_one_is_not_let_in() {
    let authority = Identity::authority("authority");
    let mut below = params("below");
    below.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let below = authority.sign(below);
    let site = Site::start(&authority.pem(), "");
    site.assert_refuses(
        &Manner::with(&below),
        "it is the certificate of an authority",
    );
}

#[test]
fn a_listed_certificate_that_was_taken_back_is_refused() {
    let authority = Identity::authority("authority");
    let mut params = params("former");
    params.serial_number = Some(SerialNumber::from(7_u64));
    let former = authority.sign(params);
    let site = Site::start(&(former.pem() + &authority.revoke(7)), "");
    site.assert_refuses(&Manner::with(&former), "certificate CN=former,O=Example");
}

#[test]
fn a_directory_of_certificates_is_taken_whatever_else_lies_in_it() {
    let (first, second, other) = (
        Identity::own("first"),
        Identity::own("second"),
        Identity::own("other"),
    );
    let directory = tempfile::tempdir().unwrap();
    let clients = directory.path().join("clients");
    std::fs::create_dir_all(clients.join("below")).unwrap();
    std::fs::write(clients.join("a.pem"), first.pem()).unwrap();
    std::fs::write(clients.join("0a1b2c3d.0"), second.pem()).unwrap();
    std::fs::write(clients.join("below/c.pem"), other.pem()).unwrap();
    std::fs::write(clients.join("README"), "who may come in").unwrap();
    std::fs::write(clients.join("noise"), [0xff; 1000]).unwrap();
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(clients.join("damaged.pem"), damaged).unwrap();
    let site = Site::start_in(directory, "clients", "", &[]);
    site.assert_lets_in(&first);
    site.assert_lets_in(&second);
    site.assert_refuses(&Manner::with(&other), "neither it nor who signed it");
}

#[test]
fn those_that_an_authority_of_the_system_signed_are_let_in() {
    let authority = Identity::authority("authority");
    let zope = authority.sign(params("zope1"));
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path().join("system.pem");
    std::fs::write(&bundle, authority.pem()).unwrap();
    let site = Site::start_in(directory, "SIGNED", "", &[("SSL_CERT_FILE", &bundle)]);
    site.assert_lets_in(&zope);
    let own = Identity::own("own");
    site.assert_refuses(&Manner::with(&own), "neither it nor who signed it");
}

#[test]
fn a_certificate_for_servers_only_does_not_make_a_client() {
    let mut params = params("web");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let web = Identity::own_with(params);
    let site = Site::start(&web.pem(), "");
    site.assert_refuses(&Manner::with(&web), "not that of a client");
}
