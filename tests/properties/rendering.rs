//! Any spec that parses prints, reads back as itself, and renders texts that hold nothing of the user's but what they
//! are meant to.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use zexio::model::layout::Layout;
use zexio::model::names::Slot;
use zexio::model::spec::Spec;
use zexio::plan::routes;
use zexio::render::caddyfile;
use zexio::render::launch::{self, Launch};
use zexio::render::unit;

use crate::specs::{Deployed, document, proxy, read, sealed};

fn layout() -> Layout {
    Layout::parse("/zexio").expect("a root")
}

/// Writes JSON as programs do that escape everything beyond ASCII.
fn in_ascii(value: &Value) -> String {
    let escape = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
    value.to_string().chars().map(|c| if (' '..='~').contains(&c) { c.to_string() } else { escape(c) }).collect()
}

/// Writes JSON as programs do that indent with tabs.
fn indented(value: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)).expect("it prints");
    String::from_utf8(text).expect("UTF-8")
}

/// Returns the spec with every text that only its app or its reader is to see replaced.
fn without_texts(document: &Value) -> Value {
    let mut plain = document.clone();
    plain["env"] = json!({});
    plain["suspend"] = json!(false);
    plain["artifact"] = json!({ "url": "https://dl.example.com/x", "updates": document["artifact"]["updates"] });
    let replace = |process: &mut Value| {
        if process.get("run").is_some() {
            process["run"] = json!(["./x"]);
        }
        for route in process.get_mut("routes").and_then(Value::as_array_mut).into_iter().flatten() {
            route.as_object_mut().expect("a mapping").remove("headers");
        }
    };
    plain["processes"].as_object_mut().expect("a mapping").values_mut().for_each(replace);
    plain.get_mut("release").into_iter().for_each(replace);
    plain
}

fn unit_texts(deployed: &Deployed) -> Vec<String> {
    let text =
        |(unit, work)| unit::text(&unit, work, deployed.content(), Slot::A, deployed.memory.port_of(&unit), &layout());
    deployed.units().into_iter().map(text).collect()
}

proptest! {
    #[test]
    fn a_spec_reads_the_same_from_json_ascii_yaml_and_its_own_print(document in document()) {
        let spec = read(&document.to_string());
        let yaml = serde_saphyr::to_string(&document).expect("it prints");
        for other in [in_ascii(&document), indented(&document), yaml] {
            prop_assert!(read(&other) == spec, "read otherwise:\n{}\n{}", other, document);
        }
        let env: serde_json::Map<_, _> = spec.env.iter().map(|(name, value)| (name.to_string(), json!(value.clear()))).collect();
        let stored = sealed(spec.clone());
        let printed = serde_json::to_string(&stored).expect("it prints");
        prop_assert_eq!(&serde_json::from_str::<Spec>(&printed).expect("what is printed reads"), &stored);
        let mut again: Value = serde_json::from_str(&printed).expect("JSON");
        again["env"] = Value::Object(env);
        prop_assert!(read(&again.to_string()) == spec, "printed and read otherwise:\n{}\n{}", again, document);
    }

    #[test]
    fn a_unit_file_holds_no_text_of_the_user(document in document()) {
        let deployed = Deployed::of(read(&document.to_string()), 21_000);
        let texts = unit_texts(&deployed);
        prop_assert_eq!(&texts, &unit_texts(&Deployed::of(read(&without_texts(&document).to_string()), 21_000)));
        for ((unit, _), text) in deployed.units().into_iter().zip(texts) {
            prop_assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{}", text);
            prop_assert_eq!(unit::owner(&text), Some(unit));
        }
    }

    #[test]
    fn a_launch_blob_opens_to_exactly_what_was_meant(document in document()) {
        let deployed = Deployed::of(read(&document.to_string()), 21_000);
        for (unit, work) in deployed.units() {
            let port = deployed.memory.port_of(&unit);
            let launch = Launch::of(&unit, work, deployed.content(), port, &layout());
            let opened = deployed.env.iter().map(|(name, value)| (name.clone(), Zeroizing::new(value.clone()))).collect();
            let blob = launch.blob(&opened);
            let read = launch::open(&blob).expect("a blob opens");
            prop_assert_eq!(read.directory, format!("/zexio/apps/{}/releases/1", deployed.spec.project));
            prop_assert_eq!(read.words, work.run.as_ref().expect("a command").words());
            let own = launch.own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let env = deployed.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            prop_assert_eq!(read.variables, env.chain(own).collect::<Vec<_>>());
            prop_assert_eq!(launch.own.get("PORT").cloned(), port.map(|port| port.to_string()));
        }
    }

    #[test]
    fn a_caddyfile_names_every_host_once(document in document()) {
        let deployed = Deployed::of(read(&document.to_string()), 21_000);
        let routes = deployed.spec.processes.values().flat_map(|process| &process.routes);
        let hosts: BTreeSet<String> = routes.map(|route| route.host.to_string()).collect();
        let text = caddyfile::text(&proxy(), &routes::sites(&deployed.progress(), &layout())).expect("it renders");
        let heads = text.lines().filter(|line| !line.starts_with(['\t', '}', '#', '(']));
        let heads = heads.filter_map(|line| line.strip_suffix(" {"));
        let mut named: Vec<String> = heads.map(|head| head.trim_start_matches("http://").to_owned()).collect();
        named.sort();
        prop_assert_eq!(named, hosts.into_iter().collect::<Vec<_>>(), "{}", text);
    }
}
