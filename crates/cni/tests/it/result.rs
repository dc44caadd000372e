use cni::{CniResult, Request, Version};
use serde_json::Value;

use super::environment;

/// The same attachment as each shape of result can tell it.
const FAMILIES: &str = r#"{
    "cniVersion": "VERSION",
    "ip4": {
        "ip": "10.0.0.2/24",
        "gateway": "10.0.0.1",
        "routes": [
            {
                "dst": "0.0.0.0/0",
                "gw": "10.0.0.1"
            }
        ]
    },
    "ip6": {
        "ip": "fd00::2/64",
        "routes": [
            {
                "dst": "::/0"
            }
        ]
    },
    "dns": {
        "nameservers": [
            "1.1.1.1"
        ],
        "domain": "\u003cx\u003e"
    }
}"#;

const LISTS: &str = r#"{
    "cniVersion": "VERSION",
    "interfaces": [
        {
            "name": "eth0",
            "mac": "02:00:00:00:00:01",
            "sandbox": "/run/netns/one"
        }
    ],
    "ips": [
        {
            "version": "4",
            "interface": 0,
            "address": "10.0.0.2/24",
            "gateway": "10.0.0.1"
        },
        {
            "version": "6",
            "address": "fd00::2/64"
        },
        {
            "version": "4",
            "address": "10.0.1.2/24"
        }
    ],
    "routes": [
        {
            "dst": "0.0.0.0/0",
            "gw": "10.0.0.1",
            "mtu": 1400,
            "advmss": 1360,
            "priority": 10,
            "table": 0,
            "scope": 0
        },
        {
            "dst": "::/0"
        }
    ],
    "dns": {
        "nameservers": [
            "1.1.1.1"
        ],
        "domain": "\u003cx\u003e"
    }
}"#;

const CURRENT: &str = r#"{
    "cniVersion": "VERSION",
    "dns": {
        "domain": "\u003cx\u003e",
        "nameservers": [
            "1.1.1.1"
        ]
    },
    "interfaces": [
        {
            "mac": "02:00:00:00:00:01",
            "mtu": 1500,
            "name": "eth0",
            "pciID": "0000:00:1f.6",
            "sandbox": "/run/netns/one",
            "socketPath": "/run/socket"
        }
    ],
    "ips": [
        {
            "address": "10.0.0.2/24",
            "gateway": "10.0.0.1",
            "interface": 0
        },
        {
            "address": "fd00::2/64"
        },
        {
            "address": "10.0.1.2/24"
        }
    ],
    "routes": [
        {
            "advmss": 1360,
            "dst": "0.0.0.0/0",
            "gw": "10.0.0.1",
            "mtu": 1400,
            "priority": 10,
            "scope": 0,
            "table": 0
        },
        {
            "dst": "::/0"
        }
    ]
}"#;

/// What an old result becomes in a newer shape.
const LISTS_FROM_FAMILIES: &str = r#"{
    "cniVersion": "VERSION",
    "ips": [
        {
            "version": "4",
            "address": "10.0.0.2/24",
            "gateway": "10.0.0.1"
        },
        {
            "version": "6",
            "address": "fd00::2/64"
        }
    ],
    "routes": [
        {
            "dst": "0.0.0.0/0",
            "gw": "10.0.0.1"
        },
        {
            "dst": "::/0"
        }
    ],
    "dns": {
        "nameservers": [
            "1.1.1.1"
        ],
        "domain": "\u003cx\u003e"
    }
}"#;

const CURRENT_FROM_FAMILIES: &str = r#"{
    "cniVersion": "VERSION",
    "dns": {
        "domain": "\u003cx\u003e",
        "nameservers": [
            "1.1.1.1"
        ]
    },
    "ips": [
        {
            "address": "10.0.0.2/24",
            "gateway": "10.0.0.1"
        },
        {
            "address": "fd00::2/64"
        }
    ],
    "routes": [
        {
            "dst": "0.0.0.0/0",
            "gw": "10.0.0.1"
        },
        {
            "dst": "::/0"
        }
    ]
}"#;

fn document(template: &str, version: Version) -> String {
    template.replace("VERSION", version.as_str())
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_pair_of_versions_converts() {
    let families = &[Version::V0_1_0, Version::V0_2_0][..];
    let lists = &[Version::V0_3_0, Version::V0_3_1, Version::V0_4_0][..];
    let current = &[Version::V1_0_0, Version::V1_1_0][..];
    let without_new_fields = CURRENT
        .replace("            \"mtu\": 1500,\n", "")
        .replace("            \"pciID\": \"0000:00:1f.6\",\n", "")
        .replace(",\n            \"socketPath\": \"/run/socket\"", "");
    let cases = [
        (families, FAMILIES, families, FAMILIES),
        (families, FAMILIES, lists, LISTS_FROM_FAMILIES),
        (families, FAMILIES, current, CURRENT_FROM_FAMILIES),
        (lists, LISTS, families, FAMILIES),
        (lists, LISTS, lists, LISTS),
        (lists, LISTS, current, &without_new_fields),
        (current, CURRENT, families, FAMILIES),
        (current, CURRENT, lists, LISTS),
        (current, CURRENT, current, CURRENT),
    ];
    for (sources, source, targets, target) in cases {
        for &from in sources {
            let result = CniResult::parse(&value(&document(source, from)), "").unwrap();
            for &to in targets {
                let printed = result.to_json(to).unwrap();
                assert_eq!(printed, document(target, to), "{from} to {to}");
            }
        }
    }
}

#[test]
fn a_newer_field_in_an_old_result_is_not_read() {
    let text = r#"{"cniVersion":"0.4.0","interfaces":[{"name":"a","mtu":1500,"pciID":"x"}]}"#;
    let result = CniResult::parse(&value(text), "").unwrap();
    assert_eq!((result.interfaces[0].mtu, result.interfaces[0].pci_id.as_str()), (0, ""));
}

#[test]
fn empty_results_print_what_must_be_there() {
    let empty = CniResult::default();
    let print = |version| empty.to_json(version).map_err(|error| error.to_string());
    for version in Version::ALL {
        let want = match version {
            Version::V0_1_0 | Version::V0_2_0 => {
                Err("cannot convert: no valid IP addresses".into())
            }
            Version::V1_0_0 | Version::V1_1_0 => {
                Ok(document("{\n    \"cniVersion\": \"VERSION\"\n}", version))
            }
            _ => Ok(document("{\n    \"cniVersion\": \"VERSION\",\n    \"dns\": {}\n}", version)),
        };
        assert_eq!(print(version), want);
        assert_eq!(print(version).is_ok(), version.can_express(false));
    }
    let text = r#"{"interfaces":[{}],"ips":[{"address":"::ffff:10.0.0.1/128","gateway":""}]}"#;
    let result = CniResult::parse(&value(text), "0.4.0").unwrap();
    let want =
        r#"{"cniVersion":"1.1.0","interfaces":[{"name":""}],"ips":[{"address":"10.0.0.1/32"}]}"#;
    assert_eq!(result.to_value(Version::LATEST).unwrap().to_string(), want);
}

#[test]
fn results_are_refused_as_the_reference_does() {
    let cases = [
        (r#"{"cniVersion":"9.9.9"}"#, r#"unsupported CNI result version "9.9.9""#),
        (r#"{"cniVersion":"1.0"}"#, r#"unsupported CNI result version "1.0""#),
        (r#"{"cniVersion":1}"#, "cniVersion: invalid value 1: expected a string"),
        (
            r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1"}]}"#,
            r#"ips[0].address: invalid value "10.0.0.1": invalid CIDR address: 10.0.0.1"#,
        ),
        (
            r#"{"cniVersion":"1.0.0","routes":[{"dst":"::/0","gw":"x"}]}"#,
            r#"routes[0].gw: invalid value "x": invalid IP address: x"#,
        ),
        (
            r#"{"cniVersion":"1.0.0","ips":[{"interface":-1,"address":"10.0.0.1/8"}]}"#,
            "ips[0].interface: invalid value -1: expected a whole number that is not negative",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(CniResult::parse(&value(text), "").unwrap_err().to_string(), want);
    }
    assert_eq!(CniResult::parse(&Value::Null, ""), Ok(CniResult::default()));
}

#[test]
fn prev_result_belongs_to_the_configuration_s_shape() {
    let prev_result = |version: &str, result: &str| {
        let config = format!(r#"{{"cniVersion":"{version}","name":"a","prevResult":{result}}}"#);
        let request = Request::parse(&environment("ADD"), config.into(), &Version::ALL).unwrap();
        request.prev_result().map_err(|error| error.to_string())
    };
    let one_ip = r#"{"ips":[{"address":"10.0.0.2/24"}]}"#;
    assert_eq!(prev_result("1.0.0", "null"), Ok(None));
    assert_eq!(prev_result("1.0.0", one_ip).unwrap().unwrap().ips.len(), 1);
    assert_eq!(prev_result("0.3.1", one_ip).unwrap().unwrap().ips.len(), 1);
    assert_eq!(prev_result("0.2.0", one_ip), Ok(Some(CniResult::default())));
    assert_eq!(prev_result("1.0.0", r#"{"cniVersion":"1.1.0"}"#), Ok(Some(CniResult::default())));
    let cases = [
        (
            "1.0.0",
            r#"{"cniVersion":"0.4.0"}"#,
            r#"could not parse prevResult: result type supports [1.0.0 1.1.0] but unmarshalled CNIVersion is "0.4.0""#,
        ),
        (
            "0.1.0",
            r#"{"cniVersion":"9.9.9"}"#,
            r#"could not parse prevResult: result type supports [ 0.1.0 0.2.0] but unmarshalled CNIVersion is "9.9.9""#,
        ),
        ("1.0.0", r#""x""#, r#"could not parse prevResult: invalid value "x": expected an object"#),
    ];
    for (version, result, want) in cases {
        assert_eq!(prev_result(version, result).unwrap_err(), want);
    }
}
