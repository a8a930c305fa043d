//! One binary: the agent, its client, and the launcher of its apps.

use std::process::ExitCode;

use zexio::cli::{self, Entry, InitHooks};

fn main() -> ExitCode {
    cli::run(Entry {
        agent: zexio::agent::main,
        hand_over: zexio::launch::hand_over,
        launch: zexio::launch::main,
        wait_for_rest: zexio::launch::wait_for_rest,
        unpack: |arguments| zexio::unpack::main_from_stdin(&arguments),
        provision: zexio::agent::provision,
        init: InitHooks { make_unpacker: zexio::agent::make_unpacker, join_proxy: zexio::agent::join_proxy },
    })
}
