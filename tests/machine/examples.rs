//! What the repository shows is tried as it is shown: every spec, every example application, and the script for CI.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::machine::{Machine, profile_dir, web_spec};

/// Packs the example applications by the commands of examples/README.md, into the server's artifacts.
fn pack_examples(machine: &Machine) {
    let built = profile_dir().file_name().unwrap_or_default().to_string_lossy().into_owned();
    machine.must("cp -r /src/examples /root/examples");
    let rows = machine.must("grep '^| \\[' /src/examples/README.md");
    assert_eq!(rows.lines().count(), 5, "the applications were found");
    for row in rows.lines() {
        let command = row.split('`').nth(1).expect("each is packed by one command");
        // The machine has no cargo; what it would build is there.
        let command = command.trim_start_matches("cargo build --release --example rust && ");
        let command = command.replace("target/release", &format!("/built/{built}"));
        machine.must(&format!("cd /root && {command}"));
    }
    machine.must("tar -czf /root/rpc.tar.gz -C /src/tests/machine rpc.js");
    machine.must("cp /root/*.tar.gz /zexio/artifacts/");
}

#[test]
fn every_spec_of_this_repository_is_deployed() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.must("tar -xzf /srv/artifacts/hello-1.0.0.tar.gz -C /srv/artifacts --strip-components=1 hello-1.0.0/hello");
    machine.must("zexio validate /src/specs/*.yaml && zexio schema | cmp - /src/specs/zexio.schema.json");
    pack_examples(&machine);
    let set = |project: &str, secret: &str| {
        machine.must(&format!("printf 'value of {secret}' | zexio secret set {project} {secret}"));
    };
    machine.must("cp /src/specs/secrets.yaml /zexio/specs/");
    // Going back needs somewhere to go back to.
    machine.must(
        "sed 's|{ release: 1 }|{ url: \"http://127.0.0.1:9000/hello-1.0.0.tar.gz\" }|' /src/specs/rollback.yaml >/zexio/specs/rollback.yaml",
    );
    machine.wait_until("keeper to be known", || machine.sh("zexio get keeper").status == 0);
    set("keeper", "DATABASE_URL");
    set("keeper", "SHARED_SMTP_KEY");
    machine.wait_for_answer("returned.example.com", "/", "hello from returned");
    // host and needs: tests/machine/services.rs has a machine with packages for them.
    let rest = "find /src/specs -name '*.yaml' ! -name host.yaml ! -name needs.yaml -exec cp -t /zexio/specs/ {} +";
    machine.must(&format!("cp /srv/artifacts/hello-1.0.0.tar.gz /zexio/artifacts/ && {rest}"));

    let web = ["hello", "greeter", "bumped", "keeper", "paths", "modest", "single", "stored", "ledger", "roomy"];
    let more = [
        "telling", "tagged", "forged", "mono", "many", "locks", "framed", "migrated", "careful", "labelled", "common",
        "returned", "once", "verified",
    ];
    for host in web.iter().chain(&more).chain(&["node", "python", "rust"]) {
        machine.wait_for_answer(&format!("{host}.example.com"), "/", "hello from");
    }
    assert_eq!(machine.get("keeper.example.com", "/env/GREETING").1, "good morning");
    assert_eq!(machine.get("keeper.example.com", "/env/SMTP_KEY").1, "value of SHARED_SMTP_KEY");
    assert_eq!(machine.get("paths.example.com", "/env/ZEXIO_PROCESS").1, "api");
    machine.wait_for_answer("manual.example.com", "/any/path", "manual of 1.0.0");
    assert_eq!(machine.get("manual.example.com", "/.zexio-release.json").1, "manual of 1.0.0", "dotfiles are hidden");
    machine
        .wait_until("a tick", || machine.sh("grep -q 'tick of release 1' /zexio/apps/punctual/data/ticks").status == 0);
    assert_eq!(machine.must("cat /zexio/apps/punctual/data/migrated"), "migrating to release 1");
    assert_eq!(machine.must("cat /zexio/apps/migrated/data/schema"), "schema of release 1");
    machine.wait_until("the worker", || machine.sh("systemctl is-active zexio-worker-jobs-r1.service").status == 0);
    machine.wait_until("the bot", || machine.sh("systemctl is-active zexio-once-bot-r1.service").status == 0);
    assert!(machine.status_has("paused", r#""state":"suspended""#));
    assert_ne!(
        machine.sh("systemctl is-active zexio-paused-web-r1.service").status,
        0,
        "a suspended project is started"
    );
    machine.wait_until("the way back", || machine.status_has("returned", r#""artifact":{"release":1"#));
    let plain = machine.must("curl -sS --resolve plain.example.com:80:127.0.0.1 http://plain.example.com/");
    assert!(plain.contains("hello from locks"), "{plain}");
    let head = |host: &str, path: &str| {
        machine
            .must(&format!(
                "curl -sSk --resolve {host}:443:127.0.0.1 -H 'Accept-Encoding: gzip' -o /dev/null -D - https://{host}{path}"
            ))
            .to_lowercase()
    };
    assert!(head("framed.example.com", "/").contains("x-frame-options: deny"), "also where it is written small");
    machine.wait_for_answer("site.example.com", "/about/", "about this site");
    assert!(head("site.example.com", "/style.css").contains("content-encoding: gzip"), "compressed at build time");
    assert!(machine.get("site.example.com", "/contact").1.contains("clean_urls"));
    let lost = machine.get("site.example.com", "/nothing");
    assert!(lost.0 == 404 && lost.1.contains("Nothing here"), "{lost:?}");
    machine.wait_until("gRPC's way to talk", || {
        machine.sh("node /src/tests/machine/rpc.js ask rpc.example.com").status == 0
    });
    machine.wait_until("the queue", || machine.sh("test -d /zexio/apps/jobs/data/queue").status == 0);
    machine.must("touch /zexio/apps/jobs/data/queue/one");
    machine.wait_until("the report", || machine.sh("grep -q '^1 jobs done' /zexio/apps/jobs/data/report").status == 0);
    what_the_comments_say_is_so(&machine);
}

/// Checks what the specs' comments promise beyond an answer.
fn what_the_comments_say_is_so(machine: &Machine) {
    let head = |host: &str, path: &str| {
        let url = format!("--resolve {host}:443:127.0.0.1 https://{host}{path}");
        machine.must(&format!("curl -sSk -o /dev/null -D - {url}")).to_lowercase()
    };
    let shown = |unit: &str, property: &str| machine.must(&format!("systemctl show -P {property} {unit}"));
    // command: filled in, PATH too, and a list's rest is the shell's.
    machine.wait_for_answer("filled.example.com", "/", "manual of 1.0.0");
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    machine.wait_until("the shell", || machine.sh("test -s /zexio/apps/filled/data/path").status == 0);
    assert_eq!(machine.must("cat /zexio/apps/filled/data/path"), format!("./bin:{usual}"));
    // headers, static: every answer has them.
    for path in ["/", "/up", "/nothing"] {
        let found = head("framed.example.com", path);
        assert!(
            found.contains("strict-transport-security: max-age=31536000") && found.contains("x-frame-options: deny")
        );
    }
    assert!(head("manual.example.com", "/any/path").contains("x-frame-options: deny"));
    // instances: three, each with a port of its own, and Caddy balances over them.
    let ports = RefCell::new(BTreeSet::new());
    machine.wait_until("all three ports", || {
        let (code, port) = machine.get("many.example.com", "/env/PORT");
        ports.borrow_mut().extend((code == 200).then_some(port));
        ports.borrow().len() == 3
    });
    // limits and sandbox.
    assert_eq!(shown("zexio-modest-web-r1.service", "MemoryMax"), (128 << 20).to_string());
    assert_eq!(shown("zexio-modest-web-r1.service", "CPUQuotaPerSecUSec"), "500ms");
    assert_eq!(shown("zexio-modest-web-r1.service", "TasksMax"), "64");
    assert_eq!(shown("zexio-modest-web-r1.service", "MemoryDenyWriteExecute"), "yes");
    assert_eq!(shown("zexio-node-web-r1.service", "MemoryDenyWriteExecute"), "no");
    assert_eq!(shown("zexio-hello-web-r1.service", "ProtectSystem"), "strict");
    assert_eq!(shown("zexio-roomy-web-r1.service", "ProtectSystem"), "no");
    assert_eq!(shown("zexio-roomy-web-r1.service", "User"), "zx-roomy");
    // worker: no port, and its time to stop.
    let pid = machine.main_pid("zexio-worker-jobs-r1.service");
    assert_ne!(machine.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ | grep -q '^PORT='")).status, 0);
    assert_eq!(shown("zexio-worker-jobs-r1.service", "TimeoutStopUSec"), "30s");
    // secrets: both names, and a text stays one.
    assert_eq!(machine.get("keeper.example.com", "/env/DATABASE_URL").1, "value of DATABASE_URL");
    assert_eq!(machine.get("keeper.example.com", "/env/LEVEL").1, "3");
    // routes and site: redirects, and a path of its own.
    assert!(head("www.paths.example.com", "/a?b").contains("location: https://paths.example.com/a?b"));
    assert!(head("www.site.example.com", "/a").contains("location: https://site.example.com/a"));
    assert_eq!(machine.get("paths.example.com", "/").0, 200);
    // executable: installed as `app`; file: nothing was fetched.
    machine.must("test -x /zexio/apps/single/releases/1/app");
    // host files, hello: a file that is removed takes its app with it.
    machine.must("rm /zexio/specs/hello.yaml");
    machine.wait_until("hello to be gone", || {
        machine.sh("test ! -e /zexio/apps/hello && ! systemctl cat zexio-hello-web-r1.service").status == 0
    });
}

#[test]
fn the_example_applications_end_well_when_they_are_asked_to() {
    let machine = Machine::start();
    let built = profile_dir().file_name().unwrap_or_default().to_string_lossy().into_owned();
    machine.must("cp -r /src/examples /root/examples && mkdir /root/data");
    let (answers, queue) = ("curl -sf -o /dev/null http://127.0.0.1:3999/up", "test -d /root/data/queue");
    let rust = format!("/built/{built}/examples/rust");
    for (run, ready) in [
        ("node node/server.js", answers),
        ("python3 python/app.py", answers),
        (&rust, answers),
        ("python3 worker/worker.py", queue),
    ] {
        let said = machine.sh(&format!(
            "cd /root/examples && export HOST=127.0.0.1 PORT=3999 DATA_DIR=/root/data
             {run} & app=$!
             until {ready}; do kill -0 $app; sleep 0.1; done
             kill -TERM $app; wait $app"
        ));
        assert_eq!(said.status, 0, "{run} was cut off: {}{}", said.stdout, said.stderr);
    }
}

#[test]
fn ci_sends_an_artifact_and_moves_the_project_with_sh_curl_and_openssl() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.publish("1.1.0");
    let sha256 = machine.publish("1.2.0");
    let spec = web_spec("bumped", "1.0.0", "./hello", "hooks: { generic: {} }\n")
        .replace("version: \"1.0.0\" }", "version: \"1.0.0\", updates: webhook }");
    assert_eq!(machine.apply("bumped", &spec).status, 0);
    machine.must("zexio key add ci --scope deploy:bumped");
    let bump = |arguments: &str| {
        machine.sh(&format!(
            "export ZEXIO_AGENT=http://127.0.0.1:7470 ZEXIO_KID=ci ZEXIO_KEY=$(grep -o 'zxs_.*' /etc/zexio/keys/ci)
             sh /src/examples/ci/bump.sh {arguments}"
        ))
    };
    let sent = bump("bumped 1.1.0 /srv/artifacts/hello-1.1.0.tar.gz");
    assert_eq!(sent.status, 0, "{}{}", sent.stdout, sent.stderr);
    machine.wait_for_answer("bumped.example.com", "/", "1.1.0 (release 2)");
    assert!(machine.status_has("bumped", r#""version":"1.1.0""#));
    let named = bump(&format!("bumped 1.2.0 http://127.0.0.1:9000/hello-1.2.0.tar.gz {sha256}"));
    assert_eq!(named.status, 0, "{}{}", named.stdout, named.stderr);
    machine.wait_for_answer("bumped.example.com", "/", "1.2.0 (release 3)");
    let other = bump("other 1.1.0 /srv/artifacts/hello-1.1.0.tar.gz");
    assert!(other.status == 1 && other.stderr.contains("answered 403"), "{}{}", other.stdout, other.stderr);
    let missing = bump("bumped 1.3.0 /srv/artifacts/nothing");
    assert!(missing.status == 1 && missing.stderr.contains("there is no file"), "{}", missing.stderr);
}
