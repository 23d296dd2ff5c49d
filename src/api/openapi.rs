//! The OpenAPI 3.1 document, made from the table and from `openapi.json`, which has the schemas of
//! what the service answers and an example of each request.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::id;
use super::{
    Access, BodySpec, Field, Operation, Operations, Query, Regions, Shape, TokenKind, UnknownFields,
};
use crate::failure::{self, Code};

/// An id as every server and proxy reads it alike. The gateway takes a little more.
const ID: &str = "^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$";

/// What a query holds no character of.
const CONTROLS: &str = r"\u0000-\u001f\u007f-\u009f";

/// What the table does not say: the `schemas` of responses by name, of each documented operation
/// the schema of its success and an example of its request, and a message for each code.
static DOCUMENTED: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("openapi.json");
    serde_json::from_str(text).unwrap_or_default()
});

/// The URL of a gateway that listens where it does by default.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// What a gateway serves, as its configuration has it.
#[derive(Clone, Copy)]
pub struct ApiDescription<'a> {
    /// What can be asked.
    pub operations: &'a Operations,
    /// Where at the service.
    pub regions: &'a Regions,
    /// The URL at which the gateway is called.
    pub server: &'a str,
    /// Which statuses failures have.
    pub errors: failure::Settings,
    /// Whether bodies may hold more than the fields of the table.
    pub unknown_fields: UnknownFields,
}

/// The OpenAPI 3.1 document of what this gateway serves.
pub fn document(served: &ApiDescription<'_>) -> Value {
    let regions = served.regions;
    let mut paths = Map::new();
    let mut tags: Vec<&str> = Vec::new();
    for (_, operation) in served.operations.iter() {
        let tag = operation.feature.as_str();
        if !tags.contains(&tag) {
            tags.push(tag);
        }
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
        "servers": [{
            "url": "{gateway}",
            "variables": { "gateway": {
                "default": served.server,
                "description": "The URL of the gateway, without a slash at its end.",
            }},
        }],
        "tags": tags.into_iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
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
            "schemas": schemas(),
            "headers": headers(),
            "responses": failures(served.errors),
        },
    })
}

/// The schemas of what is answered.
fn schemas() -> Value {
    let mut schemas = DOCUMENTED["schemas"].clone();
    let codes: Vec<&str> = Code::all().map(Code::name).collect();
    schemas["Failure"] = json!({
        "description": "A failure, whoever caused it. A problem document (RFC 9457) has further members.",
        "type": "object",
        "required": ["message", "code", "requestId"],
        "properties": {
            "message": { "type": "string", "description": "One sentence for people." },
            "code": {
                "type": ["string", "number"], "examples": codes,
                "description": "One word for programs; the service's own `code` replaces it, which may be a number.",
            },
            "requestId": { "type": "string", "description": "The id of the request, also in `X-Request-Id`." },
            "rule": { "type": "string", "description": "The key of the configuration that refused." },
            "errorCode": { "type": ["string", "number"], "description": "The service's own, where it has one." },
            "errorMessage": { "type": "string", "description": "The service's own, where it has one." },
        },
    });
    schemas
}

/// The fields of responses that a client may read.
fn headers() -> Value {
    let text = |about: &str| json!({ "description": about, "schema": { "type": "string" } });
    json!({
        "X-Request-Id": text("The id of the request, also in the access log."),
        "RateLimit": text("What is left of each limit that the request counted against."),
        "RateLimit-Policy": text("The limits that the request counted against."),
        "Retry-After": {
            "description": "When to try again, in seconds.",
            "schema": { "type": "integer", "minimum": 1 },
        },
        "WWW-Authenticate": text("What credential is asked for, and why the one that came is refused (RFC 6750)."),
        "Allow": text("The methods that the path takes."),
        "Proxy-Status": text("What the gateway met (RFC 9209)."),
        "Whiteboard-Key-Ends": {
            "description": "When the API key of the request ends (RFC 3339), in its last days; never in a page.",
            "schema": { "type": "string", "format": "date-time" },
        },
    })
}

/// References to some of the header fields.
fn with_headers(names: &[&str]) -> Value {
    let reference = |name: &&str| {
        ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }))
    };
    names.iter().map(reference).collect::<Map<_, _>>().into()
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
    let documented = &DOCUMENTED["operations"][operation.name.as_ref()];
    let mut description = json!({
        "operationId": operation.name,
        "tags": [operation.feature.as_str()],
        "summary": operation.summary,
        "description": about(operation),
        "parameters": parameters,
        "responses": {},
    });
    for code in Code::all() {
        let status = code.status(&served.errors);
        let reference = format!("#/components/responses/{}", failure_name(status));
        description["responses"][status.as_str()] = json!({ "$ref": reference });
    }
    description["responses"][operation.success.as_str()] = json!({
        "description": "Success.",
        "headers": with_headers(&["X-Request-Id", "RateLimit", "RateLimit-Policy", "Whiteboard-Key-Ends"]),
        // What an added operation answers is the service's, as it labels it.
        "content": match documented["success"].as_str() {
            Some(name) => json!({ "application/json": {
                "schema": { "$ref": format!("#/components/schemas/{name}") },
            }}),
            None => json!({ "*/*": { "schema": {} } }),
        },
    });
    if operation.deprecated {
        description["deprecated"] = Value::Bool(true);
    }
    match operation.body {
        BodySpec::None => {}
        BodySpec::Json(fields) => {
            description["requestBody"] = json!({
                "required": fields.iter().any(|field| field.required),
                "content": { "application/json": {
                    "schema": object(fields, served.unknown_fields),
                    "example": documented["request"],
                }},
            });
        }
        BodySpec::Opaque => {
            description["requestBody"] = json!({ "content": { "*/*": {} } });
        }
    }
    description
}

/// What an operation needs, for who reads the document.
fn about(operation: &Operation) -> String {
    let name = &operation.name;
    let how = match operation.access {
        Access::Mints(_) => "The gateway signs the token itself.".to_owned(),
        Access::Needs(kind, role) => format!(
            "The gateway calls the service with {} token whose role is at least {role}.",
            match kind {
                TokenKind::Sdk => "an SDK",
                TokenKind::Room => "a Room",
                TokenKind::Task => "a Task",
            },
        ),
        Access::Open => "The gateway calls the service without a token.".to_owned(),
    };
    format!("Granted by `{name}` in `allow` of the caller's profile. {how}")
}

/// The name of the failures of a status among the components.
fn failure_name(status: StatusCode) -> String {
    format!("Failure{}", status.as_str())
}

/// A failure of each status that there may be, with an example of each code.
fn failures(errors: failure::Settings) -> Value {
    let mut by_status: BTreeMap<_, Map<_, _>> = BTreeMap::new();
    for code in Code::all() {
        let example = json!({ "value": {
            "message": DOCUMENTED["failures"][code.name()], "code": code.name(),
            "requestId": "01a210c3-85f9-78ec-b020-3e6d7fcd8389",
        }});
        by_status.entry(code.status(&errors)).or_default().insert(code.name().to_owned(), example);
    }
    let response = |(status, examples): (StatusCode, Map<String, Value>)| {
        let mut names = vec!["X-Request-Id", "Proxy-Status", "Retry-After", "Whiteboard-Key-Ends"];
        match status {
            StatusCode::UNAUTHORIZED => names.push("WWW-Authenticate"),
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => names.push("Allow"),
            _ => {}
        }
        let codes: Vec<String> = examples.keys().map(|code| format!("`{code}`")).collect();
        let schema = json!({ "$ref": "#/components/schemas/Failure" });
        let response = json!({
            "description": codes.join(", "),
            "headers": with_headers(&names),
            "content": {
                "application/json": { "schema": schema, "examples": examples },
                "application/problem+json": { "schema": schema },
            },
        });
        (failure_name(status), response)
    };
    by_status.into_iter().map(response).collect::<Map<_, _>>().into()
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
    let mut object = json!({ "type": "object", "properties": properties, "required": required });
    if fields.is_empty() {
        // Nothing is documented about it, and what clients send are texts.
        object["additionalProperties"] = json!({ "type": "string" });
    } else if unknown == UnknownFields::Refuse {
        object["additionalProperties"] = Value::Bool(false);
    }
    object
}

fn schema(shape: Shape, unknown: UnknownFields) -> Value {
    match shape {
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Lifespan => json!({ "type": "integer", "minimum": 0 }),
        // It is not looked at; what clients send is a text.
        Shape::Ignored => json!({ "type": "string" }),
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
    use crate::api::{Feature, TABLE, check_object, parse_object};
    use crate::failure::StatusProfile;

    fn made(profile: StatusProfile, unknown_fields: UnknownFields) -> Value {
        document(&ApiDescription {
            operations: &Operations::documented(),
            regions: &Regions::new([], "us-sv").unwrap(),
            errors: failure::Settings::of(profile),
            unknown_fields,
            server: DEFAULT_SERVER,
        })
    }

    fn described<'a>(document: &'a Value, operation: &Operation) -> &'a Value {
        let method = operation.method.as_str().to_ascii_lowercase();
        &document["paths"][operation.path.as_ref()][method]
    }

    #[test]
    fn every_operation_is_in_the_document_with_the_statuses_that_it_may_have() {
        for (profile, failures) in [
            (StatusProfile::Documented, "400 401 403 404 500"),
            (
                StatusProfile::Extended,
                "400 401 403 404 405 408 413 414 415 429 431 500 502 503 504",
            ),
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

    /// Every `$ref` of a document, and what it stands for.
    fn resolved<'a>(document: &'a Value, within: &'a Value, found: &mut Vec<(&'a str, bool)>) {
        if let Some(reference) = within["$ref"].as_str() {
            found.push((reference, document.pointer(&reference[1..]).is_some()));
        }
        match within {
            Value::Object(members) => {
                members.values().for_each(|one| resolved(document, one, found));
            }
            Value::Array(items) => items.iter().for_each(|one| resolved(document, one, found)),
            _ => {}
        }
    }

    #[test]
    fn what_stands_beside_the_table_is_of_its_operations_and_codes_and_of_no_other() {
        let names = |member: &str| -> Vec<&str> {
            let mut names: Vec<_> =
                DOCUMENTED[member].as_object().unwrap().keys().map(String::as_str).collect();
            names.sort_unstable();
            names
        };
        let mut operations: Vec<&str> = TABLE.iter().map(|row| row.name.as_ref()).collect();
        operations.sort_unstable();
        assert_eq!(names("operations"), operations);
        let mut codes: Vec<&str> = Code::all().map(Code::name).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(names("failures"), codes);
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        let document = made(StatusProfile::Extended, UnknownFields::Pass);
        let mut found = Vec::new();
        resolved(&document, &document, &mut found);
        let broken: Vec<_> = found.iter().filter(|(_, leads)| !leads).collect();
        assert!(broken.is_empty(), "{broken:?}");
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            let used =
                found.iter().any(|(to, _)| to.strip_prefix("#/components/schemas/") == Some(name));
            assert!(used, "{name}");
        }
    }

    #[test]
    fn every_example_of_a_request_is_one_that_is_taken() {
        for row in TABLE.iter() {
            let example = &DOCUMENTED["operations"][row.name.as_ref()]["request"];
            let BodySpec::Json(fields) = row.body else {
                assert!(example.is_null(), "{}", row.name);
                continue;
            };
            let text = example.to_string();
            let body = parse_object(text.as_bytes()).unwrap();
            check_object(&body, fields, UnknownFields::Refuse).unwrap();
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
            errors: failure::Settings::of(StatusProfile::Documented),
            unknown_fields: UnknownFields::Pass,
            server: DEFAULT_SERVER,
        });
        for (row, label) in [(&added, "*/*"), (&TABLE[5], "application/json")] {
            let content = &described(&document, row)["responses"]["200"]["content"];
            assert!(content[label].is_object(), "{content}");
        }
    }

    #[test]
    fn unknown_fields_are_in_the_document_where_they_are_taken() {
        for (unknown, refused) in
            [(UnknownFields::Pass, None), (UnknownFields::Refuse, Some(false))]
        {
            let document = made(StatusProfile::Documented, unknown);
            let schema = |path: &str| {
                let body = &document["paths"][path]["post"]["requestBody"];
                body["content"]["application/json"]["schema"].clone()
            };
            let scenes = schema("/v5/rooms/{uuid}/scenes");
            let scene = &scenes["properties"]["scenes"]["items"];
            for object in [&scenes, scene, &scene["properties"]["ppt"]] {
                assert_eq!(object["additionalProperties"].as_bool(), refused, "{object}");
            }
            // Nothing is known about what it holds, so nothing of it can be unknown.
            let driver = &schema("/v5/projector/tasks")["properties"]["targetStorageDriver"];
            assert!(driver["additionalProperties"].is_object());
        }
    }
}
