//! The loop closed, by the command that the README names and the programs themselves: labelled slices, a training job, a
//! model that serves because it is better, one that does not because it is worse, and the way back.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use glioseg_local::retrain::{Wanted, draw};
use glioseg_local::s3::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};
use glioseg_local::stack::{Stack, StackConfig};
use glioseg_local::wiring::Bucket;
use glioseg_shared::cloud::keys::{Channel, ModelVersion, model_onnx};
use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::imaging::{Limits, decode_masks, decode_slices, encode_slice_tiff};
use glioseg_shared::registry::{Pointer, fetch_model, read_pointer};
use glioseg_shared::study::Document as _;
use glioseg_shared::study::labelled::Manifest;
use glioseg_training::data::Dataset;
use glioseg_training::evaluate;
use glioseg_training::evaluate::studies::decoded;

use super::bucket::{Contents, contents, count};
use super::requests::{request, send};
use super::{binaries, models};

/// The command as the README names it, except that it keeps its folder and the function looks at every request.
fn retrain(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binaries::path("glioseg"));
    command.arg("retrain").arg("--dir").arg(folder);
    command.args(["--refresh", "0"]).args(arguments);
    command.output().unwrap()
}

/// The rows of the table: step, model, Dice, who serves.
fn rows(said: &str) -> Vec<[String; 4]> {
    let table = said.lines().skip_while(|line| !line.starts_with("  step "));
    let rows = table.skip(1).take_while(|line| line.starts_with("  "));
    rows.map(|row| {
        let cells: Vec<_> = row
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect();
        let cells: [&str; 4] = cells.try_into().unwrap_or_else(|_| panic!("{row}"));
        cells.map(str::to_owned)
    })
    .collect()
}

/// What is under `labelled/` is what was uploaded, pixel by pixel, each patient in one part of the split.
fn assert_labelled(results: &Contents) {
    let config = PhantomConfig {
        slices: 6,
        size: 256,
        lesions: 1,
    };
    let names = ["1", "14", "2", "20", "26", "3", "4", "5"];
    assert_eq!(
        count(results, "labelled/"),
        names.len() * config.slices * 2 + 1
    );
    let limits = Limits::default();
    for seed in names {
        let drawn = Phantom::generate(&config, seed.parse().unwrap()).unwrap();
        for (number, (slice, mask)) in (1..).zip(drawn.slices.iter().zip(&drawn.masks)) {
            let file =
                |end: &str| &results[&format!("labelled/phantom-{seed}/slice_{number}{end}.tif")].1;
            assert_eq!(
                decode_slices(file(""), &limits).unwrap(),
                std::slice::from_ref(slice)
            );
            assert_eq!(
                decode_masks(file("_mask"), &limits).unwrap(),
                std::slice::from_ref(mask)
            );
        }
    }
    let manifest = Manifest::from_json(&results["labelled/manifest.json"].1).unwrap();
    let split = manifest.split(|_| true);
    assert_eq!(split.validation, ["phantom-14", "phantom-20"]);
    assert_eq!(split.test, ["phantom-26"]);
    assert_eq!(
        split.train,
        [
            "phantom-1",
            "phantom-2",
            "phantom-3",
            "phantom-4",
            "phantom-5"
        ]
    );
}

async fn pointer(stack: &Stack) -> Pointer {
    let channel = Channel::parse(models::CHANNEL).unwrap();
    let serving = read_pointer(&stack.bucket(Bucket::Models), &channel).await;
    serving.unwrap().unwrap().pointer
}

/// The version that a slice's report names, from the running function.
async fn answers(stack: &Stack, slice: &[u8]) -> String {
    let headers = [("content-type", "image/tiff")];
    let answer = send(
        stack.api_address(),
        request("POST", "/segment", &headers, slice),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let report = answer.json();
    assert!(
        report["notice"]
            .as_str()
            .unwrap()
            .contains("research use only")
    );
    report["model"]["version"].as_str().unwrap().to_owned()
}

/// Runs `glioseg-train rollback` on the stack's bucket.
async fn roll_back(stack: &Stack, arguments: &[&str]) {
    let mut command = Command::new(binaries::path("glioseg-train"));
    command.args(["rollback", "s3://models"]).args(arguments);
    command
        .env("AWS_ENDPOINT_URL", stack.s3_endpoint())
        .env("AWS_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await;
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labelled_slices_lead_to_a_better_model_in_service_and_a_worse_one_does_not_serve() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("loop");
    let output = {
        let dir = dir.clone();
        tokio::task::spawn_blocking(move || retrain(&dir, &[]))
            .await
            .unwrap()
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}{said}");
    assert!(said.contains("research use only"), "{said}");
    let rows = rows(&said);
    let [
        [_, first, _, before],
        [_, better, better_dice, after],
        [_, worse, worse_dice, kept],
        [_, _, _, back],
    ] = &rows[..]
    else {
        panic!("{said}")
    };
    assert_eq!(
        [before, after, kept, back],
        [first, better, better, first],
        "{said}"
    );
    assert!(
        first != better && better != worse && worse != first,
        "{said}"
    );
    let dice = |cell: &String| cell.parse::<f64>().unwrap();
    assert!(dice(worse_dice) < dice(better_dice), "{said}");
    for part in [
        format!("channel fast now serves {better}"),
        format!("the model is kept, not promoted: channel fast keeps serving {better}"),
        format!("channel fast serves {first} again, no longer {better}"),
    ] {
        assert!(said.contains(&part), "no {part:?} in {said}");
    }

    // The stack is started again where the command left it: everything is in its buckets.
    let stack = Stack::start(StackConfig {
        environment: BTreeMap::from([("MODEL_REFRESH_SECONDS".to_owned(), "0".to_owned())]),
        ..StackConfig::new(dir.join("stack"))
    })
    .await
    .unwrap();
    assert_labelled(&contents(&stack.bucket(Bucket::Results)).await);
    let slice = Phantom::generate(&PhantomConfig::default(), 7)
        .unwrap()
        .slices
        .swap_remove(12);
    let slice = encode_slice_tiff(&slice);
    assert_eq!(&answers(&stack, &slice).await, first);
    let at_the_end = pointer(&stack).await;
    assert_eq!(&at_the_end.model.version, first);
    assert_eq!(&at_the_end.previous.unwrap().version, better);

    // A second roll-back takes back the first, and any published version can serve, the worse one too.
    roll_back(&stack, &[]).await;
    assert_eq!(&answers(&stack, &slice).await, better);
    roll_back(&stack, &["--to", worse]).await;
    assert_eq!(&answers(&stack, &slice).await, worse);

    // The decisions of the jobs hold for the files that were published, scored once more.
    let dataset = Dataset::open(&dir.join("jobs/trained/input/data/training")).unwrap();
    let patients = ["phantom-14", "phantom-20"].map(str::to_owned);
    let validation = dataset.select(&patients).unwrap();
    let bucket = stack.bucket(Bucket::Models);
    let mut scored = Vec::new();
    for model in [
        &pointer(&stack).await.model,
        &pointer(&stack).await.previous.unwrap(),
    ] {
        let version = ModelVersion::parse(&model.version).unwrap();
        assert_eq!(model.onnx_key, model_onnx(&version).as_str());
        let onnx = fetch_model(&bucket, model).await.unwrap();
        let each = evaluate::volume_dice(&onnx, decoded(&validation, &Limits::default())).unwrap();
        scored.push(each.iter().sum::<f64>() / each.len() as f64);
    }
    for (scored, told) in scored.iter().zip([worse_dice, better_dice]) {
        assert_eq!(&format!("{scored:.4}"), told);
    }
    stack.stop().await;
}

#[test]
fn what_cannot_be_retrained_is_said_before_anything_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let new = folder.path().join("new");
    for (dir, arguments, reason) in [
        (
            &new,
            ["--trainer", "no/such/program"],
            "cargo build --release",
        ),
        (&new, ["--data", empty.to_str().unwrap()], "no slices here"),
        (&folder.path().to_owned(), ["--epochs", "1"], "is not empty"),
    ] {
        let output = retrain(dir, &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason), "{said}");
        assert!(!new.exists());
    }
}

#[test]
fn patients_who_cannot_be_validated_on_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let wanted = Wanted {
        train: 2,
        validation: 0,
        test: 0,
    };
    let config = PhantomConfig {
        slices: 1,
        size: 64,
        lesions: 1,
    };
    glioseg_local::retrain::write(&draw(&config, wanted, 1).unwrap(), &data).unwrap();
    std::fs::remove_file(data.join("manifest.json")).unwrap();
    let output = retrain(
        &folder.path().join("loop"),
        &["--data", data.to_str().unwrap()],
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("2 patients with truth train, 0 validate and 0 test"),
        "{said}"
    );
}
