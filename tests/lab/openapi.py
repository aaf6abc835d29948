"""The description of the instance-ha API as a judge: is this answer of a controller one that it names?"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FILE = Path(__file__).resolve().parents[2] / "masakari" / "instance_ha" / "openapi.json"
METHODS = ("get", "put", "post", "delete")


class Description:
    """The description, read from its file."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
        self._known = {_pattern(path): path for path in self.content["paths"]}

    @property
    def operations(self) -> set[tuple[str, str]]:
        """Every method and path, as ("GET", "/v1/segments/{segment_id}")."""
        paths = self.content["paths"]
        return {(method.upper(), path) for path in paths for method in METHODS if method in paths[path]}

    @property
    def answers(self) -> set[tuple[str, str, int]]:
        """Every answer that is described: method, path and status."""
        return {
            (method, path, int(status))
            for method, path in self.operations
            for status in self._operation(method, path)["responses"]
        }

    def parameters(self, method: str, path: str) -> list[dict[str, Any]]:
        """What a request may say beside its body."""
        return [self._resolved(item) for item in self._operation(method, path).get("parameters", [])]

    def path_of(self, path: str) -> str:
        """The described path that a path of a request is; empty for one that isn't described."""
        plain = re.sub(r"^/v1/(?!segments(/|$)|notifications(/|$))[^/]+", "/v1", path)
        return next((known for pattern, known in self._known.items() if pattern.fullmatch(plain)), "")

    def problem(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> str:
        """What an answer has that isn't described, or lacks that is; empty when it is as described.

        A path or method that isn't described may be answered 404 or 405, with a body like any other error.
        """
        known = self.path_of(path)
        if (method, known) not in self.operations:
            allowed = (404,) if not known else (405,)
            return "" if status in allowed else f"{method} {path} is not described, and answered {status}"
        described = self._operation(method, known)["responses"].get(str(status))
        if described is None:
            return f"{status} is not described for {method} {known}"
        return self._differs(self._resolved(described), headers, body)

    def _differs(self, answer: dict[str, Any], headers: Mapping[str, str], body: bytes) -> str:
        for name, header in answer.get("headers", {}).items():
            given = headers.get(name) or headers.get(name.lower())
            schema = self._resolved(header)["schema"]
            if given is None or not self._fits(schema, given):
                return f"header {name}: {given}"
        if "content" not in answer:
            return f"a body where there should be none: {body[:80]!r}" if body else ""
        if (headers.get("Content-Type") or headers.get("content-type", "")).split(";")[0] != "application/json":
            return f"Content-Type: {headers.get('Content-Type')}"
        error = next(self._errors(answer["content"]["application/json"]["schema"], json.loads(body)), None)
        return f"{error.json_path}: {error.message}"[:500] if error else ""

    def _operation(self, method: str, path: str) -> dict[str, Any]:
        return dict(self.content["paths"][path][method.lower()])

    def _resolved(self, item: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in item:
            _, _, kind, name = item["$ref"].split("/")
            item = self.content["components"][kind][name]
        return item

    def _fits(self, schema: dict[str, Any], value: object) -> bool:
        return next(self._errors(schema, value), None) is None

    def _errors(self, schema: dict[str, Any], value: object) -> Any:
        # References within the schema are looked up in the document that it stands in.
        whole = {**schema, "components": self.content["components"]}
        return Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).iter_errors(value)


def _pattern(path: str) -> re.Pattern[str]:
    """What a described path matches; a slash at the end makes no difference."""
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path.rstrip("/"))) + "/?")
