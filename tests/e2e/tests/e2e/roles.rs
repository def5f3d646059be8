//! What the template's roles may do, read from the template.
//!
//! That the functions get along with that is shown where the template is deployed: ministack checks every call.

use std::collections::BTreeSet;

use serde_yaml_ng::Value;

fn template() -> Value {
    serde_yaml_ng::from_str(include_str!("../../../../infra/template.yaml")).unwrap()
}

fn retraining() -> Value {
    serde_yaml_ng::from_str(include_str!("../../../../infra/retraining.yaml")).unwrap()
}

/// Every allowed action of every role and managed policy, with what it is allowed on: `(role, action, resource)`.
fn allowed(template: &Value) -> BTreeSet<(String, String, String)> {
    let mut allowed = BTreeSet::new();
    for (name, resource) in template["Resources"].as_mapping().unwrap() {
        let properties = &resource["Properties"];
        let policies = match resource["Type"].as_str() {
            Some("AWS::IAM::Role") => properties["Policies"].as_sequence().unwrap().as_slice(),
            Some("AWS::IAM::ManagedPolicy") => std::slice::from_ref(properties),
            _ => continue,
        };
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
fn only_score_reads_and_writes_what_is_kept_for_training() {
    let template = template();
    let allowed = allowed(&template);
    let labelled = |action: &str, resource: &str| {
        let objects = resource.strip_prefix("${ResultsBucket.Arn}/");
        action != "s3:ListBucket"
            && objects.is_some_and(|objects| objects == "*" || objects.starts_with("labelled"))
    };
    assert_eq!(
        roles_with(&allowed, labelled),
        BTreeSet::from(["ScoreRole"])
    );
    let writing =
        |action: &str, resource: &str| action == "s3:PutObject" && labelled(action, resource);
    let written: BTreeSet<_> = allowed
        .iter()
        .filter(|(_, action, resource)| writing(action, resource))
        .map(|(_, _, resource)| resource.as_str())
        .collect();
    assert_eq!(written, BTreeSet::from(["${ResultsBucket.Arn}/labelled/*"]));
    // Slices, and never the manifest beside the patients' folders.
    let deleted: BTreeSet<_> = allowed
        .iter()
        .filter(|(_, action, resource)| {
            action.starts_with("s3:Delete") && labelled(action, resource)
        })
        .map(|(_, _, resource)| resource.as_str())
        .collect();
    assert_eq!(
        deleted,
        BTreeSet::from(["${ResultsBucket.Arn}/labelled/*/*"])
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
fn what_trains_has_no_rights_to_models() {
    let template = retraining();
    let allowed = allowed(&template);
    let models = |action: &str, resource: &str| {
        action.starts_with("s3:") && resource.contains("ModelsBucket")
    };
    // The policy for an EC2 instance is attached to nothing here.
    assert_eq!(
        roles_with(&allowed, models),
        BTreeSet::from(["Ec2Policy", "PublishRole"])
    );
    let training = &template["Resources"]["TrainingRole"]["Properties"]["ManagedPolicyArns"];
    assert_eq!(texts(training), ["JobPolicy"]);
}

#[test]
fn no_job_writes_or_deletes_labelled_slices() {
    let template = retraining();
    let changing = |action: &str, resource: &str| {
        resource.contains("ResultsBucket") && !["s3:GetObject", "s3:ListBucket"].contains(&action)
    };
    // The state machine notes on the manifest what was trained on it.
    assert_eq!(
        roles_with(&allowed(&template), changing),
        BTreeSet::from(["RetrainRole"])
    );
    let deleting = |action: &str, _: &str| action.starts_with("s3:Delete");
    assert_eq!(roles_with(&allowed(&template), deleting), BTreeSet::new());
}

#[test]
fn of_retraining_only_what_knows_no_resources_goes_anywhere() {
    for (role, action, resource) in allowed(&retraining()) {
        assert!(!action.contains('*'), "{role} may do {action}");
        if resource == "*" {
            let without_resources = action.starts_with("xray:")
                || action.starts_with("ec2:Describe")
                || ["ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"]
                    .contains(&action.as_str())
                || role == "RetrainRole" && action.starts_with("logs:");
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
