//! The signature: one signed text per request, and no other request under it.

use proptest::prelude::*;
use proptest::sample::Index;

use zexio::model::names::KeyId;
use zexio::sign::{Head, Key, Nonce, Signature, Stamp, canonical, digest, sign};

/// A request's head and stamp, as far as HTTP lets them be: no field holds a line's end.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    method: String,
    host: String,
    path: String,
    query: String,
    content_type: String,
    kid: String,
    time: u64,
    nonce: String,
    body: Vec<u8>,
}

impl Request {
    fn head(&self) -> Head<'_> {
        let Self { method, host, path, query, content_type, .. } = self;
        Head { method, host, path, query, content_type }
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            kid: KeyId::parse(&self.kid).expect("an id"),
            time: self.time,
            nonce: Nonce::parse(&self.nonce).expect("a nonce"),
            body: digest(&self.body),
        }
    }

    /// Changes one field to another request's; case does not count where it means nothing.
    fn with(&self, field: usize, other: &Self) -> Self {
        let mut mixed = self.clone();
        match field {
            0 => mixed.method.clone_from(&other.method),
            1 => mixed.host.clone_from(&other.host),
            2 => mixed.path.clone_from(&other.path),
            3 => mixed.query.clone_from(&other.query),
            4 => mixed.content_type.clone_from(&other.content_type),
            5 => mixed.kid.clone_from(&other.kid),
            6 => mixed.time = other.time,
            7 => mixed.nonce.clone_from(&other.nonce),
            _ => mixed.body.clone_from(&other.body),
        }
        mixed
    }
}

fn request() -> impl Strategy<Value = Request> {
    let field = || "[!-~&&[^A-Z]]{0,12}";
    let head = ("(GET|PUT|POST|DELETE)", field(), field(), field(), field());
    let stamp = ("[a-zA-Z0-9_-]{1,8}", 0u64..1_000_000_000_000, "[0-9a-f]{32}", any::<Vec<u8>>());
    (head, stamp).prop_map(|((method, host, path, query, content_type), (kid, time, nonce, body))| Request {
        method,
        host,
        path,
        query,
        content_type,
        kid,
        time,
        nonce,
        body,
    })
}

proptest! {
    #[test]
    fn two_requests_never_have_one_signed_text(one in request(), other in request(), field in 0usize..9) {
        for other in [one.with(field, &other), other] {
            let same = canonical(&one.head(), &one.stamp()) == canonical(&other.head(), &other.stamp());
            prop_assert_eq!(same, one == other);
        }
    }

    #[test]
    fn a_signature_holds_for_its_request_and_key_alone(
        one in request(), other in request(), field in 0usize..5, key: [u8; 32], wrong: [u8; 32],
    ) {
        let (key, wrong_key) = (Key::from_bytes(key), (key != wrong).then(|| Key::from_bytes(wrong)));
        let text = sign(&key, &one.head(), one.stamp()).to_string();
        let read = Signature::parse(text.as_bytes()).expect("what is written is read");
        prop_assert_eq!(&read.stamp, &one.stamp());
        prop_assert!(read.is_by(&key, &one.head()));
        let mixed = one.with(field, &other);
        prop_assert_eq!(read.is_by(&key, &mixed.head()), mixed == one);
        prop_assert!(!wrong_key.is_some_and(|wrong| read.is_by(&wrong, &one.head())));
    }

    #[test]
    fn a_changed_byte_is_no_header_or_no_signature(one in request(), key: [u8; 32], at: Index, byte: u8) {
        let key = Key::from_bytes(key);
        let mut bytes = sign(&key, &one.head(), one.stamp()).to_string().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        prop_assert!(!Signature::parse(&bytes).is_some_and(|read| read.is_by(&key, &one.head())));
    }

    #[test]
    fn whatever_parses_has_one_spelling(raw in prop_oneof![any::<Vec<u8>>(), "v1,kid=[a-z]{1,3},t=[0-9]{1,12},n=[0-9a-f]{32},d=[0-9a-f]{64},s=[0-9a-f]{64}".prop_map(String::into_bytes)]) {
        if let Some(read) = Signature::parse(&raw) {
            prop_assert_eq!(read.to_string().into_bytes(), raw);
        }
    }
}
