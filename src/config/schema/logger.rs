//! The keys of `<eventlog>`'s handlers.

use super::{DataType, Key, Occurs, emptiable, key, required, text};

/// A handler's keys: those that all handlers have, and its own.
macro_rules! handler_keys {
    ($($own:expr),* $(,)?) => {
        &[
            emptiable("formatter", DataType::Text),
            text("dateformat", DataType::Text),
            key("level", DataType::LogLevel),
            key("style", DataType::Word(
                &["classic", "format", "template", "safe-template"],
                "classic, format, template, safe-template",
            )),
            key("arbitrary-fields", DataType::Boolean),
            text("format", DataType::LogFormat),
            $($own),*
        ]
    };
}

pub static LOGFILE_KEYS: &[Key] = handler_keys![
    required("path", DataType::Path),
    key("old-files", DataType::Count),
    key("max-size", DataType::ByteSize),
    emptiable(
        "when",
        DataType::Word(
            &[
                "s", "m", "h", "d", "midnight", "w0", "w1", "w2", "w3", "w4", "w5", "w6",
            ],
            "S, M, H, D, MIDNIGHT, W0 (Monday) to W6 (Sunday)",
        )
    ),
    key("interval", DataType::Count),
    emptiable("encoding", DataType::Text),
    key("delay", DataType::Boolean),
];

pub static SYSLOG_KEYS: &[Key] = handler_keys![
    key(
        "facility",
        DataType::Word(
            &[
                "auth", "authpriv", "cron", "daemon", "kern", "lpr", "mail", "news", "security",
                "syslog", "user", "uucp", "local0", "local1", "local2", "local3", "local4",
                "local5", "local6", "local7",
            ],
            "auth, authpriv, cron, daemon, kern, lpr, mail, news, security, syslog, user, uucp, \
             local0 to local7",
        )
    ),
    key("address", DataType::Address(514)),
];

pub static WIN32_KEYS: &[Key] = handler_keys![emptiable("appname", DataType::Text)];

pub static HTTP_KEYS: &[Key] = handler_keys![
    key("url", DataType::Text),
    key("method", DataType::Word(&["get", "post"], "GET, POST")),
];

pub static EMAIL_KEYS: &[Key] = handler_keys![
    required("from", DataType::Text),
    Key {
        occurs: Occurs::Often,
        ..key("to", DataType::Text)
    },
    emptiable("subject", DataType::Text),
    key("smtp-server", DataType::InetAddress(25)),
    emptiable("smtp-username", DataType::Text),
    emptiable("smtp-password", DataType::Text),
];
