//! Artifacts of every kind and of every bad kind, fetched and sent.

use crate::machine::{Machine, web_spec};

/// A spec of a project that runs whatever the artifact is, named by its file.
fn spec(project: &str, file: &str, run: &str) -> String {
    web_spec(project, "1.0.0", run, "").replace("hello-1.0.0.tar.gz", file)
}

#[test]
fn every_kind_of_artifact_is_told_by_its_content() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.must(
        "cd /srv/artifacts && mkdir tmp && tar -C tmp -xzf hello-1.0.0.tar.gz && cp tmp/hello-1.0.0/hello bare
         tar -C tmp -cf plain hello-1.0.0 && xz -k -0 -c plain >xz && gzip -k -1 -c plain >gz
         zstd --version >/dev/null && zstd -q -c plain >zst",
    );
    for (project, run) in
        [("plain", "./hello"), ("gz", "./hello"), ("xz", "./hello"), ("zst", "./hello"), ("bare", "./app")]
    {
        machine.drop_spec(project, &spec(project, project, run));
    }
    for project in ["plain", "gz", "xz", "zst", "bare"] {
        machine.wait_for_answer(&format!("{project}.example.com"), "/", &format!("hello from {project}"));
    }
}

#[test]
fn a_file_of_the_operators_is_gone_back_to_and_its_variables_changed_after_that() {
    let machine = Machine::with_agent();
    let apply = |file: &str, env: &str| {
        machine.write_file(&format!("/zexio/artifacts/{file}"), &format!("#!/bin/sh\nexec sleep infinity # {file}\n"));
        let spec = format!(
            "zexio: 1\nproject: own\nartifact: {{ file: {file} }}\nenv: {{ {env} }}\nprocesses: {{ main: {{ run: ./app }} }}\n"
        );
        let said = machine.apply("own", &spec);
        assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    };
    apply("one", "");
    apply("two", "");
    machine.must("zexio rollback own --wait && rm /zexio/artifacts/one");
    apply("two", "ANOTHER: variable");
    assert_eq!(machine.must("cat /zexio/apps/own/bundle/app"), "#!/bin/sh\nexec sleep infinity # one");
    assert_eq!(machine.must("readlink /zexio/apps/own/bundle"), "releases/3");
}

#[test]
fn a_variable_is_changed_when_nothing_is_behind_the_url_any_more() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    let spec = |env: &str| web_spec("shop", "1.0.0", "./hello", env);
    assert_eq!(machine.apply("shop", &spec("")).status, 0);
    machine.must("rm /srv/artifacts/*");
    let said = machine.apply("shop", &spec("env: { ANOTHER: variable }"));
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    machine.wait_for_answer("shop.example.com", "/", "(release 2)");
}

#[test]
fn a_hostile_artifact_is_refused_by_name_and_leaves_nothing() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.must(
        "cd /srv/artifacts && mkdir tmp && cd tmp && echo evil >f && mkdir pkg && ln -s /etc/shadow pkg/link
         mkfifo pkg/fifo && head -c 300M /dev/zero >zeros
         tar -czPf ../dotdot --transform 's,^f$,pkg/../../evil,' f && tar -czPf ../absolute --transform 's,^f$,/etc/evil,' f
         tar -czf ../link pkg/link && tar -czf ../fifo pkg/fifo && tar -czf ../bomb zeros && rm zeros
         head -c 100000 ../hello-1.0.0.tar.gz >../truncated && echo '<html>no' >../page && : >../nothing",
    );
    let bad = [
        ("dotdot", "holds .."),
        ("absolute", "absolute"),
        ("link", "/etc/shadow"),
        ("fifo", "neither file, directory nor link"),
        ("bomb", "archive too large"),
        ("truncated", "incomplete"),
        ("page", "web page"),
        ("nothing", "empty"),
        ("missing", "answered 404"),
    ];
    for (project, _) in bad {
        machine.write_file("/root/spec.yaml", &spec(project, project, "./hello"));
        machine.must("zexio apply -f /root/spec.yaml");
    }
    for (project, said) in bad {
        machine.wait_until(&format!("{project} to be refused"), || machine.status_has(project, "ArtifactFailed"));
        let status = machine.must(&format!("zexio get {project} -o json"));
        assert!(status.contains(said), "{project}: {status}");
    }
    machine.wait_until("staging to be empty", || machine.must("ls -A /zexio/staging").is_empty());
    assert_ne!(machine.sh("test -e /evil || test -e /etc/evil || test -e /zexio/evil").status, 0);
    machine.must("systemctl show -P NRestarts zexio-agent.service | grep -x 0");
}

#[test]
fn a_wrong_hash_is_named_and_an_uploaded_artifact_needs_no_network() {
    let machine = Machine::with_agent();
    let sha256 = machine.publish("1.0.0");
    let wrong = web_spec("wrong", "1.0.0", "./hello", "")
        .replace("version: \"1.0.0\" }", &format!("sha256: \"{}\" }}", "0".repeat(64)));
    assert_eq!(machine.apply("wrong", &wrong).status, 3);
    assert!(machine.status_has("wrong", "HashMismatch") && machine.status_has("wrong", &sha256));

    let upload = |signed: &str| {
        machine.must(&format!(
            "cd /srv/artifacts; signature=$(zexio sign POST http://localhost/v1/artifacts --body {signed})
             curl -sS --unix-socket /run/zexio/agent.sock -H \"X-Signature: $signature\" -H 'Content-Type:' \
               --data-binary @hello-1.0.0.tar.gz http://localhost/v1/artifacts"
        ))
    };
    machine.must("echo other >/srv/artifacts/other");
    assert!(upload("other").contains("sig_bad"), "what was not signed is not kept");
    machine.wait_until("nothing to be left of it", || machine.must("ls -A /zexio/staging").is_empty());
    assert!(upload("hello-1.0.0.tar.gz").contains(&sha256));
    machine.must("systemctl stop artifacts && rm -r /srv/artifacts");
    let sent = web_spec("sent", "1.0.0", "./hello", "");
    let source = sent.lines().find(|line| line.starts_with("artifact:")).expect("an artifact");
    let said = machine.apply("sent", &sent.replace(source, &format!("artifact: {{ file: {sha256} }}")));
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    machine.wait_for_answer("sent.example.com", "/", "hello from sent");
}
