//! Access lists.

use crate::authority::Identity;
use crate::client::Manner;
use crate::raw_client::Reply;
use crate::site::Site;

#[test]
fn certificates_decide_who_may_do_what() {
    let (writer, reader, other) = (
        Identity::own("writer"),
        Identity::own("reader"),
        Identity::own("other"),
    );
    let pem = writer.pem() + &reader.pem() + &other.pem();
    let site = Site::start(
        &pem,
        "<access 1>\n read-write O = Example, CN = writer\n read-only reader\n</access>\n",
    );
    site.assert_lets_in(&writer);
    let mut client = site.connect(&Manner::with(&reader)).unwrap();
    let error = |reply: Reply| match reply {
        Reply::Error(class) => class,
        Reply::Value(value) => panic!("{value:?}"),
    };
    let refused = error(client.register("1", false).unwrap());
    assert!(refused.contains("ReadOnlyError"), "{refused}");
    let reply = client.register_again("1", true).unwrap();
    assert!(matches!(reply, Reply::Value(_)), "{reply:?}");
    let mut client = site.connect(&Manner::with(&other)).unwrap();
    let refused = error(client.register("1", true).unwrap());
    assert!(refused.contains("StorageError"), "{refused}");
    site.await_log(
        "may not use storage 1: no <access> list of it names the certificate CN=other,O=Example \
         (sha256:",
    );
}
