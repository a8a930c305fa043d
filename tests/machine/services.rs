//! Host services, with the distribution's own packages: from a directory, since the machine has no way out.

use crate::machine::Machine;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/service-packages.sh");

/// A machine whose only package source is the directory, and on which nothing of the services is installed.
fn with_packages() -> Machine {
    let machine = Machine::start();
    machine.take_packages_from_a_directory();
    machine.install_agent();
    machine
}

impl Machine {
    /// Makes the directory its only package source, and removes what is there of the services.
    pub fn take_packages_from_a_directory(&self) {
        let packages = crate::machine::profile_dir().parent().expect("target/<profile>").join("packages");
        let fetched = std::process::Command::new(SCRIPT).arg(&packages).status().expect("the script starts");
        assert!(fetched.success(), "the packages could be fetched");
        self.must(
            "dpkg-query -W -f '${Package}\\n' 'nodejs*' 'postgresql*' 'redis*' 2>/dev/null | xargs -r dpkg --purge --force-all >/dev/null 2>&1 || true
             rm -rf /var/lib/redis /var/lib/postgresql /etc/postgresql /etc/redis /etc/apt/sources.list.d /var/lib/apt/lists
             mkdir -p /etc/apt/sources.list.d
             echo 'deb [trusted=yes] file:/built/packages ./' >/etc/apt/sources.list
             systemctl daemon-reload",
        );
    }

    /// Returns one field of a service, as programs read it.
    fn service(&self, name: &str, field: &str) -> String {
        let shown = self.must("zexio service list -o json");
        let all: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        let found = all["services"].as_array().and_then(|all| all.iter().find(|one| one["service"] == name));
        let field = &found.expect("the service is listed")[field];
        field.as_str().map_or_else(|| field.to_string(), str::to_owned)
    }

    fn is_service(&self, name: &str, state: &str, reason: &str) -> bool {
        (self.service(name, "state"), self.service(name, "reason")) == (state.to_owned(), reason.to_owned())
    }
}

#[test]
fn services_come_from_a_document_are_healed_and_go_with_or_without_their_data() {
    let machine = with_packages();
    assert!(machine.is_service("redis", "absent", "NotInstalled"));
    machine.must("zexio validate /src/specs/host.yaml");
    let said = machine.must("zexio apply -f /src/specs/host.yaml --wait=170s");
    assert!(said.contains("redis  ready  Running: redis 7."), "{said}");
    assert_eq!(format!("v{}", machine.service("nodejs", "installed")), machine.must("node --version"));
    assert!(machine.must("redis-server --version").contains(&format!("v={} ", machine.service("redis", "installed"))));
    assert_eq!(
        machine.must("redis-cli set kept yes && redis-cli save && systemctl is-enabled redis-server"),
        "OK\nOK\nenabled"
    );
    assert!(machine.must("journalctl -u zexio-host@redis.service -o cat").contains("Setting up redis-server"));

    machine.must("systemctl stop redis-server && systemctl disable redis-server");
    machine.wait_until("redis to be back", || machine.sh("redis-cli ping").stdout.trim() == "PONG");
    machine.wait_until("redis to start at boot", || machine.sh("systemctl is-enabled redis-server").status == 0);

    let other = machine.sh("zexio service install nodejs --version 99 --wait=170s");
    assert_eq!(other.status, 3, "{}{}", other.stdout, other.stderr);
    assert!(other.stderr.contains("VersionUnavailable") && other.stderr.contains("on offer: 18"), "{}", other.stderr);
    let wrong = machine.sh("zexio service install redis --version 7.0");
    assert!(wrong.status == 1 && wrong.stderr.contains("422"), "{}", wrong.stderr);
    let other = machine.sh("zexio service install redis --version 99 --wait=170s");
    assert!(other.status == 3 && other.stderr.contains("on offer: 7"), "{}{}", other.stdout, other.stderr);
    machine.must("zexio service install redis --version 7 --wait=170s && redis-cli ping");
    machine.must("zexio service install nodejs --version 18 --wait");

    machine.must("zexio service remove redis --wait=170s && test ! -e /usr/bin/redis-server");
    machine.must("test -s /var/lib/redis/dump.rdb");
    // `script` is a terminal to what it runs.
    let followed = machine.sh("script -qec 'zexio service install redis --wait=170s' /dev/null </dev/null");
    assert_eq!(followed.status, 0, "{}{}", followed.stdout, followed.stderr);
    let progress = "  Installing: installing redis default: ";
    assert!(followed.stdout.contains(progress), "it can be followed: {}", followed.stdout);
    let events = machine.must("zexio events -n 500");
    for told in ["redis: installing redis default: ", "redis: redis 7.", "nodejs 99; on offer: 18"] {
        assert!(events.contains(told), "{told}: {events}");
    }
    let doctor = machine.must("zexio doctor");
    assert!(doctor.contains("ok      services    redis: redis 7."), "{doctor}");
    assert_eq!(machine.must("redis-cli get kept"), "yes", "the data was kept");
    machine.must(
        "zexio service remove redis --purge --wait=170s && test -z \"$(ls -A /var/lib/redis)\" && test ! -e /usr/bin/redis-server",
    );
    machine.must("zexio service remove nodejs --wait=170s && test ! -e /usr/bin/node");
    assert!(machine.is_service("nodejs", "absent", "NotInstalled"));
    assert_eq!(machine.sh("zexio service remove nodejs").status, 1, "nobody asked for it");
}

#[test]
fn an_installation_survives_the_agent_and_an_interrupted_one_is_finished() {
    let machine = with_packages();
    let active = || machine.must("systemctl show -P ActiveState zexio-host@redis.service");
    machine.must("systemctl stop zexio-agent && mkdir -p /etc/systemd/system/zexio-agent.service.d");
    // It stays dead until it is started: what goes on meanwhile, goes on without it.
    machine.must("printf '[Service]\\nRestart=no\\n' >/etc/systemd/system/zexio-agent.service.d/dead.conf");
    // The work cannot end while somebody else has dpkg's lock.
    machine.must("systemctl daemon-reload && systemctl start zexio-agent");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    machine.must(
        "python3 - <<'END' >/dev/null 2>&1 &
import fcntl, time
held = open('/var/lib/dpkg/lock-frontend', 'w')
fcntl.lockf(held, fcntl.LOCK_EX)
open('/run/locked', 'w')
while not __import__('os').path.exists('/run/unlock'): time.sleep(0.1)
END
disown",
    );
    machine.wait_until("the lock to be held", || machine.sh("test -e /run/locked").status == 0);
    machine.must("zexio service install redis");
    machine.wait_until("the work to wait for the lock", || {
        machine.sh("journalctl -u zexio-host@redis.service -o cat | grep -q 'installing redis'").status == 0
    });
    machine.must("systemctl kill -s KILL zexio-agent");
    machine.wait_until("the agent to be dead", || machine.sh("systemctl is-failed zexio-agent").status == 0);
    assert_eq!(active(), "activating", "the work goes on");
    machine.must("touch /run/unlock");
    machine.wait_until("the work to be done", || active() == "inactive");
    machine.must("redis-server --version && systemctl reset-failed zexio-agent && systemctl start zexio-agent");
    machine.wait_until("redis to run", || machine.healthy() && machine.is_service("redis", "running", "Running"));
    let told = machine.must("journalctl -u zexio-host@redis.service -o cat | grep -c '^looking for redis'");
    assert_eq!(told, "1", "it was done once");
    machine.must("zexio service remove redis --purge --wait=170s");

    // dpkg was killed between unpacking and configuring.
    machine.must("apt-get install -y --no-install-recommends redis-tools >/dev/null && dpkg --unpack /built/packages/redis-server_*.deb");
    machine.must("zexio service install redis --wait=170s");
    assert_eq!(machine.must("dpkg-query -W -f '${db:Status-Status}' redis-server && redis-cli ping"), "installedPONG");

    // The work itself is killed at some moment of it.
    machine.must("zexio service install postgresql");
    machine.wait_until("dpkg to be at work", || machine.sh("pgrep -x dpkg").status == 0);
    machine.must("systemctl kill -s KILL zexio-host@postgresql.service");
    machine.wait_until("postgresql to run all the same", || machine.is_service("postgresql", "running", "Running"));
    assert_eq!(machine.must("cd / && runuser -u postgres -- psql -Atc 'select 1'"), "1");
}

#[test]
fn a_failure_is_told_with_its_evidence_and_tried_again() {
    let machine = with_packages();
    machine.must("mv /etc/apt/sources.list /root/ && echo 'deb [trusted=yes] file:/nowhere ./' >/etc/apt/sources.list");
    let said = machine.sh("zexio service install redis --wait=20s");
    assert!(said.status == 3 && said.stderr.contains("not done after 20s; PackagesFailed"), "{}", said.stderr);
    assert!(said.stderr.contains("next try at"), "{}", said.stderr);
    assert!(machine.service("redis", "message").contains("next try at"), "{}", machine.service("redis", "message"));
    assert!(machine.service("redis", "evidence").contains("/nowhere"), "{}", machine.service("redis", "evidence"));
    machine.must("mv /root/sources.list /etc/apt/sources.list");
    machine.wait_until("redis to run", || machine.is_service("redis", "running", "Running"));
    assert_eq!(machine.service("redis", "evidence"), "[]");
}

#[test]
fn a_rollout_waits_for_the_services_it_needs() {
    let machine = with_packages();
    machine.publish("1.0.0");
    let said = machine.sh("zexio apply -f /src/specs/needs.yaml --wait=150s");
    assert_eq!(said.status, 3, "{}{}", said.stdout, said.stderr);
    assert!(
        said.stderr.contains("DependencyMissing") && said.stderr.contains("zexio service install redis"),
        "{}",
        said.stderr
    );
    machine.must("zexio service install redis");
    machine.wait_for_answer("needs.example.com", "/", "hello from");
    machine.must("zexio service remove redis --wait=170s");
    assert!(machine.get("needs.example.com", "/").1.contains("hello from"), "what serves goes on");
    machine.must("zexio sync needs");
    assert!(machine.status_has("needs", r#""reason":"Serving""#));
}

#[test]
fn a_host_file_brings_its_services_and_takes_only_those_along() {
    let machine = with_packages();
    machine.must("apt-get update -q && apt-get install -y --no-install-recommends redis-server >/dev/null");
    machine.must("zexio sync; systemctl restart zexio-agent");
    machine.wait_until("redis to be seen", || machine.healthy() && machine.is_service("redis", "running", "Unmanaged"));
    let file = "zexio: 1\nkind: host\nservices: { redis: {}, postgresql: { version: \"15\" } }\n";
    machine.drop_spec("host", file);
    machine.wait_until("postgresql to run", || machine.is_service("postgresql", "running", "Running"));
    machine.wait_until("redis to be zexio's", || machine.is_service("redis", "running", "Running"));
    assert!(machine.service("postgresql", "installed").starts_with("15."));
    let refused = machine.sh("zexio service remove postgresql");
    assert!(refused.status == 1 && refused.stderr.contains("belongs to file:host.yaml"), "{}", refused.stderr);
    machine.drop_spec("zz", file);
    machine.wait_until("the second file to be told", || {
        machine.must("zexio get").contains("the services of this host belong to file:host.yaml")
    });
    machine.must("rm /zexio/specs/zz.yaml");
    machine.must("cd / && runuser -u postgres -- psql -qc 'create table kept (x int)'");
    machine.must("rm /zexio/specs/host.yaml");
    machine.wait_until("postgresql to be gone", || machine.is_service("postgresql", "absent", "NotInstalled"));
    machine.wait_until("redis to be left alone", || machine.is_service("redis", "running", "Unmanaged"));
    machine.must("redis-cli ping && test -d /var/lib/postgresql/15/main");
    machine.must("zexio service install postgresql --version 15 --wait=170s");
    machine.must("cd / && runuser -u postgres -- psql -qc 'select * from kept'");
    machine.must("zexio service remove postgresql --purge --wait=170s && test -z \"$(ls -A /var/lib/postgresql/15 2>/dev/null)\"");
}
