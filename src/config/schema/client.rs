use super::{DataType, Key, Occurs, emptiable, key, text};

/// Of `<zeoclient>`, and `wait-timeout` of ZEO's `<clientstorage>`.
pub(super) const CLIENT_KEYS: &[Key] = &[
    Key {
        occurs: Occurs::Often,
        ..key("server", DataType::Address(0))
    },
    emptiable("blob-dir", DataType::Path),
    key("shared-blob-dir", DataType::Boolean),
    key("blob-cache-size", DataType::ByteSize),
    key("blob-cache-size-check", DataType::Count),
    text("storage", DataType::Text),
    key("cache-size", DataType::ByteSize),
    text("name", DataType::Text),
    text("client", DataType::Text),
    text("var", DataType::Text),
    key("min-disconnect-poll", DataType::Count),
    key("max-disconnect-poll", DataType::Count),
    key("wait", DataType::Boolean),
    key("wait-timeout", DataType::WholeSeconds),
    key("read-only", DataType::Boolean),
    key("read-only-fallback", DataType::Boolean),
    text("username", DataType::Text),
    text("password", DataType::Text),
    text("realm", DataType::Text),
    key("drop-cache-rather-verify", DataType::Boolean),
    text("client-label", DataType::Text),
];
