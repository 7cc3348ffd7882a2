use super::{Files, message_of};

/// Lines 1 and 2 of every faulty file; what is at fault follows.
const START: &str = "<zeo>\n  address 8100\n";
/// A storage that is right, in four lines.
const STORAGE: &str = "<filestorage 1>\n  path Data.fs\n  quota 1GB\n</filestorage>\n";

fn in_zeo(line: &str) -> String {
    format!("{START}{line}\n</zeo>\n{STORAGE}")
}

fn after_zeo(lines: &str) -> String {
    format!("{START}</zeo>\n{lines}\n")
}

/// Each line, put in `<zeo>` as line 3, and the message.
const IN_ZEO: [(&str, &str); 27] = [
    (
        "invalidation-queue-sise 5",
        "unknown key \"invalidation-queue-sise\" in <zeo>; did you mean \"invalidation-queue-size\"? \
         Allowed: address, read-only, invalidation-queue-size, invalidation-age, \
         transaction-timeout, pid-filename, client-conflict-resolution, msgpack, monitor-address",
    ),
    ("read_only true", "did you mean \"read-only\"?"),
    ("path x", "unknown key \"path\" in <zeo>; allowed: address"),
    (
        "read-only maybe",
        "bad value \"maybe\" for \"read-only\" in <zeo>: it is not a truth value; \
         allowed: yes, true, on, no, false, off",
    ),
    ("read-only 1", "it is not a truth value"),
    (
        "read-only",
        "the key \"read-only\" in <zeo> has no value; allowed: yes, true",
    ),
    (
        "Address 8200",
        "the key \"address\" is given twice in <zeo>, first at zeo.conf:2",
    ),
    (
        "invalidation-queue-size many",
        "it is not a whole number; allowed: a whole number, 0 or more",
    ),
    ("invalidation-queue-size -1", "it is negative"),
    ("invalidation-queue-size 1.5", "it is not a whole number"),
    ("invalidation-age soon", "it is not a number"),
    ("transaction-timeout 5s", "it is not a whole number"),
    (
        "transaction-timeout 99999999999999999999999",
        "it is too great",
    ),
    (
        "pid-filename $(TMP)/no/zeo.pid",
        "no\" does not exist; allowed: a path in an existing directory",
    ),
    (
        "monitor-address a:b",
        "\"b\" is not a port number from 0 to 65535; allowed: PORT, HOST:PORT",
    ),
    (
        "read-only=true",
        "\"read-only=true\" is not a key; a key is a letter, then letters",
    ),
    ("(x", "malformed line \"(x\"; allowed: KEY VALUE"),
    (
        "msgpack $WORD",
        "\"WORD\" is not defined; defined here: nothing",
    ),
    (
        "msgpack $(UNSET)",
        "the environment variable \"UNSET\" is not set",
    ),
    (
        "msgpack ${x",
        "malformed '$' in \"${x\": '}' is missing; allowed: $name, ${name}",
    ),
    ("msgpack $", "'$' is not followed by a name"),
    ("<ssl x", "must close with '>'"),
    (
        "<ssl (x)>",
        "malformed section start <ssl (x)>; allowed: <type>",
    ),
    (
        "</ssl>",
        "</ssl> cannot close <zeo> of zeo.conf:1; allowed: </zeo>",
    ),
    ("</zeo 1>", "</zeo 1> cannot close <zeo> of zeo.conf:1"),
    (
        "<logfile/>",
        "<logfile> cannot stand in <zeo> (it belongs in <eventlog>); allowed there: <ssl>",
    ),
    (
        "<ssl/>",
        "the key \"certificate\" is missing in <ssl>; allowed: a path in an existing",
    ),
];

#[test]
fn faults_in_a_section_name_line_and_key() {
    for (line, message) in IN_ZEO {
        let found = message_of(&in_zeo(line));
        assert!(found.starts_with("zeo.conf:3: "), "{line}: {found}");
        assert!(found.contains(message), "{line}: {found}");
    }
}

/// Each text, put behind `<zeo>` as lines 4 and following, the line to blame,
/// and the message.
const AFTER_ZEO: [(&str, usize, &str); 37] = [
    ("</zeo>", 4, "unexpected </zeo>: no section is open here"),
    (
        "<filestorage 1>",
        4,
        "the section <filestorage 1> is never closed; </filestorage> is missing",
    ),
    (
        "<filestorage 1>\n</filestorage>",
        4,
        "the key \"path\" is missing in <filestorage 1>",
    ),
    (
        "<filestorage 1>\npath\n</filestorage>",
        5,
        "the key \"path\" in <filestorage 1> has no value",
    ),
    (
        "<filestorage>\npath x\n</filestorage 1>",
        6,
        "</filestorage 1> cannot close <filestorage>",
    ),
    (
        "<filestorage 1>\npath $(TMP)/no/x\n</filestorage>",
        5,
        "no\" does not exist",
    ),
    (
        "<filestorage 1>\npath x\nquota 5M\n</filestorage>",
        6,
        "it is not a whole number; allowed: a whole \
         number of bytes",
    ),
    (
        "<filestorage 1>\npath x\n<filestorage 2>",
        6,
        "the section <filestorage 2> is never closed",
    ),
    (
        "<filestorage 1>\npath x\nread-only on\ncreate on\n</filestorage>",
        4,
        "exclude each other",
    ),
    (
        "<filestore 1>\n</filestore>",
        4,
        "unknown section type <filestore>; did you mean <filestorage>? \
         Allowed at the top of the file: <zeo>, <runner>, <filestorage>, \
         <mappingstorage>, <blobstorage>, <demostorage>, <eventlog>",
    ),
    (
        "<zeoclient 1>\nserver x\n</zeoclient>",
        4,
        "the storage type <zeoclient> is not available in this \
         server: it is another server's storage",
    ),
    (
        "<tempstorage 1/>",
        4,
        "use <mappingstorage>, which is in memory too; available: <filestorage>",
    ),
    (
        "<relstorage 1/>",
        4,
        "the storage type <relstorage> is not available",
    ),
    (
        "<blobstorage 1>\nblob-dir x\n<zlibstorage/>\n</blobstorage>",
        6,
        "<zlibstorage> is not available",
    ),
    (
        "<zodb main/>",
        4,
        "<zodb main> cannot stand at the top of the file (it belongs in the clients' \
         zope.conf)",
    ),
    (
        "<ssl/>",
        4,
        "<ssl> cannot stand at the top of the file (it belongs in <zeo>)",
    ),
    (
        "<zeo/>",
        4,
        "a second <zeo> at the top of the file; only one is allowed, the first is at zeo.conf:1",
    ),
    ("<eventlog/>\n<eventlog/>", 5, "a second <eventlog>"),
    (
        "<mappingstorage/>\n<mappingstorage/>",
        5,
        "a second storage without a name, <mappingstorage>, \
         the first is at zeo.conf:4",
    ),
    (
        "<mappingstorage/>\n<mappingstorage 1/>",
        5,
        "would be \"1\" too, at zeo.conf:4",
    ),
    (
        "<mappingstorage a/>\n<mappingstorage A/>",
        5,
        "the section name \"a\" is used twice at the top of \
         the file, first at zeo.conf:4",
    ),
    (
        "<mappingstorage a/>\n<eventlog a/>",
        5,
        "\"a\" is used twice",
    ),
    (
        "<mappingstorage */>",
        4,
        "\"*\" is not allowed as a section's name",
    ),
    (
        "<blobstorage 1>\n<mappingstorage/>\n</blobstorage>",
        4,
        "the key \"blob-dir\" is missing",
    ),
    (
        "<blobstorage 1>\nblob-dir x\n</blobstorage>",
        4,
        "<blobstorage 1> needs a storage in it",
    ),
    (
        "<blobstorage 1>\nblob-dir x\n<mappingstorage a/>\n<mappingstorage b/>\n</blobstorage>",
        7,
        "a second \
        storage, <mappingstorage b>, in <blobstorage 1>",
    ),
    (
        "<demostorage 1>\n<mappingstorage a/>\n<mappingstorage b/>\n</demostorage>",
        4,
        "at most two storages",
    ),
    (
        "<demostorage 1>\n<mappingstorage name/>\n</demostorage>",
        5,
        "\"name\" is not allowed as a section's",
    ),
    (
        "read-only true",
        4,
        "unknown key \"read-only\" at the top of the file; allowed: only sections",
    ),
    (
        "%define",
        4,
        "%define needs an argument: %define NAME VALUE",
    ),
    (
        "%defin x y",
        4,
        "unknown directive %defin; allowed: %define, %include, %import",
    ),
    ("%define 1x y", 4, "\"1x\" cannot be defined"),
    (
        "%define x y\n%define X z",
        5,
        "\"x\" is already defined as \"y\"",
    ),
    (
        "%import relstorage",
        4,
        "the package \"relstorage\" in %import is not available in this server; known: ZEO, ZODB, ZConfig.comp",
    ),
    (
        "%include http://example.org/x",
        4,
        "cannot include \"http://example.org/x\": only files",
    ),
    (
        "%include missing.conf",
        4,
        "the included file missing.conf cannot be read: No such file",
    ),
    (
        "%include zeo.conf",
        4,
        "%include of a file that is being read already: zeo.conf -> zeo.conf",
    ),
];

#[test]
fn faults_at_the_top_name_the_line_to_blame() {
    for (text, line, message) in AFTER_ZEO {
        let found = message_of(&after_zeo(text));
        assert!(
            found.starts_with(&format!("zeo.conf:{line}: ")),
            "{text}: {found}"
        );
        assert!(found.contains(message), "{text}: {found}");
    }
}

/// Contents of `<eventlog>`, and the message.
const IN_EVENTLOG: [(&str, &str); 16] = [
    (
        "level loud",
        "it is not a log level; allowed: critical, fatal",
    ),
    ("level 51", "it is not a log level"),
    ("<logfile/>", "the key \"path\" is missing in <logfile>"),
    (
        "<logfile level/>",
        "\"level\" is not allowed as a section's name in <eventlog>",
    ),
    (
        "<filestorage/>",
        "<filestorage> cannot stand in <eventlog>; allowed there: <logfile>, <syslog>",
    ),
    (
        "<logfile>\npath x\nmax-size 5MB\n</logfile>",
        "\"old-files\" is 1 or more",
    ),
    (
        "<logfile>\npath x\nold-files 3\n</logfile>",
        "\"max-size\" or \"when\" must be set",
    ),
    (
        "<logfile>\npath x\nold-files 3\nwhen D\nmax-size 1\n</logfile>",
        "exclude each other",
    ),
    (
        "<logfile>\npath x\nold-files 3\nwhen W7\n</logfile>",
        "allowed: S, M, H, D, MIDNIGHT",
    ),
    (
        "<logfile>\npath STDOUT\ndelay yes\n</logfile>",
        "STDOUT and STDERR cannot be rotated",
    ),
    (
        "<logfile>\npath x\nformat %(mine)s\n</logfile>",
        "\"mine\" is not a field of a log record",
    ),
    (
        "<logfile>\npath x\nstyle loose\n</logfile>",
        "allowed: classic, format, template, safe-template",
    ),
    (
        "<syslog>\nfacility local8\n</syslog>",
        "allowed: auth, authpriv",
    ),
    (
        "<http-logger>\nurl ftp://x/\n</http-logger>",
        "\"url\" must be http://HOST/PATH",
    ),
    (
        "<email-notifier>\nfrom a@b\n</email-notifier>",
        "the key \"to\" is missing",
    ),
    (
        "<email-notifier>\nfrom a\nto b\nsmtp-username c\n</email-notifier>",
        "go together",
    ),
];

#[test]
fn faults_in_the_event_log_are_found() {
    for (text, message) in IN_EVENTLOG {
        let found = message_of(&after_zeo(&format!(
            "{STORAGE}<eventlog>\n{text}\n</eventlog>"
        )));
        assert!(found.contains(message), "{text}: {found}");
    }
}

#[test]
fn a_server_without_address_or_storage_is_refused() {
    for (text, message) in [
        (
            "",
            "zeo.conf: the file needs a <zeo> section with an address",
        ),
        (START, "zeo.conf:1: the section <zeo> is never closed"),
        (
            "<zeo>\n</zeo>",
            "zeo.conf:1: the key \"address\" is missing in <zeo>; allowed: PORT",
        ),
        (
            "<zeo>\naddress\n</zeo>",
            "zeo.conf:2: the key \"address\" in <zeo> has no value",
        ),
        (
            "<zeo>\naddress 65536\n</zeo>",
            "zeo.conf:2: bad value \"65536\" for \"address\"",
        ),
        (
            STORAGE,
            "zeo.conf: the file needs a <zeo> section with an address",
        ),
        (
            "<zeo>\naddress 1\n</zeo>",
            "zeo.conf: the file needs at least one storage, such as <filestorage 1>",
        ),
    ] {
        let found = message_of(text);
        assert!(found.starts_with(message), "{text}: {found}");
    }
}

#[test]
fn what_is_no_configuration_is_refused() {
    let files = Files::new(&[]);
    let error = files.load("zeo.conf").unwrap_err();
    assert!(
        files
            .relative(&error)
            .starts_with("zeo.conf: the file cannot be read: "),
        "{error}"
    );
    std::fs::write(files.path("Data.fs"), b"FS30\n\xff\xfe\n").unwrap();
    let error = files.load("Data.fs").unwrap_err();
    assert_eq!(
        files.relative(&error),
        "Data.fs:2: the line is not UTF-8 text"
    );
    let large = std::fs::File::create(files.path("large")).unwrap();
    large.set_len((16 << 20) + 1).unwrap();
    let error = files.load("large").unwrap_err();
    assert_eq!(
        files.relative(&error),
        "large: the file is larger than 16777216 bytes"
    );
}

#[test]
fn values_are_limited() {
    let doubling: Vec<_> = (1..40)
        .map(|number| format!("%define x{} $x{number}$x{number}", number + 1))
        .collect();
    let found = message_of(&format!("%define x1 0123456789\n{}", doubling.join("\n")));
    assert!(found.ends_with("the value is longer than 1048576 bytes after substitution"));
    let many = format!("%define y $x16$x16\n{}", "k $y\n".repeat(200));
    let found = message_of(&format!(
        "%define x1 0123456789\n{}\n{many}",
        doubling[..15].join("\n")
    ));
    assert!(
        found.ends_with("the values together are longer than 67108864 bytes after substitution")
    );
}

#[test]
fn messages_repeat_only_the_beginning_of_a_long_text() {
    let found = message_of(&in_zeo(&format!("read-only {}", "x".repeat(1000))));
    assert!(
        found.contains(&format!("bad value \"{}…\"", "x".repeat(60))),
        "{found}"
    );
}

#[test]
fn nesting_is_limited() {
    let found = message_of(&"<demostorage>\n".repeat(100));
    assert_eq!(found, "zeo.conf:65: sections are nested more than 64 deep");
}
