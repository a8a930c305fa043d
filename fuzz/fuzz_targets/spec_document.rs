//! Whatever a spec document holds is read or refused, with a place; what is read prints, reads back, and renders.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zexio::model::desired::Content;
use zexio::model::document;
use zexio::model::layout::Layout;
use zexio::model::names::{ReleaseNo, Slot, UnitId};
use zexio::model::spec::{Sealed, Spec};
use zexio::render::launch::{self, Launch};
use zexio::render::unit;

fuzz_target!(|text: &[u8]| {
    let _ = document::project_named_in(text);
    let document = match document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            assert!(!error.problems.is_empty() && !error.to_string().is_empty(), "a refusal says why");
            return;
        }
    };
    let Ok(spec) = document.try_map_env(|_, _| Ok::<_, ()>(Sealed { sealed: 1 })) else { return };
    let printed = serde_json::to_string(&spec).expect("a spec prints");
    assert_eq!(serde_json::from_str::<Spec>(&printed).expect("what was printed reads"), spec);
    render(&spec);
});

fn render(spec: &Spec) {
    let layout = Layout::parse("/zexio").expect("the root is one");
    let stored = spec.secrets.iter().map(|used| (used.name.clone(), 1)).collect();
    let Some(source) = spec.artifact.source().cloned() else { return };
    let content = Content::of(spec, source, &stored).expect("every secret is stored");
    for (process, work) in &content.processes {
        let (project, process) = (spec.project.clone(), process.clone());
        let unit = UnitId { project, process, release: ReleaseNo(1), instance: None };
        let text = unit::text(&unit, work, &content, Slot::A, Some(21000), &layout);
        assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "a unit file is plain:\n{text}");
        assert_eq!(unit::owner(&text), Some(unit.clone()));
        let launch = Launch::of(&unit, work, &content, Some(21000), &layout);
        if !launch.words.is_empty() {
            let blob = launch.blob(&Default::default());
            assert_eq!(launch::open(&blob).expect("a blob opens").words, launch.words);
        }
    }
}
