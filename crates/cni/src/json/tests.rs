use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::fields::Cidr;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Config {
    name: String,
    #[serde(rename = "vrfName")]
    vrf_name: Option<String>,
    mtu: u32,
    offset: i8,
    ratio: f32,
    on: Option<bool>,
    ipam: Ipam,
    labels: BTreeMap<String, Option<u8>>,
    mode: Mode,
    any: Option<Value>,
    checked: Option<Checked>,
    kind: String,
    s: u8,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Ipam {
    ranges: Vec<Vec<Range>>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Range {
    subnet: Cidr,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Bridge,
    Private,
    Table(u32),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "Bounds")]
struct Checked;

#[derive(Deserialize)]
struct Bounds {
    low: u8,
    high: u8,
}

impl TryFrom<Bounds> for Checked {
    type Error = &'static str;

    fn try_from(bounds: Bounds) -> Result<Self, Self::Error> {
        if bounds.low <= bounds.high { Ok(Checked) } else { Err("low is above high") }
    }
}

fn read(text: &str) -> Result<Config, String> {
    let value = parse(text.as_bytes()).map_err(|error| error.to_string())?;
    from_value(&value).map_err(|error| error.to_string())
}

fn name(text: &str) -> String {
    read(text).unwrap().name
}

#[test]
fn keys_match_whatever_their_case_and_the_last_wins() {
    assert_eq!(name(r#"{"NAME":"a"}"#), "a");
    assert_eq!(name(r#"{"name":"a","Name":"b"}"#), "b");
    assert_eq!(name(r#"{"Name":"b","name":"a"}"#), "a");
    assert_eq!(name(r#"{"name":"a","NAME":"b","name":"c"}"#), "c");
    assert_eq!(name(r#"{"name":"a","Name":null}"#), "a");
    assert_eq!(name(r#"{"naméx":"a"}"#), "");
    assert_eq!(read(r#"{"vrfname":"x"}"#).unwrap().vrf_name.as_deref(), Some("x"));
    assert_eq!(read("{\"\u{212a}ind\":\"x\"}").unwrap().kind, "x");
    assert_eq!(read("{\"\u{17f}\":3}").unwrap().s, 3);
}

#[test]
fn unknown_keys_and_null_are_as_if_absent() {
    let text = r#"{"name":null,"vrfName":null,"mtu":null,"ipam":null,"labels":null,"mode":null,"any":null,"x":[{}]}"#;
    assert_eq!(read(text), Ok(Config::default()));
    assert_eq!(read("null"), Ok(Config::default()));
}

#[test]
fn an_exact_field_is_preferred() {
    #[derive(Deserialize)]
    struct Two {
        a: u8,
        #[serde(rename = "A")]
        upper: u8,
    }
    let two: Two = from_value(&json!({"A": 1, "a": 2})).unwrap();
    assert_eq!((two.a, two.upper), (2, 1));
}

#[test]
fn every_kind_of_value_is_read() {
    let text = r#"{"mtu":1500,"offset":-3,"ratio":0.5,"on":true,"labels":{"A":1,"a":null},"mode":"private",
        "any":{"B":[1,"x",null]},"checked":{"low":1,"high":2},"ipam":{"Ranges":[[{"Subnet":"10.0.0.1/8"}],[]]}}"#;
    let config = read(text).unwrap();
    assert_eq!((config.mtu, config.offset, config.ratio, config.on), (1500, -3, 0.5, Some(true)));
    assert_eq!(config.labels, BTreeMap::from([("A".into(), Some(1)), ("a".into(), None)]));
    assert_eq!(config.mode, Mode::Private);
    assert_eq!(config.any, Some(json!({"B": [1, "x", null]})));
    assert_eq!(config.checked, Some(Checked));
    assert_eq!(config.ipam.ranges, [vec![Range { subnet: "10.0.0.1/8".parse().unwrap() }], vec![]]);
    assert_eq!(read(r#"{"mode":{"table":7}}"#).unwrap().mode, Mode::Table(7));
}

#[test]
fn errors_say_where_what_and_why() {
    let cases = [
        ("", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        ("{} x", "trailing characters at line 1 column 4"),
        ("[]", "invalid value []: expected an object"),
        (r#"{"name":1}"#, "name: invalid value 1: expected a string"),
        (
            r#"{"MTU":"1500"}"#,
            r#"MTU: invalid value "1500": expected a whole number from 0 to 4294967295"#,
        ),
        (r#"{"mtu":-1}"#, "mtu: invalid value -1: expected a whole number from 0 to 4294967295"),
        (r#"{"mtu":1.5}"#, "mtu: invalid value 1.5: expected a whole number from 0 to 4294967295"),
        (
            r#"{"mtu":4294967296}"#,
            "mtu: invalid value 4294967296: expected a whole number from 0 to 4294967295",
        ),
        (r#"{"on":"true"}"#, r#"on: invalid value "true": expected a boolean"#),
        (r#"{"ipam":{"ranges":{}}}"#, "ipam.ranges: invalid value {}: expected a list"),
        (r#"{"ipam":{"ranges":[[{}]]}}"#, r#"ipam.ranges[0][0]: missing field "subnet""#),
        (
            r#"{"ipam":{"ranges":[[{"subnet":null}]]}}"#,
            r#"ipam.ranges[0][0]: missing field "subnet""#,
        ),
        (
            r#"{"ipam":{"ranges":[[],[{"subnet":"10.0.0.0/33"}]]}}"#,
            r#"ipam.ranges[1][0].subnet: invalid value "10.0.0.0/33": invalid CIDR address: 10.0.0.0/33"#,
        ),
        (
            r#"{"labels":{"x.y":300}}"#,
            "labels.x.y: invalid value 300: expected a whole number from 0 to 255",
        ),
        (
            r#"{"mode":"none"}"#,
            r#"mode: invalid value "none": expected one of "bridge", "private", "table""#,
        ),
        (r#"{"mode":1}"#, "mode: invalid value 1: expected a string"),
        (
            r#"{"mode":{"table":"x"}}"#,
            r#"mode.table: invalid value "x": expected a whole number from 0 to 4294967295"#,
        ),
        (
            r#"{"checked":{"low":2,"high":1}}"#,
            r#"checked: invalid value {"low":2,"high":1}: low is above high"#,
        ),
    ];
    for (text, want) in cases {
        assert_eq!(read(text).unwrap_err(), want, "{text}");
    }
    let long = format!(r#"{{"on":"{}"}}"#, "é".repeat(100));
    assert!(read(&long).unwrap_err().ends_with("é…: expected a boolean"));
}

#[test]
fn bytes_that_are_not_text_are_replaced() {
    assert_eq!(
        from_value::<Config>(&parse(b"{\"name\":\"\xff\"}").unwrap()).unwrap().name,
        "\u{fffd}"
    );
}

#[test]
fn members_are_found_as_fields_are() {
    let value = json!({"cni.dev/attachments": 1, "CNI.dev/Attachments": null});
    assert_eq!(member(&value, "cni.dev/attachments"), Some(&Value::Null));
    assert_eq!(member(&value, "other"), None);
    assert_eq!(member(&json!([]), "other"), None);
}

#[test]
fn printing_is_go_s() {
    let value = json!({"b": ["<&>", "\u{2028}\u{2029}\n\u{7f}"], "a": {}, "c": []});
    let want = "{\n    \"b\": [\n        \"\\u003c\\u0026\\u003e\",\n        \"\\u2028\\u2029\\n\u{7f}\"\n    ],\n    \"a\": {},\n    \"c\": []\n}";
    assert_eq!(pretty(&value), want);
    assert_eq!(compact(&json!({"a": [1, "<"]})), r#"{"a":[1,"\u003c"]}"#);
}
