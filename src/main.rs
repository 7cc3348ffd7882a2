//! The zeod program.

fn main() {}
