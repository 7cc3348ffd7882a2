//! A stock client, configured as README shows it.

use std::time::Duration;

use crate::authority::Identity;
use crate::python_script;
use crate::site::{Site, with_key};

#[test]
fn a_stock_client_stays_over_a_reload_and_the_next_one_meets_the_new_certificate() {
    let zope = Identity::own("zope1");
    let site = Site::start(&zope.pem(), "");
    let next = Identity::own("server");
    for (name, text) in [
        ("zope1.pem", zope.pem()),
        ("zope1.key", zope.key.serialize_pem()),
        ("known.pem", site.server.pem()),
        ("next.pem", with_key(&next)),
    ] {
        site.write(name, &text);
    }
    let arguments = [
        site.directory().display().to_string(),
        site.address().to_string(),
        site.process.pid().to_string(),
    ];
    python_script::run("tls/stock.py", &arguments, Duration::from_mins(1));
}
