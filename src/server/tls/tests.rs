//! Keys as openssl writes them, and certificates that change under a running server,
//! and nodes that check each other.

mod keys;
mod peers;
mod reload;

/// The key in all files of [`keys`].
const EC_KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIDoESL35fEinmRkM50AqHkHHvbM0K8qdaMhScYDVu8Z9oAoGCCqGSM49
AwEHoUQDQgAEJ6dEAZUhpY43tb0mEfxSsFvvpYRFuS4pScMQ+oqVAtBlN44XkLUT
3q6zwbOBNiiff3nlInN/VjNa3WB4fzTkJA==
-----END EC PRIVATE KEY-----
";
