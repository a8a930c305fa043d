//! Documents made to hurt: each is told quickly, and none makes the agent large.

use std::time::{Duration, Instant};

use crate::machine::Machine;

/// Writes one file for each hostile document into /root/bombs.
const BOMBS: &str = r##"
import os, json
os.makedirs("/root/bombs", exist_ok=True)
HEAD = "zexio: 1\nproject: bomb\nartifact: { file: x }\nprocesses: { web: { run: ./x } }\n"
MOST = 256 * 1024
def laughs(levels, width, seed):
    lines = [f"x0: &x0 {seed}"]
    lines += [f"x{i}: &x{i} [{', '.join([f'*x{i-1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"
bombs = {
    "laughs": HEAD + laughs(12, 10, "[lol, lol, lol]"),
    "quadratic": HEAD + "x-a: &a " + "y" * 120_000 + "\nx-b: [" + "*a, " * 30_000 + "]\n",
    "merges": HEAD + "x-a: &a { " + ", ".join(f"k{i}: v" for i in range(2000)) + " }\n" + "".join(f"x-{i}: {{ <<: *a }}\n" for i in range(9000)),
    "anchors": HEAD + "".join(f"x-{i}: &a{i} {{ b: [*a{i-1}] }}\n" if i else "x-0: &a0 1\n" for i in range(8000)),
    "list": HEAD + "x-a: [" + "1," * 125_000 + "]\n",
    "maps": HEAD + "x-a: [" + "{a: b}," * 30_000 + "]\n",
    "brackets": HEAD + "x-a: " + "[" * 200_000,
    "braces": HEAD + "x-a: " + "{a: " * 60_000,
    "dashes": HEAD + "x-a:\n  " + "- " * 100_000 + "1\n",
    "indented": HEAD + "".join(" " * i + "a:\n" for i in range(700)),
    "longpaths": HEAD + "k" * 900 + ":\n" + "".join(f"  {i}: {{ {i}: {{ {i}: }} }}\n" for i in range(8_500)),
    "unknown": HEAD + "".join(f"k{i}: 1\n" for i in range(25_000)),
    "empty": HEAD + "".join(f"k{i}:\n" for i in range(25_000)),
    "processes": HEAD.replace("{ web: { run: ./x } }", "\n" + "".join(f"  p{i}: {{ run: [./x, $PORT] }}\n" for i in range(5000))),
    "routes": HEAD.replace("run: ./x", "run: ./x, routes: [" + "{ host: a.b.c }, " * 9000 + "]"),
    "run": HEAD.replace("./x", "./x " + "&& " * 80_000),
    "words": HEAD.replace("./x", "./x " + "a " * 120_000 + "$Y"),
    "schedule": HEAD.replace("run: ./x", "run: ./x, schedule: '" + "1," * 125_000 + "'"),
    "key": HEAD + "? " + "k" * 250_000 + "\n: 1\n",
    "name": HEAD.replace("bomb", "b" * 250_000),
    "quoted": HEAD + "x: \"" + "\\u0041" * 43_000,
    "json": json.dumps({"zexio": 1, "project": "bomb", "x": "\u0001" * 43_000, "env": {f"A{i}": "" for i in range(100)}}),
    "comments": HEAD + "#\n" * 125_000 + "keep: x\n",
    "documents": HEAD + "---\n" * 60_000,
    "tags": HEAD + "x-a: [" + "!!str a, " * 25_000 + "]\nkeep: x\n",
    "garbage": bytes(range(256)) * 1000,
}
for name, text in bombs.items():
    data = text if isinstance(text, bytes) else text.encode()
    assert len(data) <= MOST, (name, len(data))
    open(f"/root/bombs/{name}", "wb").write(data)
# The largest that is right.
open("/root/bombs.valid", "w").write(HEAD.replace("./x", "./hello") + "env:\n" + "".join(f"  A{i}: v{i}\n" for i in range(13_000)))
"##;

fn kilobytes(machine: &Machine, what: &str) -> u64 {
    let line = machine.must(&format!("grep {what} /proc/$(systemctl show -P MainPID zexio-agent)/status"));
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn no_document_makes_the_agent_large_or_keeps_it_from_telling() {
    let machine = Machine::with_agent();
    machine.write_file("/root/bombs.py", BOMBS);
    machine.must("python3 /root/bombs.py");
    machine.publish("1.0.0");
    let calm = "zexio: 1\nproject: calm\nartifact: { url: 'http://127.0.0.1:9000/hello-1.0.0.tar.gz' }\nprocesses: { web: { run: ./hello, routes: [{ host: calm.example.com, tls: internal }] } }\n";
    machine.drop_spec("calm", calm);
    machine.wait_for_answer("calm.example.com", "/", "hello from");
    machine.must("echo 5 >/proc/$(systemctl show -P MainPID zexio-agent)/clear_refs");
    let before = kilobytes(&machine, "VmRSS");
    let mut slowest = (Duration::ZERO, String::new());
    for name in machine.must("ls /root/bombs").lines() {
        // As a file.
        machine.must(&format!("cp /root/bombs/{name} /root/part && mv /root/part /zexio/specs/{name}.yaml"));
        let began = Instant::now();
        let told = format!("zexio get -o json | tr -d ' \\n' | grep -q '\"{name}.yaml\"\\|file:{name}.yaml'");
        machine.wait_until(name, || machine.sh(&told).status == 0);
        slowest = slowest.max((began.elapsed(), name.to_owned()));
        machine.must(&format!("rm /zexio/specs/{name}.yaml"));
        // Through the API, and as a webhook.
        machine.must(&format!("cp /root/bombs/{name} /root/body"));
        for path in
            ["/v1/projects/bomb", "/v1/projects/bomb?dry_run=true", "/v1/services/redis", "/v1/hooks/calm/github"]
        {
            let method = if path.contains("hooks") { "POST" } else { "PUT" };
            let kind = if path.contains("projects") { "application/yaml" } else { "application/json" };
            let code = machine.must(&format!(
                "signature=$(zexio sign {method} 'http://localhost{path}' --body /root/body --content-type {kind} --key /etc/zexio/keys/admin)
                 curl -sS -o /dev/null -w '%{{http_code}}' --unix-socket /run/zexio/agent.sock -X {method} -H \"X-Signature: $signature\" \
                   -H 'Content-Type: {kind}' --data-binary @/root/body 'http://localhost{path}'"
            ));
            assert!(code.starts_with('4'), "{name} to {path}: {code}");
        }
    }
    let grown = kilobytes(&machine, "VmHWM").saturating_sub(before);
    println!("grown by {} KiB at the highest; the slowest was {slowest:?}", grown);
    assert!(grown <= 64 << 10, "the agent grew by {grown} KiB");
    // A build without optimization takes many times as long.
    let most = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 3 });
    assert!(slowest.0 < most, "{slowest:?}");
    // The largest document that is right costs no more.
    machine.must("cp /srv/artifacts/hello-1.0.0.tar.gz /zexio/artifacts/x && zexio apply -f /root/bombs.valid");
    machine.wait_until("the project", || machine.sh("test -d /zexio/apps/bomb/releases/1").status == 0);
    let grown = kilobytes(&machine, "VmHWM").saturating_sub(before);
    println!("grown by {grown} KiB with the largest valid document");
    assert!(grown <= 64 << 10, "the agent grew by {grown} KiB");
    machine.wait_for_answer("calm.example.com", "/", "hello from");
}
