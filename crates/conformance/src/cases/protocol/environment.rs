//! The environment.

use super::{EVERY, Scene};
use crate::case::{By, Case, Known, case};
use crate::node::Node;

const PARAMETERS: &str = "CNI spec, section 2, Parameters";
const SKEL: &str = "reference, pkg/skel";

pub(in crate::cases) const CASES: &[Case] = &[
    case!(
        about,
        EVERY,
        SKEL,
        "without a command the plugin tells a person what it is, on \
        standard error, and succeeds"
    ),
    case!(
        missing_variables,
        EVERY,
        PARAMETERS,
        "variables that a command needs and that are missing or empty are named together, with \
         code 4"
    ),
    case!(
        invalid_container_id,
        EVERY,
        PARAMETERS,
        "a container id with characters that it may not have is refused with code 4, and the \
         details tell it"
    ),
    case!(
        invalid_interface_name,
        EVERY,
        PARAMETERS,
        "an interface name that the kernel or a path could not bear is refused with code 4"
    ),
    case!(
        unknown_command,
        EVERY,
        PARAMETERS,
        "a command that does not exist is refused with code 4"
    ),
    case!(long_container_id, EVERY, SKEL, "a container id may be as long as it likes"),
    case!(
        own_namespace,
        EVERY,
        SKEL,
        "a pod's namespace that is the plugin's own is refused with code 8, and nothing else is \
         said"
    )
    .known(&[
        Known::new(
            By::OldReference,
            "right: Some(1)",
            "it does not compare the pod's namespace with its own",
        ),
        Known::new(
            By::Reference,
            "trailing characters",
            "it compares the two namespaces after the work, and prints a result first",
        ),
    ]),
    case!(
        own_namespace_by_decree,
        &["loopback", "host-local", "static", "portmap"],
        SKEL,
        "CNI_NETNS_OVERRIDE lets the pod's namespace be the plugin's own"
    ),
    case!(
        arguments,
        &["bridge", "host-local", "static"],
        "CNI spec, section 2, CNI_ARGS",
        "CNI_ARGS that is no list of pairs, or has pairs that nobody knows, is refused unless \
         IgnoreUnknown is set"
    ),
    case!(
        arguments_of_others,
        &["loopback", "portmap"],
        "CNI spec, section 2, CNI_ARGS",
        "a plugin that takes nothing from CNI_ARGS does not look at it"
    ),
    case!(
        error_object,
        EVERY,
        "CNI spec, section 5, Error",
        "an error is one object on standard output, indented by four spaces, and the exit status \
         is 1"
    ),
];

fn about(node: &Node) {
    let scene = Scene::new(node);
    let call = scene.call("").saying("{");
    for call in [call.clone(), call.without("CNI_COMMAND")] {
        let answer = scene.run(&call);
        assert!(answer.is_ok() && answer.stdout.is_empty(), "{answer:?}");
        let lines: Vec<_> = answer.stderr.lines().collect();
        let versions = lines[1].strip_prefix("CNI protocol versions supported: ");
        let versions: Vec<_> = versions.expect("it tells its versions").split(", ").collect();
        assert!(lines[0].starts_with(&format!("CNI {} plugin ", node.subject)), "{lines:?}");
        assert_eq!(versions, node.versions(&node.subject));
    }
}

fn missing_variables(node: &Node) {
    let scene = Scene::new(node);
    for (command, without) in [
        ("ADD", &["CNI_CONTAINERID"][..]),
        ("ADD", &["CNI_NETNS"]),
        ("ADD", &["CNI_IFNAME"]),
        ("ADD", &["CNI_PATH"]),
        ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        ("CHECK", &["CNI_NETNS", "CNI_PATH"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
    ] {
        let missing = format!("required env variables [{}] missing", without.join(","));
        let call = scene.call(command);
        let unset = without.iter().fold(call.clone(), |call, name| call.without(name));
        scene.refuses(&unset, 4, &missing);
        let empty = without.iter().fold(call, |call, name| call.with(name, ""));
        scene.refuses(&empty, 4, &missing);
    }
}

fn invalid_container_id(node: &Node) {
    let scene = Scene::new(node);
    for id in ["../x", "-x", "a b", "a/b", "a\nb", "ä"] {
        for command in ["ADD", "CHECK", "DEL"] {
            let call = scene.call(command).with("CNI_CONTAINERID", id);
            assert_eq!(scene.refuses(&call, 4, "invalid characters in containerID"), id);
        }
    }
}

fn invalid_interface_name(node: &Node) {
    let scene = Scene::new(node);
    let separators = "interface name contains / or : or whitespace characters";
    for (name, msg) in [
        ("0123456789abcdef", "interface name is too long"),
        ("ääääääää", "interface name is too long"),
        (".", "interface name is . or .."),
        ("..", "interface name is . or .."),
        ("eth0/1", separators),
        ("eth0:1", separators),
        ("eth 0", separators),
        ("eth\t0", separators),
        ("eth\u{a0}0", separators),
    ] {
        for command in ["ADD", "CHECK", "DEL"] {
            scene.refuses(&scene.call(command).with("CNI_IFNAME", name), 4, msg);
        }
    }
}

fn unknown_command(node: &Node) {
    let scene = Scene::new(node);
    for command in ["NOPE", "add", " ADD"] {
        scene.refuses(&scene.call(command), 4, &format!("unknown CNI_COMMAND: {command}"));
    }
}

fn long_container_id(node: &Node) {
    let scene = Scene::new(node);
    let id = "x".repeat(300);
    for command in ["ADD", "DEL"] {
        let answer = scene.run(&scene.call(command).with("CNI_CONTAINERID", &id));
        assert!(answer.is_ok(), "{command}: {answer:?}");
    }
}

fn own_namespace(node: &Node) {
    let scene = Scene::new(node);
    let path = node.namespace.path();
    let call = scene.call("ADD").with("CNI_NETNS", path.to_str().unwrap());
    let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
    scene.refuses(&call, 8, msg);
}

fn own_namespace_by_decree(node: &Node) {
    let scene = Scene::new(node);
    let path = node.namespace.path();
    let own = |command: &str| scene.call(command).with("CNI_NETNS", path.to_str().unwrap());
    for (number, decree) in ["1", "TRUE", "true"].into_iter().enumerate() {
        let id = format!("pod{number}");
        let decreed =
            |command| own(command).with("CNI_CONTAINERID", &id).with("CNI_NETNS_OVERRIDE", decree);
        for command in ["ADD", "DEL"] {
            let answer = scene.run(&decreed(command));
            assert!(answer.is_ok(), "{command} {decree}: {answer:?}");
        }
    }
}

fn arguments(node: &Node) {
    let scene = Scene::new(node);
    for (args, msg) in [
        ("IP", "ARGS: invalid pair \"IP\""),
        ("A=b=c", "ARGS: invalid pair \"A=b=c\""),
        ("A=b", "ARGS: unknown args [\"A=b\"]"),
        ("K8S_POD_NAME=x;IgnoreUnknown=0", "ARGS: unknown args [\"K8S_POD_NAME=x\"]"),
        (
            "IgnoreUnknown=maybe",
            "ARGS: error parsing value of pair \"IgnoreUnknown=maybe\": boolean unmarshal error: \
             invalid input maybe",
        ),
    ] {
        scene.refuses(&scene.call("ADD").with("CNI_ARGS", args), 999, msg);
    }
    let answer = scene.run(
        &scene
            .call("ADD")
            .with("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"),
    );
    assert!(answer.is_ok(), "{answer:?}");
}

fn arguments_of_others(node: &Node) {
    let scene = Scene::new(node);
    for command in ["ADD", "DEL"] {
        let answer = scene.run(&scene.call(command).with("CNI_ARGS", "what is=this=;"));
        assert!(answer.is_ok(), "{command}: {answer:?}");
    }
}

fn error_object(node: &Node) {
    let scene = Scene::new(node);
    let answer = scene.run(&scene.call("ADD").with("CNI_CONTAINERID", "<&>"));
    assert_eq!(answer.status.code(), Some(1));
    assert_eq!(
        answer.stdout,
        "{\n    \"code\": 4,\n    \"msg\": \"invalid characters in containerID\",\n    \
         \"details\": \"\\u003c\\u0026\\u003e\"\n}"
    );
}
