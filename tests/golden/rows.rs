//! What the version before wrote into the database, in each phase of a rollout: it is read as what it meant, the same
//! follows from it, and it is written in the same form. The files are never written again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use zexio::model::names::ProjectId;
use zexio::model::progress::ProjectProgress;
use zexio::plan::advance;

use crate::scene::Scene;

type Rows = BTreeMap<ProjectId, Value>;

/// The rows of a scene's projects, before and after what it shows was seen.
#[derive(Deserialize)]
struct Written {
    before: Rows,
    after: Rows,
}

#[test]
fn rows_of_the_version_before_mean_what_they_meant() {
    let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rows");
    let all: Vec<PathBuf> = fs::read_dir(&rows).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(all.len() > 10, "the rows were found");
    for path in all {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let written: Written = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let scene = Scene::read(&fs::read_to_string(rows.join(format!("../plans/{name}.yaml"))).unwrap());
        let (desired, observed, mut all_progress, rules) = scene.stage();

        assert_eq!(read(&name, &written.before), all_progress.projects, "{name}");
        advance::advance(&desired, &scene.desired_services(), &observed, &mut all_progress, &rules);
        assert_eq!(read(&name, &written.after), all_progress.projects, "{name}");
    }
}

fn read(name: &str, rows: &Rows) -> BTreeMap<ProjectId, ProjectProgress> {
    let read = rows.iter().map(|(project, row)| {
        let progress: ProjectProgress = serde_json::from_value(row.clone()).unwrap();
        let again = serde_json::to_value(&progress).unwrap();
        let mut row = row.clone();
        for release in row["releases"].as_object_mut().unwrap().values_mut() {
            if release["state"] != "rejected" {
                // The version before wrote it into each release and used it only in those that failed.
                release.as_object_mut().unwrap().remove("generation");
            }
        }
        assert!(has_all(&again, &row), "{name} is written in another form:\n{again}\nand was\n{row}");
        (project.clone(), progress)
    });
    read.collect()
}

/// Returns whether a value has everything that another one has; it may have more.
fn has_all(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(key, old)| new.get(key).is_some_and(|new| has_all(new, old)))
        }
        _ => new == old,
    }
}
