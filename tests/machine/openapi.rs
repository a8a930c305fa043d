//! The API is what it says of itself: schemathesis reads its description and sends what it allows and what it forbids.

use crate::machine::{Machine, web_spec};

const SHOP: &str =
    "hooks: { github: { repo: acme/shop, event: release, artifact: \"https://x.example.com/{tag}\", secret: HOOK } }
";

#[test]
fn the_api_answers_as_its_description_says_whatever_is_sent() {
    let machine = Machine::with_agent();
    machine.must("test -e /built/schemathesis/.wanted || { echo 'run make test, or tests/machine/schemathesis/install.sh target/schemathesis' >&2; exit 1; }");
    machine.publish("1.0.0");
    machine.must("echo -n token | zexio secret set shop HOOK");
    let shop =
        machine.apply("shop", &web_spec("shop", "1.0.0", "./hello", SHOP).replace("\" }", "\", updates: webhook }"));
    assert_eq!(shop.status, 0, "{}", shop.stderr);
    let before = machine.main_pid("zexio-agent");
    machine.write_file(
        "/root/openapi.json",
        &machine.signed("GET", "/v1/openapi.json", "", "application/json", "/etc/zexio/keys/admin").1,
    );

    let said = machine.sh(
        "cd /tmp && export PYTHONPATH=/built/schemathesis:/src/tests/machine/schemathesis PYTHONDONTWRITEBYTECODE=1 SCHEMATHESIS_HOOKS=hooks
         timeout 600 /usr/bin/python3 -m schemathesis.cli --config-file /src/tests/machine/schemathesis/settings.toml \
           run /root/openapi.json --url http://127.0.0.1:7470",
    );
    assert_eq!(said.status, 0, "{}\n{}", said.stdout, said.stderr);
    assert_eq!(machine.main_pid("zexio-agent"), before, "the agent runs on");
    let log = machine.must("journalctl -u zexio-agent -o cat --no-pager");
    assert!(!log.contains("panicked") && !log.contains("could not answer a request"), "{log}");
}
