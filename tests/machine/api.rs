//! The API as a stranger meets it: what is refused, with which code, and what a refusal leaves untouched.

use zexio::model::names::KeyId;
use zexio::sign::{self, Head, Key, Nonce, Stamp};

use crate::machine::{Machine, web_spec};

const ADMIN: &str = "/etc/zexio/keys/admin";
const SHOP: &str = "/v1/projects/shop";
const YAML: &str = "application/yaml";

/// Signs outside of the machine, with the admin's key and the machine's clock, which is this one.
struct Signer(Key);

impl Signer {
    fn of(machine: &Machine) -> Self {
        Signer(Key::parse(&machine.must(&format!("cat {ADMIN}"))).expect("the admin's key"))
    }

    fn header(&self, method: &str, path: &str, body: &str, late: i64) -> String {
        let time = now().checked_add_signed(late).expect("a time");
        let head = Head { method, host: "localhost", path, query: "", content_type: YAML };
        let kid = KeyId::parse("admin").expect("a key id");
        let stamp =
            Stamp { kid, time, nonce: Nonce::generate().expect("random bytes"), body: sign::digest(body.as_bytes()) };
        sign::sign(&self.0, &head, stamp).to_string()
    }
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs()
}

/// Sends a request with these headers as they are; answers with the status and the problem's code.
fn send(machine: &Machine, method: &str, path: &str, body: &str, signatures: &[&str]) -> (u16, String) {
    machine.write_file("/root/body", body);
    let headers: String = signatures.iter().map(|value| format!("-H 'X-Signature: {value}' ")).collect();
    let said = machine.must(&format!(
        "curl -sS --path-as-is --unix-socket /run/zexio/agent.sock -X {method} {headers} -H 'Content-Type: {YAML}' \
         --data-binary @/root/body -w '\\n%{{http_code}}' 'http://localhost{path}'"
    ));
    let (body, status) = said.rsplit_once('\n').unwrap_or(("", &said));
    let code = body.split_once("\"code\":\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
    (status.parse().unwrap_or(0), code.to_owned())
}

#[test]
fn a_request_that_is_not_exactly_what_was_signed_changes_nothing() {
    let machine = Machine::with_agent();
    let signer = Signer::of(&machine);
    let spec = web_spec("shop", "1.0.0", "./hello", "");
    let put = |signatures: &[&str]| send(&machine, "PUT", SHOP, &spec, signatures);
    let good = || signer.header("PUT", SHOP, &spec, 0);
    let refused = |code: &str| (401, code.to_owned());

    assert_eq!(put(&[]), refused("sig_missing"));
    assert_eq!(put(&[&good(), &good()]), refused("sig_malformed"));
    assert_eq!(put(&[&format!("{} ", good())]), refused("sig_malformed"));
    let (head, proof) = { good() }.rsplit_once("s=").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a proof");
    assert_eq!(put(&[&format!("{head}s={}", proof.to_uppercase())]), refused("sig_malformed"));
    let flipped = if proof.starts_with('0') { "1" } else { "0" };
    assert_eq!(put(&[&format!("{head}s={flipped}{}", &proof[1..])]), refused("sig_bad"));
    for late in [-302, 302] {
        assert_eq!(put(&[&signer.header("PUT", SHOP, &spec, late)]), refused("clock_skew"));
    }
    assert_eq!(put(&[&good().replace("kid=admin", "kid=nobody")]), refused("key_unknown"));
    assert_eq!(send(&machine, "DELETE", SHOP, &spec, &[&good()]), refused("sig_bad"));
    assert_eq!(send(&machine, "PUT", "/v1/projects/shop2", &spec, &[&good()]), refused("sig_bad"));
    assert_eq!(send(&machine, "PUT", &format!("{SHOP}?dry_run=true"), &spec, &[&good()]), refused("sig_bad"));
    assert_eq!(send(&machine, "PUT", SHOP, &format!("{spec} "), &[&good()]), refused("sig_bad"));
    assert_eq!(send(&machine, "PUT", "/v1/projects/x/../shop", &spec, &[&good()]), (400, "bad_path".to_owned()));
    assert_eq!(send(&machine, "PUT", SHOP, &"x".repeat(300_000), &[&good()]), (413, "too_large".to_owned()));
    assert_ne!(machine.sh("zexio get shop").status, 0, "none of these was taken");

    let once = good();
    assert_eq!(put(&[&once]).0, 201);
    assert_eq!(put(&[&once]), refused("replayed"));
    machine.must("systemctl restart zexio-agent");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    assert_eq!(put(&[&once]), refused("replayed"), "after a restart too");
}

#[test]
fn a_spec_that_is_refused_names_the_field_and_a_wish_that_moved_is_not_overwritten() {
    let machine = Machine::with_agent();
    let spec = web_spec("shop", "1.0.0", "./hello", "");
    let put = |spec: &str| machine.signed("PUT", SHOP, spec, YAML, ADMIN);
    for (changed, status, said) in [
        (format!("{spec}secrts: [A]\n"), 422, r#""path":"secrts","message":"unknown key; did you mean secrets?"#),
        (format!("{spec}limits: {{ memory: 12x }}\n"), 422, r#""path":"limits.memory""#),
        (format!("{spec}env: {{ A: 1 }}\n"), 422, r#""path":"env.A""#),
        (format!("{spec}env: {{ NOTIFY_SOCKET: a }}\n"), 422, r#""path":"env.NOTIFY_SOCKET""#),
        (format!("{spec}keep: 3\nkeep: 4\n"), 400, "keep is written twice in one mapping"),
        (spec.replace("shop.example.com", "'a.com, b.com'"), 422, r#""path":"processes.web.routes.0.host""#),
        (spec.replace("run: ./hello", "run: [+/bin/id]"), 422, r#""path":"processes.web.run""#),
        (spec.replace("http://127.0.0.1:9000", "http://169.254.169.254"), 422, r#""path":"artifact.url""#),
        (spec.replace("project: shop", "project: other"), 422, r#""path":"project""#),
    ] {
        let answer = put(&changed);
        assert!(answer.0 == status && answer.1.contains(said), "{changed}: {answer:?}");
    }
    assert_eq!(machine.signed("PUT", SHOP, &spec, "text/html", ADMIN).0, 415);
    assert_eq!(machine.signed("PATCH", SHOP, "", YAML, ADMIN).0, 405);
    assert_eq!(machine.signed("GET", "/v1/projects/shop", "", YAML, ADMIN).0, 404);
    assert_eq!(put(&format!("{spec}x-note: {{ any: thing }}\n")), (201, r#"{"generation":1,"project":"shop"}"#.into()));
    assert_eq!(put(&spec).1, r#"{"generation":1,"project":"shop"}"#, "an equal wish is no new one");
}
