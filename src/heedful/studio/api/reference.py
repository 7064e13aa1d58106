"""The API's reference: what its OpenAPI document says, laid out for the page that people read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
_REF = "#/components/schemas/"
_ANY = "JsonValue"
"""The schema of any JSON value: it has no fields to show."""
_ENDS = (("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", " entries"))


@dataclass(frozen=True)
class Field:
    """A parameter of a request, or a field of a JSON object."""

    name: str
    required: bool
    kind: str
    """In words; what `schema` names comes behind it."""
    schema: str
    """A schema of the document, or empty."""
    limits: str
    default: str


@dataclass(frozen=True)
class Operation:
    """A method of an address."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    """Markdown, as in a docstring."""
    token: bool
    parameters: list[Field]
    takes: Field | None
    """The body of the request."""
    gives: Field | None
    """The body of the answer; None: `media` says what comes instead."""
    media: str


@dataclass(frozen=True)
class Shape:
    """A JSON object that requests and answers are made of."""

    name: str
    description: str
    fields: list[Field]


def operations(document: Mapping[str, Any]) -> dict[str, list[Operation]]:
    """Every operation, by its tag, in the document's order."""
    found: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            found.setdefault(one["tags"][0], []).append(_operation(path, method, one))
    return found


def shapes(document: Mapping[str, Any]) -> list[Shape]:
    """Every object that the operations name, by name."""
    schemas = document["components"]["schemas"]
    return [
        Shape(name, one.get("description", ""), _fields(one)) for name, one in sorted(schemas.items()) if name != _ANY
    ]


def _operation(path: str, method: str, one: Mapping[str, Any]) -> Operation:
    body = one.get("requestBody", {}).get("content", {})
    answer = one["responses"].get(200, one["responses"].get("200", {})).get("content", {})
    media = next(iter(answer), "")
    return Operation(
        anchor=f"{method}-{path.strip('/').replace('/', '-').replace('{', '').replace('}', '')}",
        method=method.upper(),
        path=path,
        summary=one.get("summary", ""),
        description=one.get("description", ""),
        token=bool(one.get("security")),
        parameters=[_field(given["name"], given["schema"], given["required"]) for given in one.get("parameters", [])],
        takes=_field("", body["application/json"]["schema"], True) if body else None,
        gives=_field("", answer[media]["schema"], True) if answer.get(media, {}).get("schema") else None,
        media=media,
    )


def _fields(schema: Schema) -> list[Field]:
    required = schema.get("required", [])
    return [_field(name, one, name in required) for name, one in schema.get("properties", {}).items()]


def _field(name: str, schema: Schema, required: bool) -> Field:
    kind, ref = _kind(schema)
    default = schema.get("default", "")
    shown = "" if default in ("", None, []) else str(default).lower() if isinstance(default, bool) else str(default)
    return Field(name, required, kind, ref, _limits(schema), shown)


def _kind(schema: Schema) -> tuple[str, str]:
    """(words, the schema that they end with): ("list of", "ItemIn")."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return ("any JSON value", "") if name == _ANY else ("", name)
    if "anyOf" in schema:
        inner, ref = _kind(_given(schema))
        return ("null or " + inner if inner else "null or", ref)
    if "const" in schema:
        return f"always {schema['const']}", ""
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}", ""
    if schema.get("type") == "array":
        inner, ref = _kind(schema["items"])
        return f"list of {inner}".strip(), ref
    if isinstance(schema.get("additionalProperties"), Mapping):
        inner, ref = _kind(schema["additionalProperties"])
        return f"object of {inner}".strip(), ref
    return str(schema.get("format", schema.get("type", "any JSON value"))), ""


def _given(schema: Schema) -> Schema:
    """What a field is when it is not null."""
    return next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)


def _limits(schema: Schema) -> str:
    one = _given(schema)
    pairs = (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " entries"),
    )
    for low, high, of in pairs:
        if low in one and high in one:
            return f"{one[low]:,} to {one[high]:,}{of}"
        if high in one:
            return f"at most {one[high]:,}{of}"
        if low in one:
            return f"at least {one[low]:,}{of}"
    return _limits(one["items"]) if "items" in one and "$ref" not in one["items"] else ""
