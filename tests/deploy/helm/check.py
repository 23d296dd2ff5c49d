"""What the tests of the Helm chart ask of YAML, which they read as JSON.

    check.py objects < rendered.yaml             the objects, as a JSON array
    check.py validate 1.27 1.37 < rendered.yaml  each against the schemas of these Kubernetes versions
    check.py schema values.schema.json           whether that is a JSON Schema

`validate` is strict: a key that the schema does not know is wrong. The schemas of Kubernetes come with
kubernetes-validate; `install` has made those of the Prometheus operator out of models of its definitions.
"""

import json
import pathlib
import sys

import yaml


class Loader(yaml.SafeLoader):
    """As safe as its parent, and refuses a key that is there twice, of which YAML keeps the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


def objects(text):
    return [one for one in yaml.load_all(text, Loader) if one is not None]


def closed(schema):
    """The schema, with every object that lists its properties closed to others."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def wrong_for_the_operator(one):
    import jsonschema

    schemas = json.loads((pathlib.Path(sys.prefix).parent / "operator.json").read_text())
    if one["kind"] not in schemas:
        return ["there is no such kind"]
    errors = jsonschema.Draft202012Validator(closed(schemas[one["kind"]])).iter_errors(one)
    return [f"{error.json_path}: {error.message}" for error in errors]


def wrong_for_kubernetes(one, version):
    import kubernetes_validate

    try:
        used = kubernetes_validate.validate(one, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    # An older version's schemas are taken where those of this one are not there.
    return [] if used == version else [f"there are no schemas of {version}"]


def validate(versions, text):
    wrong = []
    for one in objects(text):
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["apiVersion"].startswith("monitoring.coreos.com/"):
            wrong += [f"{name}: {why}" for why in wrong_for_the_operator(one)]
        else:
            for version in versions:
                wrong += [f"{name} ({version}): {why}" for why in wrong_for_kubernetes(one, version)]
    return wrong


def main(command, *arguments):
    if command == "objects":
        json.dump(objects(sys.stdin.read()), sys.stdout)
        return 0
    if command == "validate":
        wrong = validate(arguments, sys.stdin.read())
        print("\n".join(wrong))
        return 1 if wrong else 0
    if command == "schema":
        import jsonschema

        with open(arguments[0]) as file:
            jsonschema.Draft7Validator.check_schema(json.load(file))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
