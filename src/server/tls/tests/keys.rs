//! One key in all its wrappings, as openssl 3.0 wrote them; the password is "secret".

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::SigningKey;

use super::EC_KEY;
use crate::server::tls::key;
use crate::server::tls::password::Password;

fn load(pem: &str) -> Result<Arc<dyn SigningKey>, String> {
    load_with(pem, "secret\r\nnot this\n")
}

fn load_with(pem: &str, password_file: &str) -> Result<Arc<dyn SigningKey>, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    let password = directory.path().join("password");
    std::fs::write(&path, pem).unwrap();
    std::fs::write(&password, password_file).unwrap();
    let key = key::load(&path, &Password::File(password)).map_err(|error| error.to_string())?;
    ring::sign::any_supported_type(&key).map_err(|error| error.to_string())
}

#[test]
fn every_wrapping_holds_the_same_key() {
    let plain = load(EC_KEY).unwrap();
    for (what, pem) in WRAPPINGS {
        let key = load(pem).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(key.public_key() == plain.public_key(), "{what}");
    }
}

/// As `openssl ecparam -genkey` writes them, and with the certificate before.
#[test]
fn what_stands_before_the_key_does_not_matter() {
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    assert!(load(&format!("{parameters}{EC_KEY}")).is_ok());
}

#[test]
fn a_wrong_password_is_named_as_such() {
    let encrypted = WRAPPINGS
        .iter()
        .filter(|(_, pem)| pem.contains("ENCRYPTED"));
    for (what, pem) in encrypted {
        let error = load_with(pem, "Secret\n").unwrap_err();
        // Padding may come out right by chance; then it is no key.
        let is_said =
            error.contains("is the password right?") || error.contains("parse private key");
        assert!(is_said, "{what}: {error}");
    }
}

#[test]
fn what_is_not_known_is_refused_with_the_way_out() {
    let unknown = WRAPPINGS[0].1.replace("AES-128-CBC", "CAMELLIA-128-CBC");
    let no_info = WRAPPINGS[0].1.replace("DEK-Info", "Info");
    let short = WRAPPINGS[0].1.replace("AES-128-CBC,F3", "AES-128-CBC,");
    for (pem, why) in [
        (PBES1, "openssl pkcs8 -topk8 -v2 aes256"),
        (&unknown, "CAMELLIA-128-CBC, which is not known"),
        (&no_info, "no DEK-Info"),
        (&short, "wrong length"),
        ("", "there is no private key in it"),
    ] {
        let error = load(pem).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

const WRAPPINGS: &[(&str, &str)] = &[
    (
        "SEC1, AES-128",
        "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,F3916FF1166AA727512C08C10C0C2464

uUjtJIMDXYOhMdov+e+QWcwk2gMThe8oFNc7r7LxB1ptxXLo6hujiJm2UIbCjVyQ
5+HvEaQLxJZJlN1o4b/a4QTqhg0hlV+HuV6gJTGY1/zkhuxSz9bicua7Xf8ZcxJf
Q3xk9eh4ifbf23j1AHv305okkcIKnSxlAtvWFX00XN0=
-----END EC PRIVATE KEY-----
",
    ),
    (
        "SEC1, AES-192",
        "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-192-CBC,AC101C1980A68BB8AE6C915C12457028

vKRwjPvbOWFOujp2l4uE6oURBSVPJViPdkWqEFncwZ6Y+vBiyKII3jVeOXyz2dlP
pFjvR8CNu0bQI+xEXvPtLJqZaNjJuq0d4oApiyzmfmWpeKOjPD7FDZbPHZrn1oN2
RsO1raHRtRX2tgCfiQSsVOT/F/nJRAx9s0kiD+8X7E8=
-----END EC PRIVATE KEY-----
",
    ),
    (
        "SEC1, AES-256",
        "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,B8447D6BDD0410159B644DF3A192C886

vArlhIiKMr2ieFgdeekO1eq9jolwQoc+I10SDiG7GR2r0y9kFGDrDD+lS17y3wjg
e5/xoAEbjRLRanTvNu6fU/nh6LLuBxfFHge2+jIG2NcLAwIatkUbrOME6458mbTC
kbvTowrSTqo/faErFd5MQIevwfZkR5pWtcYTJ/21PoE=
-----END EC PRIVATE KEY-----
",
    ),
    (
        "SEC1, triple DES",
        "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: DES-EDE3-CBC,6A52DAC08CAD8BD4

aRpqnyqXxQSSqsgszCwcUfT/2ut6rDIa0xAOYZcqV4l1OuIQju8eE7tGI0593u+j
pucUuAMvoo7GEGI0MBnKryZmQjVT7A7S4Dvxc8XvUl5zGJCEoj6iLO/53JgZWqY+
CA3eOE2AGbfPk3LCPJsNhs24SGj07j3lTtz/T5YLCv8=
-----END EC PRIVATE KEY-----
",
    ),
    (
        "PKCS #8",
        "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgOgRIvfl8SKeZGQzn
QCoeQce9szQryp1oyFJxgNW7xn2hRANCAAQnp0QBlSGljje1vSYR/FKwW++lhEW5
LilJwxD6ipUC0GU3jheQtRPerrPBs4E2KJ9/eeUic39WM1rdYHh/NOQk
-----END PRIVATE KEY-----
",
    ),
    (
        "PKCS #8, AES-256",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAh0Vui0tblCugICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEOX4YZ6hI4BROgs0F8w810AEgZDe
Uj3N7JVy34C+x8/IzWRyc9vBLxn/i25JWeS1x9P/HfqUEQ5I93BMelHjrhW2cINQ
IZ1mCmjjiB0PZjSzLkL4bHUCVaGZZwnJ3ogwCSsBDa4KjgD/di94EreZtBDgJq6j
dx+eFaUMBAnWYo6R/srB22p2sTgDrBs+ZYkS0jgUxY1eJ4mAKzG4L8XOngLeK4k=
-----END ENCRYPTED PRIVATE KEY-----
",
    ),
    (
        "PKCS #8, triple DES and SHA-1",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHVMEAGCSqGSIb3DQEFDTAzMBsGCSqGSIb3DQEFDDAOBAgP268TC3hUrwICCAAw
FAYIKoZIhvcNAwcECAY7ey8tpHMTBIGQOIX+hQmQZNKv8MuL/OFFsHS6o9a7wuFr
gEklnuS85dbgT7rmSjdvkZUUMRQOSPXjnLeNG6UB6GgJJxNR9+9J64O0OseKiIhP
uLYF1GAEnjJKt2w2Wge8f06s6DXS0jZuN5UnLCf1hQVtXtbJTzHqZTmzR1oR9Sia
5rmwTV/M5FuMZ6IH+RKfIsVh2IvV7uzy
-----END ENCRYPTED PRIVATE KEY-----
",
    ),
    (
        "PKCS #8, scrypt",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHkME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAiJUkAYY4EiJwICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBDca4M4PIRMkV/TL+e+vcAqBIGQCNRh0xRsCoON
iQOANg6KKUlC1sjg4Wk4+WjTkMz1tuDgOwZ7w65tZrnOufvGnpxI33kMjhMyS2ef
L78wyq8r9v0nYhqMR5tH1ISRMclMN094Ntr9en6Mfj3y8bxF6UqclY7d1UIK7sbF
EyvmTtAWuxwsoTJYEHt2A5kUw4zYX3f7YMfNId3umVdWHBr0wfPp
-----END ENCRYPTED PRIVATE KEY-----
",
    ),
];

/// `openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES`
const PBES1: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGxMBwGCiqGSIb3DQEMAQMwDgQIESkNptUQFgACAggABIGQj6MhhrZop4dNM/rQ
czUBx69GoWfZEbHnweVhpMwBKhX88IyinNQItBPgTPfo4cVIAQT5BY3jGjqe9O88
x7XXWh8J2nu+2R1jixMJn0vVTWLGMXR7QQc3gQS3yYGiiWYdVds5uT4/GRLbA1kw
0pQpm4xEGkGcxjCes33PNn+k8WBBvP/YTy39/Wou2WgysZjO
-----END ENCRYPTED PRIVATE KEY-----
";
