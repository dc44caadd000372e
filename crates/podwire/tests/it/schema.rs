//! `podwire schema`: what podwire prints for programs is as it says.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use serde_json::Value;
use testbed::{isolated, sh};

use crate::{assert_nothing_left, podwire};

#[test]
fn every_document_is_as_its_schema_says() {
    isolated!();
    podwire("lab up --pods 2").expect(0);
    podwire("snapshot /run/a.json").expect(0);
    sh("ip -n pod1 link set eth0 down");
    podwire("snapshot /run/b.json").expect(0);
    let home = "/run/podwire/lab/default/cni";
    let at = format!("--conf-dir {home}/net.d --cache-dir {home}");
    let data = format!("--data-dir {home}/networks");
    for (question, kind, title) in [
        ("snapshot -", "", "Topology"),
        ("snapshot -", "topology", "Topology"),
        ("diff /run/a.json /run/b.json -o json", "diff", "Diff"),
        ("explain pod/pod1 -o json", "explanation", "Explanation"),
        ("explain pod/pod1 --from /run/b.json -o json", "Explanation", "Explanation"),
        ("explain -o json", "explanation", "Explanation"),
        ("lab graph -o json", "scene", "Scene"),
        ("doctor -o json", "doctor-report", "DoctorReport"),
        ("lab status -o json", "lab", "Lab"),
        (&format!("cni list {at} -o json"), "cni-network-list", "CniNetworkList"),
        (
            &format!("cni status podwire {at} --plugin-dir {home}/bin -o json"),
            "cni-status",
            "CniStatus",
        ),
        (&format!("ipam list {at} {data} -o json"), "ipam-reservation-list", "IpamReservationList"),
        (&format!("ipam check {at} {data} -o json"), "ipam-check", "IpamCheck"),
    ] {
        is_as_its_schema_says(question, kind, title);
    }
    podwire("schema nothing").expect(2);
    podwire("lab down").expect(0);
    let up = "lab up --nodes 2 --pods 1 --backend vxlan";
    is_as_its_schema_says(&format!("{up} -o json"), "Lab", "Lab");
    let agent = format!(
        "lab exec node/node1 -- {} agent --config /run/podwire/lab/default/nodes/node1/agent.json",
        env!("CARGO_BIN_EXE_podwire")
    );
    for question in ["--once -o json", "status -o json"] {
        is_as_its_schema_says(&format!("{agent} {question}"), "agent-status", "AgentStatus");
    }
    podwire("lab down").expect(0);
    assert_nothing_left();
}

/// What is printed for programs is as a schema says.
#[track_caller]
fn is_as_its_schema_says(question: &str, kind: &str, title: &str) {
    let schema = podwire(&format!("schema {kind}")).expect(0).stdout;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let run = podwire(question);
    let document: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    let fields = document.as_object().unwrap();
    let head: Vec<&str> = fields.keys().take(2).map(String::as_str).collect();
    assert_eq!((head, &schema["title"]), (vec!["apiVersion", "kind"], &title.into()));
    if let Err(why) = check(&schema, &schema, &document) {
        panic!("{question}: {why}");
    }
    // What checks can also refuse.
    let mut other = document.clone();
    other["kind"] = "Other".into();
    check(&schema, &schema, &other).unwrap_err();
    let mut longer = document;
    longer["unknown field"] = 1.into();
    check(&schema, &schema, &longer).unwrap_err();
}

/// Holds a value against a schema, as far as schemas of podwire go; and other than the standard says,
/// an object has no field that its schema does not name.
fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Value::Object(words) = schema else {
        return if schema == &Value::Bool(true) { Ok(()) } else { Err(format!("never {value}")) };
    };
    // What stands beside a reference is of the same object.
    if let (Some(at), Some(Value::Object(own))) = (words.get("$ref"), words.get("properties")) {
        let mut whole = referred(root, at).clone();
        for (name, part) in own {
            whole["properties"][name] = part.clone();
        }
        let required = words["required"].as_array().unwrap();
        whole["required"].as_array_mut().unwrap().extend(required.iter().cloned());
        return check(root, &whole, value);
    }
    let all = |parts: &Value, values: &Value| -> Result<(), String> {
        values.as_array().into_iter().flatten().try_for_each(|it| check(root, parts, it))
    };
    let one_of = |choices: &Value| choices.as_array().unwrap().clone().into_iter();
    for (word, says) in words {
        let fits = match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "format" | "default" | "required" => {
                true
            }
            "minimum" | "maximum" => value.as_f64().is_none_or(|it| {
                let bound = says.as_f64().unwrap();
                if word == "minimum" { it >= bound } else { it <= bound }
            }),
            "minItems" => {
                value.as_array().is_none_or(|it| it.len() as u64 >= says.as_u64().unwrap())
            }
            "maxItems" => {
                value.as_array().is_none_or(|it| it.len() as u64 <= says.as_u64().unwrap())
            }
            "const" => value == says,
            "enum" => one_of(says).any(|it| it == *value),
            "type" => match says {
                Value::Array(types) => types.iter().any(|it| is_of(it, value)),
                one => is_of(one, value),
            },
            "$ref" => {
                check(root, referred(root, says), value)?;
                true
            }
            "anyOf" => one_of(says).any(|it| check(root, &it, value).is_ok()),
            "oneOf" => one_of(says).filter(|it| check(root, it, value).is_ok()).count() == 1,
            "items" => all(says, value).map(|()| true)?,
            "prefixItems" => {
                let values = value.as_array().into_iter().flatten();
                one_of(says).zip(values).try_for_each(|(part, it)| check(root, &part, it))?;
                true
            }
            "properties" | "additionalProperties" | "patternProperties" => true,
            other => return Err(format!("this test does not know {other}")),
        };
        if !fits {
            return Err(format!("{value} is not as {word}: {says}"));
        }
    }
    let Value::Object(fields) = value else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            return Err(format!("{name} is missing"));
        }
    }
    let is_closed = words.contains_key("properties");
    for (name, field) in fields {
        let of_all = &schema["additionalProperties"];
        let of_kind = schema["patternProperties"].as_object().and_then(|it| it.values().next());
        match (schema["properties"].get(name), of_all, of_kind) {
            (Some(part), _, _) | (None, part @ Value::Object(_), _) | (None, _, Some(part)) => {
                check(root, part, field).map_err(|why| format!("{name}: {why}"))?;
            }
            (None, Value::Bool(true), _) => {}
            _ if is_closed => return Err(format!("{name} is in no schema")),
            _ => {}
        }
    }
    Ok(())
}

fn referred<'r>(root: &'r Value, at: &Value) -> &'r Value {
    root.pointer(at.as_str().unwrap().strip_prefix('#').unwrap()).unwrap()
}

fn is_of(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type {other}"),
    }
}
