//! The `<zeod>` section.

use std::time::Duration;

use super::config_of;
use crate::config::AccessSection;

/// What Python's server does not have.
#[test]
fn everything_in_zeod() {
    let fingerprint = "0f".repeat(32);
    let config = config_of(&format!(
        "<zeo>\n address 8100\n <ssl>\n certificate c.pem\n authenticate SIGNED\n </ssl>\n</zeo>\n\
         <mappingstorage Main>\n</mappingstorage>\n\
         <zeod>\n status-address localhost:8101\n user zeo:zope\n max-connections 10\n\
         max-message-size 64MB\n max-transaction-size 2GB\n max-unsent 1MB\n memory-budget 512MB\n\
         stall-time 30s\n keepalive-time 0\n shutdown-time 1m\n key-password-command cat secret\n\
         <access main>\n read-write CN=zope1,O=Example\n read-write sha256:{fingerprint}\n read-only reader\n\
         </access>\n</zeod>\n"
    ));
    let zeod = &config.zeod;
    assert_eq!(
        zeod.status_address.as_ref().map(ToString::to_string),
        Some("localhost:8101".to_owned())
    );
    assert_eq!(zeod.user.as_deref(), Some("zeo:zope"));
    assert_eq!(zeod.max_connections, 10);
    assert_eq!(zeod.max_message_bytes, 64 << 20);
    assert_eq!(zeod.max_transaction_bytes, 2 << 30);
    assert_eq!(zeod.max_unsent_bytes, 1 << 20);
    assert_eq!(zeod.memory_budget_bytes, 512 << 20);
    assert_eq!(zeod.stall_time, Duration::from_secs(30));
    assert_eq!(zeod.keepalive_time, Duration::ZERO);
    assert_eq!(zeod.shutdown_time, Duration::from_mins(1));
    assert_eq!(zeod.key_password_command.as_deref(), Some("cat secret"));
    let access = AccessSection {
        storage: "main".to_owned(),
        read_write: vec![
            "CN=zope1,O=Example".to_owned(),
            format!("sha256:{fingerprint}"),
        ],
        read_only: vec!["reader".to_owned()],
    };
    assert_eq!(zeod.access, [access]);
}
