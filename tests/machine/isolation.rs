//! What an app gets, and what it does not get at.

use crate::machine::{Machine, web_spec};

/// Tries what no app may, writes down what it could, and becomes the app.
const PROBE: &str = r#"
for path in /zexio/zexio.db /zexio/specs /zexio/artifacts /zexio/apps/other /etc/zexio/master.key /etc/zexio/keys \
            /etc/zexio/cred /var/lib/zexio/launch.key /run/zexio/agent.sock /run/caddy/admin.sock /run/systemd/private /etc/shadow; do
  if ls "$path" >/dev/null 2>&1 && cat "$path" >/dev/null 2>&1; then echo "reads $path"; fi
done
for path in . .. /etc /usr /zexio /zexio/apps/probe; do
  if touch "$path/probe" 2>/dev/null; then echo "writes $path"; fi
done
for socket in /run/zexio/agent.sock /run/caddy/admin.sock; do
  if curl -s -o /dev/null --unix-socket $socket http://localhost/healthz; then echo "connects to $socket"; fi
done
if systemctl show -P Environment zexio-other-web-r1.service >/dev/null 2>&1; then echo "asks systemd"; fi
if kill -0 1 2>/dev/null; then echo "signals PID 1"; fi
touch "$DATA_DIR/own" && echo done
"#;

#[test]
fn an_app_reaches_neither_the_agent_nor_caddy_nor_another_app() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    assert_eq!(machine.apply("other", &web_spec("other", "1.0.0", "./hello", "")).status, 0);
    let script = PROBE.replace('\n', "\\n").replace('"', "\\\"");
    let run = format!(r#"[/bin/sh, -c, "({script}) >$DATA_DIR/seen; exec ./hello"]"#);
    let said = machine.apply("probe", &web_spec("probe", "1.0.0", &run, ""));
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    assert_eq!(machine.must("cat /zexio/apps/probe/data/seen"), "done");
}

#[test]
fn words_and_values_reach_the_app_as_they_are_and_nobody_else() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.must("printf SENTINEL-stored | zexio secret set shop TOKEN");
    let run = r#"[/bin/sh, -c, "printf '%s|' \"$@\" >$DATA_DIR/words; env -0 >$DATA_DIR/env; exec ./hello", sh,
      "%m", "$HOME", ";", "a\r\nUser=root", "x\nExecStartPre=/bin/touch /pwned"]"#;
    let more = "env: { PLAIN: SENTINEL-plain, CR: \"x\\rUser=root\" }\nsecrets: [TOKEN, \"ALIAS:TOKEN\"]\n";
    let said = machine.apply("shop", &web_spec("shop", "1.0.0", run, more));
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    let words = machine.must("cat -A /zexio/apps/shop/data/words");
    assert_eq!(words, "%m|$HOME|;|a^M$\nUser=root|x$\nExecStartPre=/bin/touch /pwned|");
    let env = machine.must("tr '\\0' '\\n' </zexio/apps/shop/data/env");
    for line in ["PLAIN=SENTINEL-plain", "TOKEN=SENTINEL-stored", "ALIAS=SENTINEL-stored", "ZEXIO_RELEASE=1"] {
        assert!(env.lines().any(|found| found == line), "{line} in {env}");
    }
    assert_eq!(machine.must("systemctl show -P User zexio-shop-web-r1.service"), "zx-shop");
    assert_ne!(machine.sh("test -e /pwned").status, 0);

    machine.must("rm /zexio/apps/shop/data/env /root/shop.yaml && zexio get shop -o json >/tmp/got && zexio logs shop >>/tmp/got");
    let found = machine.sh("grep -rla SENTINEL /etc /zexio /run/systemd /run/zexio /tmp/got
         journalctl -o export --no-pager | grep -a SENTINEL
         systemctl show 'zexio-shop*' | grep SENTINEL
         cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -ao 'SENTINEL-[ps][a-z]*' | head -1 || true");
    assert_eq!(found.stdout, "", "a value is somewhere it can be read");
}
