//! The OpenAPI 3.1 document, made from the table.

use serde_json::{Map, Value, json};

use super::id;
use super::operation::Feature;
use super::{Access, Body, Field, Operation, Operations, Query, Regions, Shape, UnknownFields};
use crate::failure::{self, Code};

/// An id as every server and proxy reads it alike. The gateway takes a little more.
const ID: &str = "^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$";

/// What a query holds no character of.
const CONTROLS: &str = r"\u0000-\u001f\u007f-\u009f";

/// What a gateway serves, as its configuration has it.
#[derive(Clone, Copy)]
pub struct ApiDescription<'a> {
    /// What can be asked.
    pub operations: &'a Operations,
    /// Where.
    pub regions: &'a Regions,
    /// Which statuses failures have.
    pub errors: failure::Settings,
    /// Whether bodies may hold more than the fields of the table.
    pub unknown_fields: UnknownFields,
}

/// The OpenAPI 3.1 document of what this gateway serves.
#[must_use]
pub fn document(served: &ApiDescription<'_>) -> Value {
    let regions = served.regions;
    let mut paths = Map::new();
    for (_, operation) in served.operations.iter() {
        let path = paths.entry(operation.path.as_ref()).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = describe(operation, served);
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
                "content": {
                    "application/json": {
                        "schema": { "$ref": "#/components/schemas/Failure" },
                    },
                    "application/problem+json": {
                        "schema": { "$ref": "#/components/schemas/Failure" },
                    },
                },
            }},
        },
    })
}

fn describe(operation: &Operation, served: &ApiDescription<'_>) -> Value {
    let mut parameters = vec![json!({ "$ref": "#/components/parameters/region" })];
    if operation.path.contains("{uuid}") {
        parameters.push(json!({
            "name": "uuid", "in": "path", "required": true,
            "schema": { "type": "string", "maxLength": id::LONGEST, "pattern": ID },
        }));
    }
    if let Query::Known(known) = operation.query {
        parameters.extend(known.iter().map(|parameter| {
            json!({
                "name": parameter.name, "in": "query", "required": parameter.required,
                "description": parameter.about, "schema": query(parameter.shape),
            })
        }));
    }
    let answer = match operation.access {
        Access::Mints(_) => json!({ "type": "string", "description": "The token." }),
        Access::Needs(..) | Access::Open => json!({}),
    };
    // What an added operation answers is the service's, as it labels it.
    let label = if operation.feature == Feature::Added { "*/*" } else { "application/json" };
    let mut description = json!({
        "operationId": operation.name,
        "tags": [operation.feature.as_str()],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": failures(served.errors),
    });
    description["responses"][operation.success.as_str()] = json!({
        "description": "Success.",
        "content": { label: { "schema": answer } },
    });
    if operation.deprecated {
        description["deprecated"] = Value::Bool(true);
    }
    match operation.body {
        Body::None => {}
        Body::Json(fields) => {
            description["requestBody"] = json!({
                "required": fields.iter().any(|field| field.required),
                "content": { "application/json": { "schema": object(fields, served.unknown_fields) } },
            });
        }
        Body::Opaque => {
            description["requestBody"] = json!({ "content": { "*/*": {} } });
        }
    }
    description
}

/// A failure of each status that there may be.
fn failures(errors: failure::Settings) -> Value {
    let failure = json!({ "$ref": "#/components/responses/Failure" });
    let statuses = Code::all().map(|code| code.status(&errors).as_str().to_owned());
    statuses.map(|status| (status, failure.clone())).collect::<Map<_, _>>().into()
}

/// The schema of a query parameter.
fn query(shape: Shape) -> Value {
    let mut schema = schema(shape, UnknownFields::Pass);
    if let Shape::Text { starts_with, .. } = shape {
        schema["pattern"] = format!("^{starts_with}[^{CONTROLS}]*$").into();
    }
    schema
}

fn object(fields: &[Field], unknown: UnknownFields) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| {
            let mut property = schema(field.shape, unknown);
            property["description"] = Value::from(field.about);
            (field.name.to_owned(), property)
        })
        .collect();
    let required: Vec<&str> =
        fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    // An object without documented fields is one about which nothing is known.
    let open = fields.is_empty() || unknown == UnknownFields::Pass;
    json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": open,
    })
}

fn schema(shape: Shape, unknown: UnknownFields) -> Value {
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
        Shape::Object(fields) => object(fields, unknown),
        Shape::Array(of) => json!({ "type": "array", "items": schema(*of, unknown) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TABLE;
    use crate::failure::Profile;

    fn made(profile: Profile, unknown_fields: UnknownFields) -> Value {
        document(&ApiDescription {
            operations: &Operations::documented(),
            regions: &Regions::new([], "us-sv").unwrap(),
            errors: failure::Settings::of(profile),
            unknown_fields,
        })
    }

    fn described<'a>(document: &'a Value, operation: &Operation) -> &'a Value {
        let method = operation.method.as_str().to_ascii_lowercase();
        &document["paths"][operation.path.as_ref()][method]
    }

    #[test]
    fn every_operation_is_in_the_document_with_the_statuses_that_it_may_have() {
        for (profile, failures) in [
            (Profile::Documented, "400 401 403 404 500"),
            (Profile::Extended, "400 401 403 404 405 408 413 414 415 429 431 500 502 503 504"),
        ] {
            let document = made(profile, UnknownFields::Pass);
            for row in TABLE.iter() {
                let described = described(&document, row);
                assert_eq!(described["operationId"], row.name.as_ref());
                let statuses = described["responses"].as_object().unwrap().keys();
                let mut statuses: Vec<&str> = statuses.map(String::as_str).collect();
                statuses.sort_unstable();
                assert_eq!(statuses.join(" "), format!("{} {failures}", row.success.as_str()));
            }
        }
    }

    #[test]
    fn what_an_added_operation_answers_may_be_of_any_type() {
        let mut operations = Operations::documented();
        let added = Operation {
            name: "scenes.export".into(),
            path: "/v5/rooms/{uuid}/scenes-export".into(),
            feature: Feature::Added,
            ..TABLE[5].clone()
        };
        operations.add(added.clone()).unwrap();
        let document = document(&ApiDescription {
            operations: &operations,
            regions: &Regions::new([], "us-sv").unwrap(),
            errors: failure::Settings::of(Profile::Documented),
            unknown_fields: UnknownFields::Pass,
        });
        for (row, label) in [(&added, "*/*"), (&TABLE[5], "application/json")] {
            let content = &described(&document, row)["responses"]["200"]["content"];
            assert!(content[label].is_object(), "{content}");
        }
    }

    #[test]
    fn unknown_fields_are_in_the_document_where_they_are_taken() {
        for (unknown, allowed) in [(UnknownFields::Pass, true), (UnknownFields::Refuse, false)] {
            let document = made(Profile::Documented, unknown);
            let schema = |path: &str| {
                let body = &document["paths"][path]["post"]["requestBody"];
                body["content"]["application/json"]["schema"].clone()
            };
            let scenes = schema("/v5/rooms/{uuid}/scenes");
            let scene = &scenes["properties"]["scenes"]["items"];
            for object in [&scenes, scene, &scene["properties"]["ppt"]] {
                assert_eq!(object["additionalProperties"], allowed, "{object}");
            }
            // Nothing is known about what it holds, so nothing of it can be unknown.
            let driver = &schema("/v5/projector/tasks")["properties"]["targetStorageDriver"];
            assert_eq!(driver["additionalProperties"], true);
        }
    }
}
