//! A signature header has one spelling: what is read is written back byte for byte, and no key of ours signed it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zexio::sign::{Head, Key, Signature};

fuzz_target!(|raw: &[u8]| {
    let Some(signature) = Signature::parse(raw) else { return };
    assert_eq!(signature.to_string().as_bytes(), raw, "one spelling");
    let head = Head { method: "PUT", host: "a.example.com", path: "/v1/projects/a", query: "", content_type: "" };
    assert!(!signature.is_by(&Key::from_bytes([0x5a; 32]), &head), "a forged signature was taken");
    let _ = signature.is_fresh(1_767_225_600);
});
