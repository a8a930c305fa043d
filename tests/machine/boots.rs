//! The machine itself: what every other test stands on.

use crate::machine::{Machine, leftovers};

#[test]
fn systemd_journald_and_caddy_run_as_on_a_server() {
    let machine = Machine::start();
    assert_eq!(machine.must("systemctl is-system-running"), "running");
    assert_eq!(machine.must("cat /proc/1/comm"), "systemd");
    machine.must("systemctl start caddy");
    assert!(machine.must("curl -sI http://127.0.0.1/").starts_with("HTTP/1.1 200"));
    assert_ne!(machine.must("journalctl -u caddy -o cat"), "");
}

#[test]
fn a_command_inside_keeps_its_streams_and_status() {
    let machine = Machine::start();
    let said = machine.sh("echo out; echo err >&2; exit 7");
    assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (7, "out\n", "err\n"));
    machine.write_file("/root/note", "came in by stdin");
    assert_eq!(machine.must("cat /root/note"), "came in by stdin");
}

#[test]
fn a_reboot_and_a_crash_keep_the_disk_and_end_every_process() {
    let machine = Machine::start();
    for (mishap, happens) in [("reboot", Machine::reboot as fn(&Machine)), ("crash", Machine::crash)] {
        machine.must("echo kept >/root/disk; touch /run/lost; systemd-run --unit=sleeper sleep 1000");
        happens(&machine);
        assert_eq!(machine.must("cat /root/disk"), "kept", "after a {mishap}");
        assert_ne!(machine.sh("test -e /run/lost").status, 0, "after a {mishap}");
        assert_ne!(machine.sh("systemctl is-active sleeper").status, 0, "after a {mishap}");
    }
}

#[test]
fn two_machines_do_not_see_each_other() {
    let (one, other) = (Machine::start(), Machine::start());
    for machine in [&one, &other] {
        machine.must("systemctl start caddy && curl -sf http://127.0.0.1/");
    }
    one.must("touch /root/mine; systemctl stop caddy");
    assert_ne!(other.sh("test -e /root/mine").status, 0);
    other.must("curl -sf http://127.0.0.1/");
}

#[test]
fn limits_of_a_unit_are_enforced() {
    let machine = Machine::start();
    machine.must("systemd-run --wait -q sh -c '/bin/true; exit 0'");
    machine.must("! systemd-run --wait -q -p TasksMax=1 sh -c '/bin/true; exit 0'"); // it may not fork
    machine.must("! systemd-run --wait -q -p MemoryMax=20M -p MemorySwapMax=0 tail /dev/zero"); // it keeps all it reads
}

#[test]
fn a_disk_can_be_made_small_enough_to_fill() {
    let machine = Machine::start_with(&["--tmpfs=/zexio:size=4M,mode=755"]);
    assert_ne!(machine.sh("head -c 5M /dev/zero >/zexio/large").status, 0);
    machine.must("rm /zexio/large && head -c 1M /dev/zero >/zexio/small");
}

#[test]
fn nothing_is_left_behind_after_stop() {
    let machine = Machine::start();
    machine.must("systemd-run --unit=stubborn bash -c 'trap \"\" TERM; sleep 1000'");
    assert_ne!(leftovers(&machine.name), Vec::<String>::new(), "what runs is found");
    assert_eq!(machine.stop().status, 0);
    assert_eq!(leftovers(&machine.name), Vec::<String>::new());
}
