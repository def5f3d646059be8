"""Requests of jobs from the templates in infra/sagemaker, checked by botocore's description of SageMaker's API.

Run again when a template has changed; needs botocore:

    python3 training/tests/goldens/submit/make_goldens.py
"""

import json
import re
from pathlib import Path

import botocore.session
from botocore.validate import ParamValidator

HERE = Path(__file__).parent
TEMPLATES = HERE.parents[3] / "infra" / "sagemaker"
SAGEMAKER = botocore.session.get_session().get_service_model("sagemaker")

# What the options of training/tests/submit.rs mean. The other placeholders have no value.
VALUES = {
    "TrainingJobName": ["j"],
    "TuningJobName": ["j"],
    "RoleArn": ["arn:aws:iam::123456789012:role/training"],
    "ImageUri": ["123456789012.dkr.ecr.eu-west-1.amazonaws.com/glioseg:1"],
    "TrainingUri": ["s3://results/labelled/"],
    "OutputUri": ["s3://training/jobs"],
    "CheckpointUri": ["s3://training/jobs/j/checkpoints"],
    "KmsKeyId": ["arn:aws:kms:eu-west-1:123456789012:key/1"],
    "SubnetId": ["subnet-1", "subnet-2"],
    "SecurityGroupId": ["sg-1"],
}


def fill(part, values):
    """The part with its placeholders replaced; a member without a value goes, a list has all values."""
    if isinstance(part, dict):
        members = {name: fill(member, values) for name, member in part.items()}
        return {name: member for name, member in members.items() if member is not None}
    if isinstance(part, list):
        elements = []
        for element in part:
            if isinstance(element, str) and (name := placeholder(element)):
                elements += values.get(name, [])
            else:
                elements.append(fill(element, values))
        return elements
    if isinstance(part, str) and (name := placeholder(part)):
        return values.get(name, [None])[0]
    return part


def placeholder(text):
    match = re.fullmatch(r"\$\{(\w+)\}", text)
    return match and match[1]


def make(name, operation, instance_type, hyper_parameters, definition, more):
    template = json.loads((TEMPLATES / name).read_text())
    request = fill(template, VALUES | {"InstanceType": [instance_type]})
    definition = definition(request)
    definition[hyper_parameters] |= more
    # Without --split the job finds the split among its data.
    definition["InputDataConfig"] = [
        channel for channel in definition["InputDataConfig"] if channel["ChannelName"] != "split"
    ]
    shape = SAGEMAKER.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    (HERE / name).write_text(json.dumps(request, indent=2, sort_keys=True) + "\n")


make(
    "training-job.json",
    "CreateTrainingJob",
    "ml.g6.xlarge",
    "HyperParameters",
    lambda request: request,
    {"epochs": "20", "margin": "0.01"},
)
make(
    "tuning-job.json",
    "CreateHyperParameterTuningJob",
    "ml.g5.xlarge",
    "StaticHyperParameters",
    lambda request: request["TrainingJobDefinition"],
    {"epochs": "20"},
)
