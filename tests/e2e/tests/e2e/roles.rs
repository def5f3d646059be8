//! What the template's roles may do, read from the template.
//!
//! That the functions get along with that is shown where the template is deployed: ministack checks every call.

use std::collections::BTreeSet;

use serde_yaml_ng::Value;

fn template() -> Value {
    serde_yaml_ng::from_str(include_str!("../../../../infra/template.yaml")).unwrap()
}

/// Every allowed action of every role, with what it is allowed on: `(role, action, resource)`.
fn allowed(template: &Value) -> BTreeSet<(String, String, String)> {
    let mut allowed = BTreeSet::new();
    for (name, resource) in template["Resources"].as_mapping().unwrap() {
        if resource["Type"].as_str() != Some("AWS::IAM::Role") {
            continue;
        }
        let policies = resource["Properties"]["Policies"].as_sequence().unwrap();
        for policy in policies {
            for statement in policy["PolicyDocument"]["Statement"].as_sequence().unwrap() {
                assert_eq!(statement["Effect"].as_str(), Some("Allow"));
                for action in texts(&statement["Action"]) {
                    for resource in texts(&statement["Resource"]) {
                        let role = name.as_str().unwrap().to_owned();
                        allowed.insert((role, action.clone(), resource));
                    }
                }
            }
        }
    }
    allowed
}

/// One text or several, each with its intrinsic function left out.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Sequence(values) => values.iter().flat_map(texts).collect(),
        Value::Tagged(tagged) => texts(&tagged.value),
        Value::String(text) => vec![text.clone()],
        other => panic!("{other:?} is no text"),
    }
}

fn roles_with(
    allowed: &BTreeSet<(String, String, String)>,
    matches: impl Fn(&str, &str) -> bool,
) -> BTreeSet<&str> {
    allowed
        .iter()
        .filter(|(_, action, resource)| matches(action, resource))
        .map(|(role, ..)| role.as_str())
        .collect()
}

#[test]
fn only_segment_reads_models_and_nobody_writes_them() {
    let template = template();
    let allowed = allowed(&template);
    let models = |action: &str, resource: &str| {
        action.starts_with("s3:") && resource.contains("ModelsBucket")
    };
    assert_eq!(
        roles_with(&allowed, models),
        BTreeSet::from(["SegmentRole"])
    );
    let writing = |action: &str, resource: &str| {
        models(action, resource) && !["s3:GetObject", "s3:ListBucket"].contains(&action)
    };
    assert_eq!(roles_with(&allowed, writing), BTreeSet::new());
}

#[test]
fn only_score_lists_results_and_deletes_uploads() {
    let template = template();
    let allowed = allowed(&template);
    let listing = |action: &str, resource: &str| {
        action == "s3:ListBucket" && resource.contains("ResultsBucket")
    };
    // The state machine lists as well, below prepared/.
    assert_eq!(
        roles_with(&allowed, listing),
        BTreeSet::from(["ResegmentRole", "ScoreRole"])
    );
    let deleting = |action: &str, resource: &str| {
        action.starts_with("s3:Delete") && resource.contains("UploadsBucket")
    };
    assert_eq!(
        roles_with(&allowed, deleting),
        BTreeSet::from(["ScoreRole"])
    );
}

#[test]
fn no_action_is_a_pattern_and_only_traces_and_deliveries_of_logs_go_anywhere() {
    let template = template();
    for (role, action, resource) in allowed(&template) {
        assert!(!action.contains('*'), "{role} may do {action}");
        if resource == "*" {
            let without_resources = action.starts_with("xray:")
                || role == "ResegmentRole" && action.starts_with("logs:");
            assert!(without_resources, "{role} may do {action} anywhere");
        }
    }
}

#[test]
fn every_route_asks_who_calls() {
    let template = template();
    let mut routes = 0;
    for (name, resource) in template["Resources"].as_mapping().unwrap() {
        if resource["Type"].as_str() == Some("AWS::ApiGatewayV2::Route") {
            let kinds = texts(&resource["Properties"]["AuthorizationType"]);
            assert_eq!(kinds, ["Jwt", "JWT", "AWS_IAM"], "{name:?}");
            routes += 1;
        }
    }
    assert!(routes > 0);
}
