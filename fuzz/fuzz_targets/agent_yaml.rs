//! Whatever agent.yaml holds is read or refused, and what is read can be worked with.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zexio::model::quantity::Span;
use zexio::settings::Settings;

fuzz_target!(|text: &str| {
    match Settings::parse(text) {
        Ok(settings) => {
            assert!(settings.ports.from >= 1024 && settings.ports.to > settings.ports.from);
            assert!(settings.resync >= Span::seconds(1) && settings.root.root().is_absolute());
            let _ = (settings.specs(), settings.proxy(String::new(), false));
        }
        Err(cause) => assert!(!cause.is_empty(), "a refusal says why"),
    }
});
