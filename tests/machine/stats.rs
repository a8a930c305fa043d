//! What the server and its apps use, as the machine itself says.

use serde_json::Value;

use crate::machine::{Machine, web_spec};

fn json(machine: &Machine, command: &str) -> Value {
    serde_json::from_str(&machine.must(command)).expect("JSON")
}

fn number(machine: &Machine, command: &str) -> u64 {
    machine.must(command).parse().expect("a number")
}

/// Tells whether the agent's thread that looks at the server is there.
fn looks(machine: &Machine) -> bool {
    let pid = machine.main_pid("zexio-agent");
    machine.sh(&format!("grep -qx stats /proc/{pid}/task/*/comm")).status == 0
}

#[test]
fn the_servers_figures_are_the_kernels_and_cost_nothing_when_nobody_asks() {
    let machine = Machine::with_agent();
    assert!(!looks(&machine));
    let stats = json(&machine, "zexio stats -o json");
    assert_eq!(stats["cpu"]["count"].as_u64(), Some(number(&machine, "grep -c ^processor /proc/cpuinfo")));
    let total = 1024 * number(&machine, "awk '/^MemTotal/ { print $2 }' /proc/meminfo");
    assert_eq!(stats["memory"]["total_bytes"].as_u64(), Some(total));
    let root = stats["disks"].as_array().and_then(|disks| disks.iter().find(|disk| disk["mount"] == "/"));
    let size = number(&machine, "df --output=size -B1 / | tail -n 1");
    assert_eq!(root.and_then(|root| root["total_bytes"].as_u64()), Some(size));
    let pid = machine.main_pid("zexio-agent");
    let rss = 1024 * number(&machine, &format!("awk '/^VmRSS/ {{ print $2 }}' /proc/{pid}/status"));
    let said = stats["agent"]["rss_bytes"].as_u64().unwrap_or_default();
    assert!(said.abs_diff(rss) < rss / 2, "{said} is not about {rss}");
    assert!(machine.must("zexio stats").contains("MOUNT"));

    let events = machine.sh("timeout 5 zexio stats --watch -o json").stdout;
    assert!(events.lines().count() >= 3, "{events}");
    let at =
        |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["at"].as_str().unwrap_or_default().to_owned();
    let times: Vec<String> = events.lines().map(at).collect();
    assert!(times.is_sorted() && times.first() != times.last(), "{times:?}");
    machine.wait_until("the look to end with its last reader", || !looks(&machine));
}

#[test]
fn what_an_app_uses_and_what_the_agent_did_is_counted() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    assert_eq!(machine.apply("hello", &web_spec("hello", "1.0.0", "./hello", "")).status, 0);
    let unit = "zexio-hello-web-r1.service";
    for accounting in ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"] {
        assert_eq!(machine.must(&format!("systemctl show -P {accounting} {unit}")), "yes", "{accounting}");
    }
    let process = json(&machine, "zexio get hello -o json")["status"]["processes"][0].clone();
    for name in ["memory_bytes", "tasks", "cpu_seconds"] {
        assert!(process[name].is_number(), "{name}: {process}");
    }
    for (name, property) in [("io_read_bytes", "IOReadBytes"), ("io_write_bytes", "IOWriteBytes")] {
        // What this machine's kernel does not account is unknown, never a number.
        let known =
            machine.must(&format!("systemctl show -P {property} {unit}")).parse::<u64>().is_ok_and(|n| n < u64::MAX);
        assert_eq!(process[name].is_number(), known, "{name}: {process}");
    }
    assert_eq!(process["restarts"], 0);

    machine.must("mkdir /root/textfile && zexio stats --prometheus=/root/textfile/zexio.prom");
    let metrics = machine.must("cat /root/textfile/zexio.prom");
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|raw| raw.parse::<f64>().ok()).unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
    };
    for (name, exactly) in [
        ("zexio_projects", 1.0),
        (r#"zexio_projects_condition{condition="Ready",reason="Serving"}"#, 1.0),
        (r#"zexio_rollouts_total{outcome="serving"}"#, 1.0),
        (r#"zexio_rollout_seconds_count{phase="whole"}"#, 1.0),
        (r#"zexio_rollout_seconds_count{phase="fetch"}"#, 1.0),
        (r#"zexio_rollout_seconds_count{phase="trial"}"#, 1.0),
        (r#"zexio_steps_total{kind="start",outcome="done"}"#, 1.0),
        (r#"zexio_http_requests_total{method="PUT",route="/v1/projects/{project}",code="201"}"#, 1.0),
        ("zexio_queue_length", 0.0),
    ] {
        assert_eq!(value(name), exactly, "{name}");
    }
    // The trial lasts at least as long as the release has to stay healthy.
    assert!(value(r#"zexio_rollout_seconds_sum{phase="trial"}"#) >= 0.5, "{metrics}");
    for some in ["zexio_pass_seconds_count", "zexio_database_write_seconds_count", "zexio_database_bytes"] {
        assert!(value(some) > 0.0, "{some}");
    }
    let declared = |name: &str| metrics.contains(&format!("# TYPE {name} "));
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).filter(|name| declared(name));
        assert!(declared(name) || family.is_some(), "{line}");
    }
    let refused = machine.sh("zexio stats --prometheus=/nowhere/zexio.prom");
    assert!(
        refused.status == 1 && refused.stderr.contains("could not write /nowhere/zexio.prom"),
        "{}",
        refused.stderr
    );
}
