//! How etcd is reached, and who may.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::json;
use testbed::{isolated, sh};

use crate::member::{Member, URL, as_root, base64, configure, etcd, put};
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
    fs::write(&path, "wrong\n").unwrap();
    let as_user = |etcd: &mut fabric::Etcd| {
        etcd.username = Some("podwire".to_owned());
        etcd.password_file = Some(path.clone());
        etcd.lease_seconds = 12;
    };
    let here = At(1).with(as_user).start();
    let text = here.astray();
    assert!(text.contains("etcd refuses: ") && text.contains("authentication failed"), "{text}");
    fs::write(&path, "secret\n").unwrap();
    here.complete(|_| true);
    // Longer than a token is good for, and then a renewal and a write.
    thread::sleep(Duration::from_millis(4500));
    here.publish(|publication| publication.addresses.v4 = Some("192.0.2.77".parse().unwrap()));
    here.complete(|nodes| nodes[0].addresses.v4 == Some("192.0.2.77".parse().unwrap()));

    // It is changed under a node at work.
    fs::write(&path, "changed\n").unwrap();
    as_root("/v3/auth/user/changepw", &json!({ "name": "podwire", "password": "changed" }));
    thread::sleep(Duration::from_millis(4500));
    here.publish(|publication| publication.addresses.v4 = Some("192.0.2.78".parse().unwrap()));
    here.complete(|nodes| nodes[0].addresses.v4 == Some("192.0.2.78".parse().unwrap()));

    let nobody = At(2).start();
    let text = nobody.astray();
    assert!(text.contains("etcd refuses: etcdserver: user name is empty"), "{text}");
}

/// Two authorities, and of each a member's certificate and a client's.
fn authorities(directory: &Path) {
    sh(&format!(
        "cd {}
         ca() {{ openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -subj /CN=$1 -keyout $1.key -out $1.crt 2>&1; }}
         signed() {{ openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$2 \
             -keyout $2.key -out $2.csr 2>&1
             printf \"$3\" >$2.ext
             openssl x509 -req -in $2.csr -CA $1.crt -CAkey $1.key -CAcreateserial -days 2 \
             -extfile $2.ext -out $2.crt 2>&1; }}
         ca ca; ca other
         for it in ca: other:new-; do
             signed ${{it%:*}} ${{it#*:}}server \
                 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth'
             signed ${{it%:*}} ${{it#*:}}client 'extendedKeyUsage=clientAuth'
         done",
        directory.display()
    ));
}

/// A member that answers those whom it knows by their certificates, beside all in clear text.
fn guarded(at: impl Fn(&str) -> PathBuf) -> Member {
    let file = |name: &str| at(name).display().to_string();
    let (cert, key, ca) = (file("server.crt"), file("server.key"), file("ca.crt"));
    Member::with(&[
        "--listen-client-urls",
        "https://127.0.0.1:2378,http://127.0.0.1:2379",
        "--cert-file",
        &cert,
        "--key-file",
        &key,
        "--trusted-ca-file",
        &ca,
        "--client-cert-auth",
    ])
}

/// The agent's files are changed one after the other, and etcd knows only the new ones from then on.
#[test]
fn certificates_are_renewed_under_a_node_at_work() {
    isolated!();
    testbed::need("openssl", "openssl");
    let directory = testbed::directory();
    let at = |name: &str| directory.path().join(name);
    authorities(directory.path());
    let mut member = guarded(at);
    configure(NET);
    let own = |from: &str, to: &str| {
        // As whoever renews certificates does: a new file in the place of the old one.
        fs::copy(at(from), at("new")).unwrap();
        fs::rename(at("new"), at(to)).unwrap();
    };
    for (from, to) in [("ca.crt", "our-ca"), ("client.crt", "our.crt"), ("client.key", "our.key")] {
        own(from, to);
    }
    let here = At(1).through("https://127.0.0.1:2378").with(|etcd| {
        etcd.ca_file = Some(at("our-ca"));
        (etcd.cert_file, etcd.key_file) = (Some(at("our.crt")), Some(at("our.key")));
        etcd.lease_seconds = 3;
    });
    let here = here.start();
    let before = here.complete(|_| true);
    // Its key is still to come: what was goes on.
    own("new-client.crt", "our.crt");
    thread::sleep(Duration::from_secs(2));
    here.publish(|publication| publication.addresses.v4 = Some("192.0.2.77".parse().unwrap()));
    here.complete(|nodes| nodes != before);
    own("new-client.key", "our.key");
    own("other.crt", "our-ca");
    let of = |name: &str| at(name).display().to_string();
    member.set("--cert-file", &of("new-server.crt"));
    member.set("--key-file", &of("new-server.key"));
    member.set("--trusted-ca-file", &of("other.crt"));
    member.kill();
    member.restart();
    put("subnets/10.244.7.0-24", r#"{"PublicIP":"192.0.2.7","BackendType":"vxlan"}"#);
    here.complete(|nodes| nodes.len() == 2);
    // What cannot be used is named where what was is not enough any more.
    own("ca.key", "our-ca");
    member.set("--cert-file", &of("server.crt"));
    member.set("--key-file", &of("server.key"));
    member.set("--trusted-ca-file", &of("ca.crt"));
    member.kill();
    member.restart();
    let text = here.astray();
    assert!(text.contains("our-ca: holds no certificate in PEM"), "{text}");
    for (from, to) in [("ca.crt", "our-ca"), ("client.crt", "our.crt"), ("client.key", "our.key")] {
        own(from, to);
    }
    here.complete(|nodes| nodes.len() == 2);
}

#[test]
fn certificates_on_both_sides() {
    isolated!();
    testbed::need("openssl", "openssl");
    let directory = testbed::directory();
    let at = |name: &str| directory.path().join(name);
    authorities(directory.path());
    let _member = guarded(at);
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
