//! Patients who are withdrawn, and what remains of the labelled data set when studies are deleted.

use glioseg_shared::cloud::HttpRequest;
use glioseg_shared::study::Document;
use glioseg_shared::study::labelled::{Manifest, Standing};
use serde_json::{Value, json};

use crate::collecting::patient;
use crate::stage::{Stage, body};

async fn ask(stage: &Stage, method: &str, path: &str) -> (u16, Value) {
    body(stage.request(HttpRequest::new(method, path)).await)
}

#[tokio::test]
async fn a_patient_goes_with_all_studies_and_nobody_else_does() {
    let stage = Stage::collecting();
    for study in ["q", "pq/visit", "p.tiff"] {
        stage.labelled(study, "x").await;
        stage.tells(&[&format!("masks/{study}/x.tif")]).await;
    }
    for key in ["q/x.tif", "pq.zip", "p.tiff/x.tif", "q/p.zip"] {
        stage.upload(key).await;
    }
    let mut others = stage.everything();

    for study in ["p", "p/2026/1"] {
        stage.labelled(study, "x").await;
        stage.close(study, 1).await;
        stage.tells(&[&format!("masks/{study}/x.tif")]).await;
    }
    for key in ["p/x.tif", "p/2026/1/x.tif", "p/2026.zip", "p.ZIP"] {
        stage.upload(key).await;
    }
    stage.put_result("rejected/p/notes.txt.json", b"{}").await;
    let manifest = stage.manifest().await;
    assert!(matches!(
        manifest.standing(&patient("p")),
        Standing::Enrolled(_)
    ));

    let (status, withdrawal) = ask(&stage, "DELETE", "/patients/p").await;
    assert_eq!((status, &withdrawal["complete"]), (200, &json!(true)));
    assert_eq!(withdrawal["schema"], "glioseg-withdrawal-1");
    assert_eq!(withdrawal["deleted_uploads"], 4);
    // Of each study manifest, note, prepared, truth, mask, report, score and two collected files; and the rejection.
    assert_eq!(withdrawal["deleted_results"], 2 * 9 + 1);
    let manifest = stage.manifest().await;
    assert_eq!(manifest.standing(&patient("p")), Standing::Withdrawn);
    let mut left = stage.everything();
    // The manifest is the one object that both had, and that has changed.
    for files in [&mut left, &mut others] {
        files.retain(|file, _| !file.contains("manifest"));
    }
    assert_eq!(left, others);

    let (status, again) = ask(&stage, "DELETE", "/patients/p").await;
    assert_eq!((status, &again["deleted_results"]), (200, &json!(0)));
    assert_eq!(stage.manifest().await, manifest);
}

#[tokio::test]
async fn who_was_withdrawn_is_scored_again_but_not_collected() {
    let stage = Stage::collecting();
    let (status, withdrawal) = ask(&stage, "DELETE", "/patients/p").await;
    assert_eq!((status, &withdrawal["complete"]), (200, &json!(true)));
    stage.labelled("p/visit", "x").await;
    stage
        .tells(&["masks/p/visit/x.tif", "truth/p/visit/x.tif"])
        .await;
    assert!(stage.stored_score("p/visit", "x").await.is_some());
    assert_eq!(stage.collected(), ["labelled/manifest.json"]);
    let (_, status) = stage.get("/studies/p/visit").await;
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("the patient was withdrawn"), "{warnings}");
}

#[tokio::test]
async fn a_withdrawal_is_noted_where_nothing_is_collected_yet() {
    let mut stage = Stage::new();
    stage.labelled("p", "x").await;
    ask(&stage, "DELETE", "/patients/p").await;
    stage.score.config.collect_labelled = true;
    stage.labelled("p", "x").await;
    stage.tells(&["masks/p/x.tif"]).await;
    assert_eq!(stage.collected(), ["labelled/manifest.json"]);
}

#[tokio::test]
async fn a_study_takes_what_was_collected_of_it_and_leaves_the_patient_enrolled() {
    let stage = Stage::collecting();
    for study in ["p", "p/visit"] {
        stage.labelled(study, "x").await;
        stage.tells(&[&format!("masks/{study}/x.tif")]).await;
    }
    let enrolled = stage.manifest().await;
    let (status, deletion) = ask(&stage, "DELETE", "/studies/p").await;
    assert_eq!((status, &deletion["complete"]), (200, &json!(true)));
    assert_eq!(stage.stored("labelled/p/x.tif").await, None);
    assert_eq!(stage.stored("labelled/p/x_mask.tif").await, None);
    assert!(stage.stored("labelled/p/visit%2Fx.tif").await.is_some());
    assert_eq!(stage.manifest().await, enrolled);
    // An event of the study that comes late brings nothing back.
    stage.tells(&["masks/p/x.tif", "truth/p/x.tif"]).await;
    assert_eq!(stage.stored("labelled/p/x.tif").await, None);
}

#[tokio::test]
async fn objects_that_cannot_be_named_keep_a_withdrawal_from_being_complete() {
    let stage = Stage::new();
    stage.upload("p/x.tif").await;
    let files = ["uploads/p", "results/studies/p/visit"].map(|folder| stage.put_unnamed(folder));
    stage.put_unnamed("uploads/q");
    let (status, withdrawal) = ask(&stage, "DELETE", "/patients/p").await;
    assert_eq!((status, &withdrawal["complete"]), (200, &json!(false)));
    assert_eq!(withdrawal["deleted_uploads"], 1);
    let told = withdrawal["not_deleted"].as_array().unwrap();
    let places: Vec<_> = told.iter().map(|it| (&it["bucket"], &it["key"])).collect();
    assert_eq!(
        places,
        [
            (&json!("uploads"), &json!("p/")),
            (&json!("results"), &json!("studies/p/")),
        ]
    );
    assert!(told[0]["reason"].as_str().unwrap().contains("1 objects"));
    for file in files {
        std::fs::remove_file(file).unwrap();
    }
    let (_, withdrawal) = ask(&stage, "DELETE", "/patients/p").await;
    assert_eq!(
        (&withdrawal["complete"], &withdrawal["not_deleted"]),
        (&json!(true), &json!([]))
    );
}

#[tokio::test]
async fn only_patients_can_be_withdrawn_and_nothing_else_done_to_them() {
    let stage = Stage::new();
    for (method, path, expected) in [
        ("GET", "/patients/p", 405),
        ("DELETE", "/patients/a/b", 400),
        ("DELETE", "/patients/..", 400),
        ("DELETE", "/patients/", 404),
    ] {
        assert_eq!(ask(&stage, method, path).await.0, expected, "{path}");
    }
    assert_eq!(stage.everything().len(), 0);
}

#[tokio::test]
async fn a_manifest_that_is_full_stays_one_that_can_be_read() {
    let stage = Stage::collecting();
    stage.labelled("p", "x").await;
    stage.tells(&["masks/p/x.tif"]).await;
    let mut manifest = serde_json::to_value(stage.manifest().await).unwrap();
    // Each takes 66 bytes and a comma; there is no room left for one more.
    let room = 16 * 1024 * 1024 - manifest.to_string().len();
    let withdrawn: Vec<_> = (0..room / 67).map(|i| format!("{i:064x}")).collect();
    manifest["withdrawn"] = json!(withdrawn);
    let full = manifest.to_string();
    stage
        .put_result("labelled/manifest.json", full.as_bytes())
        .await;
    let before = stage.everything();

    let (status, problem) = ask(&stage, "DELETE", "/patients/q").await;
    assert_eq!(status, 422);
    let detail = problem["detail"].to_string();
    assert!(detail.contains("has room for nobody else"), "{detail}");
    assert!(stage.everything() == before, "nothing is changed");
    let manifest = Manifest::from_json(full.as_bytes()).unwrap();
    assert_eq!(manifest.withdrawn(), withdrawn.len());
}
