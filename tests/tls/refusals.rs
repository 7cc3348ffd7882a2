//! Who is not let in: that client hears an error, one line of the log says
//! why, and the others go on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use rcgen::date_time_ymd;

use crate::authority::{Identity, params};
use crate::client::{EACH_VERSION, Manner, TlsClient};
use crate::raw_client::{PATIENCE, Reply};
use crate::server_process::Zeod;
use crate::site::Site;

#[test]
fn bad_certificates_are_refused_with_the_reason_and_others_go_on() {
    let zope = Identity::own("zope1");
    let mut past = params("past");
    past.not_after = date_time_ymd(2021, 1, 1);
    let past = Identity::own_with(past);
    let mut future = params("future");
    future.not_before = date_time_ymd(2998, 1, 1);
    let future = Identity::own_with(future);
    let site = Site::start(&(zope.pem() + &past.pem() + &future.pem()), "");
    let mut served = site.assert_lets_in(&zope);
    let stranger = Identity::own("stranger");
    let namesake = Identity::own("zope1");
    let guest = zope.sign(params("guest"));
    for versions in EACH_VERSION {
        for (identity, why) in [
            (None, "refused: it shows no certificate"),
            (
                Some(&stranger),
                "refused: its certificate CN=stranger,O=Example: neither it nor who signed it",
            ),
            (
                Some(&namesake),
                "refused: its certificate CN=zope1,O=Example: neither it nor who signed it",
            ),
            // Who is let in lets nobody else in.
            (
                Some(&guest),
                "refused: its certificate CN=guest,O=Example: neither it nor who signed it",
            ),
            (
                Some(&past),
                "certificate CN=past,O=Example: expired on 2021-01-01",
            ),
            (
                Some(&future),
                "certificate CN=future,O=Example: not valid before 2998-01-01",
            ),
        ] {
            site.assert_refuses(&Manner { identity, versions }, why);
        }
    }
    assert!(matches!(
        served.call("ping", b")").unwrap(),
        Reply::Value(_)
    ));
    let log = site.process.stderr();
    assert!(
        log.contains("the certificate CN=past,O=Example: expired"),
        "{log}"
    );
}

#[test]
fn an_authority_that_has_expired_signs_for_nobody() {
    let mut former = params("authority");
    former.not_after = date_time_ymd(2021, 1, 1);
    former.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = Identity::own_with(former);
    let signed = authority.sign(params("zope1"));
    let site = Site::start(&authority.pem(), "");
    site.assert_refuses(&Manner::with(&signed), "neither it nor who signed it");
}

#[test]
fn plain_clients_are_refused_where_connections_are_encrypted() {
    let zope = Identity::own("zope1");
    let site = Site::start(&zope.pem(), "");
    let mut served = site.assert_lets_in(&zope);
    for said in [&b"\0\0\0\x02Z5"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut plain = TcpStream::connect(site.address()).unwrap();
        let port = plain.local_addr().unwrap().port();
        plain.set_read_timeout(Some(PATIENCE)).unwrap();
        plain.write_all(said).unwrap();
        // At most an alert comes, and the end.
        let mut heard = Vec::new();
        let _ = plain.read_to_end(&mut heard);
        assert!(heard.len() < 10, "{heard:?}");
        site.assert_only_line_of(port, "refused: it does not speak TLS");
    }
    // ZEO's client waits for the server's greeting, until it gives up.
    let plain = TcpStream::connect(site.address()).unwrap();
    let port = plain.local_addr().unwrap().port();
    plain.shutdown(Shutdown::Both).unwrap();
    site.assert_only_line_of(port, "a client without <ssl> does so");
    assert!(matches!(
        served.call("ping", b")").unwrap(),
        Reply::Value(_)
    ));
}

#[test]
#[ignore = "takes half a minute: that long a handshake may take"]
fn a_silent_client_is_cut_off() {
    let zope = Identity::own("zope1");
    let site = Site::start(&zope.pem(), "");
    let mut silent = TcpStream::connect(site.address()).unwrap();
    let port = silent.local_addr().unwrap().port();
    silent.set_read_timeout(Some(PATIENCE * 4)).unwrap();
    assert_eq!(silent.read(&mut [0; 10]).unwrap(), 0);
    site.assert_only_line_of(port, "no TLS handshake within 30 s");
}

#[test]
fn a_client_that_does_not_know_the_server_is_named_in_the_log() {
    let zope = Identity::own("zope1");
    let site = Site::start(&zope.pem(), "");
    let socket = TcpStream::connect(site.address()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let wrong = Identity::own("server");
    assert!(TlsClient::over(socket, wrong.certificate.der(), &Manner::with(&zope)).is_err());
    site.assert_only_line_of(port, "does it trust the certificate of this server?");
}

#[test]
fn a_tls_client_is_refused_where_connections_are_plain() {
    let zeod = Zeod::start(&[]).unwrap();
    let zope = Identity::own("zope1");
    for versions in EACH_VERSION {
        let identity = Some(&zope);
        let manner = Manner { identity, versions };
        let address = zeod.process.address();
        let socket = TcpStream::connect(address).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(TlsClient::over(socket, zope.certificate.der(), &manner).is_err());
        let line = format!("(127.0.0.1:{port}) connection closed: a TLS client, but this address");
        let deadline = std::time::Instant::now() + PATIENCE;
        while !zeod.process.stderr().contains(&line) {
            let log = zeod.process.stderr();
            assert!(std::time::Instant::now() < deadline, "{log}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
