"""Cuts the slice of GitHub's OpenAPI description that the fake of tests/servers/github.py is checked against.

The description is the npm package `@octokit/openapi` (MIT; 385 MB unpacked, of which one file is needed):

    cd /tmp && npm pack @octokit/openapi@23.0.2
    tar xzf octokit-openapi-23.0.2.tgz package/generated/api.github.com.json
    python tests/data/github/cut.py /tmp/package/generated/api.github.com.json

It writes `openapi.json` beside itself: for each operation the schemas of its responses and of its request, GitHub's
own example of each kind of object, and all schemas that those refer to. Prose is left out, and OpenAPI 3.0's
`nullable` becomes JSON Schema's `null`, so that any validator of JSON Schema understands it.
"""

import json
import sys
from pathlib import Path
from typing import Any, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
OPERATIONS = (
    "GET /user",
    "GET /users/{username}",
    "GET /orgs/{org}",
    "GET /rate_limit",
    "POST /app/installations/{installation_id}/access_tokens",
    "GET /user/repos",
    "POST /user/repos",
    "GET /users/{username}/repos",
    "GET /orgs/{org}/repos",
    "POST /orgs/{org}/repos",
    "GET /repos/{owner}/{repo}",
    "POST /repos/{template_owner}/{template_repo}/generate",
    "GET /repos/{owner}/{repo}/contents/{path}",
    "PUT /repos/{owner}/{repo}/contents/{path}",
    "DELETE /repos/{owner}/{repo}/contents/{path}",
    "GET /repos/{owner}/{repo}/branches",
    "GET /repos/{owner}/{repo}/branches/{branch}",
    "GET /repos/{owner}/{repo}/commits",
    "GET /repos/{owner}/{repo}/commits/{ref}",
    "POST /repos/{owner}/{repo}/git/blobs",
    "GET /repos/{owner}/{repo}/git/blobs/{file_sha}",
    "POST /repos/{owner}/{repo}/git/trees",
    "GET /repos/{owner}/{repo}/git/trees/{tree_sha}",
    "POST /repos/{owner}/{repo}/git/commits",
    "GET /repos/{owner}/{repo}/git/commits/{commit_sha}",
    "GET /repos/{owner}/{repo}/git/ref/{ref}",
    "GET /repos/{owner}/{repo}/git/matching-refs/{ref}",
    "POST /repos/{owner}/{repo}/git/refs",
    "PATCH /repos/{owner}/{repo}/git/refs/{ref}",
    "DELETE /repos/{owner}/{repo}/git/refs/{ref}",
    "GET /repos/{owner}/{repo}/issues",
    "POST /repos/{owner}/{repo}/issues",
    "GET /repos/{owner}/{repo}/issues/{issue_number}",
    "PATCH /repos/{owner}/{repo}/issues/{issue_number}",
    "GET /repos/{owner}/{repo}/issues/{issue_number}/comments",
    "POST /repos/{owner}/{repo}/issues/{issue_number}/comments",
    "GET /repos/{owner}/{repo}/issues/comments/{comment_id}",
    "PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}",
    "DELETE /repos/{owner}/{repo}/issues/comments/{comment_id}",
    "GET /repos/{owner}/{repo}/pulls",
    "POST /repos/{owner}/{repo}/pulls",
    "GET /repos/{owner}/{repo}/pulls/{pull_number}",
    "GET /repos/{owner}/{repo}/pulls/{pull_number}/merge",
    "PUT /repos/{owner}/{repo}/pulls/{pull_number}/merge",
    "GET /search/code",
    "GET /search/issues",
    "GET /search/repositories",
    "GET /search/users",
)
PROSE = ("description", "title", "example", "examples", "externalDocs", "deprecated", "default", "xml")
REFERENCE = "#/components/"
EXAMPLES = {
    "private-user": ("GET /user", "200"),
    "public-user": ("GET /users/{username}", "200"),
    "organization": ("GET /orgs/{org}", "200"),
    "rate-limit": ("GET /rate_limit", "200"),
    "repository": ("GET /repos/{owner}/{repo}", "200"),
    "listed-repository": ("GET /orgs/{org}/repos", "200"),
    "found-repository": ("GET /search/repositories", "200"),
    "issue": ("POST /repos/{owner}/{repo}/issues", "201"),
    "found-issue": ("GET /search/issues", "200"),
    "found-user": ("GET /search/users", "200"),
    "pull-request": ("POST /repos/{owner}/{repo}/pulls", "201"),
    "listed-pull-request": ("GET /repos/{owner}/{repo}/pulls", "200"),
}
"""Kind of object -> the response whose example shows one (of a list the first element)."""
NESTED = (
    *("parent", "source", "template_repository", "organization", "repo", "repository", "milestone", "license"),
    *("owner", "user", "assignee", "closed_by", "merged_by", "head", "base", "pull_request", "auto_merge"),
    "active_lock_reason",
)
"""What the fake puts into an example's object itself, or leaves out: null in the slice, and each list empty."""


def main(source: Path, target: Path) -> None:
    """Cut and write."""
    description = json.loads(source.read_text(encoding="utf-8"))
    operations: dict[str, Json] = {name: operation(description, name) for name in OPERATIONS}
    examples = {kind: example(description, *place) for kind, place in EXAMPLES.items()}
    schemas: dict[str, Json] = {}
    collect(description, operations, schemas)
    origin = {"package": "@octokit/openapi", "version": description["info"]["version"], "license": "MIT"}
    target.write_text(
        f'{{"origin": {dense(origin)},\n"operations": {by_line(operations)},\n'
        f'"examples": {by_line(examples)},\n"schemas": {by_line(schemas)}}}\n',
        encoding="utf-8",
    )
    print(f"{target}: {target.stat().st_size} bytes, {len(operations)} operations, {len(schemas)} schemas")


def operation(description: dict[str, Any], name: str) -> dict[str, Json]:
    """One operation: the schemas of its request and of each response (null where it has no JSON)."""
    method, path = name.split()
    found = description["paths"][path][method.lower()]
    responses: dict[str, Json] = {}
    cut: dict[str, Json] = {"responses": responses}
    body = found.get("requestBody")
    if body is not None:
        cut["request"] = simplified(body["content"]["application/json"]["schema"])
        cut["request_required"] = bool(body.get("required"))
    for status, given in found["responses"].items():
        response = resolved(description, given)
        content = response.get("content", {}).get("application/json")
        responses[status] = None if content is None else simplified(content["schema"])
    return cut


def example(description: dict[str, Any], operation: str, status: str) -> Json:
    """GitHub's first example of a response, made small (see `NESTED`)."""
    method, path = operation.split()
    response = resolved(description, description["paths"][path][method.lower()]["responses"][status])
    named = next(iter(response["content"]["application/json"]["examples"].values()))
    value: Json = resolved(description, named)["value"]
    if isinstance(value, dict) and "items" in value:
        value = value["items"]
    return without_nested(value[0] if isinstance(value, list) else value)


def without_nested(value: Json) -> Json:
    """The example, where whole objects in it are null and lists are empty."""
    if isinstance(value, list):
        return []
    if isinstance(value, dict):
        return {key: None if key in NESTED else without_nested(item) for key, item in value.items()}
    return value


def resolved(description: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """What a reference refers to."""
    if "$ref" not in value:
        return value
    _, _, kind, name = value["$ref"].split("/")
    found: dict[str, Any] = description["components"][kind][name]
    return found


def simplified(schema: Json) -> Json:
    """A schema of OpenAPI 3.0 as JSON Schema, without prose; references become `#/schemas/NAME`."""
    if isinstance(schema, list):
        return [simplified(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": str(schema["$ref"]).replace("#/components/schemas/", "#/schemas/")}
    kept = {key: value for key, value in schema.items() if key not in PROSE and not key.startswith("x-")}
    nullable = kept.pop("nullable", False)
    if "oneOf" in kept:
        kept["anyOf"] = kept.pop("oneOf")  # GitHub's alternatives do not exclude each other: an error fits two of them
    for key, value in kept.items():
        if key == "properties" and isinstance(value, dict):
            kept[key] = {name: simplified(item) for name, item in value.items()}
        elif key != "enum":
            kept[key] = simplified(value)
    if not nullable:
        return kept
    if "type" in kept and not any(key in kept for key in ("allOf", "anyOf")):
        kept["type"] = [kept["type"], "null"]
        values = kept.get("enum")
        if isinstance(values, list) and None not in values:
            kept["enum"] = [*values, None]
        return kept
    return {"anyOf": [kept, {"type": "null"}]}


def collect(description: dict[str, Any], value: Json, schemas: dict[str, Json]) -> None:
    """Put every schema that the value refers to, directly or not, into `schemas`."""
    if isinstance(value, list):
        for item in value:
            collect(description, item, schemas)
    elif isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            name = reference.rpartition("/")[2]
            if name not in schemas:
                schemas[name] = simplified(description["components"]["schemas"][name])
                collect(description, schemas[name], schemas)
        for item in value.values():
            collect(description, item, schemas)


def by_line(entries: dict[str, Json]) -> str:
    """A JSON object with one entry in each line."""
    lines = (f"{json.dumps(name)}: {dense(entry)}" for name, entry in sorted(entries.items()))
    return "{\n" + ",\n".join(lines) + "\n}"


def dense(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("openapi.json"))
