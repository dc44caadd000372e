//! `podwire explain` as it is typed.

use std::path::PathBuf;

use clap::Args;
use diagnosis::Reference;

use crate::drawing::Drawing;

pub(crate) const EXAMPLES: &str = "Examples:
  podwire explain                      this machine, in short
  podwire explain pod/pod1 --teach     a pod, with the command for each fact
  podwire explain link/node1:cni0      the device cni0 of the namespace node1
  podwire explain pod/pod1 -O pod.html a page with the picture, for any browser
  podwire explain lab/default --web    the page, renewed as the network changes
  podwire snapshot FILE                then, anywhere: podwire explain lab/demo --from FILE

Exit codes: 0 answered, and nothing is wrong; 1 answered, and something is wrong; 2 wrong use, or no
such snapshot; 3 answered, but something could not be read; 4 there is no such thing, or several.";

/// `podwire explain`
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// pod/NAME, pod/NAMESPACE/NAME, node/NAME, netns/PATH, pid/N, container/ID, link/NAME,
    /// link/NAMESPACE:NAME or lab/NAME [default: this machine].
    pub(crate) subject: Option<Reference>,
    /// Ask a file that `podwire snapshot` wrote instead of this machine; `-` is standard input.
    #[arg(long, value_name = "SNAPSHOT", env = "PODWIRE_EXPLAIN_FROM")]
    pub(crate) from: Option<PathBuf>,
    /// Show the command that shows the same fact, below each sentence.
    #[arg(long, env = "PODWIRE_EXPLAIN_TEACH")]
    pub(crate) teach: bool,
    /// Serve the page on 127.0.0.1, for this machine's browser, until Ctrl-C, and print its address.
    /// It follows the machine; a snapshot's stays as it is.
    #[arg(long, conflicts_with_all = ["output", "output_file"], env = "PODWIRE_EXPLAIN_WEB")]
    pub(crate) web: bool,
    #[command(flatten)]
    pub(crate) drawing: Drawing,
}
