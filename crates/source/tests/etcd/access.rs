//! How etcd is reached, and who may.

use std::thread;
use std::time::Duration;

use serde_json::json;
use testbed::{isolated, sh};

use crate::member::{Member, URL, base64, configure, etcd, put};
use crate::node::{At, NET};

#[test]
fn a_member_that_is_dead_is_passed_over() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2", URL];
    let here = At(1).with(|etcd| etcd.endpoints = endpoints.map(str::to_owned).to_vec()).start();
    here.complete(|_| true);
}

#[test]
fn users_and_passwords() {
    isolated!();
    let _member = Member::with(&["--auth-token-ttl", "2", "--bcrypt-cost", "4"]);
    configure(NET);
    let range = json!({
        "permType": "READWRITE",
        "key": base64("/coreos.com/network/"), "range_end": base64("/coreos.com/network0"),
    });
    etcd("/v3/auth/role/add", &json!({ "name": "net" }));
    etcd("/v3/auth/role/grant", &json!({ "name": "net", "perm": range }));
    for (user, role) in [("root", "root"), ("podwire", "net")] {
        etcd("/v3/auth/user/add", &json!({ "name": user, "password": "secret" }));
        if role == "root" {
            etcd("/v3/auth/role/add", &json!({ "name": role }));
        }
        etcd("/v3/auth/user/grant", &json!({ "user": user, "role": role }));
    }
    etcd("/v3/auth/enable", &json!({}));
    let secret = testbed::directory();
    let path = secret.path().join("password");
    std::fs::write(&path, "wrong\n").unwrap();
    let as_user = |etcd: &mut fabric::Etcd| {
        etcd.username = Some("podwire".to_owned());
        etcd.password_file = Some(path.clone());
        etcd.lease_seconds = 12;
    };
    let here = At(1).with(as_user).start();
    let text = here.astray();
    assert!(text.contains("etcd refuses: ") && text.contains("authentication failed"), "{text}");
    std::fs::write(&path, "secret\n").unwrap();
    here.complete(|_| true);
    // Longer than a token is good for, and then a renewal and a write.
    thread::sleep(Duration::from_millis(4500));
    here.publish(|publication| publication.addresses.v4 = Some("192.0.2.77".parse().unwrap()));
    here.complete(|nodes| nodes[0].addresses.v4 == Some("192.0.2.77".parse().unwrap()));

    let nobody = At(2).start();
    let text = nobody.astray();
    assert!(text.contains("etcd refuses: etcdserver: user name is empty"), "{text}");
}

#[test]
fn certificates_on_both_sides() {
    isolated!();
    testbed::need("openssl", "openssl");
    let directory = testbed::directory();
    let at = |name: &str| directory.path().join(name);
    let d = directory.path().display();
    sh(&format!(
        "cd {d}
         ca() {{ openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -subj /CN=$1 -keyout $1.key -out $1.crt 2>&1; }}
         signed() {{ openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$1 \
             -keyout $1.key -out $1.csr 2>&1
             printf \"$2\" >$1.ext
             openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
             -extfile $1.ext -out $1.crt 2>&1; }}
         ca ca; ca other
         signed server 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth'
         signed client 'extendedKeyUsage=clientAuth'"
    ));
    let file = |name: &str| at(name).display().to_string();
    let (cert, key, ca) = (file("server.crt"), file("server.key"), file("ca.crt"));
    let _member = Member::with(&[
        "--listen-client-urls",
        "https://127.0.0.1:2378,http://127.0.0.1:2379",
        "--cert-file",
        &cert,
        "--key-file",
        &key,
        "--trusted-ca-file",
        &ca,
        "--client-cert-auth",
    ]);
    configure(NET);
    let with = |ca: &str, client: Option<(&str, &str)>| {
        let (ca, client) = (at(ca), client.map(|(cert, key)| (at(cert), at(key))));
        At(1).through("https://127.0.0.1:2378").with(move |etcd| {
            etcd.ca_file = Some(ca);
            (etcd.cert_file, etcd.key_file) = client.unzip();
        })
    };
    let here = with("ca.crt", Some(("client.crt", "client.key"))).start();
    here.complete(|_| true);
    put("subnets/10.244.7.0-24", r#"{"PublicIP":"192.0.2.7","BackendType":"vxlan"}"#);
    here.complete(|nodes| nodes.len() == 2);
    drop(here);

    let text = with("other.crt", Some(("client.crt", "client.key"))).start().astray();
    assert!(text.contains("UnknownIssuer"), "{text}");
    let text = with("ca.crt", None).start().astray();
    assert!(text.contains("ertificate"), "{text}");

    for (ca, client, expected) in [
        ("none.crt", None, "none.crt: No such file"),
        ("ca.key", None, "ca.key: holds no certificate in PEM"),
        ("ca.crt", Some(("client.crt", "server.key")), "server.key: does not go with"),
        ("ca.crt", Some(("client.crt", "ca.crt")), "ca.crt: holds no private key in PEM"),
    ] {
        let error = with(ca, client).refusal();
        assert!(error.contains(expected), "{error}\n  does not say\n{expected}");
    }
}
