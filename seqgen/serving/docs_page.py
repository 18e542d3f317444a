"""The page at /docs: the OpenAPI schema as plain HTML, which loads nothing and runs nothing."""

from jinja2 import Environment

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}: API</title>
</head>
<body>
<h1>{{ title }}: API</h1>
<p>The schema for programs: <a href="/openapi.json">openapi.json</a> (OpenAPI {{ openapi }}).
Every error is <code>{"error": "one sentence"}</code>.</p>
{% for tag, operations in tags.items() %}
<h2>{{ tag }}</h2>
<dl>
{% for operation in operations %}
<dt><code>{{ operation.method }} {{ operation.path }}</code></dt>
<dd>{{ operation.description }}
{% if operation.body %}<br>Takes {{ shape(operation.body) }}.{% endif %}
{% if operation.answer %}<br>Returns {{ shape(operation.answer) }}.{% endif %}</dd>
{% endfor %}
</dl>
{% endfor %}
<h2>Shapes</h2>
{% for name, schema in schemas.items() %}
<h3 id="{{ name }}">{{ name }}</h3>
<p>{{ schema.description or "" }}</p>
<ul>
{% for key, value in (schema.properties or {}).items() %}
<li><code>{{ key }}</code>: {{ shape(value) }}
{%- if key not in (schema.required or []) %}, may be left out{% endif %}</li>
{% endfor %}
</ul>
{% endfor %}
</body>
</html>
"""
MACRO = """{% macro shape(s) -%}
{% if "$ref" in s %}<a href="#{{ s["$ref"].split("/")[-1] }}">{{ s["$ref"].split("/")[-1] }}</a>
{%- elif s.anyOf %}{% for one in s.anyOf %}{{ shape(one) }}{{ " or " if not loop.last }}{% endfor %}
{%- elif s.items and s.type == "array" %}a list of {{ shape(s["items"]) }}
{%- elif s.enum %}{{ s.enum | join(" | ") }}
{%- elif s.const %}{{ s.const }}
{%- else %}{{ s.type or "anything" }}{% endif %}
{%- endmacro %}"""
TEMPLATE = Environment(autoescape=True).from_string(MACRO + PAGE)


def describe_api(schema: dict) -> str:
    """Return an OpenAPI schema as a page."""
    tags: dict[str, list[dict]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {})
            answers = [r for code, r in operation["responses"].items() if code.startswith("2")]
            content = answers[0].get("content", {}) if answers else {}
            entry = {
                "method": method.upper(),
                "path": path,
                "description": operation.get("description", ""),
                "body": next((kind.get("schema") for kind in body.values()), None),
                "answer": next((kind.get("schema") for kind in content.values()), None),
            }
            tags.setdefault(operation["tags"][0], []).append(entry)
    return TEMPLATE.render(
        title=schema["info"]["title"],
        openapi=schema["openapi"],
        tags=tags,
        schemas=schema["components"]["schemas"],
    )
