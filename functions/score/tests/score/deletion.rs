//! What remains of a deleted study.

use glioseg_shared::cloud::HttpRequest;
use serde_json::Value;

use crate::stage::{Found, Stage, body, drawn};

async fn delete(stage: &Stage, path: &str) -> (u16, Value) {
    body(stage.request(HttpRequest::new("DELETE", path)).await)
}

#[tokio::test]
async fn a_study_goes_with_all_that_was_made_of_it_and_nothing_else_does() {
    let stage = Stage::new();
    let mask = drawn(&["#.", ".."]);
    for key in ["s/deep/a.tif", "s/deep.zip", "s2/a.tif", "s.tiff/a.tif"] {
        stage.upload(key).await;
    }
    stage.found("s/deep", "a", &Found::new(&mask)).await;
    stage.found("s2", "a", &Found::new(&mask)).await;
    stage.put_result("rejected/s.txt.json", b"{}").await;
    let others = stage.everything();

    for key in [
        "s/a.tif",
        "s/a_mask.tif",
        "s/study.json",
        "s/notes.txt",
        "s.ZIP",
        // The truth of a slice without a name.
        "s/_mask.tif",
    ] {
        stage.upload(key).await;
    }
    stage.close("s", 1).await;
    stage.truth("s", "a", &mask).await;
    stage.found("s", "a", &Found::new(&mask)).await;
    for key in [
        "prepared/s/a.png",
        "overlays/s/a.png",
        "probabilities/s/a.png",
        "rejected/s/b.tif.json",
    ] {
        stage.put_result(key, b"x").await;
    }
    stage.tells(&["masks/s/a.tif"]).await;
    assert!(stage.stored_score("s", "a").await.is_some());

    let (status, deletion) = delete(&stage, "/studies/s").await;
    assert_eq!((status, &deletion["complete"]), (200, &true.into()));
    assert_eq!(deletion["deleted_uploads"], 6);
    // Manifest, prepared, truth, mask, overlay, probability, report, score, rejection, and the note of its completion.
    assert_eq!(deletion["deleted_results"], 10);
    assert_eq!(deletion["not_deleted"], serde_json::json!([]));
    assert_eq!(stage.everything(), others);
    assert_eq!(stage.get("/studies/s").await.0, 404);

    let (status, deletion) = delete(&stage, "/studies/s").await;
    assert_eq!((status, &deletion["deleted_uploads"]), (200, &0.into()));
    assert_eq!(deletion["complete"], true);
    // Events of the study that come late find nothing, and leave nothing.
    stage
        .tells(&["masks/s/a.tif", "truth/s/a.tif", "rejected/s/b.tif.json"])
        .await;
    assert_eq!(stage.everything(), others);
}
