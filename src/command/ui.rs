//! `zkbridge ui`: prints a link that opens a session of the API in a browser.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Args;
use serde_json::json;

use super::{print, print_json, serving};
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};
use crate::operator;

const EXAMPLES: &str = "\
Examples:
  zkbridge ui
  zkbridge ui --json | jq -r .code

The link holds a code that opens one session within 60 s. Only the user of the
bridge gets one, over the control socket in data_dir.

Exit codes: 0 printed, 1 no bridge runs or it has no HTTP listener,
2 the configuration is wrong";

/// Options of `ui`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct UiArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Print a JSON document: the link, its code and the address
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &UiArgs) -> Result<(), Failure> {
    serving::block_on(ask(args))
}

async fn ask(args: &UiArgs) -> Result<(), Failure> {
    let data_dir = args.config.load()?.config.data_dir;
    let Some(answer) = operator::ask_login(&data_dir).await? else {
        let message = format!(
            "no bridge runs on {}\nhelp: start it with 'zkbridge run'",
            data_dir.display()
        );
        return Err(Failure::new(Exit::Runtime, message));
    };
    let (Some(mut address), Some(code)) = (answer.address, answer.code) else {
        let message = "the bridge has no HTTP listener\nhelp: give http.listen an address";
        return Err(Failure::new(Exit::Runtime, message));
    };
    // An address of all interfaces is none that a browser can open.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let link = format!("http://{address}/ui/#code={code}");
    match args.json {
        true => print_json(&json!({"link": link, "code": code, "address": address})),
        false => print(&(link + "\n")),
    }
}
