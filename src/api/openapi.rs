//! The OpenAPI 3.1 description of the API, assembled from the table of routes and the types of the answers.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::BASE;
use super::problem::Problem;
use super::raw_value;
use super::route::{ParameterKind, ROUTES, Route, RouteAnswer};

/// The description as it is served and checked in.
///
/// # Panics
/// Never: a description is valid JSON.
pub fn openapi_text() -> String {
    let mut text = serde_json::to_string_pretty(&openapi()).expect("a description is plain JSON");
    text.push('\n');
    text
}

fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths = Map::new();
    for route in ROUTES {
        paths.insert(format!("{BASE}{}", route.path), path_item(route, &mut generator));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "zkbridge",
            "version": "1",
            "description": "Read-only questions about what the journals of a bridge know. Within version 1 routes, \
                            parameters and fields are added, never removed, and never change their meaning.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": {
                "Problem": {
                    "description": "A problem with a remedy (RFC 9457).",
                    "content": {"application/problem+json": {"schema": problem}},
                },
            },
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "zkbridge-session"},
            },
        },
    })
}

fn path_item(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let get = operation(route, "get", route.summary, generator);
    if !matches!(route.answer, RouteAnswer::Session) {
        return json!({"get": get});
    }
    let mut opened = problems(&["400", "401", "403", "413", "421", "429"]);
    opened.insert("204".to_owned(), json!({"description": "The cookie is set."}));
    let mut closed = problems(&["401", "403", "421"]);
    closed.insert("204".to_owned(), json!({"description": "The cookie is removed."}));
    let body = json!({
        "required": true,
        "content": {"application/json": {"schema": {
            "type": "object",
            "additionalProperties": false,
            "properties": {"code": {"type": "string"}, "token": {"type": "string"}},
            "minProperties": 1,
            "maxProperties": 1,
        }}},
    });
    json!({
        "get": get,
        "post": {
            "operationId": "post_session",
            "summary": "Opens a session with a one-time code or a token",
            "security": [],
            "requestBody": body,
            "responses": opened,
        },
        "delete": {
            "operationId": "delete_session",
            "summary": "Closes the caller's session",
            "responses": closed,
        },
    })
}

fn operation(route: &Route, method: &str, summary: &str, generator: &mut SchemaGenerator) -> Value {
    let schema = match (route.schema, route.answer) {
        (Some(schema), _) => schema(generator).to_value(),
        (None, _) => json!({"type": ["object", "array"]}),
    };
    let content = match route.answer {
        RouteAnswer::Stream => json!({"text/event-stream": {"schema": {"type": "string"}}}),
        _ if route.path.ends_with("/node") => json!({
            "application/json": {"schema": schema},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        }),
        _ => json!({"application/json": {"schema": schema}}),
    };
    let parameters: Vec<Value> = of_path(route).chain(of_query(route)).collect();
    let mut answer = json!({"description": summary, "content": content});
    if route.path.ends_with("/node") {
        answer["headers"] = raw_value::described();
    }
    let mut responses = problems(problem_codes(route));
    responses.insert("200".to_owned(), answer);
    if !matches!(route.answer, RouteAnswer::Stream) {
        let unchanged = "The answer has the ETag of If-None-Match.";
        responses.insert("304".to_owned(), json!({"description": unchanged}));
    }
    json!({
        "operationId": operation_id(route, method),
        "summary": summary,
        "parameters": parameters,
        "responses": responses,
    })
}

/// The codes of the problems that a route answers with. Those of the guard, 401 and 421, are everywhere.
fn problem_codes(route: &Route) -> &'static [&'static str] {
    match route.answer {
        RouteAnswer::Question(_) => &["400", "401", "403", "404", "410", "421", "500", "503"],
        RouteAnswer::Stream => &["400", "401", "404", "421", "500", "503"],
        RouteAnswer::Status | RouteAnswer::Sinks => &["400", "401", "403", "421"],
        RouteAnswer::Sources | RouteAnswer::OpenApi | RouteAnswer::Session => &["400", "401", "421"],
    }
}

fn problems(codes: &[&str]) -> Map<String, Value> {
    let problem = || json!({"$ref": "#/components/responses/Problem"});
    codes.iter().map(|code| ((*code).to_owned(), problem())).collect()
}

fn operation_id(route: &Route, method: &str) -> String {
    let words = route
        .path
        .split(['/', '{', '}', '.'])
        .filter(|word| !word.is_empty());
    format!("{method}_{}", words.collect::<Vec<_>>().join("_"))
}

fn of_path(route: &Route) -> impl Iterator<Item = Value> {
    let names = route.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?;
        name.strip_suffix('}')
    });
    names.map(|name| {
        let schema = match name {
            "seq" => json!({"type": "integer", "format": "uint64", "minimum": 0}),
            _ => json!({"type": "string"}),
        };
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    })
}

fn of_query(route: &Route) -> impl Iterator<Item = Value> {
    route.parameters.iter().map(|parameter| {
        json!({
            "name": parameter.name,
            "in": "query",
            "required": parameter.is_required,
            "description": parameter.about,
            "schema": match parameter.kind {
                ParameterKind::Text => json!({"type": "string"}),
                ParameterKind::Path => json!({"type": "string", "pattern": "^/"}),
                ParameterKind::Number { min } => {
                    json!({"type": "integer", "format": "uint64", "minimum": min})
                }
                ParameterKind::OneOf(words) => json!({"type": "string", "enum": words}),
            },
        })
    })
}
