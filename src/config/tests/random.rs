use proptest::prelude::*;

use super::Files;

/// Pieces of which something that is nearly a configuration is made.
const PIECES: &[&str] = &[
    "<zeo>",
    "</zeo>",
    "address ",
    "8100",
    "localhost:",
    "<filestorage 1>",
    "</filestorage>",
    "<filestorage>",
    "path ",
    "Data.fs",
    "<demostorage",
    "</demostorage>",
    "<mappingstorage a/>",
    " 1",
    ">",
    "/",
    "\n",
    "\n",
    "\n",
    "\n",
    "%define ",
    "x ",
    "$x",
    "${x}",
    "$(TMP)",
    "$$",
    "%include ",
    "zeo.conf",
    "%",
    "#",
    "<eventlog>",
    "</eventlog>",
    "<logfile>",
    "</logfile>",
    "format ",
    "%(name)s",
    "when ",
    "W9",
    "old-files ",
    "~",
    "é",
    "\u{1c}",
    "\u{2028}",
    "(",
    ")",
    "quota ",
    "9GB",
    "-",
    "_",
];

fn never_panics(bytes: &[u8]) {
    let files = Files::new(&[]);
    std::fs::write(files.path("zeo.conf"), bytes).unwrap();
    // Either verdict is right; a message must be made without panic too.
    match files.load("zeo.conf") {
        Ok(config) => assert!(!config.storages.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        never_panics(&bytes);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,300}") {
        never_panics(text.as_bytes());
    }

    #[test]
    fn nearly_configurations_never_panic(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..80)
    ) {
        never_panics(pieces.concat().as_bytes());
    }
}
