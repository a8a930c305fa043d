//! Shows the server's figures, once or continuously; exports the agent's metrics.

use std::path::Path;

use serde_json::Value;

use super::Session;
use super::args::Format;
use super::client::Ask;
use super::failure::Failure;
use super::output::{say, yaml};
use super::show::{size, span};
use super::text::{Paint, table};
use crate::files;
use crate::model::stats::{Disk, SystemStats};

const STATS: &str = "/v1/system/stats";

/// Shows the current figures.
///
/// # Errors
/// The agent could not be reached, or refused.
pub fn once(session: &Session) -> Result<(), Failure> {
    session.show(&Ask::get(STATS), shown)
}

/// Shows the figures once a second: redrawn in place for people, one after the other for programs.
///
/// # Errors
/// The agent could not be reached, or refused.
pub fn watch(session: &Session) -> Result<(), Failure> {
    let format = session.format;
    let top = if Paint::of_stdout().0 { "\x1b[H\x1b[2J" } else { "\n" };
    let ask = Ask { accept: "text/event-stream", ..Ask::get(STATS) };
    session.client.lines(&ask, &mut |line| {
        let Some(event) = line.strip_prefix("data: ") else { return Ok(()) };
        let value = serde_json::from_str(event).map_err(|e| unreadable(&e))?;
        match format {
            Format::Table => say(&format!("{top}{}", shown(&value)?)),
            Format::Json => say(&format!("{event}\n")),
            Format::Yaml => say(&format!("---\n{}", yaml(&value))),
        }
    })
}

/// Prints the agent's metrics, or replaces a file with them atomically: a reader never sees half of it.
///
/// # Errors
/// The agent could not be reached or refused, or the file could not be written.
pub fn metrics(session: &Session, file: Option<&Path>) -> Result<(), Failure> {
    let text = session.client.text(&Ask::get("/metrics"))?;
    let Some(file) = file else { return say(&text) };
    files::replace(file, text.as_bytes(), 0o644)
        .map_err(|e| Failure::new(format!("could not write {}: {e}; its directory must exist", file.display())))
}

fn unreadable(cause: &serde_json::Error) -> Failure {
    Failure::new(format!("could not read the figures in the agent's answer: {cause}"))
}

fn shown(answer: &Value) -> Result<String, Failure> {
    serde_json::from_value(answer.clone()).map(|stats| text(&stats)).map_err(|e| unreadable(&e))
}

fn text(stats: &SystemStats) -> String {
    let SystemStats { cpu, memory, swap, load, uptime_seconds, agent, .. } = stats;
    let cores: Vec<String> = cpu.cores.iter().map(|percent| format!("{percent:.0} %")).collect();
    let facts = [
        ("cpu", format!("{:.1} % of {}: {}", cpu.percent, cpu.count, cores.join(", "))),
        ("load", format!("{:.2}  {:.2}  {:.2}", load.one, load.five, load.fifteen)),
        (
            "memory",
            format!(
                "{} of {} used, {} available",
                size(memory.used_bytes),
                size(memory.total_bytes),
                size(memory.available_bytes)
            ),
        ),
        ("swap", part(swap.used_bytes, swap.total_bytes)),
        ("uptime", span(*uptime_seconds)),
        (
            "agent",
            format!("{}, {:.1}s CPU in {}", size(agent.rss_bytes), agent.cpu_seconds, span(agent.uptime_seconds)),
        ),
    ];
    let facts: String = facts.iter().map(|(name, value)| format!("{name:<7} {value}\n")).collect();
    let rows: Vec<Vec<String>> = stats.disks.iter().map(disk).collect();
    let disks = if rows.is_empty() { String::new() } else { "\n".to_owned() + &table(&DISKS, &rows) };
    facts + &disks
}

const DISKS: [&str; 6] = ["MOUNT", "KIND", "SIZE", "FREE", "FULL", "INODES FREE"];

fn disk(disk: &Disk) -> Vec<String> {
    let percent = |left: u64, of: u64| 100 - left.saturating_mul(100).checked_div(of).unwrap_or(100).min(100);
    let inodes = disk.inodes_free.map_or("-".to_owned(), |free| free.to_string());
    let full = format!("{} %", percent(disk.free_bytes, disk.total_bytes));
    vec![disk.mount.clone(), disk.kind.clone(), size(disk.total_bytes), size(disk.free_bytes), full, inodes]
}

fn part(used: u64, total: u64) -> String {
    if total == 0 { "none".to_owned() } else { format!("{} of {} used", size(used), size(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_read_at_a_glance() {
        let stats = serde_json::json!({
            "at": "2026-12-01T08:00:00Z", "cpu": { "count": 2, "percent": 12.5, "cores": [20.0, 5.0] },
            "memory": { "total_bytes": 4_294_967_296_u64, "used_bytes": 1_073_741_824, "available_bytes": 3_221_225_472_u64 },
            "swap": { "total_bytes": 0, "used_bytes": 0 }, "load": { "one": 0.5, "five": 0.25, "fifteen": 0.125 },
            "disks": [
                { "mount": "/", "kind": "ext4", "total_bytes": 1_073_741_824, "free_bytes": 268_435_456, "inodes": 65536, "inodes_free": 60000 },
                { "mount": "/evil\u{1b}[2J", "kind": "btrfs", "total_bytes": 1024, "free_bytes": 0, "inodes": null, "inodes_free": null }],
            "uptime_seconds": 93_600, "agent": { "rss_bytes": 19_293_798, "cpu_seconds": 1.25, "uptime_seconds": 61 }});
        assert_eq!(
            shown(&stats).unwrap(),
            "\
cpu     12.5 % of 2: 20 %, 5 %
load    0.50  0.25  0.12
memory  1.0G of 4.0G used, 3.0G available
swap    none
uptime  1d2h
agent   18.4M, 1.2s CPU in 1m1s

MOUNT           KIND   SIZE  FREE    FULL   INODES FREE
/               ext4   1.0G  256.0M  75 %   60000
/evil\\u{1b}[2J  btrfs  1.0K  0B      100 %  -
"
        );
        assert!(shown(&serde_json::json!({})).is_err());
    }
}
