//! Bytes to typed messages and back; no I/O, no storage.
