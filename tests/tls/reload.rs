//! SIGHUP, after certificates were exchanged on the disk.

use crate::authority::Identity;
use crate::client::{Manner, TlsClient};
use crate::raw_client::Reply;
use crate::site::{Site, with_key};

fn assert_answers(client: &mut TlsClient) {
    let reply = client.call("ping", b")").unwrap();
    assert!(matches!(reply, Reply::Value(_)), "{reply:?}");
}

#[test]
fn new_clients_are_shown_the_new_certificate_and_connected_ones_stay() {
    let zope = Identity::own("zope1");
    let mut site = Site::start(&zope.pem(), "");
    let mut connected = site.assert_lets_in(&zope);
    let next = Identity::own("server");
    site.write("server.pem", &with_key(&next));
    // Nothing is read before the signal.
    site.assert_lets_in(&zope);
    site.reload("certificates read anew");
    let still = site.connect(&Manner::with(&zope));
    assert!(still.is_err(), "the former certificate is shown");
    site.server = next;
    site.assert_lets_in(&zope);
    assert_answers(&mut connected);
    assert!(site.process.stop().unwrap().success());
}

#[test]
fn who_is_let_in_is_read_anew_and_who_is_in_stays() {
    let (zope, next) = (Identity::own("zope1"), Identity::own("zope2"));
    let site = Site::start(&zope.pem(), "");
    let mut connected = site.assert_lets_in(&zope);
    site.assert_refuses(&Manner::with(&next), "neither it nor who signed it");
    site.write("clients.pem", &next.pem());
    site.reload("certificates read anew");
    site.assert_lets_in(&next);
    site.assert_refuses(&Manner::with(&zope), "neither it nor who signed it");
    assert_answers(&mut connected);
}

#[test]
fn files_that_are_wrong_change_nothing() {
    let zope = Identity::own("zope1");
    let site = Site::start(&zope.pem(), "");
    let mut connected = site.assert_lets_in(&zope);
    // A key that belongs to another certificate, as when half of the files were copied.
    let (one, other) = (Identity::own("server"), Identity::own("server"));
    site.write("server.pem", &(one.pem() + &other.key.serialize_pem()));
    site.reload("the certificates in use stay, the new ones are wrong");
    site.await_log("server.pem");
    site.assert_lets_in(&zope);
    site.write("server.pem", &with_key(&site.server));
    site.write("clients.pem", "");
    site.reload("the certificates in use stay, the new ones are wrong");
    site.await_log("clients.pem");
    site.assert_lets_in(&zope);
    assert_answers(&mut connected);
}
