"""Checks a request to SageMaker against the service model that botocore ships.

Standard input: {"operation": ..., "request": ...}. Prints what is wrong, a line each, and then ends with 1. botocore itself
checks names, types, required members and least values; this adds greatest values, patterns and enumerations.
"""

import json
import re
import sys

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator


def faults(shape, value, path):
    if shape.type_name == "structure":
        for name, member in value.items():
            if name in shape.members:
                yield from faults(shape.members[name], member, f"{path}.{name}")
    elif shape.type_name == "list":
        for number, member in enumerate(value):
            yield from faults(shape.member, member, f"{path}[{number}]")
    elif shape.type_name == "map":
        for name, member in value.items():
            yield from faults(shape.key, name, f"{path} {name!r}")
            yield from faults(shape.value, member, f"{path}[{name!r}]")
    greatest = shape.metadata.get("max")
    if greatest is not None:
        size = value if isinstance(value, (int, float)) else len(value)
        if size > greatest:
            yield f"{path}: {size} is more than {greatest}"
    if isinstance(value, str):
        enumeration = getattr(shape, "enum", [])
        if enumeration and value not in enumeration:
            yield f"{path}: {value!r} is none of the values that there are"
        # Java's classes of letters, separators and numbers are \w and \s here.
        pattern = re.sub(r"\\p\{([LNZ])\}", lambda found: {"Z": r"\s"}.get(found[1], r"\w"), shape.metadata.get("pattern", ""))
        if pattern and not re.fullmatch(pattern, value):
            yield f"{path}: {value!r} does not match {pattern}"


def main():
    given = json.load(sys.stdin)
    model = ServiceModel(Loader().load_service_model("sagemaker", "service-2"))
    shape = model.operation_model(given["operation"]).input_shape
    report = ParamValidator().validate(given["request"], shape)
    found = [report.generate_report()] if report.has_errors() else list(faults(shape, given["request"], "request"))
    print("\n".join(found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
