//! The command line as a person and as a script use it, on the real machine.

use serde_json::Value;

use crate::machine::{Machine, profile_dir, web_spec};

/// Makes a directory with the hello example of a version in the machine, as a build would leave it.
fn build(machine: &Machine, version: &str) -> String {
    let built = profile_dir();
    let built = built.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let directory = format!("/root/dist-{version}");
    machine.must(&format!(
        "mkdir -p {directory}/public && cp /built/{built}/examples/hello {directory}/ && ln -s hello {directory}/latest
         echo {version} >{directory}/VERSION && echo page >{directory}/public/index.html"
    ));
    directory
}

fn spec_of(machine: &Machine) -> Value {
    let view: Value = serde_json::from_str(&machine.must("zexio get hello -o json")).expect("the view is JSON");
    view["spec"].clone()
}

#[test]
fn a_directory_is_deployed_and_the_rest_of_the_spec_stays() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    let applied = machine.apply("hello", &web_spec("hello", "1.0.0", "./hello", "env: { TOKEN: hidden }"));
    assert_eq!(applied.status, 0, "{}", applied.stderr);
    let before = spec_of(&machine);

    let two = build(&machine, "2.0.0");
    let said = machine.sh(&format!("zexio deploy hello {two} --version 2.0.0 --wait=150s"));
    assert!(said.stdout.contains("hello  generation 2  ") && said.stdout.contains("hello  ready  "), "{}", said.stdout);
    assert_eq!((said.status, said.stderr.as_str()), (0, ""), "progress is for terminals");
    assert!(machine.get("hello.example.com", "/").1.contains("2.0.0 (release 2)"));
    let mut after = spec_of(&machine);
    assert_eq!(after["artifact"]["version"], "2.0.0");
    after["artifact"] = before["artifact"].clone();
    assert_eq!(after, before);
    assert!(machine.must(&format!("zexio deploy hello {two} --version 2.0.0")).ends_with("unchanged"));
    // The spec again, its artifact unchanged: the deployed one stays.
    let again = web_spec("hello", "1.0.0", "./hello", "env: { TOKEN: hidden }\nkeep: 4");
    assert_eq!(machine.apply("hello", &again).status, 0);
    assert!(machine.get("hello.example.com", "/").1.contains("2.0.0 (release 2)"));

    // From elsewhere: over TCP, with a key that may deploy this project alone, once the spec lets it.
    let three = build(&machine, "3.0.0");
    machine.must("zexio key add ci --scope deploy:hello && cp /etc/zexio/keys/ci /root/ci");
    let remote = format!("zexio --agent http://127.0.0.1:7470 --key /root/ci deploy hello {three} --wait=150s");
    let refused = machine.sh(&remote);
    assert!(refused.status == 1 && refused.stderr.contains("(409 updates_fixed)"), "{}", refused.stderr);
    let open = again.replace("version: \"1.0.0\"", "version: \"1.0.0\", updates: webhook");
    assert_eq!(machine.apply("hello", &open).status, 0);
    // `script` is a terminal to what it runs.
    let deployed = machine.sh(&format!("script -qec '{remote}' /dev/null </dev/null"));
    assert_eq!(deployed.status, 0, "{}{}", deployed.stdout, deployed.stderr);
    assert!(deployed.stdout.contains("\r\u{1b}[Khello  0s  "), "{}", deployed.stdout);
    assert!(machine.get("hello.example.com", "/").1.contains("3.0.0 (release "));

    // Too large is said before it is sent, whichever way.
    machine.must("sed -i 's/artifacts: {/artifacts: { max_bytes: 100000,/' /etc/zexio/agent.yaml && systemctl restart zexio-agent");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    for place in ["/run/zexio/agent.sock", "http://127.0.0.1:7470"] {
        let large = machine.sh(&format!("zexio --agent {place} deploy hello {three}"));
        assert!(large.stderr.contains("(413 too_large)") && large.stderr.contains("max_bytes"), "{}", large.stderr);
    }

    // A file's project is the file's, and nothing is sent for nothing.
    machine.drop_spec("owned", &web_spec("owned", "1.0.0", "./hello", ""));
    machine.wait_until("the file to be taken", || machine.status_has("owned", r#""owner":"file:owned.yaml""#));
    let artifacts = machine.must("ls /zexio/artifacts | wc -l");
    machine.must("echo other >/root/dist-3.0.0/VERSION");
    let refused = machine.sh(&format!("zexio deploy owned {three}"));
    assert!(refused.status == 1 && refused.stderr.contains("`updates: webhook`"), "{}", refused.stderr);
    assert_eq!(machine.must("ls /zexio/artifacts | wc -l"), artifacts);
    let unknown = machine.sh(&format!("zexio deploy nobody {three}"));
    assert!(unknown.stderr.contains("there is no project nobody; a spec"), "{}", unknown.stderr);
    machine.must("ln -s /etc/passwd /root/dist-3.0.0/link");
    let leads_out = machine.sh(&format!("zexio deploy hello {three}"));
    assert!(leads_out.stderr.contains("dist-3.0.0/link: it is a link to /etc/passwd"), "{}", leads_out.stderr);
}

/// Verbs that show something, in an order in which each has something to show.
const SHOWING: [&str; 35] = [
    "init",
    "sign GET http://127.0.0.1:7470/v1/projects",
    "validate /root/hello.yaml",
    "apply -f /root/hello.yaml",
    "apply -f /root/hello.yaml --dry-run",
    "plan hello",
    "plan -f /root/hello.yaml",
    "get",
    "get hello",
    "status",
    "status hello",
    "why hello",
    "logs hello -n 5",
    "logs --system -n 5",
    "events -n 5",
    "events hello -n 5",
    "history hello",
    "stats",
    "secret set hello TOKEN --file /root/hello.yaml",
    "secret list hello",
    "secret rm hello TOKEN",
    "service list",
    "key add second --scope read",
    "key list",
    "key rotate second",
    "key revoke second",
    "suspend hello",
    "resume hello",
    "sync",
    "sync --prune",
    "deploy hello /root/dist-2.0.0 --wait=150s",
    "rollback hello --wait=150s",
    "doctor",
    "version",
    "delete hello --wait=150s",
];

#[test]
fn what_every_verb_shows_is_json_and_yaml_for_programs_and_no_colour_goes_into_a_pipe() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    build(&machine, "2.0.0");
    let spec = web_spec("hello", "1.0.0", "./hello", "");
    for format in ["json", "yaml", "table"] {
        assert_eq!(machine.apply("hello", &spec).status, 0);
        for verb in SHOWING {
            let said = machine.sh(&format!("zexio {verb} -o {format}"));
            let plans = verb.starts_with("plan") && said.status == 2;
            assert!(said.status == 0 || plans, "{verb} -o {format}: {}{}", said.stdout, said.stderr);
            assert!(!said.stdout.contains('\u{1b}') && !said.stderr.contains('\u{1b}'), "{verb}");
            if verb.starts_with("logs hello") {
                continue; // an app may have said nothing
            }
            let values = match format {
                "json" => {
                    serde_json::Deserializer::from_str(&said.stdout).into_iter::<Value>().map(Result::ok).collect()
                }
                "yaml" => {
                    let parts = said.stdout.split("---\n").filter(|part| !part.trim().is_empty());
                    parts.map(|part| serde_saphyr::from_str::<Value>(part).ok()).collect::<Vec<_>>()
                }
                _ => vec![Some(Value::from(said.stdout.trim())).filter(|text| text != "")],
            };
            assert!(!values.is_empty() && values.iter().all(Option::is_some), "{verb} -o {format}: {}", said.stdout);
        }
    }
}

#[test]
fn the_doctor_names_what_is_wrong_and_what_mends_it() {
    let machine = Machine::with_agent();
    let well = machine.sh("zexio doctor");
    assert_eq!(well.status, 0, "{}{}", well.stdout, well.stderr);
    for part in
        ["ok      systemd", "ok      cgroups", "ok      agent", "it answers on /run/caddy/admin.sock", "all well"]
    {
        assert!(well.stdout.contains(part), "{part}: {}", well.stdout);
    }
    // The package's version tells what Caddy's own does not.
    let packaged = |version: &str| {
        machine.must(&format!(
            "printf '#!/bin/sh\nprintf %s {version}\n' >/root/query && chmod 755 /root/query
             umount -q /usr/bin/dpkg-query || true; mount --bind /root/query /usr/bin/dpkg-query"
        ));
        machine.sh("zexio doctor").stdout.lines().find(|line| line.contains("caddy       2.")).map(str::to_owned)
    };
    if machine.must("caddy version").starts_with("2.6.2") {
        let said = packaged("2.6.2-5").unwrap_or_default();
        assert!(said.starts_with("advice  caddy       2.6.2: it works, but lacks fixes"), "{said}");
        let said = packaged("2.6.2-12+deb13u1").unwrap_or_default();
        assert!(
            said.starts_with("ok      caddy       2.6.2, with the fixes of its package 2.6.2-12+deb13u1"),
            "{said}"
        );
    }
    machine.must("chmod 644 /etc/zexio/keys/admin");
    machine.must("systemctl mask --runtime caddy 2>&1; systemctl stop caddy; systemd-run --unit=squatter caddy file-server --listen :443");
    machine.wait_until("somebody else to listen", || machine.sh("zexio doctor").stdout.contains("listens on 443"));
    let ill = machine.sh("zexio doctor -o json");
    assert_eq!(ill.status, 1, "{}", ill.stdout);
    let said: Value = serde_json::from_str(&ill.stdout).expect("JSON");
    let mends: Vec<&str> = said["findings"].as_array().unwrap().iter().filter_map(|f| f["mend"].as_str()).collect();
    assert!(
        said["well"] == false && mends.iter().any(|mend| mend.contains("chmod 0600 /etc/zexio/keys/admin")),
        "{mends:?}"
    );
    machine.must("systemctl stop squatter zexio-agent && chmod 600 /etc/zexio/keys/admin");
    let stopped = machine.sh("zexio doctor");
    assert!(stopped.status == 1 && stopped.stdout.contains("systemctl status zexio-agent"), "{}", stopped.stdout);
}

#[test]
fn a_rotated_key_is_refused_where_the_old_one_is_used() {
    let machine = Machine::with_agent();
    machine.must("zexio key add ci --scope read && cp /etc/zexio/keys/ci /root/ci && zexio status --key /root/ci");
    let said = machine.must("zexio key rotate ci");
    assert!(said.starts_with("key ci (read); ") && said.contains("zxs_"), "{said}");
    let old = machine.sh("zexio status --key /root/ci");
    assert!(old.status == 1 && old.stderr.contains("(401 sig_bad)"), "{}", old.stderr);
    machine.must("zexio status --key /etc/zexio/keys/ci && zexio key rotate admin && zexio status");
    let written = machine.sh("zexio sync --key /etc/zexio/keys/ci hello");
    assert!(written.stderr.contains("(403 scope)"), "{}", written.stderr);
}

#[test]
fn what_is_waited_for_is_judged_by_a_pass_that_saw_what_was_mended() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    let spec = web_spec("web", "1.0.0", "./hello", "secrets: [TOKEN]");
    let said = machine.apply("web", &spec);
    assert!(said.status == 3 && said.stderr.contains("SecretMissing"), "{}: {}", said.status, said.stderr);
    let wrong = machine.must(
        "wrong=0
         for n in $(seq 20); do
           echo $n | zexio secret set web TOKEN >/dev/null
           zexio apply -f /root/web.yaml --wait=150s >/dev/null || wrong=$((wrong + 1))
           zexio secret rm web TOKEN >/dev/null
           code=0; zexio apply -f /root/web.yaml --wait=150s 2>/dev/null >/dev/null || code=$?
           test $code = 3 || wrong=$((wrong + 1))
         done
         echo $wrong",
    );
    assert_eq!(wrong, "0");
    machine.must("echo last | zexio secret set web TOKEN --wait=150s");
    assert!(machine.get("web.example.com", "/env/TOKEN").1.contains("last"));
    machine.must("zexio secret rm web TOKEN && zexio suspend web --reason night");
    assert_eq!(machine.sh("zexio sync web --wait=150s").status, 3, "it is suspended");
    let said = machine.sh("zexio resume web --wait=150s");
    assert!(said.status == 3 && said.stderr.contains("SecretMissing"), "{}: {}", said.status, said.stderr);
    machine.must("echo again | zexio secret set web TOKEN && zexio sync web --wait=150s");
    assert!(machine.get("web.example.com", "/env/TOKEN").1.contains("again"));
    // An artifact that comes later changes no generation either.
    machine.publish("2.0.0");
    let late = machine.must("sha256sum /srv/artifacts/hello-2.0.0.tar.gz | cut -d' ' -f1");
    let late = web_spec("late", "2.0.0", "./hello", "")
        .replace("url: \"http://127.0.0.1:9000/hello-2.0.0.tar.gz\"", &format!("file: {late}"));
    let said = machine.apply("late", &late);
    assert!(said.status == 3 && said.stderr.contains("ArtifactFailed"), "{}: {}", said.status, said.stderr);
    machine.must("zexio deploy late /srv/artifacts/hello-2.0.0.tar.gz --version 2.0.0 --wait=150s");
}
