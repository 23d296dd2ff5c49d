//! The OpenAPI 3.1 document, made from the table.

use serde_json::{Map, Value, json};

use super::{Access, Body, Field, Operation, Operations, Query, Regions, Shape};

/// The OpenAPI 3.1 document of what this gateway serves.
#[must_use]
pub fn document(operations: &Operations, regions: &Regions) -> Value {
    let mut paths = Map::new();
    for (_, operation) in operations.iter() {
        let path = paths.entry(operation.path.as_ref()).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = describe(operation);
    }
    let known: Vec<&str> = regions.iter().map(super::Region::as_str).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Interactive Whiteboard RESTful API, through whiteboard-gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Every failure, whoever caused it, is a JSON object with `message`, `code` and `requestId`.",
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }, { "apiKey": [] }, { "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "apiKey": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
                "token": { "type": "apiKey", "in": "header", "name": "token" },
            },
            "parameters": {
                "region": {
                    "name": "region", "in": "header", "required": false,
                    "description": "The data centre; the configured default when left out.",
                    "schema": {
                        "type": "string", "enum": known,
                        "default": regions.default_region().as_str(),
                    },
                },
            },
            "schemas": { "Failure": {
                "type": "object",
                "required": ["message", "code", "requestId"],
                "properties": {
                    "message": { "type": "string", "description": "One sentence for people." },
                    "code": { "description": "One word for programs; the upstream's own wins." },
                    "requestId": { "type": "string" },
                    "rule": { "type": "string", "description": "The rule that refused." },
                },
            }},
            "responses": { "Failure": {
                "description": "The failure envelope.",
                "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/Failure" },
                }},
            }},
        },
    })
}

fn describe(operation: &Operation) -> Value {
    let mut parameters = vec![json!({ "$ref": "#/components/parameters/region" })];
    if operation.path.contains("{uuid}") {
        parameters.push(json!({
            "name": "uuid", "in": "path", "required": true, "schema": { "type": "string" },
        }));
    }
    if let Query::Known(known) = operation.query {
        parameters.extend(known.iter().map(|parameter| {
            json!({
                "name": parameter.name, "in": "query", "required": parameter.required,
                "description": parameter.about, "schema": schema(parameter.shape),
            })
        }));
    }
    let answer = match operation.access {
        Access::Mints(_) => json!({ "type": "string", "description": "The token." }),
        Access::Needs(..) | Access::Open => json!({}),
    };
    let mut description = json!({
        "operationId": operation.name,
        "tags": [operation.feature.as_str()],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {
            operation.success.as_str(): {
                "description": "Success.",
                "content": { "application/json": { "schema": answer } },
            },
            "default": { "$ref": "#/components/responses/Failure" },
        },
    });
    if operation.deprecated {
        description["deprecated"] = Value::Bool(true);
    }
    match operation.body {
        Body::None => {}
        Body::Json(fields) => {
            description["requestBody"] = json!({
                "required": fields.iter().any(|field| field.required),
                "content": { "application/json": { "schema": object(fields) } },
            });
        }
        Body::Opaque => {
            description["requestBody"] = json!({ "content": { "*/*": {} } });
        }
    }
    description
}

fn object(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| {
            let mut property = schema(field.shape);
            property["description"] = Value::from(field.about);
            (field.name.to_owned(), property)
        })
        .collect();
    let required: Vec<&str> =
        fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn schema(shape: Shape) -> Value {
    match shape {
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Lifespan => json!({ "type": "integer", "minimum": 0 }),
        Shape::Ignored => json!({}),
        Shape::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Shape::Text { starts_with: "", longest } => {
            json!({ "type": "string", "maxLength": longest })
        }
        Shape::Text { starts_with, longest } => {
            json!({ "type": "string", "maxLength": longest, "pattern": format!("^{starts_with}") })
        }
        Shape::OneOf(texts) => json!({ "type": "string", "enum": texts }),
        Shape::Object(fields) => object(fields),
        Shape::Array(of) => json!({ "type": "array", "items": schema(*of) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TABLE;

    #[test]
    fn every_operation_is_in_the_document() {
        let operations = Operations::documented();
        let regions = Regions::new([], "us-sv").unwrap();
        let document = document(&operations, &regions);
        for row in TABLE.iter() {
            let described =
                &document["paths"][row.path.as_ref()][row.method.as_str().to_ascii_lowercase()];
            assert_eq!(described["operationId"], row.name.as_ref());
            assert!(described["responses"][row.success.as_str()].is_object(), "{}", row.name);
        }
    }
}
