//! The example of docs/sinks/render.md with the real nginx: instances come and go, and requests follow them.

use std::cell::RefCell;
use std::fs;
use std::process::Command;

use bridge_servers::{Child, Port, Tool, eventually, page_of, real_servers};

use crate::bridge::{BOUND, Bridge};
use crate::stage::{Place, source};
use crate::writer::Writer;

/// The page whose second example is tried.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sinks/render.md");

/// The template of the example.
fn template() -> String {
    let page = fs::read_to_string(PAGE).unwrap();
    let (_, example) = page.split_once("\n## An upstream of nginx\n").unwrap();
    let (_, begin) = example.split_once("template = \"\"\"\n").unwrap();
    let (template, _) = begin.split_once("\"\"\"").unwrap();
    assert!(template.contains("upstream payments"), "{template}");
    template.to_owned()
}

/// A server of the upstream, and two instances that answer with their names.
fn configuration(front: &Port, instances: [&Port; 2]) -> String {
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = folders.map(|name| format!("{name}_temp_path {name};\n")).concat();
    let answers = ["a", "b"].iter().zip(instances).map(|(answer, port)| {
        let address = port.addr();
        format!("server {{ listen {address}; location / {{ return 200 {answer}; }} }}\n")
    });
    // As root it would run its workers as another user, which must not read the folder.
    let user = if is_root() { "user root;\n" } else { "" };
    format!(
        "{user}daemon off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{folders}\
         include app.conf;\nserver {{ listen {}; location / {{ proxy_pass http://payments; }} }}\n{}}}\n",
        front.addr(),
        answers.collect::<String>()
    )
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_nginx_sends_requests_to_the_instances_that_are_registered() {
    real_servers!("the example of a rendered file with nginx");
    let nginx = Tool::nginx().path().await.unwrap();
    let nginx = nginx.display().to_string();
    let [front, first, second] = [(); 3].map(|()| Port::reserve().unwrap());
    let place = Place::shared().await;
    let root = "/nginx-upstream";
    let writer = Writer::connect(&place.direct).await;
    writer.create(root, "").await;
    let mut bridge = Bridge::configured("");
    let folder = bridge.folder().display().to_string();
    let template = template();
    bridge.configure(&format!(
        "{}[[sink]]\ntype = \"render\"\ntree = \"{root}\"\npath = \"{folder}/app.conf\"\ntemplate = \"\"\"\n{template}\"\"\"\n\
         reload = [\"{nginx}\", \"-p\", \"{folder}\", \"-c\", \"nginx.conf\", \"-e\", \"stderr\", \"-s\", \"reload\"]\n\
         debounce = \"20ms\"\nretry = {{ first = \"50ms\", max = \"300ms\" }}\n",
        source("main", &place, &[root.to_owned()])
    ));
    let text = configuration(&front, [&first, &second]);
    fs::write(bridge.folder().join("nginx.conf"), text).unwrap();
    bridge.start_ready().await;
    let file = bridge.folder().join("app.conf");
    let is_written = || std::future::ready(file.exists());
    eventually("the file without an instance", BOUND, is_written)
        .await
        .unwrap();
    let mut server = Command::new(&nginx);
    server.args(["-p", &folder, "-c", "nginx.conf", "-e", "stderr"]);
    let server = Child::start(&server).unwrap();
    let answers = async |status: u16, body: &str| {
        let seen = RefCell::new(None);
        let what = format!("the answer {status} {body:?}");
        let asked = eventually(what, BOUND, || async {
            let answer = page_of(front.addr(), "/", "").await;
            let is_it = |(code, text): &(u16, String)| *code == status && text.trim().contains(body);
            let is_so = answer.as_ref().is_some_and(is_it);
            seen.replace(answer);
            is_so
        });
        if let Err(error) = asked.await {
            let text = fs::read_to_string(&file).unwrap_or_default();
            panic!(
                "{error}: {:?}\n{text}\n{:#?}\n{}",
                seen.borrow(),
                server.stderr(),
                bridge.log().join("\n")
            );
        }
    };
    answers(502, "Bad Gateway").await;
    let at = |port: &Port| format!("{root}/{}", port.addr());
    // A name that would end its directive is left out.
    writer
        .create(&format!("{root}/127.0.0.1;return 200 evil"), "")
        .await;
    writer.create(&at(&first), r#"{"weight": 5}"#).await;
    answers(200, "a").await;
    writer.create(&at(&second), "{}").await;
    writer.delete(&at(&first)).await;
    answers(200, "b").await;
    writer.delete(&at(&second)).await;
    answers(502, "Bad Gateway").await;
    bridge.terminate().await;
}
