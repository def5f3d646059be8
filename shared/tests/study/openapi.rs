//! `infra/openapi.yaml`: it is whole, its examples are what it says, and no answer is left out.

use std::path::Path;

use glioseg_shared::cloud::Problem;
use serde_json::{Value, json};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../infra"))
}

fn openapi() -> Value {
    let file = std::fs::read(folder().join("openapi.yaml")).unwrap();
    serde_yaml_ng::from_slice(&file).unwrap()
}

/// What a reference leads to.
fn target(openapi: &Value, reference: &str) -> Value {
    match reference.strip_prefix('#') {
        Some(pointer) => openapi
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{reference} leads nowhere"))
            .clone(),
        None => {
            let file = std::fs::read(folder().join(reference))
                .unwrap_or_else(|error| panic!("{reference}: {error}"));
            serde_json::from_slice(&file).unwrap()
        }
    }
}

/// Calls `visit` on a value and all within it.
fn walk(value: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, value);
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, member)| walk(member, &format!("{path}/{name}"), visit)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, item)| walk(item, &format!("{path}/{i}"), visit)),
        _ => {}
    }
}

/// The schema of a media type as one document of its own.
fn schema(openapi: &Value, media: &Value) -> Option<Value> {
    let schema = media.get("schema")?;
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => target(openapi, reference),
        None => schema.clone(),
    };
    let mut whole = schema;
    whole["components"] = openapi["components"].clone();
    Some(whole)
}

#[test]
fn every_reference_leads_somewhere() {
    let openapi = openapi();
    assert_eq!(openapi["openapi"], "3.1.0");
    let mut references = 0;
    walk(&openapi, "", &mut |_, value| {
        if let Some(Value::String(reference)) = value.get("$ref") {
            target(&openapi, reference);
            references += 1;
        }
    });
    assert!(references > 50);
}

#[test]
fn every_example_is_what_its_schema_says() {
    let openapi = openapi();
    let mut examples = 0;
    walk(&openapi, "", &mut |path, value| {
        let Some(Value::Object(content)) = value.get("content") else {
            return;
        };
        for (media_type, media) in content {
            let Some(schema) = schema(&openapi, media) else {
                continue;
            };
            let validator = jsonschema::draft202012::new(&schema).unwrap();
            let named = media.get("examples").and_then(Value::as_object);
            let named = named
                .into_iter()
                .flatten()
                .map(|(_, named)| &named["value"]);
            for example in media.get("example").into_iter().chain(named) {
                let errors: Vec<String> = validator
                    .iter_errors(example)
                    .map(|error| format!("{}: {error}", error.instance_path()))
                    .collect();
                assert!(errors.is_empty(), "{path}/{media_type}: {errors:#?}");
                examples += 1;
            }
        }
    });
    assert!(examples > 15);
}

#[test]
fn every_route_names_its_answers() {
    let openapi = openapi();
    for (method, path, statuses) in [
        ("post", "/uploads", "200 400 405 413 415 422 429 500 503"),
        (
            "post",
            "/segment",
            "200 400 403 404 405 406 413 415 422 429 500 503",
        ),
        ("get", "/model", "200 405 429 500 503"),
        (
            "post",
            "/score",
            "200 400 403 404 405 406 413 415 422 429 500 503",
        ),
        (
            "get",
            "/studies/{study}",
            "200 400 404 405 406 413 422 429 500 503",
        ),
        (
            "delete",
            "/studies/{study}",
            "200 400 404 405 406 429 500 503",
        ),
        (
            "delete",
            "/patients/{patient}",
            "200 400 404 405 406 422 429 500 503",
        ),
        ("get", "/health", "200 405 406 429 500 503"),
        ("get", "/health/{function}", "200 405 406 429 500 503"),
    ] {
        let operation = &openapi["paths"][path][method];
        let responses = operation["responses"].as_object().unwrap();
        let listed: Vec<&str> = responses.keys().map(String::as_str).collect();
        assert_eq!(listed.join(" "), statuses, "{method} {path}");
        assert!(operation["operationId"].is_string(), "{method} {path}");
    }
}

#[test]
fn every_problem_has_the_status_and_title_that_are_sent() {
    let openapi = openapi();
    let sent: Vec<Value> = [
        Problem::bad_request("x"),
        Problem::forbidden("x"),
        Problem::not_found("x"),
        Problem::method_not_allowed(&["GET"]),
        Problem::not_acceptable("x"),
        Problem::payload_too_large("x"),
        Problem::unsupported_media_type(&["image/png"]),
        Problem::unprocessable("x"),
        Problem::too_many("x", 1),
        Problem::internal("x"),
        Problem::unavailable("x", 1),
    ]
    .into_iter()
    .map(|problem| serde_json::to_value(problem).unwrap())
    .collect();
    for operations in openapi["paths"].as_object().unwrap().values() {
        for operation in operations.as_object().unwrap().values() {
            let Some(responses) = operation.get("responses").and_then(Value::as_object) else {
                continue;
            };
            for (status, response) in responses.iter().filter(|(status, _)| *status != "200") {
                let response = target(&openapi, response["$ref"].as_str().unwrap());
                let example = &response["content"]["application/problem+json"]["example"];
                let expected = sent
                    .iter()
                    .find(|problem| problem["status"].as_u64() == status.parse().ok())
                    .unwrap_or_else(|| panic!("{status} is never sent"));
                for member in ["type", "title", "status"] {
                    assert_eq!(example[member], expected[member], "{status}: {member}");
                }
            }
        }
    }
    assert_eq!(
        openapi["components"]["schemas"]["Notice"]["const"],
        json!(glioseg_shared::model::contract::NOTICE)
    );
}
