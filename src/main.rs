//! One binary: the agent, its client, and the launcher of its apps.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("agent") => zexio::agent::main(),
        Some("launch") => zexio::launch::main(),
        Some("unpack") => zexio::unpack::main_from_stdin(&args[1..]),
        Some("take-over") => {
            println!("{:?}", zexio::agent::take_over_proxy(&zexio::settings::Settings::default()));
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}
