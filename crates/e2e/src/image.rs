//! The one image that all containers run: Debian's static busybox, packed on the spot, so that no
//! registry is needed.

use testbed::{need, sh};

/// What the image is called.
pub(crate) const NAME: &str = "localhost/busybox:1";

/// Makes the root file system in `rootfs` and the same as an OCI archive in `image.tar`, both in
/// `home`. Run without a command, the image sleeps, as a sandbox does.
pub(crate) fn make(home: &str) {
    let busybox = need("/bin/busybox", "busybox-static");
    sh(&format!(
        r#"mkdir -p {home}/rootfs/bin {home}/rootfs/etc {home}/rootfs/tmp {home}/oci/blobs/sha256
        cd {home}/rootfs
        cp {busybox} bin/busybox
        for tool in $(bin/busybox --list); do [ -e bin/$tool ] || ln -s busybox bin/$tool; done
        cd ../oci
        # Stores standard input as a blob and describes it.
        store() {{
            cat > blob
            digest=$(sha256sum blob | cut -d ' ' -f 1) size=$(stat -c %s blob)
            mv blob blobs/sha256/$digest
            about='"digest":"sha256:'$digest'","size":'$size
        }}
        type=application/vnd.oci.image
        tar -C ../rootfs -cf layer .
        store < layer
        layer='{{"mediaType":"'$type'.layer.v1.tar",'$about'}}'
        store <<EOF
{{"architecture":"$(dpkg --print-architecture)","os":"linux",
"config":{{"Cmd":["/bin/sleep","infinity"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:$digest"]}}}}
EOF
        store <<EOF
{{"schemaVersion":2,"layers":[$layer],"config":{{"mediaType":"$type.config.v1+json",$about}}}}
EOF
        cat > index.json <<EOF
{{"schemaVersion":2,"manifests":[{{"mediaType":"$type.manifest.v1+json",$about,
"annotations":{{"io.containerd.image.name":"{NAME}","org.opencontainers.image.ref.name":"1"}}}}]}}
EOF
        echo '{{"imageLayoutVersion":"1.0.0"}}' > oci-layout
        rm layer
        tar -cf ../image.tar ."#,
        busybox = busybox.display()
    ));
}
