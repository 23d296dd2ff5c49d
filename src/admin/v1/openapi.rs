//! The OpenAPI document of the admin API, made of its table.

use serde_json::{Map, Value, json};

use super::route::{AdminRoute, BodyMember};
use crate::admin::access::OperatorRole;

/// The document.
pub(super) fn document(table: &[AdminRoute]) -> Value {
    let mut paths = Map::new();
    for route in table {
        let path = format!("/admin/v1{}", route.path);
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "whiteboard-gateway admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "For operators, [operators.NAME] of the configuration, at the admin \
                            listener.",
        },
        "security": [{ "key": [] }, { "session": [] }, { "certificate": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http", "scheme": "bearer",
                    "description": "The key of an operator, wbg_admin_….",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": "wbg_session",
                    "description": "Over TLS __Host-wbg_session. A change carries the token of the \
                                    session besides, in Whiteboard-Session-Token.",
                },
                "certificate": { "type": "mutualTLS" },
            },
            "schemas": {
                "Failure": {
                    "type": "object",
                    "required": ["message", "code", "requestId"],
                    "properties": {
                        "message": { "type": "string" },
                        "code": { "type": "string" },
                        "requestId": { "type": "string" },
                    },
                },
            },
        },
    })
}

fn operation(route: &AdminRoute) -> Value {
    let failure = json!({ "$ref": "#/components/schemas/Failure" });
    let content = |schema: Value| json!({ "application/json": { "schema": schema } });
    let name = route.path.split('/').filter(|part| !part.is_empty());
    let name: Vec<&str> = [route.method.as_str()].into_iter().chain(name).collect();
    let mut operation = json!({
        "operationId": name.join("_").to_ascii_lowercase(),
        "summary": route.summary,
        "x-role": route.role.map(OperatorRole::as_str),
        "responses": {
            "200": { "description": "Done", "content": content(json!({ "type": "object" })) },
            "default": { "description": "It is refused, or failed", "content": content(failure) },
        },
    });
    if route.role.is_none() {
        operation["security"] = json!([]);
    }
    if !route.takes.is_empty() {
        let required: Vec<&str> =
            route.takes.iter().filter(|member| member.required).map(|member| member.name).collect();
        let member = |BodyMember { name, kind, about, .. }: &BodyMember| {
            ((*name).to_owned(), json!({ "type": kind.as_str(), "description": about }))
        };
        let properties: Map<String, Value> = route.takes.iter().map(member).collect();
        let schema = json!({
            "type": "object", "required": required, "properties": properties,
            "additionalProperties": false,
        });
        operation["requestBody"] = json!({ "required": true, "content": content(schema) });
    }
    if route.changes {
        operation["parameters"] = json!([{
            "name": "Whiteboard-Session-Token", "in": "header", "required": false,
            "schema": { "type": "string" },
            "description": "Required of a session: the token that its login was told",
        }]);
    }
    operation
}
