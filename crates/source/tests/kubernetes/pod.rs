//! The source as a pod of the cluster has it: TLS, with the certificate and token of a service account.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::{env, fs, thread};

use testbed::kubernetes::Server;
use testbed::{isolated, sh};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::agent::{Agent, bare, names, node};

/// Set in the process that is the pod: whether it is to trust the API.
const POD: &str = "PODWIRE_TEST_POD";

/// Where a pod finds what is its service account's.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const API: ([u8; 4], u16) = ([127, 0, 0, 1], 6443);

#[test]
fn a_pod_asks_by_its_service_account() {
    if let Ok(trusts) = env::var(POD) {
        return be_the_pod(trusts == "true");
    }
    isolated!();
    testbed::need("openssl", "openssl");
    fs::create_dir_all(ACCOUNT).unwrap();
    sh(&format!(
        "cd {ACCOUNT}
         echo -n secret >token; echo -n podwire >namespace
         authority() {{ openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -subj /CN=$1 -keyout $1.key -out $1.crt 2>&1; }}
         authority ca; authority other
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server \
             -keyout server.key -out server.csr 2>&1
         echo subjectAltName=IP:127.0.0.1 >ext
         openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
             -extfile ext -out server.crt 2>&1"
    ));
    let server = Server::start();
    server.put(bare(1));
    server.put(node(2));
    encrypt(Path::new(ACCOUNT), server.address());
    run_the_pod(true);
    let requests = server.requests();
    assert!(requests.iter().all(|it| it.headers["authorization"] == "Bearer secret"));
    fs::copy(Path::new(ACCOUNT).join("other.crt"), Path::new(ACCOUNT).join("ca.crt")).unwrap();
    run_the_pod(false);
}

fn run_the_pod(trusts: bool) {
    #[expect(clippy::disallowed_methods, reason = "this very test, as the pod")]
    let output = Command::new(env::current_exe().unwrap())
        .args(["pod::a_pod_asks_by_its_service_account", "--exact", "--nocapture"])
        .env(POD, trusts.to_string())
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", "6443")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

fn be_the_pod(trusts: bool) {
    let agent = Agent::start_in_cluster();
    if trusts {
        assert_eq!(names(&agent.complete()), ["n1", "n2"]);
    } else {
        let why = agent.astray();
        assert!(why.contains("certificate"), "{why}");
    }
}

/// Takes TLS off what comes to the API's address.
fn encrypt(directory: &Path, to: SocketAddr) {
    let chain = CertificateDer::pem_file_iter(directory.join("server.crt")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).unwrap();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (tell, hear) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind(SocketAddr::from(API)).await.unwrap();
            tell.send(()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    let mut plain = TcpStream::connect(to).await?;
                    copy_bidirectional(&mut stream, &mut plain).await
                });
            }
        });
    });
    hear.recv().unwrap();
}
