//! What a look at systemd makes of units that change while they are looked at.

use std::env;

use zexio::host::systemd::Systemd;
use zexio::model::observed::Exit;
use zexio::port::Units;

use crate::machine::{Machine, profile_dir};

const LOOKS: u32 = 2_000;

/// Falls with status 3, again and again.
const FALLS: &str = "[Unit]\nDescription=zexio app falls, process web, release 1\nStartLimitIntervalSec=0\n\
    [Service]\nExecStart=/bin/sh -c 'exit 3'\nRestart=always\nRestartSec=2ms\n";

#[test]
fn a_process_that_ends_while_it_is_looked_at_is_not_seen_half_before_and_half_after() {
    let machine = Machine::start();
    machine.write_file("/etc/systemd/system/zexio-falls-web-r1.service", FALLS);
    machine.must("systemctl daemon-reload && systemctl start zexio-falls-web-r1");
    let this = env::current_exe().expect("a path");
    let there = this.strip_prefix(profile_dir().parent().expect("a directory")).expect("a path in it");
    machine.must(&format!("/built/{} --ignored --exact looks::from_within", there.display()));
}

#[test]
#[ignore = "the test above runs it, in its machine"]
fn from_within() {
    let systemd = Systemd::default();
    let mut falls = 0;
    for _ in 0..LOOKS {
        for unit in systemd.observe().expect("a look").values().flat_map(|units| units.values()) {
            assert!(unit.exit.is_none_or(|exit| exit == Exit::Status(3)), "{unit:?}");
            falls += u32::from(unit.exit.is_some());
        }
    }
    assert!(falls > LOOKS / 10, "{falls}");
}
