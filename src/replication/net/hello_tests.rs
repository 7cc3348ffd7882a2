//! First messages: right, damaged, and of others.

use super::*;

fn hello(purpose: Purpose) -> Hello {
    Hello {
        purpose,
        from: 1,
        to: 2,
        group: "Größe".to_owned(),
    }
}

async fn bytes_of(hello: &Hello) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_hello(&mut bytes, hello).await.unwrap();
    bytes
}

async fn error(bytes: &[u8]) -> String {
    read_hello(&mut &bytes[..]).await.unwrap_err().to_string()
}

/// A first message with this body.
async fn with_body(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, body).await.unwrap();
    bytes
}

#[tokio::test]
async fn hellos_and_answers_come_out_as_they_went_in() {
    for (_, purpose) in PURPOSES {
        let bytes = bytes_of(&hello(purpose)).await;
        let mut stream = &[&bytes[..], b"more"].concat()[..];
        assert_eq!(read_hello(&mut stream).await.unwrap(), hello(purpose));
        assert_eq!(stream, b"more", "what follows is left alone");
    }
    for (_, verdict) in VERDICTS {
        let welcome = Welcome { verdict, node: 7 };
        let mut bytes = Vec::new();
        write_welcome(&mut bytes, welcome).await.unwrap();
        let read = read_welcome(&mut &bytes[..]).await;
        match verdict {
            Verdict::Version => assert!(matches!(read, Err(HelloError::Version { .. }))),
            _ => assert_eq!(read.unwrap(), welcome),
        }
    }
}

#[tokio::test]
async fn every_changed_bit_and_every_cut_is_noticed() {
    let bytes = bytes_of(&hello(Purpose::Calls(Lane::Urgent))).await;
    for at in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[at / 8] ^= 1 << (at % 8);
        error(&changed).await;
    }
    for length in 0..bytes.len() {
        error(&bytes[..length]).await;
    }
}

#[tokio::test]
async fn others_are_named_as_such() {
    assert!(
        error(b"\x16\x03\x01\x02\x00")
            .await
            .contains("it speaks TLS")
    );
    for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"zeodpool\0\0\0\0"] {
        assert!(error(other).await.contains("no zeod"));
    }
    let long = [&MAGIC[..], &u16::MAX.to_le_bytes()].concat();
    assert!(error(&long).await.contains("too long"));
    for (body, why) in [
        (&[9, 0, 5, 0][..], "versions 5 to 9 of the protocol"),
        (&[1, 0], "too short"),
        (&[1, 0, 1, 0, 99], "purpose is not known"),
        (
            &[[1, 0, 1, 0, 1].as_slice(), &[0; 16], &[0xff]].concat(),
            "not UTF-8",
        ),
        (
            &[[1, 0, 1, 0, 1].as_slice(), &[b'a'; 1041]].concat(),
            "name is too long",
        ),
    ] {
        let found = error(&with_body(body).await).await;
        assert!(found.contains(why), "{found}");
    }
    let answer = with_body(&[&[0, 1, 0][..], &[0; 9]].concat()).await;
    assert!(read_welcome(&mut &answer[..]).await.is_err());
    let newer = with_body(&[&[0, 2, 0][..], &[0; 8]].concat()).await;
    assert!(matches!(
        read_welcome(&mut &newer[..]).await,
        Err(HelloError::Version { newest: 2, .. })
    ));
}
