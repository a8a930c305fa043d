//! The crate that mutants are made in: what decides and the loop that asks it, without the inputs and the machine. What
//! stands in for the API and the command line is all that golden plans need of them.

#![allow(warnings)]

pub mod event_log;
pub mod heartbeat;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod port;
pub mod reconcile;
pub mod render;
pub mod settings;
pub mod spec_dir;
pub mod trigger;

/// Returns which mutant is to be lived with; 0: none.
pub fn mutant() -> u32 {
    static CHOSEN: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(0))
}

pub mod api {
    pub mod plan {
        use crate::plan::Step;

        #[derive(serde::Serialize)]
        pub struct Shown(String);

        impl From<&Step> for Shown {
            fn from(Step { action, reason }: &Step) -> Self {
                let whose = action.project().map_or("all", |project| project.as_str());
                Self(format!("{} {whose}: {action}  ({reason})\n", action.facts().sign))
            }
        }
    }
}

pub mod cli {
    pub fn plan_text(steps: &[serde_json::Value]) -> String {
        match steps {
            [] => "nothing to do\n".to_owned(),
            steps => steps.iter().filter_map(|step| step.as_str()).collect(),
        }
    }
}
