//! `infra/openapi.yaml` and the schemas beside it, held against real answers and documents.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;

use super::requests::Answer;

/// Panics where an answer is not one that the description lists for a route, such as `POST /segment`.
pub(crate) fn check_answer(route: &str, answer: &Answer, what: &str) {
    let (method, path) = route.split_once(' ').unwrap();
    let operation = &openapi()["paths"][path][method.to_lowercase()];
    assert!(operation.is_object(), "{route} is not described");
    let status = answer.status.to_string();
    let response = resolved(&operation["responses"][&status]);
    assert!(
        response.is_object(),
        "{what}: {route} is not said to answer {status}: {}",
        answer.text()
    );
    let media = &response["content"][answer.media_type()];
    assert!(
        media.is_object(),
        "{what}: {route} {status} is not said to be {:?}: {}",
        answer.media_type(),
        answer.text()
    );
    if media["schema"].is_object() {
        let mut schema = resolved(&media["schema"]);
        schema["components"] = openapi()["components"].clone();
        check(&schema, &answer.json(), what);
    }
}

/// Panics where an answer is not a problem of this status, as the description has it.
pub(crate) fn check_problem(route: &str, answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert_eq!(answer.media_type(), "application/problem+json", "{what}");
    check_answer(route, answer, what);
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{what}");
    assert!(
        problem["detail"].as_str().unwrap().len() > 10,
        "{what}: {problem}"
    );
}

/// Panics where a document is not what a schema, such as `rejection`, says.
pub(crate) fn check_document(name: &str, document: &Value, what: &str) {
    check(
        &file(&format!("schemas/{name}.schema.json")),
        document,
        what,
    );
}

fn check(schema: &Value, document: &Value, what: &str) {
    let validator = jsonschema::draft202012::new(schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{document:#}");
}

fn openapi() -> &'static Value {
    static OPENAPI: OnceLock<Value> = OnceLock::new();
    OPENAPI.get_or_init(|| {
        let text = std::fs::read(folder().join("openapi.yaml")).unwrap();
        serde_yaml_ng::from_slice(&text).unwrap()
    })
}

/// What a value refers to, or the value itself.
fn resolved(value: &Value) -> Value {
    let Some(reference) = value["$ref"].as_str() else {
        return value.clone();
    };
    match reference.strip_prefix('#') {
        Some(pointer) => openapi().pointer(pointer).unwrap().clone(),
        None => file(reference),
    }
}

fn file(name: &str) -> Value {
    let text = std::fs::read(folder().join(name)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra"))
}
