//! The documents are true: what a reader would copy is run as it stands there.

use crate::machine::{Machine, web_spec};

const API: &str = include_str!("../../docs/api.md");
const WEBHOOKS: &str = include_str!("../../docs/webhooks.md");
const QUICKSTART: &str = include_str!("../../docs/quickstart.md");

/// The blocks with this mark above them, as one text.
fn block(document: &str, mark: &str) -> String {
    let mark = format!("<!-- run: {mark} -->\n```");
    let blocks = document.split(&mark).skip(1);
    let texts = blocks.map(|rest| rest.split_once('\n').and_then(|(_, rest)| rest.split_once("\n```")));
    let text: String = texts.map(|found| found.expect("a block ends").0.to_owned() + "\n").collect();
    assert!(!text.is_empty(), "there is no block {mark}");
    text
}

const HOOKS: &str = r#"hooks:
  github: { repo: acme/shop, event: release, secret: GITHUB_HOOK, artifact: "https://github.com/acme/shop/releases/download/{tag}/shop-{tag}.tar.gz" }
  forgejo: { repo: acme/shop, event: release, secret: FORGEJO_HOOK, artifact: "https://codeberg.org/acme/shop/releases/download/{tag}/shop-{tag}.tar.gz" }
  gitlab: { repo: acme/shop, event: release, secret: GITLAB_HOOK, token: legacy, artifact: "https://gitlab.com/acme/shop/-/releases/{tag}/downloads/shop.tar.gz" }
  standard: { secret: STANDARD_HOOK }
"#;

fn with_shop() -> Machine {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    let hosts = ["codeberg.org", "github.com", "gitlab.com", "cdn.example.com"]
        .map(|host| format!("\"https://{host}/\", "))
        .concat();
    machine.must(&format!("sed -i 's#allow: \\[#&{hosts}#' /etc/zexio/agent.yaml && systemctl restart zexio-agent"));
    machine.wait_until("the agent to be healthy", || machine.healthy());
    machine.must(
        "for name in FORGEJO GITHUB GITLAB; do printf %s token-of-$name | zexio secret set shop ${name}_HOOK; done
         printf %s whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3 | zexio secret set shop STANDARD_HOOK",
    );
    let spec = web_spec("shop", "1.0.0", "./hello", HOOKS).replace("\"1.0.0\" }", "\"1.0.0\", updates: webhook }");
    let applied = machine.apply("shop", &spec);
    assert_eq!(applied.status, 0, "{}", applied.stderr);
    machine
}

#[test]
fn every_client_of_the_api_document_gets_its_secret_through() {
    let machine = with_shop();
    let shown = machine.must(&block(API, "socket"));
    assert!(shown.contains(r#""project":"shop""#), "{shown}");
    for (language, file, run, status) in [
        ("curl", "call.sh", "sh call.sh", "201"),
        ("python", "call.py", "/usr/bin/python3 call.py", "204"),
        ("node", "call.js", "node call.js", "204"),
        ("go", "call.go", "GOCACHE=/tmp/go GO111MODULE=off go run call.go", "204"),
    ] {
        machine.write_file(&format!("/root/{file}"), &block(API, language));
        let said = machine.must(&format!(
            "cd /root; export ZEXIO_AGENT=http://127.0.0.1:7470 ZEXIO_KEY=/etc/zexio/keys/admin HOME=/root; {run}"
        ));
        assert_eq!(said.lines().last(), Some(status), "{language}: {said}");
    }
    let listed = machine.must("zexio secret list shop -o json | tr -d ' \\n'");
    assert!(listed.contains(r#""name":"GREETING""#) && listed.contains(r#""version":4"#), "each was taken: {listed}");
}

#[test]
fn every_delivery_of_the_webhook_document_moves_the_version() {
    let machine = with_shop();
    machine.must("zexio suspend shop && zexio key add ci --scope deploy:shop");
    for (provider, url) in [
        ("github", "https://github.com/acme/shop/releases/download/v1.2.3/shop-v1.2.3.tar.gz"),
        ("forgejo", "https://codeberg.org/acme/shop/releases/download/v1.2.7/shop-v1.2.7.tar.gz"),
        ("gitlab", "https://gitlab.com/acme/shop/-/releases/v1.2.4/downloads/shop.tar.gz"),
        ("standard", "https://cdn.example.com/shop-1.2.5.tar.gz"),
        ("generic", "https://cdn.example.com/shop-1.2.6.tar.gz"),
    ] {
        let typed = block(WEBHOOKS, provider).replace("https://agent.example.com", "http://127.0.0.1:7470");
        let said = machine.must(&format!(
            "cp /etc/zexio/keys/ci /root/ci; cd /root
             export GITHUB_HOOK=token-of-GITHUB GITLAB_HOOK=token-of-GITLAB FORGEJO_HOOK=token-of-FORGEJO
             export STANDARD_HOOK=whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3
             {typed}"
        ));
        assert!(said.contains(r#""generation":"#) && !said.contains("ignored"), "{provider}: {said}");
        assert!(machine.status_has("shop", url), "{provider}: {}", machine.must("zexio get shop -o json"));
    }
}

#[test]
fn the_quickstart_ends_with_an_app_that_answers() {
    let machine = Machine::with_agent();
    // There is no public authority here; the internal one is the document's own way out.
    let typed =
        block(QUICKSTART, "quickstart").replace("host: app.example.com", "host: app.example.com, tls: internal");
    let said = machine.must(&format!("cd /root; {typed}"));
    assert!(said.contains("app  running"), "{said}");
    machine.wait_for_answer("app.example.com", "/", "hello from release 1");
}
