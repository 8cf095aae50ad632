//! Python packages in the cache: fetched once, run with an input, and their failures reported.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail it like the test itself"
)]

use bridge_servers::{Error, Python, real_servers};

#[tokio::test]
async fn a_script_uses_the_packages_and_reads_its_input() {
    real_servers!("a script uses the packages and reads its input");
    let script =
        "import sys, importlib.metadata\nprint(sys.stdin.read(), importlib.metadata.version('cloudevents'))";
    let printed = Python::CLOUDEVENTS.run(script, b"read:").await.unwrap();
    assert_eq!(printed, "read: 2.2.0\n");
    assert!(Python::CLOUDEVENTS.is_cached());
}

#[tokio::test]
async fn a_script_that_fails_shows_its_output() {
    real_servers!("a script that fails shows its output");
    let failed = Python::CLOUDEVENTS.run("raise ValueError('because')", &[]).await;
    let Err(Error::Tool { output, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert!(output.contains("ValueError: because"), "{output}");
}
