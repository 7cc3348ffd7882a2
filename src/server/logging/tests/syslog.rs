use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::*;
use crate::config::{Address, Syslog};

fn syslog(address: Address, facility: &str) -> LogHandler {
    LogHandler::Syslog(Syslog {
        address,
        facility: facility.to_owned(),
        level: LogLevel::NotSet,
        format: None,
        date_format: None,
        style: LogStyle::Classic,
    })
}

#[test]
fn syslog_gets_datagrams_by_udp() {
    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let address = Address::Tcp {
        host: Some("127.0.0.1".to_owned()),
        port: daemon.local_addr().unwrap().port(),
    };
    let handlers = vec![syslog(address, "local3")];
    Fixture::new().run(LogLevel::NotSet, handlers, |logging| {
        tracing::trace!("t");
        tracing::debug!("d");
        tracing::info!("i");
        assert!(logging.reopen().is_empty());
        tracing::warn!("w");
        tracing::error!("e");
        tracing::error!(critical = true, "c");
    });
    let mut buffer = [0; 100];
    for (priority, text) in [
        (159, "t"),
        (159, "d"),
        (158, "i"),
        (156, "w"),
        (155, "e"),
        (154, "c"),
    ] {
        let length = daemon.recv(&mut buffer).unwrap();
        let expected = format!("<{priority}>ZEO.runzeo {text}\0");
        assert_eq!(
            std::str::from_utf8(&buffer[..length]),
            Ok(expected.as_str())
        );
    }
}

#[test]
fn syslog_outlives_its_daemon() {
    let fixture = Fixture::new();
    let path = fixture.path("log");
    let handlers = vec![syslog(Address::Unix(path.clone()), "user")];
    fixture.run(LogLevel::Info, handlers, |logging| {
        tracing::info!("nobody is there");
        assert_eq!(logging.lost_lines(), 1);
        for text in ["one", "two"] {
            let daemon = UnixDatagram::bind(&path).unwrap();
            tracing::info!("{text}");
            let mut buffer = [0; 100];
            let length = daemon.recv(&mut buffer).unwrap();
            let expected = format!("<14>ZEO.runzeo {text}\0");
            assert_eq!(buffer[..length], *expected.as_bytes());
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(logging.lost_lines(), 1);
    });
}

#[test]
fn a_daemon_that_does_not_read_holds_nobody_up() {
    let fixture = Fixture::new();
    let path = fixture.path("log");
    let _daemon = UnixDatagram::bind(&path).unwrap();
    fixture.run(
        LogLevel::Info,
        vec![syslog(Address::Unix(path), "user")],
        |logging| {
            for _ in 0..10_000 {
                tracing::info!("more");
            }
            assert!(logging.lost_lines() > 0);
        },
    );
}
