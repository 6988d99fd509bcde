//! SCRAM's messages and stored verifiers.

use super::*;

#[test]
fn rfc_7677_vector() {
    let begun = Begun::with_user(Binding::Unable, "user", "rOprNGfwEbeRWgbNEkqO");
    assert_eq!(begun.client_first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let challenge = begun
        .server_first(b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
        .unwrap();
    let keys = ScramKeys::derive(PASSWORD, &challenge.salt, challenge.iterations);
    let (answered, client_final) = begun.client_final(&challenge, &keys);
    assert_eq!(
        client_final,
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    assert!(answered.verified_by(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    assert!(!answered.verified_by(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="));
    assert!(!answered.verified_by(b"e=invalid-proof") && !answered.verified_by(b"v=") && !answered.verified_by(b""));
}

#[test]
fn refuses_bad_server_first_messages() {
    let begun = Begun::with_user(Binding::Unable, "", "abc");
    assert!(begun.server_first(b"r=abcd,s=QUJD,i=4096").is_some());
    for bad in [
        "",
        "r=",
        "r=abc,s=QUJD,i=4096",
        "r=xbcd,s=QUJD,i=4096",
        "r=abcd,s=QUJD",
        "r=abcd,s=?,i=4096",
        "r=abcd,s=QUJD,i=0",
        "r=abcd,s=QUJD,i=-1",
        "r=abcd,s=QUJD,i=4000001",
        "m=x,r=abcd,s=QUJD,i=1",
        "e=other-error",
    ] {
        assert!(begun.server_first(bad.as_bytes()).is_none(), "{bad}");
    }
    assert!(begun.server_first(b"r=abcd,s=\xff,i=1").is_none());
}

#[test]
fn verifiers_are_read_as_postgresql_writes_them() {
    let text = verifier_text(PASSWORD);
    let verifier = ScramVerifier::parse(&text).unwrap();
    let keys = ScramKeys::derive(PASSWORD, &verifier.salt, verifier.iterations);
    assert!(verifier.accepts(&keys.client_key) && keys.verifier() == verifier);
    assert!(!verifier.accepts(&ScramKeys::derive("pen", &verifier.salt, verifier.iterations).client_key));
    for bad in
        ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:QUJD$QUJD:QUJD", &text[..text.len() - 4], &text.replace("4096", "x")]
    {
        assert!(ScramVerifier::parse(bad).is_none(), "{bad}");
    }
    assert!(matches!(StoredSecret::parse(&Secret::new(text)), StoredSecret::Scram(_)));
    let hash = format!("md5{}", "0123456789abcdef".repeat(2));
    assert!(matches!(StoredSecret::parse(&Secret::new(hash.clone())), StoredSecret::Md5(_)));
    assert!(matches!(StoredSecret::parse(&Secret::new(hash.to_uppercase())), StoredSecret::Plain(_)));
    assert!(matches!(StoredSecret::parse(&Secret::new("md5")), StoredSecret::Plain(_)));
}

#[test]
fn debug_shows_no_secret() {
    let keys = ScramKeys::derive(PASSWORD, b"salt", 1);
    let shown = format!(
        "{:?} {:?} {:?}",
        keys.verifier(),
        ServerCredential::ScramKeys(Arc::new(keys)),
        StoredSecret::parse(&Secret::new(PASSWORD))
    );
    assert_eq!(shown, "ScramVerifier(…) SCRAM keys Plain(Secret(…))");
}

#[test]
fn the_server_side_lets_another_client_in() {
    let context = context();
    let verifier = ScramKeys::derive("pässword", b"salt", 4096).verifier();
    for (password, right) in [("pässword", true), ("passwort", false)] {
        let mut client = sasl::ScramSha256::new(password.as_bytes(), sasl::ChannelBinding::unsupported());
        let exchange = Exchange::new(&context, None, &verifier);
        assert_eq!(exchange.mechanisms(), ["SCRAM-SHA-256"]);
        let (challenged, first) = exchange.client_first("SCRAM-SHA-256", client.message()).unwrap();
        client.update(first.as_bytes()).unwrap();
        match challenged.client_final(client.message()).unwrap() {
            Outcome::Proven(keys, server_final) => {
                assert!(right && keys.verifier() == verifier, "the proof yields the key");
                client.finish(server_final.as_bytes()).unwrap();
            }
            Outcome::Wrong => assert!(!right),
        }
    }
}
