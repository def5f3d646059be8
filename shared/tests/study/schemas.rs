//! The JSON Schemas of `infra/schemas` against real documents, and against documents that went wrong.

use glioseg_shared::cloud::Problem;
use glioseg_shared::cloud::keys::{self, PatientId};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::Mask;
use glioseg_shared::model::Contract;
use glioseg_shared::study::labelled::Manifest;
use glioseg_shared::study::status::{self, Evidence, SliceLinks};
use glioseg_shared::study::{
    Document, Inventory, Rejection, SliceReport, SliceScoreDocument, StudyManifest, StudyStatus,
};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::samples;

fn schema(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/schemas");
    let file = std::fs::read(format!("{folder}/{name}.schema.json")).unwrap();
    serde_json::from_slice(&file).unwrap()
}

fn validator(name: &str) -> Validator {
    jsonschema::draft202012::new(&schema(name)).unwrap()
}

fn assert_valid(validator: &Validator, document: &Value) {
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

fn value(document: &impl Document) -> Value {
    serde_json::from_slice(&document.to_json()).unwrap()
}

/// Every document that has one thing wrong: a member less, a member more, or a value of another type.
fn mutants(document: &Value) -> Vec<(String, Value)> {
    let mut paths = Vec::new();
    walk(document, String::new(), &mut paths);
    let mut mutants = Vec::new();
    for path in paths {
        let at = |mutate: &dyn Fn(&mut Value)| {
            let mut mutant = document.clone();
            mutate(mutant.pointer_mut(&path).unwrap());
            mutant
        };
        match document.pointer(&path).unwrap() {
            Value::Object(members) => {
                for name in members.keys() {
                    let less = at(&|value| {
                        value.as_object_mut().unwrap().remove(name);
                    });
                    mutants.push((format!("{path} without {name}"), less));
                }
                let more = at(&|value| {
                    value["surplus"] = "member".into();
                });
                mutants.push((format!("{path} with a surplus member"), more));
            }
            Value::Array(_) => {}
            _ => mutants.push((
                format!("{path} as a list"),
                at(&|value| *value = json!([[]])),
            )),
        }
    }
    mutants
}

fn walk(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| walk(value, format!("{path}/{}", escaped(name)), paths)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, value)| walk(value, format!("{path}/{i}"), paths)),
        _ => {}
    }
    paths.push(path);
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Holds a document against its schema, and its mutants against both schema and code.
fn hold<T: Document>(name: &str, document: &T, may_go: &[&str]) {
    let validator = validator(name);
    let document = value(document);
    assert_valid(&validator, &document);
    for (what, mutant) in mutants(&document) {
        if may_go
            .iter()
            .any(|member| what.ends_with(&format!(" without {member}")))
        {
            continue;
        }
        assert!(
            !validator.is_valid(&mutant),
            "{name}: {what} passes the schema"
        );
        // For the code, what may be null may also be missing, and parts that come from elsewhere bring their own rules.
        if what.starts_with(" with a surplus") || what.ends_with(" as a list") {
            let read = T::from_json(mutant.to_string().as_bytes());
            assert!(read.is_err(), "{name}: {what} is read");
        }
    }
}

fn any_mask() -> Mask {
    let masks = samples::phantom().masks;
    masks.into_iter().max_by_key(Mask::area).unwrap()
}

#[test]
fn every_schema_is_sound_and_explains_itself() {
    for name in [
        "report",
        "score",
        "study-status",
        "study-completed",
        "rejection",
        "study",
        "model",
        "problem",
    ] {
        let schema = schema(name);
        assert!(jsonschema::draft202012::meta::is_valid(&schema), "{name}");
        assert_eq!(schema["$id"], format!("urn:glioseg:schema:{name}"));
        for member in ["title", "description"] {
            assert!(schema[member].is_string(), "{name}: {member}");
        }
        let members = schema["properties"].as_object().unwrap();
        for (member, of) in members.iter().filter(|(_, of)| of.get("$ref").is_none()) {
            assert!(of["description"].is_string(), "{name}: {member}");
        }
    }
}

#[test]
fn reports_hold() {
    let phantom = samples::phantom();
    let mask = any_mask();
    for (number, spacing) in [(3, Some(samples::spacing())), (0, None)] {
        let prepared = samples::prepared(number, phantom.slices[5].clone(), spacing);
        for truth in [&mask, &Mask::empty(96, 96)] {
            let mut report = samples::report(&prepared, &samples::prediction(truth));
            report.contours.truncate(1);
            hold::<SliceReport>("report", &report, &[]);
        }
    }
    let pixels = phantom.slices[5].pixels().to_vec();
    let rescaled = glioseg_shared::imaging::Intensity::Rescaled {
        low: [0.0; 3],
        high: [1.5; 3],
    };
    let slice = glioseg_shared::imaging::Slice::new(96, 96, pixels, rescaled).unwrap();
    let prepared = samples::prepared(0, slice, None);
    let report = samples::report(&prepared, &samples::prediction(&Mask::empty(96, 96)));
    hold::<SliceReport>("report", &report, &[]);
}

#[test]
fn scores_hold() {
    let (mask, empty) = (any_mask(), Mask::empty(96, 96));
    let found = samples::prediction(&mask).mask;
    for spacing in [Some(samples::spacing()), None] {
        for (prediction, truth) in [(&found, &mask), (&empty, &mask), (&empty, &empty)] {
            let score = samples::score(1, prediction, truth, spacing);
            hold::<SliceScoreDocument>("score", &score, &[]);
        }
    }
}

#[test]
fn statuses_hold() {
    let mask = any_mask();
    let prepared = samples::prepared(1, samples::phantom().slices[5].clone(), None);
    let found = samples::prediction(&mask);
    let (report, score) = (
        samples::report(&prepared, &found),
        samples::score(1, &found.mask, &mask, None),
    );
    let study = samples::study();
    let mut inventory = Inventory::new(study.clone());
    let evidence = |inventory| Evidence {
        manifest: None,
        inventory,
        uploads: &[],
        reports: &[],
        scores: &[],
        masks: &[],
    };
    hold::<StudyStatus>("study-status", &status::of(&evidence(&inventory)), &[]);
    for key in [
        keys::prepared(&study, &prepared.name),
        keys::mask(&study, &prepared.name),
        keys::rejected(&study, "notes.txt"),
    ] {
        inventory.add(&key);
    }
    let manifest = StudyManifest {
        slices: Some(1),
        ..StudyManifest::default()
    };
    let mut status = status::of(&Evidence {
        manifest: Some(&manifest),
        inventory: &inventory,
        uploads: &[],
        reports: &[report],
        scores: &[score],
        masks: &[found.mask],
    });
    status.links.push(SliceLinks {
        slice: prepared.name,
        mask: Some("https://results.example/mask?signature=x".to_owned()),
        overlay: None,
        probability: None,
        report: None,
        score: None,
    });
    status.links_expire_in_seconds = Some(900);
    // The members of this map are versions: any, but a number each.
    hold::<StudyStatus>("study-status", &status, &[samples::MODEL]);
}

#[test]
fn rejections_hold() {
    let mut rejection = Rejection::new("x.tif", "it belongs to no study", "name one");
    hold::<Rejection>("rejection", &rejection, &[]);
    rejection.study = Some(samples::study());
    rejection.entry = Some("a.tif".to_owned());
    rejection.input_sha256 = Some(sha256_hex(b""));
    hold::<Rejection>("rejection", &rejection, &[]);
}

#[test]
fn manifests_of_the_labelled_data_set_hold() {
    hold::<Manifest>("labelled", &Manifest::default(), &[]);
    let mut manifest = Manifest::default();
    for name in ["p 1", "a"] {
        manifest.enrol(&PatientId::parse(name).unwrap()).unwrap();
    }
    manifest.withdraw(&PatientId::parse("q").unwrap());
    hold::<Manifest>("labelled", &manifest, &["p 1", "a"]);
}

#[test]
fn descriptions_of_studies_hold() {
    let all = ["slices", "spacing_mm", "channels"];
    for json in [
        json!({}),
        json!({"slices": 24, "spacing_mm": [0.5, 0.5, 3.0], "channels": ["FLAIR"]}),
        json!({"channels": ["FLAIR", "post-contrast", "pre-contrast"], "spacing_mm": [1, 1]}),
    ] {
        let manifest = StudyManifest::from_json(json.to_string().as_bytes()).unwrap();
        hold::<StudyManifest>("study", &manifest, &all);
    }
    let validator = validator("study");
    for json in [
        json!({"slices": 0}),
        json!({"slices": 10_001}),
        json!({"spacing_mm": [1]}),
        json!({"spacing_mm": [1, 1, 1000]}),
        json!({"channels": ["FLAIR", "FLAIR", "post-contrast"]}),
        json!({"channels": ["T2", "FLAIR", "post-contrast"]}),
        json!({"channels": ["pre-contrast"]}),
    ] {
        assert!(!validator.is_valid(&json), "{json}");
        let read = StudyManifest::from_json(json.to_string().as_bytes());
        assert!(read.is_err(), "{json}");
    }
}

#[test]
fn models_hold() {
    let onnx = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/inference");
    for name in ["classic", "lean", "residual", "volume"] {
        let onnx = std::fs::read(format!("{onnx}/{name}.onnx")).unwrap();
        let contract = Contract::of_onnx(&onnx).unwrap();
        let contract = serde_json::to_value(&contract).unwrap();
        let mut answer: Map<String, Value> = [
            "network",
            "label",
            "unit",
            "input",
            "preprocessing",
            "postprocessing",
            "scores",
            "licence",
            "notice",
        ]
        .into_iter()
        .map(|member| (member.to_owned(), contract[member].clone()))
        .collect();
        answer.insert("version".to_owned(), contract["model_version"].clone());
        answer.insert("channel".to_owned(), "fast".into());
        answer.insert("onnx_sha256".to_owned(), sha256_hex(&onnx).into());
        let answer = Value::Object(answer);
        let validator = validator("model");
        assert_valid(&validator, &answer);
        for (what, mutant) in mutants(&answer) {
            assert!(
                !validator.is_valid(&mutant),
                "{name}: {what} passes the schema"
            );
        }
    }
}

#[test]
fn problems_hold() {
    let validator = validator("problem");
    for problem in [
        Problem::bad_request("b"),
        Problem::forbidden("f"),
        Problem::not_found("n"),
        Problem::method_not_allowed(&["GET"]),
        Problem::not_acceptable("n"),
        Problem::conflict("c"),
        Problem::payload_too_large("p"),
        Problem::unsupported_media_type(&["image/png"]),
        Problem::unprocessable("u"),
        Problem::too_many("t", 1),
        Problem::internal("i"),
        Problem::unavailable("u", 1),
    ] {
        let problem = serde_json::to_value(problem).unwrap();
        assert_valid(&validator, &problem);
        for (what, mutant) in mutants(&problem) {
            assert!(!validator.is_valid(&mutant), "{what} passes the schema");
        }
    }
}
