//! Passwords of keys, and what keeps a server from starting.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::authority::Identity;

/// What the server says when it does not start with these lines in `<ssl>`
/// and `<zeod>`.
fn complaint(directory: &Path, ssl: &str, zeod: &str, path: &str) -> String {
    let config = format!(
        "<zeo>\n address 127.0.0.1:0\n <ssl>\n{ssl}\n </ssl>\n</zeo>\n\
         <mappingstorage 1>\n</mappingstorage>\n<zeod>\n{zeod}\n</zeod>\n"
    );
    fs::write(directory.join("zeo.conf"), config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_zeod"))
        .args(["-C", "zeo.conf"])
        .current_dir(directory)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_server_that_cannot_encrypt_does_not_start_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (server, other) = (Identity::own("server"), Identity::own("other"));
    fs::write(path.join("server.pem"), server.pem()).unwrap();
    fs::write(path.join("key.pem"), server.key.serialize_pem()).unwrap();
    fs::write(path.join("other.pem"), other.key.serialize_pem()).unwrap();
    fs::write(path.join("text"), "hello").unwrap();
    fs::write(path.join("locked.pem"), ENCRYPTED).unwrap();
    fs::write(path.join("password"), "wrong\n").unwrap();
    fs::create_dir(path.join("empty")).unwrap();
    let good = "certificate server.pem\nkey key.pem\n";
    let clients = "authenticate server.pem\n";
    for (ssl, zeod, why) in [
        (
            "certificate none.pem\nauthenticate server.pem\n",
            "",
            "none.pem: No such file",
        ),
        (
            "certificate text\nauthenticate server.pem\n",
            "",
            "text: there is no certificate in it",
        ),
        (
            "certificate server.pem\nauthenticate server.pem\n",
            "",
            "server.pem: there is no private key in it",
        ),
        (
            "certificate server.pem\nkey other.pem\nauthenticate server.pem\n",
            "",
            "other.pem: the key does not belong to the certificate in server.pem",
        ),
        (
            &format!("{good}authenticate text\n"),
            "",
            "text: there is no certificate in it",
        ),
        (
            &format!("{good}authenticate empty\n"),
            "",
            "empty: there is no certificate in it",
        ),
        (
            &format!("{good}authenticate gone\n"),
            "",
            "gone: No such file",
        ),
        (
            &format!("certificate server.pem\nkey locked.pem\n{clients}"),
            "",
            "set key-password-file or key-password-command in <zeod>, or password-function",
        ),
        (
            &format!("certificate server.pem\nkey locked.pem\n{clients}"),
            "key-password-file password",
            "locked.pem: the key cannot be decrypted; is the password right?",
        ),
        (
            &format!("certificate server.pem\nkey locked.pem\n{clients}"),
            "key-password-command echo the safe is shut >&2; exit 3",
            "exit status: 3: the safe is shut",
        ),
        (
            &format!("certificate server.pem\nkey locked.pem\npassword-function a.b\n{clients}"),
            "",
            "there is no python3 to call the password-function a.b; use key-password-file or",
        ),
    ] {
        let said = complaint(path, ssl, zeod, "/nowhere");
        assert!(said.contains(why), "{ssl}{zeod}: {said}");
        eprint!("{said}");
    }
}

/// Made by `openssl pkcs8 -topk8 -v2 aes256`; the password is "secret".
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAh0Vui0tblCugICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEOX4YZ6hI4BROgs0F8w810AEgZDe
Uj3N7JVy34C+x8/IzWRyc9vBLxn/i25JWeS1x9P/HfqUEQ5I93BMelHjrhW2cINQ
IZ1mCmjjiB0PZjSzLkL4bHUCVaGZZwnJ3ogwCSsBDa4KjgD/di94EreZtBDgJq6j
dx+eFaUMBAnWYo6R/srB22p2sTgDrBs+ZYkS0jgUxY1eJ4mAKzG4L8XOngLeK4k=
-----END ENCRYPTED PRIVATE KEY-----
";
