//! Claims about the loop, on a machine of plain maps: no time passes, nothing runs, everything can go wrong.

mod chance;
mod contract;
mod crashes;
mod damaged;
mod kinds;
mod metrics;
mod queue;
mod rollouts;
mod services;
mod suspended;
mod swarm;
mod world;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
